"""Who is connected: one register that any number of tasks can follow, each at its own speed.

A follower that is slow never makes the network wait and never misses a peer's final state: what happened
while it was busy is folded per peer (came and went: nothing; went and came back: both), so what waits for it
is bounded by the peers that are connected plus those it was told of.
"""

from __future__ import annotations

from typing import Final

import trio

from p2pboot.transport.interface import PeerEvent

_CHANNEL_SIZE: Final = 64  # events handed over ahead; what does not fit waits, folded, in `_Follower.pending`


class _Follower:
    """One reader: what it was told, and what it is still to be told, per peer and in order of time."""

    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[PeerEvent](_CHANNEL_SIZE)
        self._told: set[str] = set()
        self._pending: dict[str, list[bool]] = {}
        self._news = trio.Event()

    def note(self, peer_id: str, connected: bool) -> None:
        waiting = self._pending.pop(peer_id, [])
        last = waiting[-1] if waiting else peer_id in self._told
        if last == connected:
            folded = waiting
        elif connected or not waiting:
            folded = [*waiting, connected]
        else:
            folded = waiting[:-1]  # it went before anyone heard that it had come
        if folded:
            self._pending[peer_id] = folded
            self._news.set()

    async def run(self) -> None:
        with self.send:
            while True:
                await self._news.wait()
                self._news = trio.Event()
                while self._pending:
                    event = self._take()
                    try:
                        await self.send.send(event)
                    except trio.BrokenResourceError:
                        return  # the reader closed its end

    def _take(self) -> PeerEvent:
        peer_id, waiting = next(iter(self._pending.items()))
        connected = waiting.pop(0)
        if not waiting:
            del self._pending[peer_id]
        # Noted before it is sent: what happens during the wait is folded against this.
        (self._told.add if connected else self._told.discard)(peer_id)
        return PeerEvent(peer_id, connected)


class PeerRegister:
    """The peers that are connected now, and the followers of changes.

    Args:
        nursery: owns one task per follower; they end with it.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._present: set[str] = set()
        self._followers: list[_Follower] = []

    @property
    def present(self) -> frozenset[str]:
        """Peers that are connected now."""
        return frozenset(self._present)

    def came(self, peer_id: str) -> None:
        """Note a peer's first connection; nothing happens when it is known."""
        if peer_id not in self._present:
            self._present.add(peer_id)
            self._tell(peer_id, True)

    def went(self, peer_id: str) -> None:
        """Note that a peer's last connection ended; nothing happens when it is not known."""
        if peer_id in self._present:
            self._present.discard(peer_id)
            self._tell(peer_id, False)

    def follow(self) -> trio.MemoryReceiveChannel[PeerEvent]:
        """Return a channel of its own for the caller; it starts with the peers that are connected already."""
        follower = _Follower()
        for peer_id in self._present:
            follower.note(peer_id, True)
        self._followers.append(follower)
        self._nursery.start_soon(self._run, follower)
        return follower.receive

    def _tell(self, peer_id: str, connected: bool) -> None:
        for follower in self._followers:
            follower.note(peer_id, connected)

    async def _run(self, follower: _Follower) -> None:
        try:
            await follower.run()
        finally:
            self._followers.remove(follower)
