"""Whom a cost is put down to."""

from __future__ import annotations

import pytest

from p2pboot.core.origins import Party, origin_of, party_of


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("/ip4/192.0.2.7/tcp/4001", "192.0.2.7"),
        ("/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("/ip6/2001:db8:1:2::9/tcp/1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
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


def test_party_has_an_origin_and_a_peer() -> None:
    assert party_of("/ip4/192.0.2.7/tcp/1", "a") == Party("192.0.2.7", "a")
