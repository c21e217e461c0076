"""Who is near: the same subnet, or the same site."""

from __future__ import annotations

import ipaddress
from itertools import count

from p2pboot.transport.interface import Connection
from p2pboot.transport.interfaces import Interfaces, Listing, OwnAddress, Reach
from p2pboot.transport.nearness import Nearness


def here() -> Interfaces:
    own = OwnAddress(ipaddress.ip_address("192.0.2.1"), "eth0", 2, Reach.ROUTED, 24)
    return Interfaces(lambda: Listing((own,)))


def connection(host: str, peer_id: str = "peer") -> Connection:
    return Connection(peer_id, f"/ip4/{host}/tcp/4001/p2p/{peer_id}", 0)


def test_the_same_subnet_is_near() -> None:
    nearness = Nearness(interfaces=here())
    assert nearness.near(connection("192.0.2.200"))
    assert not nearness.near(connection("198.51.100.1"))


def test_the_same_site_is_near_in_another_subnet() -> None:
    nearness = Nearness("rack-7", here())
    mate, other, silent = (connection("198.51.100.1", name) for name in ("mate", "other", "silent"))
    assert not nearness.near(mate)
    nearness.note(mate, "rack-7")
    nearness.note(other, "rack-8")
    assert nearness.near(mate)
    assert not nearness.near(other)
    assert not nearness.near(silent)
    nearness.note(mate, "rack-8")  # it was carried elsewhere
    assert not nearness.near(mate)


def test_without_a_site_of_its_own_nobody_is_near_by_saying_one() -> None:
    nearness = Nearness(interfaces=here())
    nearness.note(connection("198.51.100.1"), "rack-7")
    assert not nearness.near(connection("198.51.100.1"))


def test_interfaces_are_not_looked_at_again_for_a_connection_that_is_known() -> None:
    looks = count()

    def look() -> Listing:
        next(looks)
        return Listing(())

    seconds = count()
    nearness = Nearness(interfaces=Interfaces(look, now=lambda: float(next(seconds))))
    for _ in range(10):
        nearness.near(connection("198.51.100.1"))
    assert next(looks) == 1
