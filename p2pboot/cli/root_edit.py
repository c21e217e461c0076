"""`p2pboot root set`, `add-key` and `remove-key`: the next version of a root, for its keys to sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.clock import wall_now
from p2pboot.cli.options import FILE, Command, Decorator, json_option, options
from p2pboot.cli.root_files import (
    check_output,
    naming_root,
    note_made,
    read_root,
    tell_json,
    version_before,
    write_root,
)
from p2pboot.cli.root_options import (
    floors_of,
    heads_of,
    heads_options,
    key_ids,
    lifetime_of,
    rotated,
    said_of,
    say_options,
    which_of,
    which_options,
)
from p2pboot.errors import UsageError

if TYPE_CHECKING:
    from p2pboot.core.trustdocs.root import Root
    from p2pboot.core.trustdocs.rootbody import RootBody

_ROLE = click.Choice(["root", "publish", "freshness", "snapshots"])

_file_options: Decorator[Any] = options(
    click.option(
        "--from",
        "before_path",
        type=FILE,
        metavar="FILE",
        help="The version before FILE.  [default: it is looked for beside FILE]",
    ),
    click.option("--out", type=FILE, metavar="NEW", help="Where to write it."),
    click.option(
        "--force", is_flag=True, help="Go on although manifests lose their threshold; write over NEW."
    ),
    json_option,
)


@click.command(cls=Command, name="set")
@click.argument("file", type=FILE)
@click.option("--name", metavar="NAME", help="What the fleet is called.")
@say_options(of_first=False)
@which_options
@click.option("--add-publisher", is_flag=True, help="Make another publish role, for --channel and --arch.")
@click.option("--drop-publisher", is_flag=True, help="Take the publish role away.")
@click.option(
    "--new-channel",
    "new_channels",
    multiple=True,
    metavar="NAME",
    help="What the publish role is for from now on; repeatable.",
)
@click.option(
    "--new-arch", "new_archs", multiple=True, metavar="ARCH", help="The same of architectures; repeatable."
)
@click.option("--no-freshness", is_flag=True, help="Nobody says any more what is fresh.")
@click.option("--no-snapshots", is_flag=True, help="Nobody announces snapshots any more.")
@heads_options
@_file_options
def set_(file: Path, **said: Any) -> None:
    """Make the next version of the root FILE, with what the options say; all else stays.

    A version that nobody has signed yet is changed in place. Without any option it is the same, valid anew.
    Options that name keys replace all keys of the role.
    """
    if said["add_publisher"] and said["drop_publisher"]:
        raise UsageError(
            "--add-publisher and --drop-publisher contradict each other", remedy="give one of them"
        )
    _make(file, lambda body: _as_said(body, said), said, lifetime_s=lifetime_of(said["expires_in"]))


def _as_said(body: RootBody, said: dict[str, Any]) -> RootBody:
    """What `root set` makes of a root."""
    from p2pboot.core.trustdocs.editing import Which, with_publish_role

    which = which_of(said["channels"], said["archs"])
    moved = which_of(said["new_channels"], said["new_archs"])
    if said["name"] is not None:
        body = replace(body, name=said["name"])
    if said["no_snapshots"]:
        body = replace(body, snapshots=None)
    if said["drop_publisher"]:
        index = which.index_in(body)
        body = replace(body, publish=(*body.publish[:index], *body.publish[index + 1 :]))
    elif moved.channels or moved.archs or said["no_freshness"]:
        index = which.index_in(body)
        role = body.publish[index]
        role = replace(
            role,
            channels=moved.channels or role.channels,
            archs=moved.archs or role.archs,
            freshness=None if said["no_freshness"] else role.freshness,
        )
        body = with_publish_role(body, role, index)
        which = Which(moved.channels or which.channels, moved.archs or which.archs)
    return said_of(body, said, which, adds_publisher=said["add_publisher"])


@click.command(cls=Command, name="add-key")
@click.argument("role", type=_ROLE)
@click.argument("keyid")
@click.argument("file", type=FILE)
@which_options
@_file_options
def add_key(
    role: str, keyid: str, file: Path, channels: tuple[str, ...], archs: tuple[str, ...], **said: Any
) -> None:
    """Make the next version of the root FILE, with one more key in a role: root, publish, freshness, snapshots.

    A version that nobody has signed yet is changed in place. Thresholds stay (`root set`).
    """
    from p2pboot.core.trustdocs import editing

    (added,) = key_ids([keyid], "KEYID")
    which = which_of(channels, archs)
    nothing = {"state_path": None, "manifest_paths": (), "floors": ()}
    _make(file, lambda body: editing.add_key(body, role, added, which), said | nothing)


@click.command(cls=Command, name="remove-key")
@click.argument("role", type=_ROLE)
@click.argument("keyid")
@click.argument("file", type=FILE)
@which_options
@heads_options
@_file_options
def remove_key(
    role: str, keyid: str, file: Path, channels: tuple[str, ...], archs: tuple[str, ...], **said: Any
) -> None:
    """Make the next version of the root FILE, without a key in a role: root, publish, freshness, snapshots.

    Of the role publish it is looked whose manifests lose their threshold by that (--state, --manifest): as long as
    there are such, it is refused, unless with --force. What counts still becomes the floor, below which no machine
    takes anything: so a number that a thief signed, however high, binds nobody.
    """
    from p2pboot.core.trustdocs import editing

    (removed,) = key_ids([keyid], "KEYID")
    which = which_of(channels, archs)
    _make(file, lambda body: editing.remove_key(body, role, removed, which), said)


def _make(
    file: Path,
    change: Callable[[RootBody], RootBody],
    said: dict[str, Any],
    *,
    lifetime_s: int | None = None,
) -> None:
    """Write what becomes of a root."""
    from p2pboot.core.clock import AcceptedTime, effective_now
    from p2pboot.core.trustdocs.editing import check_thresholds, draft_of

    root = read_root(file)
    before = version_before(file, root, said["before_path"])
    is_draft = not root.signed_by
    if not is_draft:
        _check_complete(file, root, before)
    target = file if said["out"] is None else said["out"]
    check_output(target, as_json=said["as_json"])
    # The version before was made, so it is at least as late as that, whatever this machine's clock says.
    last = before if is_draft else root
    known = None if last is None else AcceptedTime(last.body.created_at, "", "", (), "", last.body.expires_at)
    body = change(draft_of(root, effective_now(wall_now(), known).now, lifetime_s))
    check_thresholds(body)
    heads = heads_of(said["state_path"], said["manifest_paths"])
    # Nothing is published yet under a version 1 that nobody signed.
    is_known = bool(said["state_path"] or said["manifest_paths"] or (is_draft and root.version == 1))
    body = rotated(root.body, body, heads, floors_of(said["floors"]), is_known=is_known, force=said["force"])
    if said["out"] is None and not is_draft:
        raise UsageError(
            f"{file} is signed, and stays as it is",
            remedy=f"say where version {body.version} goes: --out NEW",
        )
    raw = body.document()
    write_root(target, raw, replaces=root if is_draft else None, force=said["force"])
    note_made(target, body.version, verb="changed" if is_draft and target == file else "made")
    if said["as_json"]:
        tell_json(target, raw, before if is_draft else root)


def _check_complete(file: Path, root: Root, before: Root | None) -> None:
    """See that what the next version is made of is in force."""
    from p2pboot.core.trustdocs.root import check_signers
    from p2pboot.errors import SignatureError

    try:
        with naming_root(file):
            check_signers(root, before)
    except SignatureError as error:
        error.remedy = "have it signed by all first; or begin anew from the version before, with --out NEW"
        raise
