"""What names stand for: addresses of hosts, and the TXT records that `dnsaddr` means; bounded in time and number.

Hosts are looked up as every program on the machine does it (`getaddrinfo`: /etc/hosts, DNS, mDNS, whatever is
configured), IPv6 and IPv4 apart: there are resolvers that never answer for one of them. TXT records only DNS has, which
dnspython asks; it takes a fifth of a second to import, which is paid by who was given a `dnsaddr`.

https://github.com/multiformats/multiaddr/blob/master/protocols/DNSADDR.md
"""

from __future__ import annotations

import random
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from typing import Final, Protocol, cast

import trio

from p2pboot.errors import UsageError
from p2pboot.transport.addresses import DNSADDR, Address, parse_address
from p2pboot.transport.interface import DialError, DialFailure
from p2pboot.transport.racing import interleaved

LOOKUP_S: Final = 5.0
"""For all that has to be asked of resolvers for one dial."""

HOSTS: Final = 16
"""Addresses that are tried of one name."""

RESULTS: Final = 64
"""Addresses that one `dnsaddr` may come to, chosen at random where there are more."""

DEPTH: Final = 4
"""A `dnsaddr` may stand for others, which may stand for others: so many levels of them."""

LOOKUPS: Final = 16
"""Names that are asked for TXT records, in all."""

RESOLUTION_DELAY_S: Final = 0.05
"""That an IPv4 address waits for an IPv6 one which is still looked for: RFC 8305, section 3."""

_TEXTS: Final = 4096  # records of one answer, of which DNS has room for some thousands
_TEXT_CHARS: Final = 512
_THREADS: Final = 8  # that wait for a resolver at the same time
_PREFIX: Final = "dnsaddr="
_KINDS: Final = {"dns": ("ip6", "ip4"), "dns4": ("ip4",), "dns6": ("ip6",)}
_FAMILIES: Final = {"ip4": socket.AF_INET, "ip6": socket.AF_INET6}


class Resolver(Protocol):
    """Tells what names stand for. The caller sets the timeout."""

    async def hosts(self, name: str, kind: str) -> tuple[str, ...]:
        """IP addresses of a host, the best first, an IPv6 one maybe with its zone.

        Args:
            name: of the host.
            kind: ``ip4`` or ``ip6``.

        Raises:
            DialError: there are none, or nobody can be asked; the message is the reason alone.
        """

    async def texts(self, name: str) -> tuple[str, ...]:
        """The TXT records of a name, each as one string.

        Raises:
            DialError: as `hosts`.
        """


class SystemResolver:
    """The machine's own.

    A lookup can not be taken back: its thread ends when the system's resolver gives up, which may be in half a minute.
    So they are few, and one at a time for each name and family, and have nothing to do with the threads of the disk.
    """

    def __init__(self) -> None:
        self._all = trio.CapacityLimiter(_THREADS)
        self._turns: dict[tuple[str, str], _Turn] = {}

    async def hosts(self, name: str, kind: str) -> tuple[str, ...]:
        """As `Resolver.hosts`."""
        self._turns = {key: turn for key, turn in self._turns.items() if not turn.is_free}
        turn = self._turns.setdefault((name, kind), _Turn(self._all))
        limiter = cast(trio.CapacityLimiter, turn)
        ask = partial(trio.to_thread.run_sync, _look_up, name, kind, abandon_on_cancel=True)  # type: ignore[call-arg]
        return await ask(limiter=limiter)

    async def texts(self, name: str) -> tuple[str, ...]:
        """As `Resolver.texts`."""
        import dns.asyncresolver
        import dns.exception
        from dns.asyncbackend import get_backend

        try:
            answer = await dns.asyncresolver.Resolver().resolve(
                name.rstrip(".") + ".", "TXT", lifetime=LOOKUP_S, backend=get_backend("trio")
            )
        except (dns.exception.DNSException, OSError) as error:
            raise DialError(str(error)) from error
        records = islice(answer.rrset or (), _TEXTS)
        return tuple(b"".join(record.strings).decode("utf-8", "replace") for record in records)


class _Turn:
    """One at a time, and no more than all may: a limiter of trio's kind, held until the thread has really ended."""

    def __init__(self, everybody: trio.CapacityLimiter) -> None:
        self._own = trio.CapacityLimiter(1)
        self._all = everybody

    @property
    def is_free(self) -> bool:
        """Whether nobody has it or waits for it."""
        return not self._own.borrowed_tokens and not self._own.statistics().tasks_waiting

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        await self._own.acquire_on_behalf_of(borrower)
        try:
            await self._all.acquire_on_behalf_of(borrower)
        except BaseException:
            self._own.release_on_behalf_of(borrower)
            raise

    def release_on_behalf_of(self, borrower: object) -> None:
        self._all.release_on_behalf_of(borrower)
        self._own.release_on_behalf_of(borrower)


