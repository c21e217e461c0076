"""`p2pboot snapshot`: publish, verify, list and show Timetoke snapshots, without a network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.files import detached_path, read_start
from p2pboot.cli.options import FILE, Command, Group, json_option, verbosity_options
from p2pboot.cli.output import emit_json, human_size, say, warn
from p2pboot.errors import UsageError

if TYPE_CHECKING:
    from p2pboot.core.timetoke.announcement import Announcement
    from p2pboot.core.timetoke.records import TimetokeSnapshotHandle
    from p2pboot.publish.snapshots import Announced, TimetokeSnapshotProducer
    from p2pboot.store.snapshots.disk import DiskSnapshotStore

DEFAULT_STORE = Path("snapshots")
DEFAULT_KEY = Path("keys/timetoke_snapshot.toml")

store_option = click.option(
    "--store",
    "store_path",
    type=FILE,
    default=DEFAULT_STORE,
    show_default=True,
    metavar="DIR",
    help="Directory of the snapshots.",
)


class _LazyGroup(Group):
    """Imports the command that needs the network when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), "sync"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "sync":
            from p2pboot.cli.snapshot_sync import sync

            return sync
        return super().get_command(ctx, cmd_name)


@click.group(cls=_LazyGroup)
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
@click.option(
    "--key",
    "key_path",
    type=FILE,
    default=DEFAULT_KEY,
    show_default=True,
    metavar="PATH",
    help="Key file that signs; made when there is none.",
)
@click.option("--unsigned", is_flag=True, help="Publish without a signature, and so without announcement.")
@store_option
@json_option
@verbosity_options
def publish(
    *,
    file: Path,
    timetoke_root: str | None,
    sequence: int | None,
    key_path: Path,
    unsigned: bool,
    store_path: Path,
    as_json: bool,
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
    key = None if unsigned else load_or_generate_snapshot_key(key_path, warn=warn)
    store = DiskSnapshotStore(store_path)
    producer: TimetokeSnapshotProducer = TimetokeSnapshotProducer(store, key)
    handle = publish_file(producer, file, timetoke_root)
    announced = None
    if key is not None:
        announced = announce(
            handle,
            store=store,
            shelf=store.announcements,
            key=key,
            created_at=int(time.time()),
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
    from p2pboot.core.timetoke.reader import SnapshotReader
    from p2pboot.core.timetoke.signatures import MAX_SIGNATURE_TEXT, PayloadSignature

    key = parse_public_key(public_key)
    with map_file(file) as payload:
        beside = sig_path or detached_path(file)
        if sig_path is None and not beside.exists():
            raise SignatureMissing(str(file))
        text = read_start(beside, MAX_SIGNATURE_TEXT + 1, what="signature")
        signature = PayloadSignature.parse(text, source=str(beside))
        signature.check(payload, [key], source=str(beside))
        reader = SnapshotReader(payload)
        facts = {
            "root": payload_root(payload),
            "timetoke_root": reader.timetoke_root,
            "record_count": reader.count(),
            "size": len(payload),
            "signer": key.keyid,
            "key_version": signature.key_version,
        }
    if as_json:
        emit_json({"ok": True, **facts})
    else:
        say(f"root           {facts['root']}")
        say(f"timetoke root  {facts['timetoke_root']}")
        say(f"records        {facts['record_count']}")
        say(f"verified: signed by {key.keyid}")


@snapshot.command(name="list", cls=Command)
@store_option
@json_option
def list_(store_path: Path, as_json: bool) -> None:
    """List the snapshots of a store, with their signatures and announcements."""
    store = _open_existing(store_path)
    entries = [_entry(store, root) for root in store.roots()]
    if as_json:
        emit_json({"snapshots": entries})
        return
    if not entries:
        say(f"no snapshots in {store_path}")
    for entry in entries:
        sequences = ", ".join(str(one["sequence"]) for one in entry["announcements"]) or "-"
        say(
            f"{entry['root']}  {human_size(entry['size']):>8}  {entry['signature_state']:<8}"
            f"  sequence {sequences}  {entry['path']}"
        )


@snapshot.command(cls=Command)
@click.argument("what", metavar="FILE|ROOT")
@store_option
@json_option
def show(what: str, store_path: Path, as_json: bool) -> None:
    """Show what a snapshot says: one of the store by its ROOT, or any FILE, whoever signed it."""
    from p2pboot.cli.snapshot_input import map_file
    from p2pboot.core.digests import is_digest
    from p2pboot.core.timetoke.chunks import payload_root
    from p2pboot.core.timetoke.reader import SnapshotReader

    entry: dict[str, Any]
    if is_digest(what) and not Path(what).exists():
        store = _open_existing(store_path)
        entry = _entry(store, what)
        with store.payload(what) as payload:
            reader = SnapshotReader(payload)
            entry |= {"timetoke_root": reader.timetoke_root, "record_count": reader.count()}
    else:
        with map_file(Path(what)) as payload:
            reader = SnapshotReader(payload)
            entry = {"root": payload_root(payload), "path": what, "size": len(payload)}
            entry |= {"timetoke_root": reader.timetoke_root, "record_count": reader.count()}
    if as_json:
        emit_json(entry)
    else:
        _say_entry(entry)


def _say_entry(entry: dict[str, Any]) -> None:
    say(f"root           {entry['root']}")
    say(f"timetoke root  {entry['timetoke_root']}")
    say(f"records        {entry['record_count']}")
    say(f"size           {human_size(entry['size'])}")
    if "signature_state" in entry:
        say(f"signature      {entry['signature_state']}")
    for one in entry.get("announcements", ()):
        say(f"announced      sequence {one['sequence']} at {one['created_at']} by {one['signer']}")
    say(f"path           {entry['path']}")


def _open_existing(path: Path) -> DiskSnapshotStore:
    from p2pboot.store.snapshots.disk import DiskSnapshotStore

    if not path.is_dir():
        raise UsageError(f"there is no directory {path}", remedy="name the snapshots' directory with --store")
    return DiskSnapshotStore(path, warn=_nothing)  # what is unsigned is shown as such


def _nothing(_text: str) -> None:
    pass


def _entry(store: DiskSnapshotStore, root: str) -> dict[str, Any]:
    from p2pboot.core.timetoke.errors import SnapshotSignatureError

    table = store.table(root)
    signature, state = None, "unsigned"
    try:
        signature = store.signature(root)
        state = "unsigned" if signature is None else "signed"
    except SnapshotSignatureError as error:
        state = f"damaged: {error.message}"
    return {
        "root": root,
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
