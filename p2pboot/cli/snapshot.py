"""`p2pboot snapshot`: publish, verify, list and show Timetoke snapshots, without a network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.clock import wall_now
from p2pboot.cli.files import STANDARD_INPUT, detached_path, read_start
from p2pboot.cli.options import FILE, Command, LazyGroup, config_option, json_option, verbosity_options
from p2pboot.cli.output import counted, emit_json, note, say, warn
from p2pboot.cli.settings import overrides_of, setting_options
from p2pboot.core.amounts import size_text
from p2pboot.errors import ExitStatus, StoreError, UsageError

if TYPE_CHECKING:
    from p2pboot.config.storage import SnapshotSettings
    from p2pboot.core.timetoke.announcement import Announcement
    from p2pboot.core.timetoke.reader import Payload
    from p2pboot.core.timetoke.records import TimetokeSnapshotHandle
    from p2pboot.publish.snapshots import Announced, TimetokeSnapshotProducer
    from p2pboot.store.snapshots.disk import DiskSnapshotStore

DEFAULT_STORE = Path("snapshots")
SHOWN_LEFT_OUT = 20  # entries that `list` names one by one

store_option = click.option(
    "--store",
    "store_path",
    type=FILE,
    metavar="DIR",
    help=f"Directory of the snapshots.  [default: {DEFAULT_STORE}]",
)


@click.group(cls=LazyGroup, lazy={"sync": "p2pboot.cli.snapshot_sync:sync"})  # it needs the network
def snapshot() -> None:
    """Timetoke snapshots: publish, verify, list, show, sync."""


@snapshot.command(cls=Command)
@click.argument("file", type=FILE)
@click.option("--timetoke-root", metavar="HEX", help="Of the ledger; needed where FILE does not state it.")
@click.option(
    "--sequence",
    type=click.IntRange(0, 2**53 - 1),
    metavar="N",
    help="Order of this snapshot.  [default: one more than the store's last]",
)
@setting_options("snapshots.key_path")
@click.option("--unsigned", is_flag=True, help="Publish without a signature, and so without announcement.")
@store_option
@config_option
@json_option
@verbosity_options
def publish(
    *,
    file: Path,
    timetoke_root: str | None,
    sequence: int | None,
    unsigned: bool,
    store_path: Path | None,
    config_path: Path | None,
    as_json: bool,
    **params: Any,
) -> None:
    """Sign the snapshot in FILE ("-": standard input), put it into the store, and announce it.

    FILE holds records as JSON lines, or a whole payload, which is taken byte for byte. A running `serve
    --snapshots DIR` finds what is put into its store.
    """
    from p2pboot.cli.snapshot_input import publish_file
    from p2pboot.publish.snapshots import TimetokeSnapshotProducer, announce
    from p2pboot.store.snapshots.disk import DiskSnapshotStore
    from p2pboot.store.snapshots.keys import load_or_generate_snapshot_key

    if unsigned and sequence is not None:
        raise UsageError("--sequence orders announcements, and what is unsigned is not announced")
    key = None
    if not unsigned:
        key = load_or_generate_snapshot_key(_settings(config_path, params).key_path, warn=warn)
    store = DiskSnapshotStore(_store_path(store_path, config_path), warn=_nothing)
    producer: TimetokeSnapshotProducer = TimetokeSnapshotProducer(store, key)
    handle = publish_file(producer, file, timetoke_root)
    announced = None
    if key is not None:
        announced = announce(
            handle,
            store=store,
            shelf=store.announcements,
            key=key,
            created_at=wall_now(),
            sequence=sequence,
        )
    _tell_published(handle, announced, store, as_json=as_json)


def _tell_published(
    handle: TimetokeSnapshotHandle, announced: Announced | None, store: DiskSnapshotStore, *, as_json: bool
) -> None:
    path = store.path(handle.root)
    announcement = None if announced is None else announced.announcement
    if as_json:
        emit_json(
            {
                "root": handle.root,
                "timetoke_root": handle.timetoke_root,
                "record_count": handle.record_count,
                "total_chunks": handle.total_chunks,
                "signature": None if handle.signature is None else store.signature(handle.root),
                "signer": None if announcement is None else announcement.signer,
                "sequence": None if announcement is None else announcement.sequence,
                "path": str(path),
            }
        )
        return
    say(f"root           {handle.root}")
    say(f"timetoke root  {handle.timetoke_root}")
    say(f"records        {handle.record_count}")
    say(f"chunks         {handle.total_chunks}")
    if announcement is None:
        say("signature      none")
    else:
        say(f"signed by      {announcement.signer}")
        say(f"sequence       {announcement.sequence}")
    say(f"path           {path}")


@snapshot.command(cls=Command)
@click.argument("file", type=FILE)
@click.option(
    "--sig", "sig_path", type=FILE, metavar="FILE", help="File of the signature.  [default: FILE.sig]"
)
@click.option("--public-key", required=True, metavar="HEX|KEYID", help="Whose signature it must be.")
@json_option
def verify(file: Path, sig_path: Path | None, public_key: str, as_json: bool) -> None:
    """Check that FILE is a snapshot and that its signature is that of a key over the file's bytes."""
    from p2pboot.cli.snapshot_input import map_file, parse_public_key
    from p2pboot.core.timetoke.chunks import payload_root
    from p2pboot.core.timetoke.errors import SignatureMissing
    from p2pboot.core.timetoke.signatures import MAX_SIGNATURE_TEXT, PayloadSignature
    from p2pboot.store.snapshots.signature_files import read_signature

    key = parse_public_key(public_key)
    with map_file(file) as payload:
        beside = sig_path or detached_path(file)
        if beside == STANDARD_INPUT:
            text = read_start(beside, MAX_SIGNATURE_TEXT + 1, what="signature")
        else:
            text = read_signature(beside) or b""
            if not text and not os.path.lexists(beside):
                if sig_path is not None:
                    raise UsageError(f"there is no signature {sig_path}", remedy="check the path after --sig")
                raise SignatureMissing(str(file))
        signature = PayloadSignature.parse(text, source=str(beside))
        signature.check(payload, [key], source=str(beside))
        facts = {
            "root": payload_root(payload),
            **_content(payload),
            "size": len(payload),
            "signer": key.keyid,
            "key_version": signature.key_version,
        }
    if as_json:
        emit_json({"ok": True, **facts})
        return
    _say_content(facts)
    say(f"verified: signed by {key.keyid}")