def _look_up(name: str, kind: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(name, None, _FAMILIES[kind], socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DialError(getattr(error, "strerror", None) or str(error)) from error
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


@cache
def system_resolver() -> Resolver:
    """The one of this process."""
    return SystemResolver()


class _Families:
    """Addresses of a host as they become known, in turns by family."""

    def __init__(self, kinds: Iterable[str]) -> None:
        self.found: dict[str, deque[str]] = {}
        self.missing = set(kinds)
        self.failures: list[str] = []
        self._order = list(kinds)
        self._changed = trio.Event()

    def note(self, kind: str, hosts: Iterable[str], failure: str | None = None) -> None:
        self.found[kind] = deque(hosts)
        self.missing.discard(kind)
        if failure is not None:
            self.failures.append(failure)
        self._changed.set()

    async def next(self) -> tuple[str, str] | None:
        """The next host with its kind; None when there is none left."""
        while True:
            for kind in self._order:
                if self.found.get(kind):
                    self._order.remove(kind)
                    self._order.append(kind)
                    return kind, self.found[kind].popleft()
            if not self.missing:
                return None
            self._changed = trio.Event()
            await self._changed.wait()


async def send_hosts(
    address: Address, send: trio.MemorySendChannel[Address], resolver: Resolver | None = None
) -> None:
    """Send the addresses that one with a name stands for, the best first and as they become known; at most `HOSTS`.

    Args:
        address: with a name; its port and peer are theirs.
        send: where to.
        resolver: the machine's own, unless another one is given.

    Raises:
        DialError: there are none, or the resolver does not say in time.
    """
    resolver = resolver or system_resolver()
    families = _Families(_KINDS[address.kind])
    sent = 0

    async def look(kind: str) -> None:
        hosts: tuple[str, ...] = ()
        why: str | None = f"the resolver does not answer in {LOOKUP_S:g} s"
        with trio.move_on_after(LOOKUP_S):
            try:
                hosts, why = await resolver.hosts(address.host, kind), None
            except DialError as error:
                why = error.message
        if hosts and kind == "ip4" and "ip6" in families.missing:
            await trio.sleep(RESOLUTION_DELAY_S)
        families.note(kind, hosts[:HOSTS], why)

    async with trio.open_nursery() as nursery:
        for kind in _KINDS[address.kind]:
            nursery.start_soon(look, kind)
        while sent < HOSTS and (found := await families.next()) is not None:
            kind, host = found
            await send.send(replace(address, kind=kind, host=host))
            sent += 1
        nursery.cancel_scope.cancel()
    if not sent:
        reasons = "; ".join(dict.fromkeys(families.failures)) or "it has no address"
        raise DialError(
            f"cannot reach {address}: {reasons}",
            remedy="check the name, and this machine's resolver",
            failure=DialFailure.UNRESOLVED,
        )


async def resolve_dnsaddr(address: Address, resolver: Resolver | None = None) -> list[Address]:
    """Find out which addresses a `dnsaddr` stands for.

    Args:
        address: of that kind; where it names a peer, only addresses that name the same one count.
        resolver: the machine's own, unless another one is given.

    Returns:
        1 to `RESULTS` addresses that can be dialled over TCP, in the order to try them in; never a `dnsaddr`.

    Raises:
        DialError: there are none, or the resolver does not say in time.
    """
    search = _Search(address, resolver or system_resolver())
    with trio.move_on_after(LOOKUP_S) as scope:
        await search.run()
    if not search.found:
        late = f"the resolver does not answer in {LOOKUP_S:g} s" if scope.cancelled_caught else None
        reasons = "; ".join(search.failures) or late or "no TXT record there names an address over TCP"
        raise DialError(
            f"cannot reach {address}: _dnsaddr.{address.host}: {reasons}",
            remedy="check the name, its TXT records (dnsaddr=/ip4/…), and this machine's resolver",
            failure=DialFailure.UNRESOLVED,
        )
    found = list(search.found)
    random.shuffle(found)  # all who ask are to spread over those who are named
    return interleaved(found)


class _Search:
    def __init__(self, address: Address, resolver: Resolver) -> None:
        self._resolver = resolver
        self._level = [address]
        self._asked: set[str] = set()
        self.found: dict[Address, None] = {}
        self.failures: dict[str, None] = {}

    async def run(self) -> None:
        for _ in range(DEPTH):
            level, self._level = self._level, []
            async with trio.open_nursery() as nursery:
                for address in level:
                    name = address.host.lower().rstrip(".")
                    if name not in self._asked and len(self._asked) < LOOKUPS:
                        self._asked.add(name)
                        nursery.start_soon(self._ask, name, address.peer_id)
            if not self._level:
                return

    async def _ask(self, name: str, peer_id: str | None) -> None:
        """Ask for one name's records, of which those count that end in this peer, if it is any."""
        try:
            texts = await self._resolver.texts(f"_dnsaddr.{name}")
        except DialError as error:
            self.failures[error.message] = None
            return
        # A random choice: whoever lists a thousand has all of them tried in the end.
        for address in random.sample(said := list(_addresses_in(texts)), len(said)):
            if peer_id is not None and address.peer_id != peer_id:
                continue
            if address.kind == DNSADDR:
                self._level.append(address)
            elif len(self.found) < RESULTS:
                self.found[address] = None


def _addresses_in(texts: Iterable[str]) -> Iterator[Address]:
    """Those that can be dialled here; most lists have some for other transports as well."""
    for text in texts:
        if text.startswith(_PREFIX) and len(text) <= _TEXT_CHARS:
            with suppress(UsageError):
                address = parse_address(text[len(_PREFIX) :])
                if address.kind == DNSADDR or address.is_dialable:
                    yield address
