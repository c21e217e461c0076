"""What a peer may cost us: the limits, and the counts of what was served.

Nothing here waits or reads a clock; `serving.accounts` does, and applies these to the peers. How many bytes go out in
a second is limited where they pass, in `transport.bandwidth`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import field
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import MIB, MIN_PIECE

FULL_FRAME: Final = 65_507
"""Bytes of a body in one full frame of the connection."""

FULL_SLICE: Final = 4 * FULL_FRAME
"""Bytes of a body that are written at once: four full frames of the connection (docs/adr/0002); 256 KiB would be
four and a scrap. Measured over loopback: 64 KiB costs a quarter more processor time a byte, 1 MiB costs no less,
and leaves other streams of the connection waiting longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much serving others may cost; every number is per node unless it says otherwise.

    Args:
        streams: inbound streams at the same time. Beyond it those who have most give way, their idlest stream first; a
            stream for which nobody does is answered `busy`.
        streams_per_peer: likewise, for one peer; beyond it `busy`, beyond twice as many they are reset unread.
        artifact_requests_per_s, sync_requests_per_s: sustained rate for one peer, which may come in a burst
            of BURST_S seconds' worth. Beyond it: `busy`. Snapshots and the swarm have the rate of artifacts. A request
            that gives pieces counts as much as they are, see `request_cost`.
        bad_requests_per_s: of all peers at one address; further ones of these streams wait unread.
        body_memory: bytes of replies that are held until their peers take them, beside the little that every stream
            may hold (`serving.memory`).
        idle_s: seconds until a stream on which nothing is asked is closed.
        frame_s: seconds that one request may take to arrive once it has begun.
        stall_s: seconds after which a peer that has not taken a byte of a reply is given up.
    """

    streams: int = 1024
    streams_per_peer: int = 24
    artifact_requests_per_s: float = 1000
    sync_requests_per_s: float = 50
    bad_requests_per_s: float = 100
    body_memory: int = 48 * MIB
    idle_s: float = 300
    frame_s: float = 10
    stall_s: float = 30


BURST_S: Final = 4.0

_OF_PIECES: Final = 3 / 32


def request_cost(given_bytes: int) -> float:
    """How many requests one counts that gave so many bytes of pieces: 1 for about a MiB, and 1 for next to nothing.

    Processor time is what it is measured in: a request that gives 64 KiB takes 0.4 ms, a MiB 2.7, and one that gives
    next to nothing 0.4 as well. So who fetches pieces of 64 KiB one by one may do it at 400 MB/s, as with longer ones,
    and whoever asks for less than the shortest piece gets as many answers as ever.
    """
    return 1.0 if given_bytes < MIN_PIECE else _OF_PIECES + given_bytes / MIB


OF_A_CLIENT: Final = Limits(streams=384, body_memory=16 * MIB)
"""Of a machine that fetches, and gives meanwhile: six streams for each of 64 others, and less memory than a node's."""


@dataclass(slots=True)
class ServingCounters:
    """What was served since the start; only ever grows. Keys are from closed sets, never a peer's words."""

    bytes_sent: Counter[str] = field(default_factory=Counter)
    """By protocol; headers included."""
    requests: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By (protocol, operation, status), of replies that were wholly written. In place of the operation stands
    `bad_request` where there was none, and `refused` where it was not looked at."""
    streams: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By (protocol, how it ended): a value of `serving.conversation.Ending`."""
