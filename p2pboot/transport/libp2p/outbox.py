"""RPCs on their way to one peer: encoded once for all peers, bounded for each and for all together.

Who does not read is sent nothing more; where room is short, the fullest outbox of the address that holds most gives up
its oldest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import trio
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.utils import encode_varint_prefixed

from p2pboot.core.origins import Party
from p2pboot.core.shares import Shares

MAX_RPC: Final = 256 * 1024
"""Bytes of one RPC in either direction: three of the largest messages and what comes with them."""

_MAX_FRAMES: Final = 32  # of one peer; our own messages keep a pace that leaves room
_MAX_BYTES: Final = 2 * 1024 * 1024
_ALL_BYTES: Final = 16 * 1024 * 1024  # of all peers
_RESERVE: Final = 4 * 1024 * 1024


class Outgoing:
    """What all outboxes of a node hold together."""

    def __init__(self) -> None:
        self._shares = Shares(_ALL_BYTES, _RESERVE)
        self._outboxes: set[Outbox] = set()
        self._last: tuple[rpc_pb2.RPC, bytes] | None = None

    @property
    def held(self) -> int:
        """Bytes in all outboxes."""
        return self._shares.used

    def encode(self, rpc: rpc_pb2.RPC) -> bytes:
        """Return an RPC as it goes out; one that goes to many peers in a row is encoded once."""
        if self._last is None or self._last[0] is not rpc:
            self._last = (rpc, encode_varint_prefixed(rpc.SerializeToString()))
        return self._last[1]

    def open(self, party: Party, is_known: Callable[[], bool]) -> Outbox:
        """A new outbox; to be closed."""
        outbox = Outbox(self, party, is_known)
        self._outboxes.add(outbox)
        return outbox

    def take(self, outbox: Outbox, size: int) -> bool:
        """Take room for an outbox, from another one if need be; returns whether there is any."""
        while not self._shares.fits(outbox.party, size, trusted=outbox.is_known()):
            origin = self._shares.gives_way(outbox.party, size)
            full = [one for one in self._outboxes if one.party.origin == origin]
            fullest = max(full, key=lambda one: one.held, default=outbox)
            if fullest.held <= outbox.held + size or not fullest.drop_oldest():
                return False
        self._shares.take(outbox.party, size)
        return True

    def give_back(self, outbox: Outbox, size: int) -> None:
        """Give back room."""
        self._shares.give_back(outbox.party, size)

    def forget(self, outbox: Outbox) -> None:
        """Note that an outbox is closed."""
        self._outboxes.discard(outbox)


class Outbox(RpcQueue):
    """A peer's part.

    Args:
        outgoing: of the node.
        party: the peer's.
        is_known: whether it may use what is reserved.
    """

    def __init__(self, outgoing: Outgoing, party: Party, is_known: Callable[[], bool]) -> None:
        super().__init__(max_size=_MAX_FRAMES, max_message_size=MAX_RPC)
        self.party = party
        self.is_known = is_known
        self.held = 0
        """Bytes that wait or are being written."""
        self._outgoing = outgoing
        self._frames: tuple[deque[bytes], deque[bytes]] = (deque(), deque())  # control first
        self._writing = 0
        self._changed = trio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._frames))

    def push(self, rpc: rpc_pb2.RPC, priority: bool = False) -> bool:
        """Append an RPC; returns whether there was room for it."""
        frame, queue = self._outgoing.encode(rpc), self._frames[not priority]
        if self._closed or len(queue) >= _MAX_FRAMES or self.held + len(frame) > _MAX_BYTES:
            return False
        if not self._outgoing.take(self, len(frame)):
            return False
        self.held += len(frame)
        queue.append(frame)
        self._wake()
        return True

    async def pop(self) -> bytes | None:  # type: ignore[override]  # only our own loop reads it
        """Wait for what is to be written next; None when it is closed. What came before is written then."""
        self._give_back(self._writing)
        self._writing = 0
        self._wake()
        while not self._closed:
            for queue in self._frames:
                if queue:
                    frame = queue.popleft()
                    self._writing = len(frame)
                    return frame
            await self._changed.wait()
        return None

    async def has_room(self) -> bool:
        """Wait until it is half empty; returns False when it is closed instead."""
        while not self._closed and len(self._frames[1]) >= _MAX_FRAMES // 2:
            await self._changed.wait()
        return not self._closed

    def drop_oldest(self) -> bool:
        """Give up what has waited longest; returns whether there was anything."""
        for queue in reversed(self._frames):
            if queue:
                self._give_back(len(queue.popleft()))
                return True
        return False

    def close(self) -> None:
        """Give up all of it. Idempotent."""
        self._closed = True
        for queue in self._frames:
            queue.clear()
        self._give_back(self.held)
        self._writing = 0
        self._outgoing.forget(self)
        self._wake()

    def _give_back(self, size: int) -> None:
        if size:
            self.held -= size
            self._outgoing.give_back(self, size)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
