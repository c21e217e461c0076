"""`p2pboot rollout`: gives a new image to a channel's machines bit by bit; the running `serve` does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from p2pboot.cli.options import (
    Command,
    Decorator,
    Group,
    config_option,
    json_option,
    options,
    verbosity_options,
)
from p2pboot.cli.output import emit_json, say
from p2pboot.cli.settings import overrides_of, setting_options
from p2pboot.core.amounts import duration_text
from p2pboot.core.timestamps import parse_duration
from p2pboot.errors import UsageError

_TIMEOUT_S = 600.0  # an image that was just put there is hashed before the answer


class _Duration(click.ParamType[int]):
    """`1d`, `12h`; 0 for at once."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it, as click wants it."""
        if isinstance(value, int):
            return value
        try:
            return 0 if value in ("0", "0s") else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_channel = click.argument("channel")
_arch = click.option("--arch", metavar="ARCH", help="Only this architecture.  [default: all that there are]")
_common: Decorator[Any] = options(
    setting_options("store.state"), config_option, json_option, verbosity_options
)


@click.group(cls=Group)
def rollout() -> None:
    """Give a new image to a channel's machines bit by bit, and stop when it turns out bad.

    The new image lies in DIR/<channel>.next/<arch>, beside the channel's own directory, and nobody gets it before
    `start`. Machines that know nothing of roll-outs stay on what the channel has until `promote`.
    """


@rollout.command(cls=Command)
@_channel
@_arch
@click.option(
    "--over",
    "--duration",
    "duration_s",
    type=_Duration(),
    default="1d",
    metavar="DURATION",
    help="Until all whom it is for have it, such as 12h or 7d; 0 for at once.  [default: 1d]",
)
@click.option(
    "--percent",
    type=click.IntRange(0, 100),
    default=100,
    metavar="N",
    help="How many of the machines it is for.  [default: 100]",
)
@click.option("--start", metavar="TIME", help="When it begins, as 2026-01-31T08:00:00Z.  [default: now]")
@_common
def start(
    *,
    channel: str,
    arch: str | None,
    duration_s: int,
    percent: int,
    start: str | None,
    config_path: Path | None,
    as_json: bool,
    **params: Any,
) -> None:
    """Begin to give what lies in DIR/CHANNEL.next to the machines of CHANNEL."""
    message = {"channel": channel, "arch": arch, "duration_s": duration_s, "percent": percent, "start": start}
    _ask("start", message, params, config_path, as_json=as_json)


@rollout.command(cls=Command)
@_channel
@_arch
@_common
def pause(channel: str, arch: str | None, config_path: Path | None, as_json: bool, **params: Any) -> None:
    """Give it to no further machine: who has it keeps it, whoever reboots.

    A freshness statement says so, for which the node needs a freshness key.
    """
    _ask("pause", {"channel": channel, "arch": arch}, params, config_path, as_json=as_json)


@rollout.command(cls=Command)
@_channel
@_arch
@_common
def resume(channel: str, arch: str | None, config_path: Path | None, as_json: bool, **params: Any) -> None:
    """Go on after a pause where it stopped: the end moves by as long as that was."""
    _ask("resume", {"channel": channel, "arch": arch}, params, config_path, as_json=as_json)


@rollout.command(cls=Command)
@_channel
@_arch
@_common
def promote(channel: str, arch: str | None, config_path: Path | None, as_json: bool, **params: Any) -> None:
    """Publish it in CHANNEL itself, for every machine. The files may stay where they are, or be moved there."""
    _ask("promote", {"channel": channel, "arch": arch}, params, config_path, as_json=as_json)


@rollout.command(cls=Command)
@_channel
@_arch
@click.option("--reason", metavar="TEXT", help="Why; everybody who asks is told.")
@_common
def abort(
    *,
    channel: str,
    arch: str | None,
    reason: str | None,
    config_path: Path | None,
    as_json: bool,
    **params: Any,
) -> None:
    """Yank it: no machine boots it any more, and all go back to what CHANNEL has."""
    message = {"channel": channel, "arch": arch, "reason": reason}
    _ask("abort", message, params, config_path, as_json=as_json)


@rollout.command(cls=Command)
@click.argument("channel", required=False)
@_common
def show(channel: str | None, config_path: Path | None, as_json: bool, **params: Any) -> None:
    """Show what this node rolls out, or what others do of which it has the image: the plan, and how many are in.

    Those that are over are shown, too.
    """
    _ask("show", {"channel": channel}, params, config_path, as_json=as_json)


def _ask(
    action: str,
    message: dict[str, Any],
    params: dict[str, Any],
    config_path: Path | None,
    *,
    as_json: bool,
) -> None:
    from p2pboot.config.load import load_settings
    from p2pboot.node.control import request

    if message.get("channel") == "":
        raise UsageError("no channel was given", remedy="name the channel, for example stable")
    state = load_settings(overrides_of(params), config_path).store.state
    answer = request(state, {"op": "rollout", "action": action, **message}, _TIMEOUT_S)
    if as_json:
        emit_json({"ok": True, **answer})
        return
    for one in answer["rollouts"]:
        say(line_of(one))
    if not answer["rollouts"]:
        say("nothing that is known here is or was rolled out")


def line_of(one: dict[str, Any]) -> str:
    """A roll-out as one line for people; what `node.rolledout.described` makes of it."""
    what = (
        f"{one['into']}/{one['arch']}: version {one['version']} (number {one['manifest_version']}"
        f" in {one['channel']})"
    )
    if one["ended"] is not None:
        return f"{what}, over: {one['ended']}"
    by = ", ".join(one["paused_by"])
    paused = f", paused since {one['paused_since']} by {by}" if one["paused_since"] else ""
    return (
        f"{what}: {one['fraction']:.1%} of the machines are in{paused}, {one['percent']} % by {one['end']}"
        f" (over {duration_text(one['duration_s'])}); signed by {', '.join(one['signers'])}"
    )
