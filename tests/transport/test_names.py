"""What names stand for, and how much of it may be asked for."""

from __future__ import annotations

import socket
import threading
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.identity import SecretKey
from p2pboot.transport import names as module
from p2pboot.transport.addresses import Address, parse_address
from p2pboot.transport.interface import DialError
from p2pboot.transport.names import (
    DEPTH,
    HOSTS,
    LOOKUP_S,
    LOOKUPS,
    RESOLUTION_DELAY_S,
    RESULTS,
    SystemResolver,
    resolve_dnsaddr,
    send_hosts,
)
from tests.transport.resolvers import FakeResolver

PEERS = [SecretKey(bytes([number]) * 32).public.peer_id for number in range(1, 4)]
NAME = "boot.example.net"
SIX, FOUR = "2001:db8::1", "192.0.2.1"


async def hosts_of(address: str, resolver: FakeResolver) -> list[tuple[float, str]]:
    """The addresses that are told, and how long each took to come."""
    send, receive = trio.open_memory_channel[Address](0)
    began, told = trio.current_time(), list[tuple[float, str]]()

    async def tell() -> None:
        with send:
            await send_hosts(parse_address(address), send, resolver)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        async for one in receive:
            told.append((trio.current_time() - began, str(one)))
    return told


async def test_both_families_are_told_in_turns_with_port_and_peer(autojump_clock: MockClock) -> None:
    resolver = FakeResolver({(NAME, "ip4"): [FOUR, "192.0.2.2"], (NAME, "ip6"): [SIX]})
    told = await hosts_of(f"/dns/{NAME}/tcp/4001/p2p/{PEERS[0]}", resolver)
    end = f"/tcp/4001/p2p/{PEERS[0]}"
    assert [one for _, one in told] == [f"/ip6/{SIX}{end}", f"/ip4/{FOUR}{end}", f"/ip4/192.0.2.2{end}"]
    assert [one for _, one in await hosts_of(f"/dns4/{NAME}/tcp/1", resolver)] == [
        f"/ip4/{FOUR}/tcp/1",
        "/ip4/192.0.2.2/tcp/1",
    ]
    assert [one for _, one in await hosts_of(f"/dns6/{NAME}/tcp/1", resolver)] == [f"/ip6/{SIX}/tcp/1"]


async def test_ipv4_waits_a_moment_for_ipv6_and_no_longer(autojump_clock: MockClock) -> None:
    hosts = {(NAME, "ip4"): [FOUR], (NAME, "ip6"): [SIX]}
    soon = await hosts_of(f"/dns/{NAME}/tcp/1", FakeResolver(hosts, late_s={"ip6": 0.04}))
    assert [one for _, one in soon] == [f"/ip6/{SIX}/tcp/1", f"/ip4/{FOUR}/tcp/1"]
    late = await hosts_of(f"/dns/{NAME}/tcp/1", FakeResolver(hosts, late_s={"ip6": 3}))
    assert [one for _, one in late] == [f"/ip4/{FOUR}/tcp/1", f"/ip6/{SIX}/tcp/1"]
    assert [when for when, _ in late] == pytest.approx([RESOLUTION_DELAY_S, 3])


async def test_a_resolver_that_never_answers_for_one_family_does_not_hide_the_other(
    autojump_clock: MockClock,
) -> None:
    for kind, host in (("ip4", FOUR), ("ip6", SIX)):
        other = {"ip4": "ip6", "ip6": "ip4"}[kind]
        resolver = FakeResolver({(NAME, kind): [host]}, late_s={other: 1000})
        ((when, told),) = await hosts_of(f"/dns/{NAME}/tcp/1", resolver)
        assert told == f"/{kind}/{host}/tcp/1"
        assert when <= RESOLUTION_DELAY_S + 0.001


@pytest.mark.parametrize(
    ("resolver", "why"),
    [
        (FakeResolver(), "Name or service not known"),
        (FakeResolver(late_s={NAME: 1000}), "the resolver does not answer in 5 s"),
        (FakeResolver({(NAME, "ip4"): [], (NAME, "ip6"): []}), "it has no address"),
    ],
)
async def test_a_name_that_leads_nowhere_is_said_to(
    autojump_clock: MockClock, resolver: FakeResolver, why: str
) -> None:
    began = trio.current_time()
    with pytest.RaisesGroup(pytest.RaisesExc(DialError, match=why)):
        await hosts_of(f"/dns/{NAME}/tcp/1", resolver)
    assert trio.current_time() - began <= LOOKUP_S + 0.001


async def test_no_more_than_sixteen_addresses_of_a_name_are_tried(autojump_clock: MockClock) -> None:
    many = [f"192.0.2.{number}" for number in range(200)]
    assert len(await hosts_of(f"/dns4/{NAME}/tcp/1", FakeResolver({(NAME, "ip4"): many}))) == HOSTS


def txt(*addresses: str) -> list[str]:
    return [f"dnsaddr={address}" for address in addresses]