@snapshot.command(name="list", cls=Command)
@store_option
@config_option
@json_option
def list_(store_path: Path | None, config_path: Path | None, as_json: bool) -> None:
    """List the snapshots of a store, with their signatures and announcements.

    What else lies there is named on standard error with the reason why it is left out. Where nothing is left of what
    should be snapshots, the status is 1.
    """
    directory = _store_path(store_path, config_path)
    store = _open_existing(directory)
    survey = store.survey()
    entries = [_entry(store, root) for root in store.roots()]
    if as_json:
        left_out = [{"name": one.name, "reason": one.reason} for one in survey.left_out]
        emit_json({"snapshots": entries, "left_out": left_out, "left_out_count": survey.left_out_count})
    else:
        for entry in entries:
            _say_row(entry)
    for one in survey.left_out[:SHOWN_LEFT_OUT]:
        note(f"left out: {one.name} {one.reason}")
    if survey.left_out_count > SHOWN_LEFT_OUT:
        note(f"left out: {survey.left_out_count - SHOWN_LEFT_OUT} more (--json has up to 1000 of them)")
    if entries:
        return
    meant = next((one for one in survey.left_out if one.is_meant), None)
    if meant is None and not as_json:
        say(f"no snapshots in {directory}")
    elif meant is not None and as_json:
        click.get_current_context().exit(ExitStatus.REFUSED)
    elif meant is not None:
        raise StoreError(
            f"no snapshots in {directory}: nothing of what lies there can be served, {meant.name} {meant.reason}",
            remedy="a snapshot is a regular file, or a link to one, named *.json",
        )


def _say_row(entry: dict[str, Any]) -> None:
    sequences = ", ".join(str(one["sequence"]) for one in entry["announcements"]) or "-"
    kind = "" if entry["kind"] == "records" else f"  ({entry['kind']})"
    say(
        f"{entry['root']}  {size_text(entry['size']):>8}  {entry['signature_state']:<8}"
        f"  sequence {sequences}  {entry['path']}{kind}"
    )


