"""`p2pboot status`: asks a running node how it is, once or again and again."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from p2pboot.cli.options import Command, Seconds, config_option, json_option, verbosity_options
from p2pboot.cli.output import emit_json
from p2pboot.cli.settings import overrides_of, setting_options
from p2pboot.errors import ExitStatus

TIMEOUT_S: Final = 10.0
INTERVAL_S: Final = 2.0  # a question costs the node some milliseconds, and a person reads no faster

Document = dict[str, Any]


@click.command(cls=Command)
@setting_options("store.state")
@config_option
@click.option(
    "--watch", is_flag=True, help="Ask again and again, until Ctrl-C. With --json one line each time."
)
@click.option(
    "--interval",
    type=Seconds(least=0.5),
    default=INTERVAL_S,
    show_default="2",
    metavar="S",
    help="Seconds between two questions, with --watch.",
)
@click.option(
    "--check",
    is_flag=True,
    help="End with status 1 if it offers nothing, or a problem is an error. For monitoring.",
)
@json_option
@verbosity_options
def status(
    config_path: Path | None, watch: bool, interval: float, check: bool, as_json: bool, **params: Any
) -> int:
    """Show how a running node is: whether it works, what is wrong, what it offers and fetches, and its peers.

    The status is 0 when the node answers, whatever it says, and 3 when none runs; --check looks at what it says.
    """
    from p2pboot.config.load import load_settings
    from p2pboot.node.control import request
    from p2pboot.node.overview import Condition, overview

    if watch and check:
        raise click.UsageError("--check looks once: leave out --watch")
    state = load_settings(overrides_of(params), config_path).store.state

    def ask() -> Document:
        return request(state, {"op": "status"}, TIMEOUT_S)

    if watch:
        from p2pboot.cli.main import collect_garbage
        from p2pboot.cli.status_watch import JsonLines, Pages, Screen, follow, is_terminal

        show = JsonLines() if as_json else Screen() if is_terminal(sys.stdout) else Pages()
        collect_garbage()
        with _ended_by_sigterm(), contextlib.suppress(KeyboardInterrupt):
            follow(ask, show, lambda: time.sleep(interval))
        return 0
    document = ask()
    if as_json:
        emit_json(document)
    else:
        from p2pboot.cli.status_lines import print_status

        print_status(document)
    if check and overview(document).condition is not Condition.WORKING:
        return ExitStatus.REFUSED
    return 0


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends a watch as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
