"""Multiaddrs: what is taken, what is refused and how it is said."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from p2pboot.core.identity import SecretKey
from p2pboot.errors import UsageError
from p2pboot.transport.addresses import (
    Address,
    can_listen,
    known_dialable,
    of_peer,
    parse_address,
    parse_listen_address,
)

PEER = SecretKey(b"p" * 32).public.peer_id


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/ip4/192.0.2.1/tcp/4001", Address("ip4", "192.0.2.1", 4001)),
        (f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}", Address("ip4", "192.0.2.1", 4001, PEER)),
        (f" /ip4/192.0.2.1/tcp/4001/ipfs/{PEER}/ ", Address("ip4", "192.0.2.1", 4001, PEER)),
        ("/ip6/2001:DB8::0:1/tcp/0", Address("ip6", "2001:db8::1", 0)),
        ("/ip6zone/eth0.7/ip6/fe80::1/tcp/1", Address("ip6", "fe80::1%eth0.7", 1)),
        (f"/ip6zone/3/ip6/FE80::1/tcp/1/p2p/{PEER}", Address("ip6", "fe80::1%3", 1, PEER)),
        ("/dns4/boot.example.org/tcp/65535", Address("dns4", "boot.example.org", 65535)),
        ("/dnsaddr/boot.example.org", Address("dnsaddr", "boot.example.org", 0)),
        (f"/dnsaddr/boot.example.org/p2p/{PEER}", Address("dnsaddr", "boot.example.org", 0, PEER)),
    ],
)
def test_an_address_is_read(text: str, expected: Address) -> None:
    assert parse_address(text) == expected
    assert parse_address(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a multiaddr"),
        ("192.0.2.1:4001", "not a multiaddr"),
        ("/" + "a" * 500, "not a multiaddr"),
        ("/ip4/192.0.2.1", "not an address over TCP"),
        ("/ip4/192.0.2.1/udp/4001/quic-v1", "not an address over TCP"),
        ("/ip4/192.0.2.1/tcp/4001/ws", "not an address over TCP"),
        ("/ip4/192.0.2.1/tcp/4001/ws/x", "not an address over TCP"),
        ("/ip4/192.0.2.256/tcp/4001", "no IPv4 address"),
        ("/ip4/2001:db8::1/tcp/4001", "no IPv4 address"),
        ("/ip6/192.0.2.1/tcp/4001", "no IPv6 address"),
        ("/ip6/fe80::1%eth0/tcp/4001", "no IPv6 address"),
        ("/ip6zone/eth0/ip6/2001:db8::1/tcp/1", "only a link-local"),
        ("/ip6zone/eth0/ip4/169.254.1.1/tcp/1", "only a link-local"),
        ("/ip6zone/a b/ip6/fe80::1/tcp/1", "no name of an interface"),
        ("/ip6zone/interface-with-a-long-name/ip6/fe80::1/tcp/1", "no name of an interface"),
        ("/ip6zone/eth0/tcp/1", "not an address over TCP"),
        ("/ip6zone//ip6/fe80::1/tcp/1", "not an address over TCP"),
        ("/ip6zone/eth0", "not an address over TCP"),
        ("/dns/-x.example/tcp/1", "no host name"),
        ("/dns/a b/tcp/1", "no host name"),
        ("/dnsaddr", "dnsaddr"),
        ("/dnsaddr/boot.example.org/tcp/4001", "dnsaddr"),
        ("/dnsaddr/a b", "no host name"),
        ("/dnsaddr/boot.example.org/p2p/12D3KooWshort", "no peer id"),
        ("/unix/x/tcp/1", "not supported"),
        ("/ip4/192.0.2.1/tcp/65536", "no TCP port"),
        ("/ip4/192.0.2.1/tcp/-1", "no TCP port"),
        ("/ip4/192.0.2.1/tcp/٤", "no TCP port"),
        ("/ip4/192.0.2.1/tcp/1/p2p/12D3KooWshort", "no peer id"),
        (f"/ip4/192.0.2.1/tcp/1/p2p/{PEER[:-1]}0", "no peer id"),
    ],
)
def test_what_is_no_address_is_refused_with_a_reason(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse_address(text)
    assert caught.value.remedy
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["/dns4/localhost/tcp/1", f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}"])
def test_one_listens_on_ip_addresses_without_a_peer(text: str) -> None:
    with pytest.raises(UsageError):
        parse_listen_address(text)


def test_of_a_strangers_addresses_the_usable_are_kept() -> None:
    good = [f"/ip4/192.0.2.{n}/tcp/4001" for n in range(5)]
    bad = ["x", "/ip4/0.0.0.0/tcp/1", "/ip4/192.0.2.9/tcp/0", "/ip4/224.0.0.1/tcp/1", "/ip6/fe80::1/tcp/1"]
    assert known_dialable([*bad, good[0], *good, *bad], limit=3) == tuple(good[:3])
    assert known_dialable([*bad, *good], limit=99) == tuple(good)


OTHER = SecretKey(b"o" * 32).public.peer_id


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/tcp/1/p2p/PEER"], ["/ip4/192.0.2.1/tcp/1/p2p/PEER"]),
        (["/ip4/192.0.2.1/tcp/1/p2p/PEER", "/ip4/192.0.2.1/tcp/1"], ["/ip4/192.0.2.1/tcp/1/p2p/PEER"]),
        (
            ["/ip4/192.0.2.1/tcp/1/ipfs/PEER", "/ip4/192.0.2.1/tcp/1/p2p/PEER/"],
            ["/ip4/192.0.2.1/tcp/1/p2p/PEER"],
        ),
        (["/ip6/2001:DB8::0:1/tcp/1", "/ip6/2001:db8:0:0::1/tcp/1"], ["/ip6/2001:db8::1/tcp/1"]),
        (["/dns4/Boot.Example.org/tcp/1", "/dns4/boot.example.org./tcp/1"], ["/dns4/boot.example.org/tcp/1"]),
        (
            ["/ip4/192.0.2.1/tcp/1/p2p/PEER", "/ip4/192.0.2.1/tcp/1/p2p/OTHER"],
            ["/ip4/192.0.2.1/tcp/1/p2p/OTHER", "/ip4/192.0.2.1/tcp/1/p2p/PEER"],
        ),
        (
            ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/1", "/ip4/192.0.2.1/tcp/1/p2p/PEER"],
            ["/ip4/192.0.2.1/tcp/1/p2p/PEER", "/ip4/192.0.2.2/tcp/1"],
        ),
        (["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/tcp/2"], ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/tcp/2"]),
    ],
)
def test_an_address_is_there_once_however_it_is_spelt(texts: list[str], expected: list[str]) -> None:
    def named(text: str) -> str:
        return text.replace("PEER", PEER).replace("OTHER", OTHER)

    assert sorted(known_dialable(map(named, texts), limit=9)) == sorted(map(named, expected))
    assert known_dialable(map(named, texts), limit=9)[0].startswith(expected[0].partition("/p2p/")[0])


def test_of_a_peers_addresses_all_name_it_and_no_other() -> None:
    texts = [
        "/ip4/192.0.2.1/tcp/1",
        f"/ip4/192.0.2.2/tcp/1/p2p/{PEER}",
        f"/ip4/192.0.2.3/tcp/1/p2p/{OTHER}",
        "x",
    ]
    assert list(of_peer(texts, PEER)) == [f"/ip4/192.0.2.{n}/tcp/1/p2p/{PEER}" for n in (1, 2)]


def test_a_family_that_the_machine_has_not_can_not_be_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_listen("ip4")
    real = socket.socket

    def without_ipv6(family: int, *args: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *args)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    assert (can_listen("ip4"), can_listen("ip6")) == (True, False)


def test_reading_addresses_needs_no_network_library() -> None:
    check = (
        "import sys, p2pboot.transport.interfaces;"
        "sys.exit(any(module in sys.modules for module in ('libp2p', 'trio')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
