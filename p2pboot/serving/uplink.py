"""Who may begin to be sent pieces: the link is shared by address first, and by peer second.

A transport shares the link by connection, and connections are free: whoever opens sixty would have sixty shares. So
while others want something as well, an address has no more replies on their way at a time than the one that wants
least; what is more waits. A few are let through always: one that is slow at its own end is not to keep the link idle.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from p2pboot.core.origins import Party

FEW: Final = 4
"""Replies on their way, all together, that are not many yet."""

LONGEST_S: Final = 5.0
"""That a reply is to be on its way, where it is the link that makes it slow."""

RECENT_S: Final = 1.0
"""So long an address counts as wanting something after its last reply: it is about to ask for more."""

_PEERS: Final = 64  # of the latest it is known how long a reply took
_JUDGE: Final = 8  # replies, from one look at that to the next


class Sending:
    """A reply that is on its way, or waits for that.

    Args:
        party: whose it is.
    """

    def __init__(self, party: Party) -> None:
        self.party = party
        self.may_begin = trio.Event()
        self.began_at = 0.0
        self.took_s = 0.0
        self.beside = 0  # that are on their way when it begins, itself included


class _Origin:
    """The replies of one address."""

    def __init__(self) -> None:
        self.going = 0
        self.waits = 0
        self.until = math.inf  # it counts as wanting something
        self._peers: dict[str, dict[Sending, None]] = {}  # that wait, in the order of their turns

    @property
    def wants(self) -> int:
        return max(1, self.going + self.waits)

    def push(self, sending: Sending) -> None:
        self._peers.setdefault(sending.party.peer_id, {})[sending] = None
        self.waits += 1

    def discard(self, sending: Sending) -> bool:
        peer_id = sending.party.peer_id
        waiting = self._peers.get(peer_id, {})
        if sending not in waiting:
            return False
        del waiting[sending]
        self.waits -= 1
        if not waiting:
            del self._peers[peer_id]
        return True

    def pop(self) -> Sending:
        peer_id, waiting = next(iter(self._peers.items()))
        sending = next(iter(waiting))
        self.discard(sending)
        if waiting:  # the turn is another peer's now
            self._peers[peer_id] = self._peers.pop(peer_id)
        return sending


class Uplink:
    """Lets replies with pieces begin."""

    def __init__(self) -> None:
        self._origins: dict[str, _Origin] = {}  # in the order of their turns
        self._going: set[Sending] = set()
        self._waits = 0
        self._most = math.inf
        self._took: dict[Party, Sending] = {}  # the latest of each peer; the latest last
        self._ended = 0

    async def begin(self, party: Party, until: float) -> Sending | None:
        """Wait until a reply may begin; it is on its way until `end`.

        Args:
            party: whose it is.
            until: how long it waits at most, `trio.current_time()`.

        Returns:
            None where it may not: others go first.
        """
        self._forget()
        sending = Sending(party)
        origin = self._origins.setdefault(party.origin, _Origin())
        if not (origin.going or self._waits):  # it may at once: the same as below, at a fifth of the cost
            self._let(party.origin, origin, sending)
            return sending
        origin.push(sending)
        self._waits += 1
        self._let_begin()
        if not sending.may_begin.is_set():
            try:
                with trio.move_on_at(until):
                    await sending.may_begin.wait()
            except BaseException:
                self.end(sending)
                raise
        if sending.may_begin.is_set():
            return sending
        self.end(sending)
        return None

    def end(self, sending: Sending, *, whole: bool = False) -> None:
        """A reply is not on its way any more, or does not wait any more; idempotent.

        Args:
            sending: the reply.
            whole: whether it was handed over.
        """
        origin = self._origins.get(sending.party.origin)
        if origin is None:
            return
        if sending in self._going:
            self._going.remove(sending)
            origin.going -= 1
            if whole:
                self._note(sending)
        elif origin.discard(sending):
            self._waits -= 1
        origin.until = trio.current_time() + RECENT_S
        self._let_begin()

    def _let_begin(self) -> None:
        while self._waits and (name := self._next()) is not None:
            origin = self._origins[name]
            self._waits -= 1
            sending = origin.pop()
            self._let(name, origin, sending)
            sending.may_begin.set()

    def _let(self, name: str, origin: _Origin, sending: Sending) -> None:
        del self._origins[name]  # the next turn is another address's
        self._origins[name] = origin
        origin.going += 1
        self._going.add(sending)
        sending.beside = len(self._going)
        sending.began_at = trio.current_time()

    def _next(self) -> str | None:
        """The address whose turn it is: of those that may, which has least on its way."""
        self._forget()
        is_few, is_full = len(self._going) < FEW, len(self._going) >= self._most
        least, next_least = self._least_wants()
        best: tuple[int, str] | None = None
        for name, origin in self._origins.items():
            others_want = next_least if origin.wants == least else least
            may = not origin.going or (not is_full and (is_few or origin.going < others_want))
            if origin.waits and may and (best is None or origin.going < best[0]):
                best = origin.going, name
        return None if best is None else best[1]

    def _least_wants(self) -> tuple[float, float]:
        """What the two addresses want that want least; twice the same where several want so much."""
        least = next_least = math.inf
        for origin in self._origins.values():
            wants = origin.wants
            if wants < least:
                least, next_least = wants, least
            elif wants < next_least:
                next_least = wants
        return least, next_least

    def _forget(self) -> None:
        now = trio.current_time()
        for name, origin in tuple(self._origins.items()):
            if not (origin.going or origin.waits) and origin.until <= now:
                del self._origins[name]

    def _note(self, sending: Sending) -> None:
        """Take down how long a reply took, and have fewer on their way where that is long for everybody."""
        sending.took_s = trio.current_time() - sending.began_at
        self._took.pop(sending.party, None)
        self._took[sending.party] = sending
        if len(self._took) > _PEERS:
            del self._took[next(iter(self._took))]
        self._ended += 1
        if self._ended % _JUDGE:
            return
        of: dict[
            str, Sending
        ] = {}  # the quickest of each address, or of each peer where there is one address
        for one in self._took.values():
            name = one.party.origin if len(self._origins) > 1 else one.party.peer_id
            if name not in of or one.took_s < of[name].took_s:
                of[name] = one
        quick = sorted(of.values(), key=lambda one: one.took_s)[: len(of) // 4 + 1]
        took_s = quick[-1].took_s
        if took_s > LONGEST_S:
            self._most = max(FEW, int(max(one.beside for one in quick) * LONGEST_S / took_s))
        elif took_s < LONGEST_S / 2:
            self._most += _JUDGE
