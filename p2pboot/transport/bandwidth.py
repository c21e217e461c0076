"""How much of the network this process may use: bytes per second up and down, in total and with one peer.

One `Bandwidth` for the process: every stream of every transport and every connection of the gateway has a `Meter` of
it, so that a peer with two connections has one budget, and what goes out over HTTP is part of the same total. Why it
is done this way: docs/adr/0022-limits-of-bandwidth.md.

Uploads are paid before they are written. Downloads are paid after they were read, before the same stream is read again:
what nobody reads fills the sender's window, so that it is pushed back, and nothing is dropped.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import fields
from typing import Final
from weakref import WeakValueDictionary

import trio
from cachetools import LRUCache

from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import KIB
from p2pboot.core.token_bucket import TokenBucket
from p2pboot.transport.interface import Forwarding, Validator
from p2pboot.transport.traffic import GOSSIP, RECEIVED, SENT, Traffic

KNOWN_PEERS: Final = 1024
"""Peers without a stream whose budgets are kept, so that a new connection is no new allowance."""

LARGEST_SLICE: Final = 4 * 65_507
"""At most so many bytes are paid for at once: four full frames of a connection."""

SMALLEST_SLICE: Final = 4 * KIB
_SLICES_PER_S: Final = 64  # at the limit: a steady trickle, and short turns for whoever waits
_BURST_S: Final = 0.125  # what a busy event loop may come late without losing any of the rate
_SMALL: Final = 4  # a message of so small a part of a slice is not bulk
_AHEAD: Final = 4  # as many slices a peer's small messages may be ahead of its share
_AT_ONCE_S: Final = 1e-6  # below what a clock can tell, there is nothing to wait for


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Limits in bytes per second, at least 1; None is unlimited.

    Args:
        upload, download: everybody together, peers and HTTP clients.
        upload_per_peer, download_per_peer: of one peer id, or one HTTP client's address.
    """

    upload: int | None = None
    download: int | None = None
    upload_per_peer: int | None = None
    download_per_peer: int | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            rate = getattr(self, one.name)
            if rate is not None and rate < 1:
                raise ValueError(f"a limit of {rate} bytes per second lets nothing through")


UNLIMITED: Final = Rates()


class Bandwidth:
    """What all streams of the process share: the limits, and the counts of what passed.

    Args:
        rates: can be replaced while running, see `reconfigure`.
    """

    def __init__(self, rates: Rates = UNLIMITED) -> None:
        self.traffic = Traffic()
        self._up, self._down = _Lane(), _Lane()
        self.reconfigure(rates)

    def reconfigure(self, rates: Rates) -> None:
        """Apply other limits, at once and also to whoever is waiting now."""
        self.rates = rates
        self._up.set_rates(rates.upload, rates.upload_per_peer)
        self._down.set_rates(rates.download, rates.download_per_peer)

    def meter(self, peer: str, kind: str, *, is_many: bool = False) -> Meter:
        """The meter of a new stream or connection.

        Args:
            peer: who is at its other end.
            kind: what is spoken on it, out of a closed set.
            is_many: the peer stands for many, as a proxy does: the limits per peer are not for it.
        """
        return Meter(self.traffic, self._up, self._down, peer, kind, is_many=is_many)

    def of_messages(self, validator: Validator) -> Validator:
        """Count the payloads of gossip messages that are validated."""

        async def counting(peer_id: str, payload: bytes) -> Forwarding:
            self.traffic.count(peer_id, GOSSIP, RECEIVED, len(payload))
            self._down.charge(self._down.account(peer_id), len(payload))
            return await validator(peer_id, payload)

        return counting

    def published(self, size: int) -> None:
        """Count the payload of a message of our own; to how many peers it goes only the network knows."""
        self.traffic[GOSSIP, SENT] += size
        self._up.charge(None, size)


class Meter:
    """One stream's part: its bytes are counted, paid for, and held back while there is no room for them.

    One task may send while another receives.
    """

    def __init__(
        self, traffic: Traffic, up: _Lane, down: _Lane, peer: str, kind: str, *, is_many: bool
    ) -> None:
        self._traffic = traffic
        self._up, self._down = up, down
        self._sender, self._receiver = up.account(peer, is_many), down.account(peer, is_many)
        self._peer, self._kind = peer, kind
        self._paid = 0  # may be sent at once
        self._owed = 0  # was received, and not paid yet
        self.held_back = False
        """Whether receiving waits for a limit of ours: that the peer sends nothing is then no fault of its own."""

    async def pay(self, max_bytes: int) -> int:
        """Wait until some bytes may be sent.

        Args:
            max_bytes: how many are to be sent, at least 1.

        Returns:
            How many may, at least 1. They are paid until they are sent: asking again changes nothing.
        """
        if not self._paid:
            self._paid = await self._up.pay(self._sender, max_bytes)
        return min(self._paid, max_bytes)

    def sent(self, size: int) -> None:
        """Note bytes that went out."""
        self._paid = max(0, self._paid - size)
        self._traffic.count(self._peer, self._kind, SENT, size)

    async def may_receive(self, max_bytes: int) -> int:
        """Wait until the bytes received so far are paid for; can be cancelled without losing anything.

        Returns:
            How many bytes may be received next, 1 to `max_bytes`.
        """
        if self._owed:
            self.held_back = True
            try:
                while self._owed:
                    paid = await self._down.pay(self._receiver, self._owed)
                    self._owed -= paid
            finally:
                self.held_back = False
        return min(max_bytes, self._down.slice_bytes) if self._down.limits(self._receiver) else max_bytes

    def received(self, size: int) -> None:
        """Note bytes that came in."""
        self._traffic.count(self._peer, self._kind, RECEIVED, size)
        if self._down.limits(self._receiver):
            self._owed += size

    def close(self) -> None:
        """The stream is over: what it owes is everybody's debt. Idempotent."""
        self._down.charge(self._receiver, self._owed)
        self._owed = 0


