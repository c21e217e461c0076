"""The root command and the boundary where every exception becomes one line and an exit status."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import click

from p2pboot import __version__
from p2pboot.cli import logs
from p2pboot.cli.clock import Wall, system_wall
from p2pboot.cli.failures import Failure, explain
from p2pboot.cli.options import LazyGroup, verbosity_options
from p2pboot.cli.output import ERROR, discard_stdout, emit_json, marked, one_line
from p2pboot.core.events import Event

log = logging.getLogger(__name__)

PROGRAM = "p2pboot"
BROKEN_PIPE = 1  # what click and Python themselves return

_COMMANDS = {  # in the order people need them
    "init": "p2pboot.cli.init:init",
    "key": "p2pboot.cli.key:key",
    "manifest": "p2pboot.cli.manifest:manifest",
    "root": "p2pboot.cli.root:root",
    "serve": "p2pboot.cli.node:serve",
    "publish": "p2pboot.cli.control:publish",
    "rollout": "p2pboot.cli.rollout:rollout",
    "yank": "p2pboot.cli.yank:yank",
    "mirror": "p2pboot.cli.node:mirror",
    "discover": "p2pboot.cli.discover:discover",
    "fetch": "p2pboot.cli.fetch:fetch",
    "snapshot": "p2pboot.cli.snapshot:snapshot",
    "freshness": "p2pboot.cli.freshness:freshness",
    "status": "p2pboot.cli.status:status",
    "explain": "p2pboot.cli.explaining:explain",
    "doctor": "p2pboot.cli.doctor:doctor",
    "evidence": "p2pboot.cli.evidence:evidence",
    "state": "p2pboot.cli.state:state",
    "store": "p2pboot.cli.store:store",
    "config": "p2pboot.cli.config:config",
    "completion": "p2pboot.cli.completion:completion",
    "demo": "p2pboot.cli.demo:demo",
}


@click.command(cls=LazyGroup, lazy=_COMMANDS, name=PROGRAM, context_settings={"max_content_width": 100})
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@verbosity_options
def root() -> None:
    """Publish, mirror and fetch signed boot manifests and their artifacts, peer to peer.

    \b
    p2pboot key generate                            make this machine's identity
    p2pboot serve DIR --channel stable --arch arm64 publish a directory with a kernel and an initramfs
    p2pboot fetch --channel stable --arch arm64 --trust KEYID -o boot
                                                    get the newest image that KEYID signed
    """  # noqa: D301 - click takes the backspace itself for "leave these lines as they are"


def run(args: Sequence[str], *, wall: Wall = system_wall) -> int:
    """Run one command line and return its exit status. Nothing but KeyboardInterrupt escapes.

    Args:
        args: without the program's name.
        wall: the clock that it goes by, unix seconds.
    """
    _write_what_the_terminal_can()
    try:
        status = root.main(list(args), prog_name=PROGRAM, standalone_mode=False, obj=wall)
        sys.stdout.flush()
    except SystemExit as ended:  # click's way out when a shell asked what a word may become
        status = ended.code
    except BaseException as error:
        failure = explain(error)
        if failure is None:  # the reader of our output left: nobody to tell anything
            discard_stdout()
            return BROKEN_PIPE
        status = _report(failure, as_json="--json" in args)
        try:
            sys.stdout.flush()
        except OSError:  # it is full; the interpreter would say so once more, with a status of its own
            discard_stdout()
    return status if isinstance(status, int) else 0


def _write_what_the_terminal_can() -> None:
    """A terminal or pipe that is not UTF-8 gets escapes for what it can not show, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _report(failure: Failure, *, as_json: bool) -> int:
    if failure.message and logs.is_json():
        log.error(
            "%s",
            failure.message,
            extra=Event.COMMAND_FAILED(
                reason=failure.reason, remedy=failure.remedy, exit_status=failure.exit_status
            ),
        )
    line = f"{PROGRAM}: error: {failure.message}"
    if failure.remedy:
        line += f"{' -' if line.endswith('?') else ';'} {failure.remedy}"
    if failure.message and not logs.is_json():
        print(marked(one_line(line), ERROR), file=sys.stderr)
    if as_json and failure.message:
        try:
            emit_json(failure.to_json())
        except OSError:
            discard_stdout()
    return failure.exit_status
