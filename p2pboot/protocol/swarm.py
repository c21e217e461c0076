"""Requests and replies of `/p2pboot/swarm/1`: what changes at a peer, pieces that it chooses, and particular pieces.

Owns what the JSON objects of this protocol mean, for both sides, and the body of `changes`; `protocol.swarm_client`
what a client makes of a reply. `docs/protocol-wire.md` is the specification.

Requests name a *piece table* by its BLAKE3, and pieces by their indices in it: the SHA-256 of a file does not say how
it is cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import ClassVar, Final

from p2pboot.core.changes import MAX_CHANGES, Change, Form
from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import MAX_PIECES, MIB, PieceSet
from p2pboot.errors import RemoteProtocolError
from p2pboot.protocol.checks import InvalidRequest, check_digest, check_integer
from p2pboot.wire.varint import decode_varint, encode_varint

SWARM_PROTOCOL: Final = "/p2pboot/swarm/1"

MAX_RUNS: Final = 64
"""Runs of pieces in one request."""
MAX_SERIAL: Final = 2**53 - 1
MAX_WAIT_MS: Final = 20_000
"""That a request for changes may wait for some."""
MAX_DEAL_S: Final = 2.0
"""Within which a request for a deal is answered, by pieces that begin or by `busy`."""
MAX_CHANGES_BYTES: Final = MAX_CHANGES * 7
"""A kind, and two numbers of at most three bytes."""
MAX_BODY: Final = 16 * MIB
"""Bytes of pieces in one reply."""
MAX_ASK: Final = 16
"""Peer ids in the `ask` of a reply."""
MAX_RETRY_MS: Final = 60_000

_VARINT_BYTES: Final = 3

Runs = tuple[tuple[int, int], ...]
"""Pieces as (first, count)."""


def runs_of(pieces: PieceSet) -> Runs:
    """The first MAX_RUNS runs of a set, as requests have them."""
    return tuple((run.start, len(run)) for run in islice(pieces.runs(), MAX_RUNS))


def _check_runs(value: object, least: int) -> Runs:
    """Return runs as they came from a stranger, or refuse them; in any order."""
    if not isinstance(value, (list, tuple)) or not least <= len(value) <= MAX_RUNS:
        raise InvalidRequest(f"want is not an array of {least} to {MAX_RUNS} runs")
    runs = []
    for run in value:
        if not isinstance(run, (list, tuple)) or len(run) != 2:
            raise InvalidRequest("a run in want is not an array of its first piece and how many")
        first, count = run
        check_integer(first, "the first piece of a run", 0, MAX_PIECES - 1)
        check_integer(count, "the count of a run", 1, MAX_PIECES - first)
        runs.append((first, count))
    return tuple(runs)


@dataclass(frozen=True, slots=True)
class ChangesRequest:
    """What changed at the peer.

    Args:
        table: BLAKE3 of the piece table, hex.
        after: the serial up to which the asker knows everything; 0 where it knows nothing.
        wait_ms: how long the reply may wait for a change.
    """

    op: ClassVar[str] = "changes"
    table: str
    after: int
    wait_ms: int

    def __post_init__(self) -> None:
        check_digest(self.table, "table")
        check_integer(self.after, "after", 0, MAX_SERIAL)
        check_integer(self.wait_ms, "wait_ms", 0, MAX_WAIT_MS)


@dataclass(frozen=True, slots=True)
class DealRequest:
    """Pieces that the peer chooses.

    Args:
        table: BLAKE3 of the piece table, hex.
        want: which ones the asker lacks and has asked nobody for, those that it wants first before others; where there
            are none, it takes others.
        max: how many pieces that follow each other it takes at once.
    """

    op: ClassVar[str] = "deal"
    table: str
    want: Runs
    max: int

    def __post_init__(self) -> None:
        check_digest(self.table, "table")
        object.__setattr__(self, "want", _check_runs(self.want, 0))
        check_integer(self.max, "max", 1, MAX_PIECES)


@dataclass(frozen=True, slots=True)
class SomePiecesRequest:
    """Particular pieces, one after the other in one body.

    Args:
        table: BLAKE3 of the piece table, hex.
        want: which ones, in the order of the body.
    """

    op: ClassVar[str] = "pieces"
    table: str
    want: Runs

    def __post_init__(self) -> None:
        check_digest(self.table, "table")
        object.__setattr__(self, "want", _check_runs(self.want, 1))


SwarmRequest = ChangesRequest | DealRequest | SomePiecesRequest


def encode_changes(changes: Iterable[Change]) -> bytes:
    """The body of a reply to `changes` in the form `runs`; there are at most MAX_CHANGES."""
    return b"".join(
        encode_varint(form) + encode_varint(pieces.start) + encode_varint(len(pieces))
        for form, pieces in changes
    )


def decode_changes(body: bytes | bytearray, pieces: int) -> tuple[Change, ...]:
    """Read the body of a reply to `changes` about so many pieces.

    Raises:
        RemoteProtocolError: it is not of this form, or speaks of pieces that there are not.
    """
    numbers, at = [], 0
    while at < len(body):
        read = decode_varint(body, at, max_bytes=_VARINT_BYTES)
        if read is None:
            raise RemoteProtocolError("changes end inside a number")
        numbers.append(read[0])
        at = read[1]
    if len(numbers) % 3:
        raise RemoteProtocolError("changes end inside an entry")
    changes = []
    for form, first, count in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        if form > max(Form) or count < 1 or first + count > pieces:
            raise RemoteProtocolError(f"an entry of changes is not about some of {pieces} pieces")
        changes.append(Change(Form(form), range(first, first + count)))
    return tuple(changes)
