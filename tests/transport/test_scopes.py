"""How far addresses lead."""

from __future__ import annotations

import ipaddress

import pytest

from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interfaces import OwnAddress, Reach
from p2pboot.transport.scopes import Scope, narrowest, on_link, scope_of


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("127.0.0.1", Scope.MACHINE),
        ("/ip4/127.0.0.1/tcp/4001", Scope.MACHINE),
        ("/ip4/10.0.0.1/tcp/4001/p2p/12D3KooW", Scope.SITE),
        ("/dns4/example.net/tcp/4001", Scope.MACHINE),
        ("127.8.8.8", Scope.MACHINE),
        ("0.0.0.0", Scope.MACHINE),
        ("::1", Scope.MACHINE),
        ("::ffff:127.0.0.1", Scope.MACHINE),
        ("rebinding.example.net", Scope.MACHINE),
        ("10.0.0.1", Scope.SITE),
        ("172.31.255.255", Scope.SITE),
        ("172.32.0.1", Scope.WORLD),
        ("192.168.1.1", Scope.SITE),
        ("169.254.169.254", Scope.SITE),
        ("100.64.0.1", Scope.SITE),
        ("fd00::1", Scope.SITE),
        ("fe80::1%eth0", Scope.SITE),
        ("::ffff:10.0.0.1", Scope.SITE),
        ("192.0.2.1", Scope.WORLD),
        ("2001:db8::1", Scope.WORLD),
    ],
)
def test_scope_of_an_address(host: str, scope: Scope) -> None:
    assert scope_of(host) is scope


def test_several_addresses_have_the_narrowest_scope_among_them() -> None:
    public, private = (parse_address(f"/ip4/{host}/tcp/1") for host in ("192.0.2.1", "10.0.0.1"))
    assert narrowest([public]) is Scope.WORLD
    assert narrowest([public, private]) is Scope.SITE
    assert narrowest([public, private, parse_address("/dns4/example.net/tcp/1")]) is Scope.MACHINE


@pytest.mark.parametrize(
    ("host", "is_near"),
    [
        ("192.0.2.130", True),
        ("192.0.2.129", True),
        ("/ip4/192.0.2.130/tcp/4001", True),
        ("/ip4/192.0.2.127/tcp/4001", False),
        ("192.0.2.127", False),
        ("::ffff:192.0.2.130", True),
        ("2001:db8:1:2::77", True),
        ("2001:db8:1:3::77", False),
        ("198.51.100.1", True),
        ("198.51.100.2", False),
        ("fe80::1%eth0", True),
        ("169.254.1.1", True),
        ("127.0.0.1", True),
        ("example.net", False),
    ],
)
def test_on_link_are_the_subnets_of_this_machine(host: str, is_near: bool) -> None:
    own = [
        OwnAddress(ipaddress.ip_address(text), "eth0", 2, Reach.ROUTED, prefix)
        for text, prefix in (("192.0.2.129", 25), ("2001:db8:1:2::1", 64), ("198.51.100.1", None))
    ]
    assert on_link(host, own) is is_near
