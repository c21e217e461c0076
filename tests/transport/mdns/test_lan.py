"""Machines that find each other, in processes of their own on networks of the test's own."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from p2pboot.transport.mdns.discovery import ALONE
from tests.interop.peers import Peer, peer
from tests.lan import Network, network


def host_of(found: dict[str, str]) -> str:
    return found["address"].split("/tcp/")[0]


@pytest.mark.parametrize(
    ("command", "host"),
    [
        ("addr add 192.0.2.{}/24 dev eth0", "/ip4/192.0.2.{}"),
        ("addr add fd00:77::{}/64 dev eth0", "/ip6/fd00:77::{}"),
        ("addr add 169.254.77.{}/16 dev eth0", "/ip4/169.254.77.{}"),
        ("addr add fe80::77:{}/64 dev eth0", "/ip6zone/eth0/ip6/fe80::77:{}"),  # and one of the system's own
    ],
    ids=["ipv4", "ipv6", "link-local-ipv4", "link-local-ipv6"],
)
def test_two_machines_find_each_other(command: str, host: str, tmp_path: Path) -> None:
    with network(("a", "b")) as net:
        for number, machine in enumerate("ab", start=1):
            net.plug(machine)
            net.ip(machine, command.format(number))
        with started(net, "a", tmp_path) as a, started(net, "b", tmp_path) as b:
            their = {one: one.wait_for(id=...)["id"] for one in (a, b)}
            for number, (me, other) in enumerate(((b, a), (a, b)), start=1):
                while host_of(me.wait_for(found=their[other])) != host.format(number):
                    pass


def started(net: Network, machine: str, directory: Path) -> AbstractContextManager[Peer]:
    return peer("ours", "ours", "--listen", inside=net.inside(machine), log=directory / machine)


def test_on_each_interface_is_told_what_leads_there(tmp_path: Path) -> None:
    with network(("both", "left", "right"), switches=("one", "two")) as net:
        net.plug("both", "one", "eth0")
        net.plug("both", "two", "eth1")
        net.plug("left", "one")
        net.plug("right", "two")
        for machine, device, host in (
            ("both", "eth0", "192.0.2.1"),
            ("both", "eth1", "198.51.100.1"),
            ("left", "eth0", "192.0.2.2"),
            ("right", "eth0", "198.51.100.2"),
        ):
            net.ip(machine, f"addr add {host}/24 dev {device}")
        with (
            started(net, "both", tmp_path) as both,
            started(net, "left", tmp_path) as left,
            started(net, "right", tmp_path) as right,
        ):
            their = {one: one.wait_for(id=...)["id"] for one in (both, left, right)}
            assert host_of(left.wait_for(found=their[both])) == "/ip4/192.0.2.1"
            assert host_of(right.wait_for(found=their[both])) == "/ip4/198.51.100.1"
            found: set[str] = set()
            while found != {their[left], their[right]}:
                found.add(both.wait_for(found=...)["found"])
            assert not [said for said in left.said if said.get("found") == their[right]]


def test_interfaces_and_addresses_come_and_go(tmp_path: Path) -> None:
    with network(("a", "b")) as net:
        net.plug("b")
        net.ip("b", "addr add 192.0.2.2/24 dev eth0")
        with started(net, "a", tmp_path) as a, started(net, "b", tmp_path) as b:
            a.wait_for(reason=ALONE)
            mine, its = a.wait_for(id=...)["id"], b.wait_for(id=...)["id"]
            net.plug("a")
            net.ip("a", "addr add 192.0.2.1/24 dev eth0")
            a.wait_for(reason=None)
            a.wait_for(found=its, address="/ip4/192.0.2.2/tcp/4001")
            b.wait_for(found=mine, address="/ip4/192.0.2.1/tcp/4001")
            net.ip("a", "addr del 192.0.2.1/24 dev eth0")
            net.ip("a", "addr add 192.0.2.11/24 dev eth0")
            b.wait_for(found=mine, address="/ip4/192.0.2.11/tcp/4001")
            net.unplug("a")
            a.wait_for(reason=ALONE)
