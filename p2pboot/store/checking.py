"""Looking at everything that a state holds, and mending what can be mended here: `p2pboot store check` and `repair`.

A check is made of a store that is only looked at (`Store.read`): rows against the signed documents that they came from,
files against the signed piece tables, piece by piece. It changes nothing, and says the worst of each artifact in one
finding. A repair takes what is damaged out of service, so that it is fetched anew, with all of its pieces that are
good; what can be had from what is here (rows, piece tables) it makes again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Artifact, Manifest
from p2pboot.errors import Malformed, P2PBootError, SignatureError, StoreError, machine_error
from p2pboot.store.audit import audit
from p2pboot.store.gate import Gate
from p2pboot.store.hashing import sha256_of
from p2pboot.store.reading import open_regular
from p2pboot.store.scrubbing import Scrubbed, read_all, total_bytes
from p2pboot.store.store import Store

ROW: Final = "row"
PIECES: Final = "pieces"
TABLE: Final = "table"
GONE: Final = "gone"

_MOST_NAMED: Final = 4  # pieces in one line

Told = Callable[[int, int], None]
"""Is called with the bytes read and to read."""


def _nobody(_read_bytes: int, _total_bytes: int) -> None:
    """Nobody looks."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that is wrong.

    Args:
        kind: "row": the database says something that was not signed; "pieces": bytes on the disk are not what was
            verified; "table": an artifact is whole, and its piece table is lost; "gone": its file is.
        subject: what it is about: an artifact's name, or a digest.
        text: what was found, one line for a person.
        digest: of the artifact; None where it is about no artifact.
        pieces: of it that are damaged.
    """

    kind: str
    subject: str
    text: str
    digest: str | None = None
    pieces: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "text": self.text,
            "digest": self.digest,
            "pieces": list(self.pieces),
        }


def check(store: Store, told: Told = _nobody) -> Iterator[Found]:
    """Look at everything that is held: manifests, tables, artifacts.

    Args:
        store: made by `Store.read`; its view of the database is put right on the way.
        told: is told how far it is.

    Raises:
        StoreError, MachineError: it can not be read.
    """
    for line in audit(store):
        yield Found(ROW, str(store.path), line)
    names = Names(store)
    yield from _check_files(store, names)
    yield from check_pieces(store.blobs, names.of, told)


def _check_files(store: Store, names: Names) -> Iterator[Found]:
    """What lies there and has no table, another size, or is not there any more."""
    files = store.blobs.files
    for digest, artifact in names.artifacts.items():
        path, tables = files.whole(digest), store.blobs.known_tables(digest)
        is_here = os.path.exists(path)
        if is_here and not tables:
            try:
                fd = open_regular(path)
                try:
                    is_good = sha256_of(fd, artifact.size, lambda: None) == digest
                finally:
                    os.close(fd)
            except OSError as error:
                raise machine_error(error, f"read {path}") from error
            if is_good:
                yield Found(
                    TABLE, names.of(digest), f"its piece table is lost; {path} is what was verified", digest
                )
            else:
                yield Found(
                    PIECES, names.of(digest), f"{path} is damaged, and its piece table is lost", digest
                )
        elif is_here and not store.blobs.holds(digest):
            yield Found(
                PIECES,
                names.of(digest),
                f"{path} has not the {artifact.size} bytes that were verified",
                digest,
            )
        elif (
            tables and not is_here and not os.path.exists(files.partial(digest)) and _was_here(store, digest)
        ):
            yield Found(GONE, names.of(digest), f"{path} was here, and is gone", digest)


def _was_here(store: Store, digest: str) -> bool:
    """Whether the store had a file of its own: a table alone may be of one that is served in place."""
    return not store.blobs.in_place(digest) and not store.hashes.has_content(digest)


def check_pieces(
    scrubbed: Scrubbed, name: Callable[[str], str], told: Told = _nobody, *, every_piece: bool = True
) -> Iterator[Found]:
    """Read all that is wholly held: artifacts, or snapshots.

    Args:
        scrubbed: what is read.
        name: what a digest is called.
        told: is told how far it is.
        every_piece: read on in what is damaged; else the store has taken it out of service.

    Yields:
        What is damaged, once for each.
    """
    total, read_bytes = total_bytes(scrubbed), 0
    told(0, total)
    present, damaged, count = "", list[int](), 0
    for piece in read_all(scrubbed, every_piece=every_piece):
        if piece.digest != present:
            if damaged:
                yield _damaged(name(present), present, damaged, count)
            present, damaged, count = piece.digest, [], piece.count
        if not piece.is_intact:
            damaged.append(piece.index)
        read_bytes += piece.length
        told(read_bytes, total)
    if damaged:
        yield _damaged(name(present), present, damaged, count)


def _damaged(name: str, digest: str, pieces: list[int], count: int) -> Found:
    which = ", ".join(str(index) for index in pieces[:_MOST_NAMED])
    more = f" and {len(pieces) - _MOST_NAMED} more" if len(pieces) > _MOST_NAMED else ""
    noun = "piece" if len(pieces) == 1 else "pieces"
    text = f"the disk changed {noun} {which}{more} of {count} (sha256:{digest})"
    return Found(PIECES, name, text, digest, tuple(pieces))


def repair(store: Store, gate: Gate | None, told: Told = _nobody) -> Iterator[Found]:
    """Put right what the database says, and take what is damaged out of service.

    Args:
        store: open and locked.
        gate: of the same store, for manifests whose rows have to be made again; None where nobody is trusted.
        told: is told how far it is.

    Yields:
        What was wrong.

    Raises:
        StoreError, MachineError: it can not be read or written.
    """
    documents = _documents(store)
    for line in audit(store):
        yield Found(ROW, str(store.path), line)
    entered = [] if gate is None else _enter_again(store, gate, documents)
    names = Names(store)
    for found in list(_check_files(store, names)):
        yield found
        if found.digest is not None:
            _rebuild(store, found.digest, names.artifacts[found.digest])
    for digest in entered:
        if gate is not None and store.manifests.is_whole(digest):
            with suppress(StoreError):  # a later one is in force
                gate.catalogue.completed(digest)
    yield from check_pieces(store.blobs, names.of, told, every_piece=False)


def _documents(store: Store) -> dict[str, tuple[Manifest, str | None]]:
    """The manifests that are what somebody signed, whatever their rows say, by digest."""
    found = {}
    for row in store.manifests.all():
        stored = store.manifests.get(row.digest)
        try:
            if stored is not None:
                manifest = Manifest.parse(bytes(stored.raw))
                found[manifest.digest] = (manifest, stored.detached)
        except (Malformed, SignatureError, TypeError):
            continue
    return found


def _enter_again(store: Store, gate: Gate, documents: dict[str, tuple[Manifest, str | None]]) -> list[str]:
    """Take those whose rows were removed through the gate; returns the digests of what may be used."""
    missing = [one for one in documents.values() if store.manifests.row(one[0].digest) is None]
    missing.sort(key=lambda one: one[0].manifest_version)
    return [
        manifest.digest
        for manifest, detached in missing
        if gate.enter(manifest, detached, source="its own document").ok
    ]


def _rebuild(store: Store, digest: str, artifact: Artifact) -> None:
    """Make a piece table again from what is here; what is not what was verified goes out of service."""
    try:
        store.blobs.settle(
            digest,
            size=artifact.size,
            piece_length=artifact.piece_length,
            table_digest=artifact.table_digest,
        )
    except P2PBootError as error:
        if error.exit_status != StoreError.exit_status:
            raise


class Names:
    """What artifacts are called, and what is signed of them: of all manifests that are kept.

    Args:
        store: whose manifests.
    """

    def __init__(self, store: Store) -> None:
        self.artifacts: dict[str, Artifact] = {}
        self._names: dict[str, str] = {}
        for row in sorted(store.manifests.all(), key=lambda row: row.manifest_version):
            stored = store.manifests.get(row.digest)
            try:
                manifest = None if stored is None else Manifest.parse(bytes(stored.raw))
            except (Malformed, SignatureError, TypeError):
                continue
            for artifact in () if manifest is None or row.fault is not None else manifest.artifacts.values():
                self.artifacts[artifact.sha256] = artifact
                self._names[artifact.sha256] = (
                    f"{row.channel}/{row.arch}/{artifact.key} #{row.manifest_version}"
                )

    def of(self, digest: str) -> str:
        """What a person calls it."""
        return self._names.get(digest, f"sha256:{digest}")