async def test_a_dnsaddr_stands_for_what_its_records_say(autojump_clock: MockClock) -> None:
    good = [
        f"/ip4/{FOUR}/tcp/1/p2p/{PEERS[0]}",
        f"/ip6/{SIX}/tcp/1/p2p/{PEERS[0]}",
        "/dns4/a.example/tcp/2",
    ]
    bad = [f"/ip4/{FOUR}/udp/1/quic-v1", "/ip4/0.0.0.0/tcp/1", f"/ip4/{FOUR}/tcp/0", "nonsense", "/dnsaddr"]
    resolver = FakeResolver(texts={f"_dnsaddr.{NAME}": [*txt(*good, *bad), "v=spf1 -all", good[0]]})
    found = await resolve_dnsaddr(parse_address(f"/dnsaddr/{NAME}"), resolver)
    assert sorted(map(str, found)) == sorted(good)
    assert str(found[0]) == good[1]  # families take turns
    named = await resolve_dnsaddr(parse_address(f"/dnsaddr/{NAME}/p2p/{PEERS[0]}"), resolver)
    assert sorted(map(str, named)) == sorted(good[:2])


async def test_one_dnsaddr_may_stand_for_another_for_one_of_its_peers(autojump_clock: MockClock) -> None:
    here, there = (f"/ip4/{FOUR}/tcp/1/p2p/{peer}" for peer in PEERS[:2])
    resolver = FakeResolver(
        texts={
            f"_dnsaddr.{NAME}": txt(f"/dnsaddr/a.{NAME}/p2p/{PEERS[0]}", f"/dnsaddr/gone.{NAME}"),
            f"_dnsaddr.a.{NAME}": txt(here, there),
        }
    )
    assert list(map(str, await resolve_dnsaddr(parse_address(f"/dnsaddr/{NAME}"), resolver))) == [here]


async def test_a_circle_ends(autojump_clock: MockClock) -> None:
    resolver = FakeResolver(texts={f"_dnsaddr.{NAME}": txt(f"/dnsaddr/{NAME.upper()}.")})
    with pytest.raises(DialError, match="no TXT record there names an address over TCP"):
        await resolve_dnsaddr(parse_address(f"/dnsaddr/{NAME}"), resolver)
    assert resolver.asked == [f"_dnsaddr.{NAME}"]


async def test_it_is_followed_so_deep_and_so_often(autojump_clock: MockClock) -> None:
    chain = {f"_dnsaddr.{number}": txt(f"/dnsaddr/{number + 1}") for number in range(20)}
    resolver = FakeResolver(texts=chain)
    with pytest.raises(DialError):
        await resolve_dnsaddr(parse_address("/dnsaddr/0"), resolver)
    assert len(resolver.asked) == DEPTH
    wide = FakeResolver(texts={f"_dnsaddr.{NAME}": txt(*(f"/dnsaddr/{number}.x" for number in range(99)))})
    with pytest.raises(DialError):
        await resolve_dnsaddr(parse_address(f"/dnsaddr/{NAME}"), wide)
    assert len(wide.asked) == LOOKUPS


async def test_of_a_thousand_records_some_are_taken_and_others_the_next_time(
    autojump_clock: MockClock,
) -> None:
    many = [f"/ip4/10.0.{number // 250}.{number % 250 + 1}/tcp/1" for number in range(1000)]
    resolver = FakeResolver(texts={f"_dnsaddr.{NAME}": txt(*many)})
    found = [frozenset(await resolve_dnsaddr(parse_address(f"/dnsaddr/{NAME}"), resolver)) for _ in range(2)]
    assert {len(each) for each in found} == {RESULTS}
    assert found[0] != found[1]


async def test_a_resolver_that_hangs_is_not_waited_for(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    with pytest.raises(DialError, match="the resolver does not answer in 5 s"):
        await resolve_dnsaddr(parse_address(f"/dnsaddr/{NAME}"), FakeResolver(late_s={"TXT": 1000}))
    assert trio.current_time() - began == pytest.approx(LOOKUP_S)


async def test_what_is_known_by_then_counts(autojump_clock: MockClock) -> None:
    one = f"/ip4/{FOUR}/tcp/1"
    resolver = FakeResolver(
        texts={f"_dnsaddr.{NAME}": txt(one, "/dnsaddr/slow.x")}, late_s={"_dnsaddr.slow.x": 1000}
    )
    assert list(map(str, await resolve_dnsaddr(parse_address(f"/dnsaddr/{NAME}"), resolver))) == [one]


async def test_a_name_of_this_machine_is_looked_up() -> None:
    assert await SystemResolver().hosts("localhost", "ip4") == ("127.0.0.1",)
    with pytest.raises(DialError):
        await SystemResolver().hosts("x" * 64 + ".invalid", "ip4")


async def test_lookups_that_hang_hold_few_threads_and_none_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A lookup can not be taken back; whoever gives one up and asks again must not hold another thread."""
    answer, begun, began = threading.Event(), threading.Semaphore(0), []

    def hang(name: str, *_: object) -> list[object]:
        began.append(name)
        begun.release()
        answer.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (FOUR, 0))]

    monkeypatch.setattr("socket.getaddrinfo", hang)
    resolver = SystemResolver()
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(5):  # five times the same
                nursery.start_soon(partial(resolver.hosts, NAME, "ip4"))
            await trio.to_thread.run_sync(begun.acquire)
            await trio.testing.wait_all_tasks_blocked()
            assert began == [NAME]
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(partial(resolver.hosts, f"{number}.x", "ip4"))
            for _ in range(module._THREADS - 1):  # one is still held by what was given up
                await trio.to_thread.run_sync(begun.acquire)
            await trio.testing.wait_all_tasks_blocked()
            assert len(began) == module._THREADS
            nursery.cancel_scope.cancel()
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
    finally:
        answer.set()
    with trio.fail_after(60):
        assert await resolver.hosts(NAME, "ip4") == (FOUR,)
