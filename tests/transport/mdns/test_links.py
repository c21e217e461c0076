"""On which interfaces one takes part, what is told there, and what is believed of it."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from p2pboot.core.identity import SecretKey
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interfaces import Listing, OwnAddress, Reach
from p2pboot.transport.mdns.links import (
    MAX_LINKS,
    MAX_TOLD,
    Link,
    believed,
    links_of,
    told_on,
    worth_dialling,
)

B = SecretKey(bytes([2]) * 32).public.peer_id
LAN = Link(socket.AF_INET, 7, "if7")
LAN6 = Link(socket.AF_INET6, 7, "if7")
INNER = Link(socket.AF_INET, 1, "lo", is_loopback=True)


def own(text: str, index: int, reach: Reach = Reach.PHYSICAL) -> OwnAddress:
    return OwnAddress(ipaddress.ip_address(text), f"if{index}", index, reach)


LOOPBACK = own("127.0.0.1", 1, Reach.LOOPBACK)
NEAR = Listing((OwnAddress(ipaddress.ip_address("192.0.2.1"), "eth0", 7, Reach.ROUTED, 24),))


def places(listing: Listing) -> list[tuple[int, int]]:
    return [(link.family, link.index) for link in links_of(listing)]


def test_one_takes_part_once_on_each_interface_the_useful_ones_first() -> None:
    addresses = (own("192.0.2.1", 7), own("fd00::1", 7), own("192.0.2.2", 7), own("fd00::9", 3))
    assert places(Listing((*addresses, LOOPBACK, own("::1", 1, Reach.LOOPBACK)))) == [
        (socket.AF_INET, 7),
        (socket.AF_INET6, 7),
        (socket.AF_INET6, 3),
        (socket.AF_INET, 1),
    ]


def test_as_many_interfaces_as_are_spoken_on_and_the_useful_ones_among_them() -> None:
    many = [own(f"10.0.{n}.1", 100 - n) for n in range(50)]
    links = links_of(Listing((*many, LOOPBACK)))
    assert [link.index for link in links] == [*range(100, 100 - MAX_LINKS, -1), 1]


def test_an_interface_with_a_link_local_address_alone_takes_part() -> None:
    listing = Listing((own("192.0.2.1", 7), LOOPBACK), None, (own("fe80::1", 7), own("fe80::2", 9)))
    assert places(listing) == [
        (socket.AF_INET, 7),
        (socket.AF_INET6, 7),
        (socket.AF_INET6, 9),
        (socket.AF_INET, 1),
    ]


def test_what_leads_to_containers_takes_part_with_a_link_local_address_only_where_there_is_nothing_else() -> (
    None
):
    container, down = own("fe80::3", 9, Reach.CONTAINER), own("fe80::4", 5, Reach.DOWN)
    assert places(Listing((own("192.0.2.1", 7), LOOPBACK), None, (container, down))) == [
        (socket.AF_INET, 7),
        (socket.AF_INET, 1),
    ]
    assert places(Listing((LOOPBACK,), None, (container, down))) == [
        (socket.AF_INET6, 9),
        (socket.AF_INET, 1),
    ]


def test_an_interface_without_a_carrier_takes_no_part() -> None:
    down = own("192.0.2.1", 7, Reach.DOWN)
    assert places(Listing((own("10.0.0.1", 3), down, LOOPBACK))) == [(socket.AF_INET, 3), (socket.AF_INET, 1)]
    assert places(Listing((down, LOOPBACK))) == [(socket.AF_INET, 1)]


def told(link: Link, *hosts: str, listing: Listing | None = None) -> list[str]:
    addresses = [f"/ip4/{host}/tcp/1/p2p/{B}" for host in hosts]
    listing = listing or Listing(
        (own("127.0.0.1", 1), own("192.0.2.7", 7), own("172.17.0.1", 3), own("10.1.1.1", 1))
    )
    return [str(one) for one in told_on(link, addresses, ["/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/2"], listing)]


@pytest.mark.parametrize(
    ("host", "on_lan", "on_loopback"),
    [
        ("127.0.0.1", False, True),
        ("192.0.2.7", True, True),  # of the interface
        ("172.17.0.1", False, True),  # of another one
        ("10.1.1.1", True, True),  # routed to the loopback interface
        ("198.51.100.1", True, True),  # of one that is not known
        ("0.0.0.0", False, False),
    ],
)
def test_an_address_is_told_where_it_leads(host: str, on_lan: bool, on_loopback: bool) -> None:
    assert [bool(told(link, host)) for link in (LAN, INNER)] == [on_lan, on_loopback]


def test_link_local_addresses_are_told_on_their_link_last_and_without_a_zone() -> None:
    listing = Listing(
        tuple(own(f"192.0.2.{n}", 7) for n in range(1, 20)),
        None,
        (own("fe80::7", 7), own("fe80::9", 9), own("169.254.7.7", 7)),
    )
    hosts = [str(one.ip) for one in listing.addresses]
    on_ipv6, on_ipv4 = (told(link, *hosts, listing=listing) for link in (LAN6, LAN))
    assert on_ipv6[-2:] == [f"/ip4/192.0.2.{MAX_TOLD - 1}/tcp/1/p2p/{B}", "/ip6/fe80::7/tcp/2"]
    assert on_ipv4[-1] == "/ip4/169.254.7.7/tcp/1"
    assert len(on_ipv6) == len(on_ipv4) == MAX_TOLD


@pytest.mark.parametrize(
    ("said", "link", "made"),
    [
        ("/ip4/192.0.2.9/tcp/1", LAN, "/ip4/192.0.2.9/tcp/1"),
        ("/ip4/10.9.9.9/tcp/1", LAN, "/ip4/10.9.9.9/tcp/1"),  # another network of its, perhaps routed
        ("/ip4/198.51.100.9/tcp/1", LAN, None),
        ("/ip4/198.51.100.9/tcp/1", INNER, "/ip4/198.51.100.9/tcp/1"),
        ("/ip4/127.0.0.1/tcp/1", LAN, None),
        ("/ip4/127.0.0.1/tcp/1", INNER, "/ip4/127.0.0.1/tcp/1"),
        ("/ip6/::ffff:127.0.0.1/tcp/1", LAN, None),  # the same
        ("/ip4/169.254.169.254/tcp/80", LAN, None),
        ("/ip6/::ffff:169.254.169.254/tcp/80", LAN, None),
        ("/ip4/169.254.1.1/tcp/1", LAN, "/ip4/169.254.1.1/tcp/1"),
        ("/ip6/fe80::1/tcp/1", LAN6, "/ip6zone/if7/ip6/fe80::1/tcp/1"),
        ("/ip6/fe80::2/tcp/1", LAN6, None),
        ("/ip6zone/eth9/ip6/fe80::1/tcp/1", LAN6, None),
        ("/ip4/0.0.0.0/tcp/1", LAN, None),
        ("/ip4/192.0.2.9/tcp/0", LAN, None),
        ("/dns4/router.example/tcp/1", LAN, None),
    ],
)
def test_what_is_believed(said: str, link: Link, made: str | None) -> None:
    sender = "fe80::1" if link is LAN6 else "169.254.1.1"
    found = believed(parse_address(said), sender, link, NEAR)
    assert (None if found is None else str(found)) == made


def test_an_interface_whose_name_can_not_stand_in_an_address_is_called_by_its_number() -> None:
    link = Link(socket.AF_INET6, 7, "lan ü")
    found = believed(parse_address("/ip6/fe80::1/tcp/1"), "fe80::1", link, NEAR)
    assert str(found) == "/ip6zone/7/ip6/fe80::1/tcp/1"
    assert parse_address(str(found)) == found


def test_a_public_address_is_the_senders_own_or_near() -> None:
    address = parse_address("/ip4/198.51.100.9/tcp/1")
    assert believed(address, "198.51.100.9", LAN, NEAR) == address
    assert believed(address, "198.51.100.8", LAN, NEAR) is None


def test_link_local_addresses_are_dialled_where_nothing_else_is_near() -> None:
    near, far, local = (
        parse_address(f"/{host}/tcp/1") for host in ("ip4/192.0.2.9", "ip4/10.9.9.9", "ip4/169.254.1.1")
    )
    assert worth_dialling([local, near], NEAR) == [near]
    assert worth_dialling([local, far], NEAR) == [local, far]
