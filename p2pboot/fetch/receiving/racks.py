"""What is asked for from afar, so that it crosses a scarce link once: whose turn it is among those who are near.

A piece that no near peer has is asked of a far one by one client alone: of all near ones that lack it, and this client,
by the one with the lowest BLAKE3(peer id ‖ table ‖ index). The others wait until they can have it from near. When
nothing comes of all that they wait for, the next one asks too, and so on: who is first may have no way to it, or lie.
When something comes again of what they wait for, whoever gave nothing of it is not waited for any more until he has
given something, twice as much each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from blake3 import blake3

from p2pboot.core.tally import Tally
from p2pboot.core.token_bucket import TokenBucket
from p2pboot.fetch.receiving.backlog import PeerLoad
from p2pboot.fetch.receiving.missing import Demand

NEXT_S: Final = 2.0
"""When nothing came for so long of what is left to others, the next one asks for it too. Not of each piece: where the
link to those who are far is full, most pieces wait for longer."""

_ANYBODY: Final = 3
"""After so many turns whoever wants a piece asks for it, even if somebody near says that he has it."""

_REMEMBERED: Final = 256
"""Peer ids that are remembered besides those that are here."""

_HASHES_AT_ONCE: Final = 262_144
_HASHES_PER_S: Final = 50_000
"""To order the pieces by a peer id takes a microsecond for each: so many at the beginning, 128 peers with 2,048 pieces,
and then a twentieth of a core, whoever comes. Who is not ordered yet is taken for one who comes after this client."""

_FRESH_S: Final = 0.05
"""An answer is good for so long: a question costs some microseconds for each near peer."""


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
        self._left = 0  # what this client has left to others, and nobody has brought yet
        self._fetched = 0  # what it asked for from afar itself
        self._since = 0.0  # when something of what it left to others came last
        self._passed = 0
        self._in_vain: dict[
            str, tuple[int, int]
        ] = {}  # by peer id: how often, and what is to be given before the next
        self._orders: TokenBucket | None = None
        self._answer = (-_FRESH_S, 0)

    def allowed(self, demand: Demand, afar: int, near: Iterable[PeerLoad], blob: str, now: float) -> int:
        """Return what this client may ask for from afar now.

        Args:
            demand: what is missing of the artifact.
            afar: the pieces that the far peer has.
            near: the live near peers that said what they have of it.
            blob: the artifact's name.
            now: seconds.
        """
        if now - self._answer[0] < _FRESH_S:
            return self._answer[1]
        near = tuple(near)
        self._forget(near)
        self._pass(demand, near, now)
        held = 0
        ahead = Tally()
        for peer in near:
            if self._passed or peer.given >= self._in_vain.get(peer.peer_id, (0, 0))[1]:
                holds = peer.holds[blob]
                held |= holds
                ahead.add(self._before_us(peer.peer_id, demand, now) & ~holds | peer.fetching.get(blob, 0))
        own = ahead.at_most(0) & ~held
        left = demand.free & afar & ~own
        if not left:
            self._since, self._passed = now, 0
        self._left = (self._left | left) & demand.wanted
        answer = ahead.at_most(self._passed) & ~held if self._passed < _ANYBODY else demand.everything
        self._answer = (now, answer)
        return answer

    def fetches(self, bits: int) -> None:
        """This client asks for these from afar: that they come says nothing of those who are near."""
        self._fetched |= bits

    def _pass(self, demand: Demand, near: Iterable[PeerLoad], now: float) -> None:
        """Let the turn pass to the next one when nothing came for a while of what is left to others."""
        if self._left & ~demand.wanted & ~self._fetched:
            self._since, self._passed = now, 0
            return
        passed = int((now - self._since) / NEXT_S)
        if passed <= self._passed or not self._left:
            return
        self._passed = passed
        for peer in near:
            times, due = self._in_vain.get(peer.peer_id, (0, 0))
            if peer.given >= due:
                self._in_vain[peer.peer_id] = times + 1, peer.given + 2**times

    def _forget(self, near: Sequence[PeerLoad]) -> None:
        """Those who are gone, once they are many: somebody may come again and again, as another each time."""
        if len(self._before) + len(self._in_vain) > 4 * len(near) + _REMEMBERED:
            here = {peer.peer_id for peer in near}
            self._before = {each: bits for each, bits in self._before.items() if each in here}
            self._in_vain = {each: due for each, due in self._in_vain.items() if each in here}

    def _before_us(self, peer_id: str, demand: Demand, now: float) -> int:
        """The pieces whose turn is that peer's before ours; none for the moment, where too many are new."""
        bits = self._before.get(peer_id)
        if bits is None:
            if self._orders is None:
                self._orders = TokenBucket(_HASHES_PER_S, _HASHES_AT_ONCE, now)
            if not self._orders.try_take(demand.count, now):
                return 0
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
