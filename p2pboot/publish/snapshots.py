"""Publishing snapshots: write the payload, sign it, and only then let anybody see it.

The order is the guarantee: the payload is complete and signed in a draft that nobody sees; when signing
fails, nothing is exposed. Announcing is a step of its own: only what is there may use up a sequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import SIGNATURE_BYTES, SecretKey
from p2pboot.core.timetoke.announcement import Announcement, SnapshotFacts
from p2pboot.core.timetoke.chunks import SnapshotChunk
from p2pboot.core.timetoke.reader import SnapshotReader
from p2pboot.core.timetoke.records import TimetokeRecord, TimetokeSnapshotHandle, timetoke_root_text
from p2pboot.core.timetoke.signatures import KeySigner, PayloadSignature, PayloadSigner
from p2pboot.core.timetoke.writer import encode_snapshot
from p2pboot.errors import SignatureError, UsageError
from p2pboot.store.announcements import Announcements
from p2pboot.store.snapshots.base import Draft, SnapshotStore


class TimetokeSnapshotProducer:
    """Publishes snapshots into a store.

    Args:
        store: where they go.
        signer: a key, or whatever else can sign; None publishes without signatures. Its `version`, if it has one as
            a `SnapshotSigningKey` does, stands before its signatures in the store.
    """

    def __init__(self, store: SnapshotStore, signer: SecretKey | PayloadSigner | None = None) -> None:
        self._store = store
        self._signer = KeySigner(signer) if isinstance(signer, SecretKey) else signer
        version: int | None = getattr(signer, "version", None)
        self._key_version = None if version is None else str(version)

    def has_snapshot(self, root: str) -> bool:
        """Whether the store has this snapshot, whoever published it."""
        return self._store.has_snapshot(root)

    def stream(self, root: str) -> Iterator[SnapshotChunk]:
        """Give all chunks of a snapshot in order; raises what `SnapshotStore.stream` raises."""
        return self._store.stream(root)

    def chunk(self, root: str, index: int) -> SnapshotChunk:
        """Give one chunk of a snapshot; raises what `SnapshotStore.chunk` raises."""
        return self._store.chunk(root, index)

    def publish(
        self, records: Iterable[TimetokeRecord], timetoke_root: str | bytes
    ) -> TimetokeSnapshotHandle:
        """Write records as a payload, sign and store it. Takes bounded memory, however many they are.

        Args:
            records: in the order in which they shall stand.
            timetoke_root: of the ledger that they are of: 64 lowercase hex digits, or 32 bytes.

        Raises:
            ValueError: the timetoke root is not one.
            SignatureError: the signer did not give a signature; what it raises itself passes.
            MachineError: the disk is full or fails. Whatever is raised, nothing is exposed.
        """
        count = 0

        def counted() -> Iterable[TimetokeRecord]:
            nonlocal count
            for record in records:
                count += 1
                yield record

        with self._store.draft() as draft:
            for part in encode_snapshot(counted(), timetoke_root):
                draft.write(part)
            return self._expose(draft, timetoke_root_text(timetoke_root), count)

    def publish_payload(
        self, parts: Iterable[bytes], timetoke_root: str | None = None
    ) -> TimetokeSnapshotHandle:
        """Sign and store a payload that exists already, byte for byte as it is.

        Args:
            parts: the payload in parts of any size.
            timetoke_root: what it must state; None for any.

        Raises:
            SnapshotMalformed: it is no payload.
            UsageError: it is empty, or states another timetoke root.
            SignatureError, MachineError: as `publish`.
        """
        with self._store.draft() as draft:
            for part in parts:
                draft.write(part)
            try:
                _, _, payload = draft.seal()
            except ValueError as error:
                raise UsageError(f"this is no snapshot: {error}") from None
            reader = SnapshotReader(payload)
            if timetoke_root not in (None, reader.timetoke_root):
                raise UsageError(f"the payload has timetoke root {reader.timetoke_root}, not {timetoke_root}")
            count = reader.count()
            return self._expose(draft, reader.timetoke_root, count)

    def _expose(self, draft: Draft, timetoke_root: str, count: int) -> TimetokeSnapshotHandle:
        root, table, payload = draft.seal()
        signature = None
        if self._signer is not None:
            raw = self._signer.sign(payload)
            if len(raw) != SIGNATURE_BYTES:
                raise SignatureError(f"the signer gave {len(raw)} bytes, a signature has {SIGNATURE_BYTES}")
            signature = PayloadSignature(raw, self._key_version)
        draft.commit(None if signature is None else signature.text)
        plain = None if signature is None else signature.base64
        return TimetokeSnapshotHandle(root, table.count, count, timetoke_root, plain)


@dataclass(frozen=True, slots=True)
class Announced:
    """The announcement of a snapshot, and whether it was made just now."""

    announcement: Announcement
    is_new: bool


def announce(
    handle: TimetokeSnapshotHandle,
    *,
    store: SnapshotStore,
    shelf: Announcements,
    key: SecretKey,
    created_at: int,
    sequence: int | None = None,
) -> Announced:
    """Announce a signed snapshot of the store.

    Args:
        handle: of the snapshot.
        store: has it.
        shelf: gets the announcement, and knows the last sequence; safe against other processes.
        key: made the payload's signature.
        created_at: now, unix seconds.
        sequence: from the source; None: one more than the store's last. A snapshot that this key announced
            before keeps its announcement then.

    Raises:
        UsageError: another snapshot was announced under this sequence by this key, or this one under a
            higher one: signing that would be evidence against the key.
        ValueError: the handle has no signature, or the sequence is out of range.
        MachineError: the disk is full or fails.
    """
    if handle.signature is None:
        raise ValueError("a snapshot without a signature can not be announced")
    facts = SnapshotFacts.of(handle.root, store.table(handle.root), handle.timetoke_root, handle.record_count)
    with shelf.exclusive():
        own = [one for one in shelf.all() if one.signer == key.public.keyid]
        known = next((one for one in own if one.root == handle.root), None)
        if known is not None and sequence in (None, known.sequence):
            return Announced(known, is_new=False)
        number = shelf.last_sequence() + 1 if sequence is None else sequence
        _check_sequence(number, own, known, lost_up_to=_lost(shelf, own, key))
        announcement = Announcement.make(
            facts, sequence=number, created_at=created_at, payload_signature=handle.signature, key=key
        )
        shelf.put(announcement)
        return Announced(announcement, is_new=True)


def _lost(shelf: Announcements, own: Iterable[Announcement], key: SecretKey) -> int:
    """The highest sequence of this key of which no announcement is kept; 0 where the newest one is."""
    highest = shelf.reached().get(key.public.keyid, 0)
    return highest if highest > max((one.sequence for one in own), default=0) else 0


def _check_sequence(
    sequence: int, own: Iterable[Announcement], known: Announcement | None, *, lost_up_to: int
) -> None:
    if sequence <= lost_up_to:
        raise UsageError(
            f"this key announced sequences up to {lost_up_to}, and the announcements are lost: {sequence} may be taken",
            remedy="use a higher --sequence, or leave it out",
        )
    other = next((one for one in own if one.sequence == sequence), None)
    if other is not None:
        raise UsageError(
            f"sequence {sequence} is taken: snapshot {other.root} was announced under it",
            remedy="use a higher --sequence, or leave it out",
        )
    if known is not None and known.sequence > sequence:
        raise UsageError(
            f"this snapshot was announced under sequence {known.sequence} already",
            remedy="use a higher --sequence, or leave it out",
        )
