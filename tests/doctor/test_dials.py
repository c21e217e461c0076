"""Each address by itself: what becomes of it, and how bad that is."""

from __future__ import annotations

from pathlib import Path

import pytest
from trio.testing import MockClock

from p2pboot.core.addressbook import Entry, KnownAddress
from p2pboot.doctor.dials import (
    MAX_DIALS,
    Dialled,
    check_address_book,
    check_bootstrap,
    dial_each,
    judge_dials,
)
from p2pboot.doctor.findings import Code, State
from p2pboot.store.store import Store
from p2pboot.testing.manifests import key_of
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.interface import DialFailure, PeerSource, Transport
from tests.doctor.patients import patient, short
from tests.transport.resolvers import FakeResolver

ME, ONE, OTHER, GONE = (key_of(name).public.peer_id for name in ("me", "one", "other", "gone"))
LONG_S = 30.0
NOBODY = "/ip4/10.9.9.9/tcp/4001"


def bootstrap(*addresses: str) -> dict[str, object]:
    return {"network.bootstrap": addresses}


async def test_each_address_says_what_became_of_it(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with network.open(ME) as transport, network.open(ONE) as one, network.open(OTHER) as frozen:
        network.freeze(OTHER)
        wrong = f"{one.addresses()[0].partition('/p2p/')[0]}/p2p/{GONE}"
        named = (one.addresses()[0], NOBODY, wrong, frozen.addresses()[0])
        dialled, found = await check_bootstrap(patient(transport, said=bootstrap(*named)), LONG_S)
    assert [one.address for one in dialled] == list(named)
    assert short(found) == [
        (Code.REACHED, State.OK),
        (Code.REFUSED, State.WARNING),  # as somebody was reached
        (Code.OTHER_PEER, State.WARNING),
        (Code.TIMEOUT, State.WARNING),
    ]
    assert ONE in found[2].text
    assert all(finding.remedy for finding in found[1:])


async def test_where_nobody_is_reached_it_is_a_failure(autojump_clock: MockClock) -> None:
    async with MemoryNetwork().open(ME) as transport:
        _, found = await check_bootstrap(patient(transport, said=bootstrap(NOBODY)), LONG_S)
        assert short(found) == [(Code.REFUSED, State.FAILED)]
        _, none = await check_bootstrap(patient(transport), LONG_S)
        assert short(none) == [(Code.NO_BOOTSTRAP, State.SKIPPED)]


async def test_names_are_dialled_address_by_address(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with network.open(ME) as transport, network.open(ONE) as one:
        host = one.addresses()[0].split("/")[2]
        resolver = FakeResolver(
            {("boot.example.net", "ip4"): [host, "10.9.9.9"], ("boot.example.net", "ip6"): []},
            {"_dnsaddr.mesh.example.net": [f"dnsaddr={one.addresses()[0]}"]},
        )
        named = (
            "/dns4/boot.example.net/tcp/4001",
            "/dnsaddr/mesh.example.net",
            "/dns4/nobody.example.net/tcp/1",
        )
        dialled, found = await check_bootstrap(patient(transport, said=bootstrap(*named)), LONG_S, resolver)
    assert [(one.named, one.failure) for one in dialled] == [
        (named[0], None),
        (named[0], DialFailure.REFUSED),
        (named[1], None),
        (named[2], DialFailure.UNRESOLVED),
    ]
    assert found[1].subject == f"{named[0]} → /ip4/10.9.9.9/tcp/4001"


async def test_what_is_dialled_is_bounded(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with network.open(ME) as transport:
        named: dict[str, tuple[str, ...]] = {
            f"/ip4/10.9.{i}.1/tcp/1": (f"/ip4/10.9.{i}.1/tcp/1",) for i in range(100)
        }
        assert len(await dial_each(transport, named, LONG_S, PeerSource.BOOTSTRAP)) == MAX_DIALS


async def test_whom_the_state_knows_is_dialled_and_no_failure(
    autojump_clock: MockClock, inline_threads: None, store: Store, state: Path
) -> None:
    network = MemoryNetwork()
    async with network.open(ME) as transport, network.open(ONE) as one:
        gone = Entry(GONE, (KnownAddress(f"{NOBODY}/p2p/{GONE}", 5),))
        there = Entry(ONE, (KnownAddress(one.addresses()[0], 6),))
        said = Entry(OTHER, (KnownAddress(f"{NOBODY}/p2p/{OTHER}", None),))
        store.peers_of(None).save([gone, said, there], [])
        _, found = await check_address_book(patient(transport, store=store), LONG_S)
        assert short(found) == [(Code.REACHED, State.OK), (Code.REFUSED, State.WARNING)]
        store.peers_of(None).save([], [ONE, GONE])
        _, found = await check_address_book(patient(transport, store=store), LONG_S)
        assert short(found) == [(Code.NO_ADDRESS_BOOK, State.SKIPPED)]
    await nobody_known(transport)


async def nobody_known(transport: Transport) -> None:
    _, found = await check_address_book(patient(transport), LONG_S)
    assert short(found) == [(Code.NO_ADDRESS_BOOK, State.SKIPPED)]


@pytest.mark.parametrize("failure", list(DialFailure))
def test_every_failure_becomes_a_finding(failure: DialFailure) -> None:
    (finding,) = judge_dials([Dialled("a", "a", failure, "text")], is_book=False)
    assert finding.code.value == failure.value
    is_own = failure is DialFailure.ITSELF
    assert finding.state is (State.WARNING if is_own else State.FAILED)
