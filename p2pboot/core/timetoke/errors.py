"""What can be wrong with a snapshot; each its own class, with the data that a caller needs in the fields.

`TimetokeSnapshotError` is the base of all of them, as in the source system: what a producer or a consumer raises
about a snapshot. A disk that is full and the like are not among them.

::

    SnapshotError
    ├── SnapshotMalformed          bytes that are no payload
    ├── RootMismatch               a whole payload with another root
    ├── ChunkError                 root, index: one chunk is not what was asked for
    │   ├── ForeignChunk           of another snapshot
    │   ├── DuplicateChunk         was ingested already
    │   ├── ChunkOutOfOrder        comes too early
    │   ├── ExcessChunk            beyond the last one
    │   ├── TotalMismatch          states another number of chunks
    │   ├── ChunkLengthMismatch    of another length
    │   └── ChunkCorrupt           of another content
    └── AnnouncementConflict       trusted keys announce different snapshots under one sequence
    StoreError
    ├── SnapshotMissing            no such snapshot here
    ├── ChunkMissing               no such chunk in it
    └── SnapshotChanged            the file is not what it was when its root was computed
    SignatureError
    └── SnapshotSignatureError
        ├── SignatureMissing       there is none, and one is required
        ├── SignatureEmpty         there is one, and nothing in it
        ├── SignatureUndecodable   no base64; KeyVersionInvalid, SignatureNoFile: for another reason
        ├── SignatureLengthError   base64 of something else than 64 bytes
        ├── SignatureMismatch      not this key's signature of these bytes
        │   └── AnnouncedMismatch  signers: of announcements whose payload signature is none of theirs
        └── SignaturesTooFew       good ones, of fewer keys than the threshold asks for
    TimetokeReplayError            in `core.timetoke.replay`: a snapshot that does not belong to the ledger
"""

from __future__ import annotations

from collections.abc import Collection

from p2pboot.errors import P2PBootError, SignatureError, StoreError


class TimetokeSnapshotError(P2PBootError):
    """Whatever is wrong with a snapshot; never raised itself."""


class SnapshotError(TimetokeSnapshotError):
    """A snapshot that is not taken."""


class SnapshotMalformed(SnapshotError):
    """Bytes that are no snapshot payload."""


class RootMismatch(SnapshotError):
    """The whole payload is not the one that its root names."""

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"the payload should have root {expected} but has {actual}")
        self.expected = expected
        self.actual = actual


class ChunkError(SnapshotError):
    """A chunk that is not the one that belongs here.

    Args:
        root: of the snapshot.
        index: of the chunk, as it says itself.
        reason: what is wrong with it.
    """

    def __init__(self, root: str, index: int, reason: str) -> None:
        super().__init__(f"chunk {index} of snapshot {root}: {reason}")
        self.root = root
        self.index = index


class ForeignChunk(ChunkError):
    """A chunk of another snapshot."""


class DuplicateChunk(ChunkError):
    """A chunk that was ingested already."""


class ChunkOutOfOrder(ChunkError):
    """A chunk that comes before its predecessors."""


class ExcessChunk(ChunkError):
    """A chunk beyond the last one."""


class TotalMismatch(ChunkError):
    """A chunk that states another number of chunks than was agreed."""


class ChunkLengthMismatch(ChunkError):
    """A chunk that is shorter or longer than its place in the payload."""


class ChunkCorrupt(ChunkError):
    """A chunk whose content is not what the chunk table says."""


class AnnouncementConflict(SnapshotError):
    """Trusted keys announce different snapshots under one sequence, and nothing decides between them.

    Args:
        first: the bytes of one announcement.
        second: the bytes of the other one: together they are portable evidence.
        sequence: of both.
    """

    def __init__(self, sequence: int, first: bytes, second: bytes) -> None:
        super().__init__(
            f"different snapshots are announced under sequence {sequence}; neither is taken",
            remedy="show both documents to their signers; a higher sequence resumes",
        )
        self.sequence = sequence
        self.first = first
        self.second = second


class SnapshotMissing(StoreError, TimetokeSnapshotError):
    """The store has no such snapshot."""

    def __init__(self, root: str) -> None:
        super().__init__(f"snapshot {root} is not held here")
        self.root = root


class ChunkMissing(StoreError, TimetokeSnapshotError):
    """The snapshot has no such chunk."""

    def __init__(self, root: str, index: int, total: int) -> None:
        super().__init__(f"snapshot {root} has chunks 0 to {total - 1}, not {index}")
        self.root = root
        self.index = index
        self.total = total


class SnapshotChanged(StoreError, TimetokeSnapshotError):
    """The bytes on disk are not those whose root was computed."""

    def __init__(self, root: str) -> None:
        super().__init__(f"snapshot {root} changed on disk since it was hashed")
        self.root = root


class SnapshotSignatureError(SignatureError, TimetokeSnapshotError):
    """The signature of a payload is not usable; the subclass says why."""


class SignatureMissing(SnapshotSignatureError):
    """There is no signature where one is required."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} has no signature", remedy="sign it, or do not require signatures")


class SignatureEmpty(SnapshotSignatureError):
    """A signature that is there and has nothing in it."""


class SignatureUndecodable(SnapshotSignatureError):
    """A signature that is not base64."""


class KeyVersionInvalid(SignatureUndecodable):
    """Something before the colon that is no version of a key."""


class SignatureNoFile(SignatureUndecodable):
    """A name for a signature at which there is no file: a link to nothing, a device."""


class SignatureLengthError(SnapshotSignatureError):
    """A signature that is base64 of something else than 64 bytes."""


class SignatureMismatch(SnapshotSignatureError):
    """A signature that is not made by the key over these bytes."""


class AnnouncedMismatch(SignatureMismatch):
    """Too few announcements of a snapshot bring a good signature over its payload.

    Args:
        root: of the snapshot.
        signers: whose announcement does not, key ids.
    """

    def __init__(self, root: str, signers: Collection[str]) -> None:
        bad = ", ".join(sorted(signers))
        super().__init__(
            f"the payload signature in the announcement of {bad} is not theirs over snapshot {root}",
            remedy="tell that signer: the announcement contradicts itself",
        )
        self.root = root
        self.signers = frozenset(signers)


class SignaturesTooFew(SnapshotSignatureError):
    """Fewer trusted keys signed than must have."""

    def __init__(self, root: str, threshold: int) -> None:
        super().__init__(
            f"snapshot {root} is not announced by {threshold} of the trusted keys, and its file holds one signature",
            remedy="ask peers that have the other signers' announcements, or lower --threshold",
        )
        self.root = root
        self.threshold = threshold