@snapshot.command(cls=Command)
@click.argument("what", metavar="FILE|ROOT")
@store_option
@config_option
@json_option
def show(what: str, store_path: Path | None, config_path: Path | None, as_json: bool) -> None:
    """Show what a snapshot says: one of the store by its ROOT, or any FILE, whoever signed it."""
    from p2pboot.cli.snapshot_input import map_file
    from p2pboot.core.digests import is_digest
    from p2pboot.core.timetoke.chunks import payload_root

    entry: dict[str, Any]
    if is_digest(what) and not Path(what).exists():
        store = _open_existing(_store_path(store_path, config_path))
        entry = _entry(store, what)
        with store.payload(what) as payload:
            entry |= _content(payload)
    else:
        with map_file(Path(what)) as payload:
            entry = {"root": payload_root(payload), "path": what, "size": len(payload), **_content(payload)}
    if as_json:
        emit_json(entry)
    else:
        _say_entry(entry)


def _content(payload: Payload) -> dict[str, Any]:
    """What a payload is and says.

    Raises:
        SnapshotMalformed: it is neither a snapshot of records nor a manifest of chunks.
    """
    from p2pboot.core.timetoke.manifests import KIND_CHUNKS, KIND_RECORDS, chunk_manifest_length
    from p2pboot.core.timetoke.reader import SnapshotReader

    segments = chunk_manifest_length(payload)
    if segments is not None:
        return {"kind": KIND_CHUNKS, "segment_count": segments}
    reader = SnapshotReader(payload)
    return {
        "kind": KIND_RECORDS,
        "timetoke_root": reader.timetoke_root,
        "record_count": reader.count(),
    }


def _say_content(entry: dict[str, Any]) -> None:
    say(f"root           {entry['root']}")
    if "segment_count" in entry:
        say(f"content        a manifest of {counted(entry['segment_count'], 'chunk')}, no records")
    else:
        say(f"timetoke root  {entry['timetoke_root']}")
        say(f"records        {entry['record_count']}")


def _say_entry(entry: dict[str, Any]) -> None:
    _say_content(entry)
    say(f"size           {size_text(entry['size'])}")
    if "signature_state" in entry:
        say(f"signature      {entry['signature_state']}")
    for one in entry.get("announcements", ()):
        say(f"announced      sequence {one['sequence']} at {one['created_at']} by {one['signer']}")
    say(f"path           {entry['path']}")


def _store_path(given: Path | None, config_path: Path | None) -> Path:
    """The store that the command line names, or the configuration file, or the usual one."""
    return given or _settings(config_path, {}).directory or DEFAULT_STORE


def _settings(config_path: Path | None, params: dict[str, Any]) -> SnapshotSettings:
    from p2pboot.config.load import load_settings

    return load_settings(overrides_of(params), config_path).snapshots


def _open_existing(path: Path) -> DiskSnapshotStore:
    from p2pboot.store.snapshots.disk import DiskSnapshotStore

    if not path.is_dir():
        if path.is_symlink() and not path.exists():
            fault = f"{path} is a link to nothing"
        elif path.exists():
            fault = f"{path} is a file, not a directory of snapshots"
        else:
            fault = f"there is no directory {path}"
        raise UsageError(fault, remedy="name the snapshots' directory with --store")
    return DiskSnapshotStore(path, warn=_nothing)  # what is unsigned is shown as such


def _nothing(_text: str) -> None:
    """Commands that work on one snapshot do not speak of the others."""


def _entry(store: DiskSnapshotStore, root: str) -> dict[str, Any]:
    from p2pboot.core.timetoke.errors import SnapshotSignatureError
    from p2pboot.core.timetoke.manifests import payload_kind
    from p2pboot.errors import MachineError

    table = store.table(root)
    signature, state = None, "unsigned"
    try:
        signature = store.signature(root)
        state = "unsigned" if signature is None else "signed"
    except (SnapshotSignatureError, MachineError) as error:
        state = f"damaged: {error.message}"
    with store.payload(root) as payload:
        kind = payload_kind(payload)
    return {
        "root": root,
        "kind": kind,
        "path": str(store.path(root)),
        "size": table.size,
        "total_chunks": table.count,
        "signature": signature,
        "signature_state": state,
        "announcements": [_announced(one) for one in store.announcements.of_root(root)],
    }


def _announced(announcement: Announcement) -> dict[str, Any]:
    from p2pboot.core.timestamps import format_time

    return {
        "signer": announcement.signer,
        "sequence": announcement.sequence,
        "created_at": format_time(announcement.created_at),
        "timetoke_root": announcement.facts.timetoke_root,
        "record_count": announcement.facts.record_count,
    }
