"""`p2pboot yank`: a release that turned out bad is taken back, through the running node that published it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.files import STANDARD_INPUT, read_start, write_output
from p2pboot.cli.options import (
    FILE,
    Command,
    Group,
    Seconds,
    config_option,
    json_option,
    options,
    verbosity_options,
)
from p2pboot.cli.output import emit_json, note, say, warn
from p2pboot.cli.settings import overrides_of, setting_options
from p2pboot.errors import Malformed, SignatureError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from p2pboot.core.trustdocs.yank import Yank

_ANSWER_S = 600.0  # the node may have to hash what lies in its directory
_PATIENCE_S = 30.0


class _Yank(Group):
    """`yank CHANNEL` is `yank release CHANNEL`: whoever is in a hurry names what is bad."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["release", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Yank)
def yank() -> None:
    """Take a release back that turned out bad: nobody boots its content any more, under whatever number it comes.

    \b
    p2pboot yank stable                       the running publisher yanks what is in force of stable,
                                              and publishes what was before under the next number
    p2pboot yank stable --back-to 7           the content of number 7 instead
    p2pboot yank stable --leave-none          nothing in its place
    """  # noqa: D301 - click takes the backspace itself for "leave these lines as they are"


_asking = options(
    click.argument("channel"),
    click.option("--arch", metavar="ARCH", help="Architecture.  [default: the only one]"),
    setting_options("store.state"),
    config_option,
)


@yank.command(cls=Command)
@_asking
@click.option(
    "--reason", default="", metavar="TEXT", help="What is wrong with it, for people; everybody can read it."
)
@click.option(
    "--release",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of the release that is bad.  [default: in force]",
)
@click.option(
    "--back-to",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of the release to go back to.  [default: the one before]",
)
@click.option("--leave-none", is_flag=True, help="Put nothing in its place.")
@click.option(
    "--key",
    "keys",
    type=FILE,
    multiple=True,
    metavar="PATH",
    help="Key file that signs as well, beside the node's key; repeatable.",
)
@click.option(
    "--prepare", type=FILE, metavar="FILE", help="Yank nothing: write the document there, for others to sign."
)
@click.option("--document", type=FILE, metavar="FILE", help="The document that others signed.")
@click.option(
    "--timeout",
    type=Seconds(least=0.1),
    default=_PATIENCE_S,
    metavar="S",
    help="Seconds without a byte of what has to come back until it counts as not to be had.",
)
@json_option
@verbosity_options
def release(channel: str, config_path: Path | None, timeout: float, as_json: bool, **params: Any) -> None:
    """Yank the content of a release of CHANNEL, and publish what was before it under the next number.

    What was overwritten in the directory is fetched from mirrors first; if nobody holds it, nothing is yanked. While
    the directory holds what was yanked, it is not published.
    """
    from p2pboot.core.trustdocs.envelope import MAX_DOCUMENT
    from p2pboot.node.control import request

    if params["leave_none"] and params["back_to"] is not None:
        raise UsageError("--back-to and --leave-none exclude each other", remedy="say either")
    if params["prepare"] is not None and params["document"] is not None:
        raise UsageError("--prepare and --document exclude each other", remedy="prepare first")
    state = _state(params, config_path)
    message: dict[str, Any] = {"op": "yank", "channel": channel, "patience_s": timeout}
    names = ("arch", "reason", "release", "back_to", "leave_none")
    message.update({name: params[name] for name in names if params[name] not in (None, False, "")})
    if params["document"] is not None:
        raw = read_start(params["document"], MAX_DOCUMENT + 1, what="yank")
        message["document"] = _signed(raw, params["keys"]).raw.decode()
    elif params["keys"] or params["prepare"] is not None:
        draft = request(state, {**message, "do": "draft"}, _ANSWER_S)
        signed = _signed(draft["document"].encode(), params["keys"])
        if params["prepare"] is not None:
            write_output(params["prepare"], signed.raw)
            _tell_missing(signed, draft["keys"], draft["threshold"])
            return
        message["document"] = signed.raw.decode()
    # Without a limit: the node ends it when nothing arrives any more, and a large release takes its time.
    answer = request(state, {**message, "do": "yank"}, None)
    if as_json:
        emit_json(answer)
        return
    _tell(answer)


