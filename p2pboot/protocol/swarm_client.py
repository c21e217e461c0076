"""What a client may ask on `/p2pboot/swarm/1`, and what it accepts as an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from p2pboot.core.changes import Change
from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import PieceSet
from p2pboot.errors import RemoteProtocolError
from p2pboot.protocol.client import Query
from p2pboot.protocol.swarm import (
    MAX_BODY,
    MAX_CHANGES_BYTES,
    MAX_SERIAL,
    ChangesRequest,
    DealRequest,
    Runs,
    SomePiecesRequest,
    decode_changes,
)

_Header = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a peer says of its pieces; its word only.

    Args:
        at: the serial up to which it is, to be asked from the next time.
        held: all that it holds, where it does not say single changes.
        changes: since the serial that was asked for.
    """

    at: int
    held: PieceSet | None
    changes: tuple[Change, ...] = ()


def ask_changes(table: str, pieces: int, after: int, wait_ms: int) -> Query[Changes]:
    """What changed at the peer since `after`, of a table with so many pieces; it may wait so long for something."""

    def decode(header: _Header, body: bytearray) -> Changes:
        at = header.get("at")
        if type(at) is not int or not 0 <= at <= MAX_SERIAL:
            raise RemoteProtocolError(f"at is not an integer from 0 to {MAX_SERIAL}")
        match header.get("form"):
            case "bitmap":
                return Changes(at, PieceSet.from_bytes(bytes(body), pieces))
            case "runs":
                return Changes(at, None, decode_changes(body, pieces))
        raise RemoteProtocolError("form is neither runs nor bitmap")

    longest = max(MAX_CHANGES_BYTES, -(-pieces // 8))
    return Query(ChangesRequest(table, after, wait_ms), 0, longest, decode)


def ask_deal(
    table: str,
    want: Runs,
    most: int,
    *,
    length_of: Callable[[int, int], int],
    begun: Callable[[int, int], None],
    memory: Callable[[int], bytearray] = bytearray,
) -> Query[bytearray]:
    """Pieces that the peer chooses.

    Args:
        table: BLAKE3 of the piece table, hex.
        want: pieces that are lacked and asked of nobody.
        most: pieces at once.
        length_of: of so many pieces from an index on, bytes; IndexError where there are not so many.
        begun: is told the first index and how many, as soon as the peer says them.
        memory: see `Query`.
    """

    def begin(header: _Header) -> None:
        first, count, length = (header.get(name) for name in ("index", "count", "length"))
        if type(first) is not int or type(count) is not int or first < 0 or not 1 <= count <= most:
            raise RemoteProtocolError(f"a deal is not of 1 to {most} pieces")
        try:
            expected = length_of(first, count)
        except IndexError:
            raise RemoteProtocolError("a deal is of pieces that there are not") from None
        if length != expected:
            raise RemoteProtocolError(f"a deal of {count} pieces does not have {expected} bytes")
        begun(first, count)

    return Query(
        DealRequest(table, want, most), 1, MAX_BODY, lambda _header, body: body, memory=memory, begin=begin
    )


def ask_some_pieces(
    table: str, want: Runs, length: int, memory: Callable[[int], bytearray] = bytearray
) -> Query[bytearray]:
    """Particular pieces, `length` bytes together, one after the other; see `Query` for the memory."""
    return Query(SomePiecesRequest(table, want), length, length, lambda _header, body: body, memory=memory)
