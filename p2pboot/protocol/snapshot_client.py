"""What a client may ask of a snapshot server, and what it accepts as an answer.

Whatever a peer declares is bounded before memory is spent on it: sizes, numbers of chunks and lengths are
compared with what is announced, or with the limits of the format, while only the header has been read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from p2pboot.core.dataclass import dataclass
from p2pboot.core.digests import DIGEST_BYTES, is_digest
from p2pboot.core.pieces import PieceTable, piece_count
from p2pboot.core.timetoke.announcement import MAX_ANNOUNCEMENT
from p2pboot.core.timetoke.signatures import MAX_SIGNATURE_TEXT
from p2pboot.errors import RemoteProtocolError
from p2pboot.protocol.checks import is_keyid
from p2pboot.protocol.client import Query
from p2pboot.protocol.frames import decode_array
from p2pboot.protocol.messages import MAX_COUNTER
from p2pboot.protocol.snapshots import (
    MAX_SNAPSHOT_HEADS,
    MAX_SNAPSHOT_HEADS_BYTES,
    AnnouncementRequest,
    ChunkRequest,
    ChunksRequest,
    InfoRequest,
    SnapshotHead,
    SnapshotHeadsRequest,
)

_Header = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What a peer says of a snapshot that it holds; consistent in itself, and otherwise its word only.

    Args:
        size: of the payload, bytes.
        chunk_length: of every chunk but the last, bytes.
        signature: text of the `.sig` file, None when there is none.
    """

    size: int
    chunk_length: int
    signature: str | None

    @property
    def total(self) -> int:
        """Into how many chunks the payload is cut."""
        return piece_count(self.size, self.chunk_length)


def ask_snapshot_heads() -> Query[tuple[SnapshotHead, ...]]:
    """Which announced snapshots does the peer hold? At most 256."""
    return Query(
        SnapshotHeadsRequest(),
        len("[]"),
        MAX_SNAPSHOT_HEADS_BYTES,
        lambda _header, body: tuple(_decode_head(item) for item in decode_array(body, MAX_SNAPSHOT_HEADS)),
    )


def ask_announcement(signer: str, root: str) -> Query[bytes]:
    """The announcement of a snapshot (64 lowercase hex digits) by a signer (a key id), unchecked."""
    return Query(AnnouncementRequest(signer, root), 1, MAX_ANNOUNCEMENT, lambda _header, body: bytes(body))


def ask_info(root: str) -> Query[SnapshotInfo]:
    """Size, chunks and signature of a snapshot."""
    return Query(InfoRequest(root), 0, 0, _decode_info, f"info of snapshot {root}")


def ask_chunks(root: str, *, size: int, chunk_length: int, digest: str | None) -> Query[PieceTable]:
    """The chunk table of a snapshot of so many bytes.

    Args:
        root: of the snapshot.
        size: bytes.
        chunk_length: of every chunk but the last, bytes.
        digest: BLAKE3 of the table, hex; None where nobody that is trusted said it: then it is the peer's word only.
    """

    def decode(_header: _Header, body: bytearray) -> PieceTable:
        if digest is None:
            return PieceTable(size, chunk_length, bytes(body))
        return PieceTable.parse(bytes(body), size=size, piece_length=chunk_length, digest_hex=digest)

    length = piece_count(size, chunk_length) * DIGEST_BYTES
    return Query(ChunksRequest(root), length, length, decode)


def ask_chunk(
    root: str, index: int, *, total: int, length: int, memory: Callable[[int], bytearray] = bytearray
) -> Query[bytearray]:
    """One chunk of exactly `length` bytes; its content is the caller's to check. See `Query` for the memory.

    A header that speaks of another snapshot, another chunk or another total is a lie about this one.
    """
    name = f"chunk {index} of snapshot {root}"

    def decode(header: _Header, body: bytearray) -> bytearray:
        for member, expected in (("root", root), ("index", index), ("total", total)):
            found = header.get(member)
            if type(found) is not type(expected) or found != expected:
                shown = found if isinstance(found, int) or is_digest(found) else "something else"
                raise RemoteProtocolError(f"{name}: the peer says {member} {shown} instead of {expected}")
        return body

    return Query(ChunkRequest(root, index), length, length, decode, name, memory)


def _decode_head(item: object) -> SnapshotHead:
    match item:
        case {"signer": str(signer), "sequence": int(sequence), "root": str(root)} if (
            is_keyid(signer)
            and is_digest(root)
            and type(sequence) is int  # True matches int() as well
            and 0 <= sequence <= MAX_COUNTER
        ):
            return SnapshotHead(signer, sequence, root)
    raise RemoteProtocolError("an entry of heads has a member that is missing or not allowed")


def _decode_info(header: _Header, _body: bytearray) -> SnapshotInfo:
    size, chunk_length, total = (header.get(name) for name in ("size", "chunk_length", "total"))
    if type(size) is not int or type(chunk_length) is not int or type(total) is not int:
        raise RemoteProtocolError("size, chunk_length or total is not an integer")
    if size > MAX_COUNTER or piece_count(size, chunk_length) != total:  # ValueError: beyond the limits
        raise RemoteProtocolError(f"{size} bytes in chunks of {chunk_length} are not {total} chunks")
    signature = header.get("signature")
    if signature is not None and not (isinstance(signature, str) and len(signature) <= MAX_SIGNATURE_TEXT):
        raise RemoteProtocolError(f"signature is no text of at most {MAX_SIGNATURE_TEXT} characters")
    return SnapshotInfo(size, chunk_length, signature)
