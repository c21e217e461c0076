"""`p2pboot root sign`: show what a root changes, ask, and add signatures to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pboot.cli.clock import wall_now
from p2pboot.cli.options import FILE, Command, json_option
from p2pboot.cli.output import counted, note, one_line, warn
from p2pboot.cli.root_files import (
    alone_in,
    check_output,
    lies_there,
    naming_root,
    read_root,
    roots_beside,
    tell_json,
    version_before,
    write_root,
)
from p2pboot.errors import ConfigError, KeyFileError, MachineError, SignatureError, UsageError

if TYPE_CHECKING:
    from p2pboot.core.identity import SecretKey
    from p2pboot.core.trustdocs.root import Root


@click.command(cls=Command)
@click.argument("file", type=FILE)
@click.option(
    "--key", "key_paths", type=FILE, multiple=True, metavar="PATH", help="Root key to sign with; repeatable."
)
@click.option(
    "--from",
    "before_path",
    type=FILE,
    metavar="FILE",
    help="The version before.  [default: it is looked for beside FILE]",
)
@click.option(
    "--merge",
    "copies",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="Copy of FILE that was signed elsewhere: its signatures are taken over; repeatable.",
)
@click.option("--out", type=FILE, metavar="FILE", help="Write there.  [default: FILE itself]")
@click.option("--yes", "-y", "is_agreed", is_flag=True, help="Do not ask: what it changes was read before.")
@click.option("--force", is_flag=True, help="Write over another file.")
@json_option
def sign(
    *,
    file: Path,
    key_paths: tuple[Path, ...],
    before_path: Path | None,
    copies: tuple[Path, ...],
    out: Path | None,
    is_agreed: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Show what the root FILE changes, ask, and sign it with the keys given.

    Signatures are by root keys of this version and of the one before, and both thresholds must be met, in any order, on
    any machines: one after the other on one file, or on copies of it that --merge puts together.
    """
    from p2pboot.store.keyfiles import load_key

    if not key_paths and not copies:
        raise UsageError("there is nothing to sign with", remedy="give --key PATH, or --merge FILE")
    check_output(out or file, as_json=as_json)
    root = read_root(file)
    before = version_before(file, root, before_path)
    keys = [load_key(path, warn=warn) for path in key_paths]
    others = [read_root(path) for path in copies]
    with naming_root(file):
        check(root, before, keys)
        show_changes(root, before)
        _warn_of_another(file, root, keys)
        if keys and not is_agreed:
            _ask(keys)
    with alone_in(out or file):
        there = lies_there(out or file, root)
        if there is not None and there.raw != root.raw:  # somebody signed it while this one was asked
            others.append(there)
        with naming_root(file):
            done = signed_root(root, before, keys, others)
        write_root(out or file, done.raw, replaces=root, force=force)
    tell(done, before, keys)
    if as_json:
        tell_json(out or file, done.raw, before)


def check(root: Root, before: Root | None, keys: list[SecretKey]) -> None:
    """Refuse what nobody must sign.

    Raises:
        SignatureError: saying why.
    """
    from p2pboot.core.clock import effective_now
    from p2pboot.core.trustdocs.signing import check_dates, check_follows, check_say

    check_follows(root, before)
    check_dates(root, before, effective_now(wall_now(), None).now)
    for key in keys:
        check_say(root, before, key.public.keyid)
    for path, keyid in _identities_here():
        if keyid in root.body.root.keys:
            raise SignatureError(
                f"{keyid} would be a root key, and is the identity of a node ({path})",
                remedy="make a key of its own for the root, and keep it where no node runs: p2pboot key generate",
            )


def _identities_here() -> Iterator[tuple[Path, str]]:
    """The keys of the nodes of this machine, as far as they lie where nodes have them: a node's key is on line."""
    from p2pboot.config.locations import Locations
    from p2pboot.config.provider import IdentitySettings
    from p2pboot.store.keyfiles import load_key

    places = [Locations.of_system()]
    with suppress(ConfigError):  # no home
        places.append(Locations.of_user(os.environ))
    paths = [IdentitySettings().key_path]
    paths += [one.config_directory / "keys" / f"{role}.toml" for one in places for role in Locations.ROLES]
    for path in paths:
        with suppress(KeyFileError, MachineError):
            yield path, load_key(path, warn=lambda _line: None).public.keyid


def show_changes(root: Root, before: Root | None) -> None:
    """Show what is about to be signed, on standard error: standard output may be the root itself."""
    from p2pboot.core.trustdocs.changes import changes

    if before is None:
        _show(f"root version 1 of {root.body.name!r}, sha256:{root.digest}, says:")
    else:
        _show(
            f"root version {root.version} of {root.body.name!r} changes of version {before.version}"
            f" (sha256:{before.digest}):"
        )
    for change in changes(before, root):
        _show(f"  {change.line}")


def _warn_of_another(file: Path, root: Root, keys: list[SecretKey]) -> None:
    """Warn who signed another root of this version already: two that are complete stop machines that see both."""
    names = {key.public.keyid for key in keys}
    for other, one in roots_beside(file):
        if one.version == root.version and one.digest != root.digest and names.intersection(one.signed_by):
            warn(
                f"{other} is another version {root.version}, and you signed it, too: if enough sign both, machines that"
                " see both stop; see to it that only one goes out"
            )


def _ask(keys: list[SecretKey]) -> None:
    if sys.stdin is None or not sys.stdin.isatty() or not sys.stderr.isatty():
        raise UsageError(
            "nobody can be asked whether to sign this: there is no terminal",
            remedy="read what it changes (p2pboot root show FILE), then give --yes",
        )
    names = ", ".join(key.public.keyid for key in keys)
    if not click.confirm(f"Sign this with {names}?", err=True):
        raise UsageError("nothing was signed", remedy=None)


def signed_root(root: Root, before: Root | None, keys: list[SecretKey], others: list[Root]) -> Root:
    """The root with these keys' signatures and those of copies."""
    from p2pboot.core.trustdocs.signing import signed

    return signed(root, before, keys, others)


def tell(root: Root, before: Root | None, keys: list[SecretKey]) -> None:
    """Say whose signatures are missing, or how machines name the root that is complete."""
    from p2pboot.core.trustdocs.signing import missing

    for key in keys:
        note(f"signed by {key.public.keyid}")
    left = missing(root, before)
    for one in left:
        if one.count:
            note(f"still to sign: {one.line}")
    total = sum(one.count for one in left)
    if total:
        return
    note(
        f"root version {root.version} is complete, with {counted(len(root.signed_by), 'signature')}:"
        f" --root sha256:{root.digest}"
    )


def _show(text: str) -> None:
    print(one_line(text), file=sys.stderr, flush=True)
