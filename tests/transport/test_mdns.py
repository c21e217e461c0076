"""Discovery on the local network, over this machine's own interfaces."""

from __future__ import annotations

import logging
import socket

import pytest
import trio
import trio.lowlevel
from zeroconf import const
from zeroconf._dns import DNSPointer, DNSText
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf._protocol.outgoing import DNSOutgoing

from p2pboot.core.identity import SecretKey
from p2pboot.transport import mdns
from p2pboot.transport.mdns import open_mdns

A, B = (SecretKey(bytes([n]) * 32).public.peer_id for n in (1, 2))
SERVICE = "_p2p._udp.local."


@pytest.fixture(autouse=True)
def _own_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the real 5353: other nodes on the machine are none of our business."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 0))
        monkeypatch.setattr(mdns, "_PORT", sock.getsockname()[1])


def say(packet: bytes) -> None:
    """Send a packet to the group over loopback, as any program on this machine may."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sock.sendto(packet, (mdns._GROUP, mdns._PORT))


def announcement(*strings: bytes, name: str = "x" * 32 + "." + SERVICE, ttl: int = 120) -> bytes:
    outgoing = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    outgoing.add_answer_at_time(DNSPointer(SERVICE, const._TYPE_PTR, const._CLASS_IN, ttl, name), 0)
    text = b"".join(bytes([len(string)]) + string for string in strings)
    outgoing.add_additional_answer(DNSText(name, const._TYPE_TXT, const._CLASS_IN, ttl, text))
    return outgoing.packets()[0]


async def test_two_nodes_find_each_other() -> None:
    addresses = {peer: f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer}" for peer, port in ((A, 4001), (B, 4002))}
    async with open_mdns(A, [addresses[A]]) as found_by_a, open_mdns(B, [addresses[B]]) as found_by_b:
        assert await found_by_a.receive() == addresses[B]
        assert await found_by_b.receive() == addresses[A]


async def test_one_that_comes_later_finds_who_is_there() -> None:
    address = f"/ip4/127.0.0.1/tcp/4001/p2p/{A}"
    async with open_mdns(A, [address]):
        await trio.lowlevel.checkpoint()
        async with open_mdns(B, []) as found:
            assert await found.receive() == address


async def test_only_usable_addresses_are_handed_on() -> None:
    good = f"/ip4/192.0.2.7/tcp/4001/p2p/{B}"
    async with open_mdns(A, []) as found:
        say(b"\xff" * 200)
        say(
            announcement(
                b"dnsaddr=/ip4/192.0.2.7/udp/4001/quic-v1/p2p/" + B.encode(),
                b"dnsaddr=/ip4/0.0.0.0/tcp/4001/p2p/" + B.encode(),
                b"dnsaddr=/ip4/192.0.2.7/tcp/4001",
                b"dnsaddr=/ip4/192.0.2.7/tcp/4001/p2p/" + A.encode(),
                b"dnsaddr=\xff\xfe",
                b"path=/dev/null",
                b"dnsaddr2=" + good.encode(),
            )
        )
        assert await found.receive() == good


async def test_a_name_without_the_services_suffix_is_read_too() -> None:
    address = f"/ip4/192.0.2.7/tcp/4001/p2p/{B}"
    async with open_mdns(A, []) as found:
        say(announcement(b"dnsaddr=" + address.encode(), name="rusty"))
        assert await found.receive() == address


async def test_a_withdrawn_address_is_not_handed_on() -> None:
    withdrawn, good = (f"/ip4/192.0.2.{n}/tcp/4001/p2p/{B}".encode() for n in (1, 2))
    async with open_mdns(A, []) as found:
        say(announcement(b"dnsaddr=" + withdrawn, ttl=0))
        say(announcement(b"dnsaddr=" + good))
        assert await found.receive() == good.decode()


async def test_a_flood_is_bounded() -> None:
    async with open_mdns(A, []) as found:
        for number in range(40):
            strings = [f"dnsaddr=/ip4/192.0.2.{n}/tcp/{4000 + number}/p2p/{B}".encode() for n in range(10)]
            say(announcement(*strings))
            await trio.lowlevel.checkpoint()
        assert [await found.receive() for _ in range(mdns._CHANNEL_SIZE)]
        assert found.statistics().max_buffer_size == mdns._CHANNEL_SIZE


def test_as_many_addresses_as_are_announced_fit_into_one_frame() -> None:
    longest = f"/ip6/2001:db8:1111:2222:3333:4444:5555:6666/tcp/65535/p2p/{B}"
    packet = mdns._answer("n" * 32 + "." + SERVICE, [longest] * mdns._MAX_ANNOUNCED, 120)
    assert len(DNSIncoming(packet).answers()) == 2
    assert len(packet) <= 1400


def test_an_answer_reads_as_the_spec_wants() -> None:
    address = f"/ip4/192.0.2.7/tcp/4001/p2p/{B}"
    incoming = DNSIncoming(mdns._answer("name." + SERVICE, [address], 120))
    pointer, text = incoming.answers()
    assert isinstance(pointer, DNSPointer)
    assert isinstance(text, DNSText)
    assert (pointer.name, pointer.alias) == (SERVICE, "name." + SERVICE)
    assert text.name == pointer.alias
    assert text.text == bytes([len(address) + 8]) + b"dnsaddr=" + address.encode()


def test_a_loopback_address_is_told_on_loopback_only() -> None:
    local, lan = f"/ip4/127.0.0.1/tcp/1/p2p/{B}", f"/ip4/192.0.2.7/tcp/1/p2p/{B}"
    assert [mdns._belongs(local, "127.0.0.1"), mdns._belongs(local, "192.0.2.7")] == [True, False]
    assert [mdns._belongs(lan, "127.0.0.1"), mdns._belongs(lan, "192.0.2.7")] == [True, True]


async def test_without_multicast_a_warning_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ifaddr.get_adapters", list)
    with caplog.at_level(logging.WARNING):
        async with open_mdns(A, []) as found:
            assert found.statistics().current_buffer_used == 0
    assert "no discovery on the local network" in caplog.text