class _Account:
    """What one peer may use in one direction, over all its streams."""

    def __init__(self, bucket: TokenBucket | None, *, is_many: bool) -> None:
        self.bucket = bucket
        self.is_many = is_many
        self.turn = trio.Lock()  # one of its streams at a time competes with other peers
        self.served_to = 0  # on the lane's scale: where its share so far ends


class _Lane:
    """One direction: whose bytes may pass, and when.

    Whoever waits for the total goes in the order of start-time fair queueing: each turn begins where the peer's last
    one ended on a common scale of bytes, or where the lane is now, whatever is later. So peers get equal shares however
    many streams they have, and one that has been quiet waits for a single turn, not for a round of all others.
    """

    def __init__(self) -> None:
        self._total: TokenBucket | None = None
        self._rates: tuple[int | None, int | None] = (None, None)
        self._accounts: WeakValueDictionary[str, _Account] = WeakValueDictionary()
        self._recent: LRUCache[str, _Account] = LRUCache(KNOWN_PEERS)  # keeps those above alive
        # A heap: where the turn begins; of those that begin together, who was quiet the longest; the order of coming.
        self._queue: list[tuple[tuple[int, int], int, trio.Event]] = []
        self._numbers = itertools.count()
        self._taken = False  # it is somebody's turn
        self._served_to = 0
        self._changed = trio.Event()
        self.slice_bytes = LARGEST_SLICE

    def set_rates(self, total: int | None, per_peer: int | None) -> None:
        """Set other limits; the same ones again are no new allowance."""
        if self._rates == (total, per_peer):
            return
        self._rates = (total, per_peer)
        limits = [rate for rate in (total, per_peer) if rate is not None]
        if limits:
            self.slice_bytes = max(SMALLEST_SLICE, min(LARGEST_SLICE, min(limits) // _SLICES_PER_S))
        self._total = self._bucket(total)
        for account in self._accounts.values():
            account.bucket = None if account.is_many else self._bucket(per_peer)
        self._changed.set()
        self._changed = trio.Event()

    def _bucket(self, rate: int | None) -> TokenBucket | None:
        if rate is None:
            return None
        return TokenBucket(rate, max(2 * self.slice_bytes, rate * _BURST_S), trio.current_time())

    def account(self, peer: str, is_many: bool = False) -> _Account:
        """A peer's account, the one it has already if there is one."""
        account = self._accounts.get(peer)
        if account is None:
            account = _Account(None if is_many else self._bucket(self._rates[1]), is_many=is_many)
            self._accounts[peer] = account
        self._recent[peer] = account
        return account

    def limits(self, account: _Account) -> bool:
        """Whether an account's bytes have to be paid for."""
        return self._total is not None or account.bucket is not None

    def charge(self, account: _Account | None, size: int) -> None:
        """Have bytes paid by whoever comes next: they have passed already."""
        for bucket in (self._total, account.bucket if account is not None else None):
            if bucket is not None:
                bucket.take(size, trio.current_time())

    async def pay(self, account: _Account, max_bytes: int) -> int:
        """Wait until an account may move some of so many bytes; returns how many. Costs nothing when cancelled."""
        if not self.limits(account):
            return max_bytes
        size = min(max_bytes, self.slice_bytes)
        if size <= self.slice_bytes // _SMALL:
            await self._buy(account, size, ahead=_AHEAD * self.slice_bytes)
        else:
            async with account.turn:
                await self._buy(account, size, ahead=0)
        return size

    async def _buy(self, account: _Account, size: int, ahead: int) -> None:
        """Wait for the account's own limit, then among all accounts for the total.

        Args:
            account: of the peer.
            size: bytes.
            ahead: so many bytes the peer may be ahead of its share: a small message does not wait for its own bulk.
        """
        await self._affordable(lambda: account.bucket, size - ahead)
        share = account.served_to - ahead
        start = max(self._served_to, share)
        await self._wait_for_turn((start, share))
        try:
            await self._affordable(lambda: self._total, size)
            self._served_to = max(self._served_to, start)
            account.served_to = max(start, account.served_to) + size
            self.charge(account, size)
        finally:
            self._pass_on()

    async def _affordable(self, bucket: Callable[[], TokenBucket | None], size: int) -> None:
        """Wait until a bucket has as much, or as much as it can have."""
        while (now_in_force := bucket()) is not None:
            wait_s = now_in_force.wait_s(min(size, now_in_force.burst), trio.current_time())
            if wait_s < _AT_ONCE_S:
                return
            with trio.move_on_after(wait_s):
                await self._changed.wait()

    async def _wait_for_turn(self, order: tuple[int, int]) -> None:
        if not self._taken:
            self._taken = True
            return
        waiting = (order, next(self._numbers), trio.Event())
        heapq.heappush(self._queue, waiting)
        try:
            await waiting[2].wait()
        except trio.Cancelled:
            if waiting in self._queue:
                self._queue.remove(waiting)
                heapq.heapify(self._queue)
            else:  # whose turn it was has been cancelled with us, and passed it on before we knew
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        if self._queue:
            heapq.heappop(self._queue)[2].set()
        else:
            self._taken = False
