"""Whom a cost is put down to."""

from __future__ import annotations

import pytest

from p2pboot.core.origins import Party, ip_of, is_private, origin_of, party_of


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("/ip4/192.0.2.7/tcp/4001", "192.0.2.7"),
        ("/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("/ip6/2001:db8:1:2::9/tcp/1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("/ip6zone/eth0/ip6/fe80::1/tcp/1", "fe80::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("/ip6/::ffff:c000:207/tcp/1", "192.0.2.7"),
        ("64:ff9b::192.0.2.7", "192.0.2.7"),
        ("/dns4/boot.example/tcp/4001", "boot.example"),
        ("", ""),
        ("/", "/"),
    ],
)
def test_origin_is_what_a_stranger_has_one_of(address: str, origin: str) -> None:
    assert origin_of(address) == origin


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("10.0.0.1", True),
        ("11.0.0.1", False),
        ("172.15.255.255", False),
        ("172.16.0.1", True),
        ("172.31.255.255", True),
        ("172.32.0.0", False),
        ("192.168.0.1", True),
        ("192.167.255.255", False),
        ("169.254.9.9", True),
        ("127.1.2.3", True),
        ("100.64.0.1", False),
        ("203.0.113.7", False),
        ("0.0.0.0", False),
        ("224.0.0.251", False),
        ("/ip4/10.0.0.1/tcp/4001", True),
        ("::1", True),
        ("::", False),
        ("fe80::1%eth0", True),
        ("fd00::1", True),
        ("fe00::1", False),
        ("2001:db8::1", False),
        ("::ffff:192.168.0.1", True),
        ("::ffff:8.8.8.8", False),
        ("64:ff9b::a00:1", True),
        ("64:ff9b::808:808", False),
        ("/dns4/localhost/tcp/1", False),
        ("", False),
    ],
)
def test_private_is_what_means_something_at_one_site(address: str, private: bool) -> None:
    assert is_private(address) is private


def test_an_address_that_stands_for_another_one_is_that() -> None:
    assert str(ip_of("/ip6/::ffff:c000:207/tcp/1")) == "192.0.2.7"
    assert str(ip_of("fe80::1%eth0")) == "fe80::1"
    assert ip_of("/dns4/boot.example/tcp/4001") is None


def test_party_has_an_origin_and_a_peer() -> None:
    assert party_of("/ip4/192.0.2.7/tcp/1", "a") == Party("192.0.2.7", "a")
