"""`p2pboot root init`: version 1 of a root, also out of the keys that an installation trusts already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.clock import wall_now
from p2pboot.cli.options import FILE, Command, json_option
from p2pboot.cli.output import note, warn
from p2pboot.cli.root_files import check_output, note_made, tell_json, write_root
from p2pboot.cli.root_options import (
    floors_of,
    heads_of,
    heads_options,
    key_ids,
    lifetime_of,
    said_of,
    say_options,
    which_of,
    which_options,
)
from p2pboot.errors import UsageError

if TYPE_CHECKING:
    from p2pboot.core.trustdocs.rootbody import PublishRole, Role, RootBody


@click.command(cls=Command)
@click.option("--name", required=True, metavar="NAME", help="What the fleet is called.")
@say_options(of_first=True)
@which_options
@click.option(
    "--from-trust",
    "config_path",
    type=FILE,
    metavar="FILE",
    help="Configuration whose [[trust]] tables become publish roles.",
)
@click.option(
    "--trust",
    multiple=True,
    metavar="KEYID",
    help="Key that machines trust so far, as --publish-key; repeatable.",
)
@heads_options
@click.option(
    "--key",
    "key_paths",
    type=FILE,
    multiple=True,
    metavar="PATH",
    help="Sign it with this root key; repeatable.",
)
@click.option("--out", type=FILE, required=True, metavar="FILE", help="Where to write it.")
@click.option("--force", is_flag=True, help="Write over another file.")
@json_option
def init(
    *,
    name: str,
    config_path: Path | None,
    trust: tuple[str, ...],
    key_paths: tuple[Path, ...],
    out: Path,
    force: bool,
    as_json: bool,
    **said: Any,
) -> None:
    """Make version 1 of a root, for its keys to sign.

    With --from-trust or --trust whoever publishes now goes on with the same keys, and so numbers and memory go on to
    count. --state and --manifest say what is published: no machine takes anything older.
    """
    from p2pboot.core.clock import effective_now
    from p2pboot.core.trustdocs.editing import check_thresholds, first_version, with_floors
    from p2pboot.core.trustdocs.root import Root
    from p2pboot.core.trustdocs.rootbody import Role
    from p2pboot.store.keyfiles import load_key

    check_output(out, as_json=as_json)
    keys = [load_key(path, warn=warn) for path in key_paths]
    said["root_key"] = (*said["root_key"], *(key.public.keyid for key in keys if not said["root_key"]))
    if not said["root_key"]:
        raise UsageError(
            "no root key is given", remedy="name who signs roots: --root-key KEYID, or --key PATH"
        )
    root_keys = key_ids(said["root_key"], "--root-key")
    if said["threshold"] is None and len(root_keys) > 1:
        raise UsageError(
            f"how many of {len(root_keys)} root keys must sign is not said",
            remedy=f"--threshold {len(root_keys) // 2 + 1}, so that one can be lost, and none can do it alone",
        )
    said["publish_key"] = (*said["publish_key"], *trust)
    publish, snapshots = ([], None) if config_path is None else _trusted_by(config_path)
    if not publish and not said["publish_key"]:
        raise UsageError(
            "no publish key is given",
            remedy="name who signs manifests: --publish-key KEYID, or --from-trust FILE",
        )
    now = effective_now(wall_now(), None).now
    body = replace(first_version(name, Role(root_keys), publish, now), snapshots=snapshots)
    lifetime_s = lifetime_of(said["expires_in"])
    if lifetime_s is not None:
        body = replace(body, expires_at=now + lifetime_s if lifetime_s else None)
    which = which_of(said["channels"], said["archs"])
    body = said_of(body, said, which, adds_publisher=bool(said["publish_key"]))
    check_thresholds(body)
    floors = floors_of(said["floors"])
    body = with_floors(_begun(body, said, floors), [(*pair, number) for pair, number in floors.items()])
    root = Root.parse(body.document())
    if keys:
        from p2pboot.cli.root_sign import check, show_changes, signed_root, tell

        check(root, None, keys)
        show_changes(root, None)
        root = signed_root(root, None, keys, [])
        write_root(out, root.raw, force=force)
        tell(root, None, keys)
    else:
        write_root(out, root.raw, force=force)
        note_made(out, 1)
    if as_json:
        tell_json(out, root.raw, None)


def _begun(body: RootBody, said: dict[str, Any], floors: dict[tuple[str, str], int]) -> RootBody:
    """The same with the floors of what is published now."""
    from p2pboot.core.trustdocs.editing import with_floors
    from p2pboot.publish.roots import effects

    heads = heads_of(said["state_path"], said["manifest_paths"])
    found = effects(body, body, heads, wall_now(), floors)
    for one in found:
        note(f"{one.shown}: nothing below version {one.floor} will be taken")
    return with_floors(body, [(*one.pair, one.floor) for one in found if one.floor])


def _trusted_by(config_path: Path) -> tuple[list[PublishRole], Role | None]:
    """The publishers that a configuration trusts, as publish roles; and whose snapshots it follows."""
    from p2pboot.config.load import NO_OVERRIDES, load_settings
    from p2pboot.core.trustdocs.rootbody import PublishRole, Role

    settings = load_settings(NO_OVERRIDES, config_path)
    if settings.roots:
        raise UsageError(
            f"{config_path} trusts a root already",
            remedy="make that root's next version: p2pboot root set FILE --out NEW",
        )
    if not settings.trust:
        raise UsageError(f"{config_path} trusts nobody", remedy="name a file with [[trust]] tables")
    publish = [
        PublishRole(one.keys, one.threshold, one.channels, one.archs, one.freshness) for one in settings.trust
    ]
    announcers = key_ids(settings.snapshots.trust, "[snapshots] trust")
    return publish, Role(announcers, settings.snapshots.threshold) if announcers else None
