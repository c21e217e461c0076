"""What is asked for from afar, so that it crosses a scarce link once: whose turn it is among those who are near.

A piece that no near peer has is asked of a far one by one client alone: of all near ones that lack it, and this client,
by the one with the lowest BLAKE3(peer id ‖ table ‖ index). The others wait until they can have it from near. When none
of them reports it for a while, the next one asks too, and so on: whoever is first may have no way to it, or lie.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from blake3 import blake3

from p2pboot.core.tally import Tally
from p2pboot.fetch.receiving.backlog import PeerLoad
from p2pboot.fetch.receiving.missing import Demand

NEXT_S: Final = 2.0
"""So long nobody near may report a piece that could be had from afar, until the next one asks for it too."""

_FRESH_S: Final = 0.05
"""An answer is good for so long: a question costs some microseconds for each near peer."""

_BATCH_S: Final = 0.25
"""Pieces that came into sight afar within so long wait as one."""


class Turns:
    """Whose turn it is to ask from afar, for one artifact.

    Args:
        peer_id: this client's own.
    """

    def __init__(self, peer_id: str) -> None:
        self._peer_id = peer_id
        self._own: list[bytes] = []
        self._before: dict[
            str, int
        ] = {}  # for each peer id: the pieces whose turn is that peer's before ours
        self._batches: list[tuple[float, int]] = []  # since when which pieces could be had from afar
        self._seen = 0
        self._answer = (-_FRESH_S, 0)
        self.next_change = float("inf")
        """When somebody's turn may pass to this client."""

    def allowed(self, demand: Demand, afar: int, near: Iterable[PeerLoad], blob: str, now: float) -> int:
        """Return what this client may ask for from afar now.

        Args:
            demand: what is missing of the artifact.
            afar: the pieces that the far peer has.
            near: the live near peers that said what they have of it.
            blob: the artifact's name.
            now: seconds.
        """
        fresh = demand.free & afar & ~self._seen
        if fresh:
            self._see(fresh, now)
        elif now - self._answer[0] < _FRESH_S:
            return self._answer[1]
        held = before_us = 0
        ahead = Tally()
        for peer in near:
            holds = peer.holds[blob]
            held |= holds | peer.fetching.get(blob, 0)
            before = self._before_us(peer.peer_id, demand) & ~holds
            ahead.add(before)
            before_us |= before
        answer = demand.everything & ~before_us
        self.next_change = float("inf")
        for since, bits in self._batches:
            passed = int((now - since) / NEXT_S)
            if bits & demand.free & before_us:
                self.next_change = min(self.next_change, since + (passed + 1) * NEXT_S)
            answer |= bits & ahead.at_most(passed) if passed else 0
        self._answer = (now, answer & ~held)
        return answer & ~held

    def _see(self, bits: int, now: float) -> None:
        self._seen |= bits
        if self._batches and now - self._batches[-1][0] < _BATCH_S:
            bits |= self._batches.pop()[1]
        self._batches.append((now, bits))

    def _before_us(self, peer_id: str, demand: Demand) -> int:
        bits = self._before.get(peer_id)
        if bits is None:
            if not self._own:
                self._own = _order(self._peer_id, demand)
            raw = bytearray(-(-demand.count // 8))
            for index, (theirs, ours) in enumerate(zip(_order(peer_id, demand), self._own, strict=True)):
                if theirs < ours:
                    raw[index >> 3] |= 0x80 >> (index & 7)
            bits = self._before[peer_id] = int.from_bytes(raw, "big") >> (-demand.count & 7)
        return bits


def _order(peer_id: str, demand: Demand) -> list[bytes]:
    start = blake3(f"{peer_id}{demand.table}".encode())
    order = []
    for index in range(demand.count):
        one = start.copy()
        one.update(index.to_bytes(4, "big"))
        order.append(one.digest(length=8))
    return order
