"""Multiaddrs: what is taken, what is refused and how it is said."""

from __future__ import annotations

import subprocess
import sys

import pytest

from p2pboot.core.identity import SecretKey
from p2pboot.errors import UsageError
from p2pboot.transport.addresses import (
    Address,
    expand_wildcard,
    known_dialable,
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
        ("/dns4/boot.example.org/tcp/65535", Address("dns4", "boot.example.org", 65535)),
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
        ("/dns/-x.example/tcp/1", "no host name"),
        ("/dns/a b/tcp/1", "no host name"),
        ("/dnsaddr/bootstrap.example.org", "dnsaddr"),
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


def test_a_wildcard_becomes_what_the_machine_has() -> None:
    for wildcard, version in (("/ip4/0.0.0.0/tcp/4001", "ip4"), ("/ip6/::/tcp/4001", "ip6")):
        for address in expand_wildcard(parse_address(wildcard)):
            assert (address.kind, address.port) == (version, 4001)
            assert address.is_dialable
    assert expand_wildcard(parse_address("/ip4/0.0.0.0/tcp/4001"))  # loopback, where there is nothing else
    one = parse_address("/ip4/192.0.2.1/tcp/4001")
    assert expand_wildcard(one) == (one,)


def test_of_a_strangers_addresses_the_usable_are_kept() -> None:
    good = [f"/ip4/192.0.2.{n}/tcp/4001" for n in range(5)]
    bad = ["x", "/ip4/0.0.0.0/tcp/1", "/ip4/192.0.2.9/tcp/0", "/ip4/224.0.0.1/tcp/1", "/ip6/fe80::1/tcp/1"]
    assert known_dialable([*bad, good[0], *good, *bad], limit=3) == tuple(good[:3])
    assert known_dialable([*bad, *good], limit=99) == tuple(good)


def test_reading_addresses_needs_no_network_library() -> None:
    check = (
        "import sys, p2pboot.transport.addresses; sys.exit(any(m in sys.modules for m in ('libp2p', 'trio')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
