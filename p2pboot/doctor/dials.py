"""Whom the operator named, and whom this machine knew: each address by itself, with what became of it.

A race (`transport.racing`) tells of the first address that answers; here all of them are of interest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Final

import trio

from p2pboot.core.addressbook import Entry
from p2pboot.core.dataclass import dataclass
from p2pboot.doctor.findings import Code, Finding, State, failed, ok, skipped, warning
from p2pboot.doctor.patient import Patient, in_thread
from p2pboot.errors import P2PBootError
from p2pboot.transport.addresses import DNSADDR, Address, parse_address
from p2pboot.transport.interface import DialError, DialFailure, PeerSource, Transport
from p2pboot.transport.names import HOSTS, Resolver, resolve_dnsaddr, send_hosts
from p2pboot.transport.racing import ATTEMPT_S

MAX_DIALS: Final = 32
"""Addresses that are dialled of all that was named, and as many of a name as `names` gives."""

PARALLEL: Final = 16
BOOK_PEERS: Final = 8
"""Of the address book, those that were reached last."""

BOOK_ADDRESSES: Final = 2
"""Of each of them."""

_HINTS: Final = {
    DialFailure.REFUSED: "a machine is there, and nothing listens: start the node there, or correct the port",
    DialFailure.TIMEOUT: "the machine is off, its address is another one now, or a firewall on the way drops what is"
    " sent to this port: try `nc -vz HOST PORT` from a machine nearby",
    DialFailure.UNREACHABLE: "no route leads there, or nobody on this link has the address: see what `addresses` says,"
    " and whether the machine is on",
    DialFailure.NOT_PERMITTED: "this machine's firewall, or a route that prohibits it, does not let it out: allow TCP"
    " to that port",
    DialFailure.OTHER_PEER: "correct the peer id, the last part of the address: the first line that"
    " `p2pboot serve` prints has it",
    DialFailure.ITSELF: "leave it out: it is this node",
}


@dataclass(frozen=True, slots=True)
class Dialled:
    """What became of one address.

    Args:
        named: what it comes from: a bootstrap address, or a peer of the address book.
        address: that was dialled; the same as `named` where that could not be resolved.
        failure: what became of it; None if a peer was reached.
        text: one line.
        remedy: what to do about it.
    """

    named: str
    address: str
    failure: DialFailure | None
    text: str
    remedy: str | None = None


async def check_bootstrap(
    patient: Patient, within_s: float, resolver: Resolver | None = None
) -> tuple[list[Dialled], list[Finding]]:
    """Dial what the operator named, in so many seconds; returns what became of each, too."""
    named = patient.settings.network.bootstrap
    if not named:
        text = "no bootstrap address is named"
        return [], [skipped(Code.NO_BOOTSTRAP, "bootstrap", text, "name a peer with --bootstrap MULTIADDR")]
    dialled = await dial_each(
        patient.transport, {one: (one,) for one in named}, within_s, PeerSource.BOOTSTRAP, resolver
    )
    return dialled, judge_dials(dialled, is_book=False)


async def check_address_book(patient: Patient, within_s: float) -> tuple[list[Dialled], list[Finding]]:
    """Dial those whom this machine reached before."""
    entries = await in_thread(_load, patient)
    known = [entry for entry in reversed(entries) if entry.is_proved]
    if not known:
        text = "no peer is remembered: whoever is reached by a node, or by `fetch`, is written down"
        return [], [skipped(Code.NO_ADDRESS_BOOK, "address book", text)]
    chosen = {
        entry.peer_id: tuple(one.address for one in entry.addresses[:BOOK_ADDRESSES])
        for entry in known[:BOOK_PEERS]
    }
    dialled = await dial_each(patient.transport, chosen, within_s, PeerSource.ADDRESS_BOOK)
    return dialled, judge_dials(dialled, is_book=True)


def _load(patient: Patient) -> Sequence[Entry]:
    with patient.memory() as store:
        return [] if store is None else store.peers_of(patient.transport.mesh).load()


async def dial_each(
    transport: Transport,
    named: Mapping[str, Sequence[str]],
    within_s: float,
    source: PeerSource,
    resolver: Resolver | None = None,
) -> list[Dialled]:
    """Dial all addresses that some names stand for, several at a time.

    Args:
        transport: the network.
        named: multiaddrs by what they come from.
        within_s: seconds for all of it; what is not reached by then is late.
        source: whence the addresses are.
        resolver: the machine's own, unless another one is given.

    Returns:
        In the order in which they were named; at most `MAX_DIALS`.
    """
    asked = [(source, parse_address(text)) for source, texts in named.items() for text in texts][:MAX_DIALS]
    ways: list[list[_Way]] = [[_Way(source, address)] for source, address in asked]
    with trio.move_on_after(within_s):
        async with trio.open_nursery() as nursery:
            for several in ways:
                nursery.start_soon(_resolve, several, resolver)
        limiter = trio.CapacityLimiter(PARALLEL)
        async with trio.open_nursery() as nursery:
            for way in _first(ways):
                nursery.start_soon(_dial, transport, way, source, limiter)
    late = f"nothing came back within {within_s:.2g} s"
    return [
        way.result
        or Dialled(way.source, str(way.address), DialFailure.TIMEOUT, late, _HINTS[DialFailure.TIMEOUT])
        for way in _first(ways)
    ]


@dataclass(slots=True)
class _Way:
    """An address that is to be dialled, and what became of it."""

    source: str
    address: Address
    result: Dialled | None = None


def _first(ways: Iterable[Iterable[_Way]]) -> list[_Way]:
    return list(chain.from_iterable(ways))[:MAX_DIALS]


async def _resolve(ways: list[_Way], resolver: Resolver | None) -> None:
    """Put IP addresses in the place of one with a name, or why there are none."""
    (named,) = ways
    address = named.address
    if address.is_ip:
        return
    try:
        found = await resolve_dnsaddr(address, resolver) if address.kind == DNSADDR else [address]
    except DialError as error:
        named.result = _failure(named, error)
        return
    resolved: list[_Way] = []
    for one in found:
        way = _Way(named.source, one)
        if one.is_ip:
            resolved.append(way)
            continue
        send, receive = trio.open_memory_channel[Address](HOSTS)
        try:
            with send:
                await send_hosts(one, send, resolver)
        except DialError as error:
            way.result = _failure(way, error)
            resolved.append(way)
        else:
            resolved += [_Way(named.source, host) async for host in receive]
        receive.close()
    ways[:] = resolved


async def _dial(transport: Transport, way: _Way, source: PeerSource, limiter: trio.CapacityLimiter) -> None:
    if way.result is not None:
        return
    async with limiter:
        began = trio.current_time()
        try:
            with trio.fail_after(ATTEMPT_S):
                connection = await transport.dial(str(way.address), source)
        except DialError as error:
            way.result = _failure(way, error)
        except P2PBootError as error:
            way.result = Dialled(way.source, str(way.address), DialFailure.OTHER, error.message, error.remedy)
        except trio.TooSlowError:
            text, remedy = f"nothing came back within {ATTEMPT_S:g} s", _HINTS[DialFailure.TIMEOUT]
            way.result = Dialled(way.source, str(way.address), DialFailure.TIMEOUT, text, remedy)
        else:
            took_ms = round(1000 * (trio.current_time() - began))
            text = f"{connection.peer_id} answers, after {took_ms} ms"
            way.result = Dialled(way.source, str(way.address), None, text)


def _failure(way: _Way, error: DialError) -> Dialled:
    remedy = _HINTS.get(error.failure, error.remedy)
    # The finding says already which address it is about.
    text = error.message.removeprefix("cannot reach ").removeprefix(str(way.address)).lstrip(": ")
    return Dialled(way.source, str(way.address), error.failure, text, remedy)


def judge_dials(dialled: Iterable[Dialled], *, is_book: bool) -> list[Finding]:
    """What became of addresses.

    One at which nobody is reached is a failure only where nobody is reached at all: whom one has is enough. Who is
    remembered may have gone, which is no failure either.

    Args:
        dialled: all of them.
        is_book: whether they are from the address book.
    """
    dialled = list(dialled)
    reached = any(one.failure is None or one.failure is DialFailure.ITSELF for one in dialled)
    state = State.WARNING if reached or is_book else State.FAILED
    return [_judge(one, state) for one in dialled]


def _judge(one: Dialled, state: State) -> Finding:
    subject = one.address if one.address == one.named else f"{one.named} → {one.address}"
    if one.failure is None:
        return ok(Code.REACHED, subject, one.text)
    said = failed if state is State.FAILED else warning
    return said(Code(one.failure.value), subject, one.text, one.remedy)
