"""`p2pboot root`: make, change, sign and check the root of a fleet, offline; files are carried between machines.

The last step, `publish`, brings a root that is signed into force in a node.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pboot.cli.clock import wall_now
from p2pboot.cli.options import FILE, Command, LazyGroup, json_option
from p2pboot.cli.output import emit_json, say
from p2pboot.cli.root_files import in_order, naming_root, read_root, version_before
from p2pboot.core.amounts import duration_text
from p2pboot.errors import NotFoundError, SignatureError, UsageError

if TYPE_CHECKING:
    from p2pboot.core.trustdocs.root import Root
    from p2pboot.core.trustdocs.rootbody import PublishRole, Role

_LAZY = {
    "init": "p2pboot.cli.root_init:init",
    "set": "p2pboot.cli.root_edit:set_",
    "add-key": "p2pboot.cli.root_edit:add_key",
    "remove-key": "p2pboot.cli.root_edit:remove_key",
    "sign": "p2pboot.cli.root_sign:sign",
    "publish": "p2pboot.cli.root_publish:publish",
}


@click.group(cls=LazyGroup, lazy=_LAZY)
def root() -> None:
    """Roots: which keys may sign what for a fleet, in versions that follow each other."""


@root.command(cls=Command)
@click.argument("file", type=FILE)
@click.option("--from", "before_path", type=FILE, metavar="FILE", help="The version before, to compare with.")
@json_option
def show(file: Path, before_path: Path | None, as_json: bool) -> None:
    """Show the root FILE ("-": standard input), whoever signed it, and what it changes.

    The version before is looked for beside it, unless --from names it. Whether to trust it is what `root verify`
    answers.
    """
    from p2pboot.core.trustdocs.changes import changes
    from p2pboot.core.trustdocs.signing import missing

    shown = read_root(file)
    before = version_before(file, shown, before_path)
    if as_json:
        import msgspec

        emit_json(
            {
                "digest": shown.digest,
                "fleet": shown.fleet,
                "version": shown.version,
                "signed_by": list(shown.signed_by),
                "missing": [one.to_json() for one in missing(shown, before)],
                "changes": [one.to_json() for one in changes(before, shown)],
                "root": msgspec.json.decode(shown.raw),
            }
        )
        return
    say_root(shown)
    for one in missing(shown, before):
        say(f"signed     {one.line}")
    if before is not None:
        say(f"\nwhat it changes of version {before.version}:")
        for change in changes(before, shown):
            say(f"  {change.line}")


def say_root(shown: Root) -> None:
    """Say what a root says."""
    from p2pboot.core.timestamps import format_time

    body, now = shown.body, wall_now()
    say(f"{body.name}  version {body.version}")
    say(f"digest     sha256:{shown.digest}")
    say(f"fleet      {shown.fleet or 'not said'}")
    say(f"created    {format_time(body.created_at)}")
    if body.expires_at is None:
        say("expires    never")
    else:
        left_s = body.expires_at - now
        when = f"in {duration_text(left_s)}" if left_s > 0 else f"{duration_text(left_s)} ago"
        say(f"expires    {format_time(body.expires_at)}  ({when}); then: {body.on_expiry}")
    _say_role("root", body.root)
    for role in body.publish:
        _say_publisher(role)
    if body.snapshots is not None:
        _say_role("snapshots", body.snapshots)
    for floor in body.floors:
        say(f"floor      {floor.channel}/{floor.arch}  {floor.manifest_version}")
    for keyid in shown.signed_by:
        say(f"signature  {keyid}")


def _say_role(name: str, role: Role | PublishRole) -> None:
    say(f"{name:<10} {role.threshold} of {len(role.keys)}")
    for keyid in role.keys:
        say(f"           {keyid}")


def _say_publisher(role: PublishRole) -> None:
    say(f"publish    {role.shown}  {role.threshold} of {len(role.keys)}")
    for keyid in role.keys:
        say(f"           {keyid}")
    if role.freshness is not None:
        rule = role.freshness
        needed = "required" if rule.required else "not required"
        say(f"freshness  {role.shown}  at most {duration_text(rule.max_age_s)} old, {needed}")
        for keyid in rule.keys:
            say(f"           {keyid}")


@root.command(cls=Command)
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option(
    "--root",
    "anchor_text",
    metavar="FILE|sha256:HEX",
    help="The version that is believed.  [default: version 1, which must be among them]",
)
@json_option
def verify(files: tuple[Path, ...], anchor_text: str | None, as_json: bool) -> None:
    """Check that FILES are roots that follow each other, in any order, each signed by enough of those who may.

    They begin with version 1, or with the one that --root names. Fails at the first that does not follow.
    """
    roots = in_order(files)
    anchor = _anchored(roots, anchor_text)
    checked: list[tuple[Path, Root]] = []
    failure: SignatureError | None = None
    for path, one in roots:
        failure = _check(path, one, checked[-1][1] if checked else None, anchor)
        if failure is not None:
            break
        checked.append((path, one))
    document = _document(checked, anchor)
    if failure is not None:
        if not as_json:
            _say_checked(checked)
        failure.details = document
        raise failure
    if as_json:
        emit_json({"ok": True, **document})
        return
    _say_checked(checked)
    _, newest = checked[-1]
    say(f"fleet sha256:{fleet}" if (fleet := document["fleet"]) else "fleet not said")
    say(
        f"{newest.body.name}: version {newest.version} is complete; version {newest.version + 1} follows next"
    )
    expires_at = newest.body.expires_at
    if expires_at is not None and (ago_s := wall_now() - expires_at) >= 0:
        say(
            f"it expired {duration_text(ago_s)} ago: make the next (p2pboot root set FILE --out NEW), and sign that"
        )


def _anchored(roots: list[tuple[Path, Root]], text: str | None) -> str | None:
    """The digest of the root that is believed, and only those from there on left in the list; None for version 1."""
    from p2pboot.config.values import root_anchor

    if text is None:
        return None
    try:
        digest = root_anchor(text, Path()).digest
    except ValueError as error:
        raise UsageError(f"--root: {error}", remedy="give a root's file, or sha256: and its digest") from None
    place = next((index for index, (_, one) in enumerate(roots) if one.digest == digest), None)
    if place is None:
        raise NotFoundError(
            f"the root sha256:{digest} is not among these files", remedy="give its file as well"
        )
    del roots[:place]
    return digest


def _check(path: Path, one: Root, before: Root | None, anchor: str | None) -> SignatureError | None:
    from p2pboot.core.trustdocs.root import check_signers
    from p2pboot.core.trustdocs.signing import check_follows

    try:
        with naming_root(path):
            if before is not None:
                if one.version != before.version + 1:
                    raise SignatureError(
                        f"it is version {one.version}, and version {before.version + 1} is missing",
                        remedy="give that file, too",
                    )
                if one.fleet is not None:
                    check_follows(one, before)
            elif anchor is None and one.version != 1:
                raise SignatureError(
                    f"it is version {one.version}, and the versions before are missing",
                    remedy="give them too, or say what is believed: --root sha256:HEX",
                )
            check_signers(one, before)
    except SignatureError as error:
        return error
    return None


def _document(checked: list[tuple[Path, Root]], anchor: str | None) -> dict[str, object]:
    fleet = next((one.fleet for _, one in checked if one.fleet is not None), None)
    return {
        "fleet": fleet,
        "anchor": anchor or (checked[0][1].digest if checked else None),
        "version": checked[-1][1].version if checked else None,
        "roots": [
            {
                "file": str(path),
                "version": one.version,
                "digest": one.digest,
                "signed_by": list(one.signed_by),
            }
            for path, one in checked
        ],
    }


def _say_checked(checked: list[tuple[Path, Root]]) -> None:
    for path, one in checked:
        say(f"ok  version {one.version:<4} sha256:{one.digest}  {len(one.signed_by)} signatures  {path}")
