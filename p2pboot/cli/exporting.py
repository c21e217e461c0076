"""`p2pboot store export` and `import`: a release carried by hand from one state to another, without a network."""

from __future__ import annotations

import os
import re
import sys
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.clock import wall_clock
from p2pboot.cli.files import STANDARD_INPUT
from p2pboot.cli.options import (
    FILE,
    Command,
    config_option,
    json_option,
    max_lifetime_option,
    trust_options,
    verbosity_options,
)
from p2pboot.cli.output import emit_json, note, say
from p2pboot.cli.settings import overrides_of, setting_options
from p2pboot.core.amounts import duration_text, size_text
from p2pboot.errors import NotFoundError, StoreError, UsageError, machine_error

if TYPE_CHECKING:
    from p2pboot.config.settings import NodeSettings
    from p2pboot.core.manifest import Manifest
    from p2pboot.exports.writing import Release
    from p2pboot.store.store import Store

_RELEASE = re.compile(
    r"(?P<channel>[^/@#]+)/(?P<arch>[^/@#]+)(?:@(?P<version>.+?))?(?:#(?P<number>[0-9]{1,16}))?"
)

_FATES = {
    "news": "new",
    "known": "known already",
    "older": "older than what is known",
    "early": "that can not be believed yet",
    "untrusted": "of nobody who has a say here",
    "evidence": "that contradict what is known, and are kept as evidence",
}


@click.command(cls=Command)
@click.argument("release", metavar="RELEASE")
@click.argument("target", metavar="DIR|FILE", type=FILE)
@setting_options("store.state")
@config_option
@json_option
@verbosity_options
def export(release: str, target: Path, config_path: Path | None, as_json: bool, **params: Any) -> None:
    """Write a release that is held here into a directory DIR, or into one archive FILE.tar, to be carried by hand.

    RELEASE is <channel>/<arch>, the newest that is wholly here; @VERSION or #NUMBER after it names another one. "-"
    writes the archive to standard output. In a directory the files have the names that `fetch` gives them; what is
    larger than FAT takes is written in parts there. All that is written was checked against the signed manifest. What
    is known here of its roots, freshness statements and yanks is carried with it. A node may run with the same state.
    """
    from p2pboot.cli.progress import open_progress
    from p2pboot.config.load import load_settings
    from p2pboot.exports.writing import stream_archive, write_archive, write_directory
    from p2pboot.store.store import Store

    settings = load_settings(overrides_of(params), config_path)
    if target == STANDARD_INPUT and as_json:
        raise UsageError("--json and the archive can not both be printed", remedy="name a file")
    with Store.read(settings.store.state) as store, open_progress("exporting", "exported") as progress:
        chosen = _choose(store, release)
        _know_what_lies_elsewhere(store, chosen.manifest)
        if target == STANDARD_INPUT:
            if sys.stdout.isatty():
                raise UsageError("an archive is nothing for a terminal", remedy="name a file, or use a pipe")
            stream_archive(chosen, sys.stdout.buffer, progress.artifact)
            return
        if _is_archive(target):
            size = write_archive(chosen, target, progress.artifact)
        else:
            size = write_directory(chosen, target, progress.artifact)
    manifest = chosen.manifest
    left_s = manifest.expires_at - wall_clock()()
    if left_s <= 0:
        note("p2pboot: note: it has expired, and will not be taken anywhere")
    if as_json:
        emit_json({"ok": True, **_named(manifest), "path": str(target), "written_bytes": size})
        return
    say(
        f"exported   {manifest.channel}/{manifest.arch}  version {manifest.version}"
        f"  manifest version {manifest.manifest_version}  sha256:{manifest.digest}"
    )
    say(f"written    {size_text(size)} to {target}")
    if left_s > 0:
        say(f"expires    in {duration_text(left_s)}: import it before that")


@click.command("import", cls=Command)
@click.argument("source", metavar="DIR|FILE", type=FILE)
@setting_options("store.state", "store.quota")
@trust_options
@max_lifetime_option
@config_option
@json_option
@verbosity_options
def import_(source: Path, config_path: Path | None, as_json: bool, **params: Any) -> None:
    """Take a release that was exported into this state, verified, without any network.

    DIR is a directory that `p2pboot store export` wrote, FILE an archive ("-": standard input). The manifest is judged
    as one that was fetched: by --root, --trust or the configuration file's [[trust]], with the roots, freshness
    statements and yanks that are carried with it, and nothing older than what was accepted is taken. Nothing counts
    before every byte of it was checked; of what is here already nothing is read. Where a node runs with this state, it
    takes the release itself, by its own settings, and offers it at once.
    """
    from p2pboot.config.load import load_settings
    from p2pboot.node.control import running

    settings = load_settings(overrides_of(params), config_path)
    if running(settings.store.state) is None:
        imported = _import_here(source, settings)
    else:
        imported = _hand_over(source, settings, params)
    if as_json:
        emit_json({"ok": True, **imported})
        return
    say(
        f"imported   {imported['channel']}/{imported['arch']}  version {imported['version']}"
        f"  manifest version {imported['manifest_version']}  sha256:{imported['digest']}"
    )
    for kind, fates in imported["documents"].items():
        say(f"{kind:<10} {', '.join(f'{count} {_FATES[fate]}' for fate, count in fates.items())}")
    if imported["unchanged"]:
        say("nothing to read: all of its artifacts were here already")
    else:
        say(f"read       {size_text(imported['read_bytes'])}, all of it verified")