def _tell(answer: dict[str, Any]) -> None:
    yanked, published = answer["yanked"], answer["published"]
    pair = f"{yanked['channel']}/{yanked['arch']}"
    number = "" if yanked["manifest_version"] is None else f" manifest version {yanked['manifest_version']},"
    say(f"yanked: {pair}{number} content {yanked['content']}")
    if published is None:
        say(
            f"in force: nothing of {pair}"
            if answer["ends"]
            else f"in force: what was in force of {pair} before"
        )
        return
    back = answer["went_back_to"]
    what = "in force" if back is None else f"published: the content of manifest version {back} as"
    say(
        f"{what}: {published['channel']}/{published['arch']} version {published['version']},"
        f" manifest version {published['manifest_version']}, sha256:{published['digest']}"
    )


@yank.command("list", cls=Command)
@_asking
@json_option
@verbosity_options
def list_releases(channel: str, config_path: Path | None, as_json: bool, **params: Any) -> None:
    """List the releases of CHANNEL that the running publisher remembers, and what of them is here to go back to."""
    from p2pboot.node.control import request

    message: dict[str, Any] = {"op": "yank", "do": "list", "channel": channel}
    if params["arch"] is not None:
        message["arch"] = params["arch"]
    answer = request(_state(params, config_path), message, _ANSWER_S)
    if as_json:
        emit_json(answer)
        return
    for one in answer["releases"]:
        if one["yanked"] is not None:
            how = "yanked" + (f": {one['yanked']['reason']}" if one["yanked"]["reason"] else "")
        elif one["in_force"]:
            how = "in force"
        else:
            how = (
                f"{', '.join(one['missing'])} not here, mirrors may have it"
                if one["missing"]
                else "wholly here"
            )
        say(f"{one['manifest_version']:>6}  {one['created_at']}  version {one['version']}  {how}")
    if not answer["releases"]:
        note(f"nothing was published of {answer['channel']}/{answer['arch']} here")


@yank.command(cls=Command)
@click.argument("file", type=FILE)
@click.option(
    "--key",
    "keys",
    type=FILE,
    multiple=True,
    required=True,
    metavar="PATH",
    help="Key file to sign with; repeatable.",
)
def sign(file: Path, keys: tuple[Path, ...]) -> None:
    """Add signatures to the yank FILE that `--prepare` wrote, in place ("-": standard input to standard output).

    What it says is shown before it is signed.
    """
    from p2pboot.core.trustdocs.envelope import MAX_DOCUMENT

    raw = read_start(file, MAX_DOCUMENT + 1, what="yank")
    before = _parsed(raw)
    _show(before)
    signed = _signed(raw, keys)
    if file == STANDARD_INPUT or signed.raw != raw:
        write_output(file, signed.raw)
    note(f"signed by {', '.join(signed.signed_by)}")


def _show(one: Yank) -> None:
    from p2pboot.core.timestamps import format_time
    from p2pboot.core.trustdocs.rootbody import NO_FLEET

    body = one.body
    note(f"this yanks content {body.content} of {body.channel}/{body.arch}, for good")
    note(f"reason: {body.reason or '(none)'}; made at {format_time(body.created_at)}")
    note("fleet: none (without a root)" if body.fleet == NO_FLEET else f"fleet: {body.fleet}")


def _tell_missing(one: Yank, keys: list[str], threshold: int) -> None:
    _show(one)
    missing = threshold - len(set(keys).intersection(one.signed_by))
    if missing <= 0:
        note("it has all signatures that it needs")
        return
    left = ", ".join(key for key in keys if key not in one.signed_by)
    warn(f"it needs {missing} more of the signatures of {left}: p2pboot yank sign FILE --key PATH")


def _signed(raw: bytes, paths: Iterable[Path]) -> Yank:
    from p2pboot.core.trustdocs.envelope import add_signature
    from p2pboot.store.keyfiles import load_key

    _parsed(raw)
    for path in paths:
        raw = add_signature(raw, load_key(path, warn=warn))
    return _parsed(raw)


def _parsed(raw: bytes) -> Yank:
    from p2pboot.core.trustdocs.yank import Yank

    try:
        return Yank.parse(raw)
    except (Malformed, SignatureError) as error:
        raise type(error)(
            f"this is no yank: {error.message}", remedy="have it written anew with --prepare"
        ) from None


def _state(params: dict[str, Any], config_path: Path | None) -> Path:
    from p2pboot.config.load import load_settings

    return load_settings(overrides_of(params), config_path).store.state