def _import_here(source: Path, settings: NodeSettings) -> dict[str, Any]:
    from p2pboot.cli.progress import open_progress
    from p2pboot.core.policy import no_trust
    from p2pboot.core.trust import Trust
    from p2pboot.exports.source import open_path, open_pipe
    from p2pboot.exports.taking import Taking
    from p2pboot.store.auditlog import AuditLog
    from p2pboot.store.catalogue import Catalogue
    from p2pboot.store.gate import Gate
    from p2pboot.store.store import Store

    if settings.trusts_nobody:
        raise no_trust()
    opened = open_pipe(sys.stdin.buffer, "standard input") if source == STANDARD_INPUT else open_path(source)
    try:
        with (
            Store.open(settings.store.state, quota_bytes=settings.store.quota_bytes) as store,
            open_progress("importing", "imported") as progress,
        ):
            store.lock()
            catalogue = Catalogue(store, Trust(settings.policy), wall_clock(), keep=settings.store.keep)
            audit_path = settings.audit_path
            audit = None if audit_path is None else AuditLog(audit_path, wall_clock())
            taking = Taking(opened, store, Gate(store, catalogue, audit))
            taken = taking.take(max_artifact_bytes=settings.store.max_artifact_bytes, told=progress.artifact)
            return taken.to_json()
    finally:
        opened.close()


def _hand_over(source: Path, settings: NodeSettings, params: dict[str, Any]) -> dict[str, Any]:
    """Have the running node take it: opened here, where the node may have no right to, or not even see it."""
    from p2pboot.node.control import request

    if source == STANDARD_INPUT:
        raise UsageError(
            "a node is running with this state: it takes no pipe", remedy="save the archive to a file first"
        )
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UsageError(f"there is no {source}", remedy="check the path, and that it is mounted") from None
    except OSError as error:
        raise machine_error(error, f"read {source}") from error
    message = {
        "op": "store",
        "do": "import",
        "path": str(source.absolute()),
        "trust": list(params.get("trust") or ()),
        "root": [_shown(one) for one in params.get("root") or ()],
        "threshold": params.get("threshold"),
    }
    try:
        answer = request(settings.store.state, message, None, descriptor=descriptor)
    finally:
        os.close(descriptor)
    imported: dict[str, Any] = answer["imported"]
    return imported


def _shown(named: str) -> str:
    """A root for the node, which may not see its file: the digest, or the root itself in base64."""
    from p2pboot.config.values import root_anchor

    anchor = root_anchor(named, Path())
    return anchor.shown if anchor.root is None else b64encode(anchor.root.raw).decode()


def _choose(store: Store, release: str) -> Release:
    """The newest manifest that is meant and wholly here.

    Raises:
        UsageError: the release is named wrongly.
        StoreError: it is not here.
    """
    from p2pboot.core.manifest import Manifest
    from p2pboot.core.names import check_name, normalise_arch
    from p2pboot.exports.trusting import trust_documents
    from p2pboot.exports.writing import Release

    match = _RELEASE.fullmatch(release)
    try:
        if match is None:
            raise ValueError(f"{release[:80]!r} is no release")
        pair = check_name(match["channel"], "channel"), normalise_arch(match["arch"])
    except ValueError as error:
        raise UsageError(
            str(error), remedy="name it as <channel>/<arch>, such as stable/x86_64, with @VERSION or #NUMBER"
        ) from None
    rows = sorted(store.manifests.of_pair(pair), key=lambda row: (-row.manifest_version, -row.created_at))
    for row in rows:
        stored = store.manifests.get(row.digest)
        if stored is None or (match["number"] is not None and row.manifest_version != int(match["number"])):
            continue
        manifest = Manifest.parse(stored.raw)
        if match["version"] in (None, manifest.version) and (
            row.role != "pending" or match["number"] or match["version"]
        ):
            return Release(manifest, stored.detached, store.blobs, trust_documents(store, manifest))
    here = ", ".join(sorted({"/".join(row.pair) for row in store.manifests.all() if row.role != "pending"}))
    raise NotFoundError(
        f"{release} is not in the store {store.path}",
        remedy=f"there is {here}" if here else "nothing is held there",
    )


def _know_what_lies_elsewhere(store: Store, manifest: Manifest) -> None:
    """A publisher's own files are served where they lie: the node that runs tells where that is."""
    from p2pboot.cli.inplace import learn_in_place
    from p2pboot.node.control import running

    missing = [one for one in manifest.artifacts.values() if not store.blobs.holds(one.sha256)]
    learn_in_place(store, (one.sha256 for one in missing))
    if missing and running(store.path) is None:
        raise StoreError(
            f"{missing[0].key} is not in the store {store.path}",
            remedy="if this is a publisher's state, export while `p2pboot serve` runs with it: it tells where its"
            " files lie; else p2pboot store check says what is missing",
        )


def _is_archive(target: Path) -> bool:
    if target.is_dir():
        return False
    if target.exists() and not target.is_file():
        raise UsageError(f"{target} is neither a file nor a directory", remedy='use "-" for a pipe')
    if target.suffix.lower() == ".tar":
        return True
    if target.exists():
        raise UsageError(
            f"{target} is a file, and its name does not end in .tar",
            remedy="name a directory, or an archive that ends in .tar",
        )
    return False


def _named(manifest: Manifest) -> dict[str, object]:
    from p2pboot.core.manifest.facts import facts

    return facts(manifest, "channel", "arch", "version", "manifest_version", "digest", "expires_at")
