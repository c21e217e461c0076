"""Discovery on the local network, over this machine's own interfaces."""

from __future__ import annotations

import ipaddress
import logging
import socket
from itertools import count

import pytest
import trio
import trio.lowlevel
from zeroconf import const
from zeroconf._dns import DNSAddress, DNSPointer, DNSService, DNSText
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf._protocol.outgoing import DNSOutgoing

from p2pboot.core.identity import SecretKey
from p2pboot.transport import mdns
from p2pboot.transport.interfaces import Interfaces, Listing, OwnAddress, Reach
from p2pboot.transport.mdns import open_mdns
from tests.transport.namespaces import namespace, run_python

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
        sock.sendto(packet, (mdns._GROUPS[socket.AF_INET], mdns._PORT))


def announcement(*strings: bytes, name: str = "x" * 32 + "." + SERVICE, ttl: int = 120) -> bytes:
    outgoing = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    outgoing.add_answer_at_time(DNSPointer(SERVICE, const._TYPE_PTR, const._CLASS_IN, ttl, name), 0)
    text = b"".join(bytes([len(string)]) + string for string in strings)
    outgoing.add_additional_answer(DNSText(name, const._TYPE_TXT, const._CLASS_IN, ttl, text))
    return outgoing.packets()[0]


async def test_two_nodes_find_each_other() -> None:
    addresses = {peer: f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer}" for peer, port in ((A, 4001), (B, 4002))}
    async with (
        open_mdns(A, lambda: [addresses[A]]) as found_by_a,
        open_mdns(B, lambda: [addresses[B]]) as found_by_b,
    ):
        assert await found_by_a.receive() == addresses[B]
        assert await found_by_b.receive() == addresses[A]


async def test_one_that_comes_later_finds_who_is_there() -> None:
    address = f"/ip4/127.0.0.1/tcp/4001/p2p/{A}"
    async with open_mdns(A, lambda: [address]):
        await trio.lowlevel.checkpoint()
        async with open_mdns(B, tuple) as found:
            assert await found.receive() == address


async def test_only_usable_addresses_are_handed_on() -> None:
    good = f"/ip4/192.0.2.7/tcp/4001/p2p/{B}"
    async with open_mdns(A, tuple) as found:
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
    async with open_mdns(A, tuple) as found:
        say(announcement(b"dnsaddr=" + address.encode(), name="rusty"))
        assert await found.receive() == address


async def test_a_withdrawn_address_is_not_handed_on() -> None:
    withdrawn, good = (f"/ip4/192.0.2.{n}/tcp/4001/p2p/{B}".encode() for n in (1, 2))
    async with open_mdns(A, tuple) as found:
        say(announcement(b"dnsaddr=" + withdrawn, ttl=0))
        say(announcement(b"dnsaddr=" + good))
        assert await found.receive() == good.decode()


async def test_a_flood_is_bounded() -> None:
    async with open_mdns(A, tuple) as found:
        for number in range(40):
            strings = [f"dnsaddr=/ip4/192.0.2.{n}/tcp/{4000 + number}/p2p/{B}".encode() for n in range(10)]
            say(announcement(*strings))
            await trio.lowlevel.checkpoint()
        assert [await found.receive() for _ in range(mdns._CHANNEL_SIZE)]
        assert found.statistics().max_buffer_size == mdns._CHANNEL_SIZE


def test_as_many_addresses_as_are_announced_fit_into_one_frame() -> None:
    longest = [
        f"/ip6/2001:db8:1111:2222:3333:4444:5555:{n}666/tcp/65535/p2p/{B}" for n in range(mdns._MAX_ANNOUNCED)
    ]
    packet = mdns._answer("n" * 32, longest, 120)
    assert len(DNSIncoming(packet).answers()) == 3 + mdns._MAX_ANNOUNCED
    assert len(packet) <= 1400


def test_an_answer_reads_as_the_spec_wants_and_as_go_wants() -> None:
    addresses = [f"/ip4/192.0.2.7/tcp/4001/p2p/{B}", f"/ip6/fd00::7/tcp/4001/p2p/{B}"]
    pointer, text, service, a, aaaa = DNSIncoming(mdns._answer("name", addresses, 120)).answers()
    assert isinstance(pointer, DNSPointer)
    assert isinstance(text, DNSText)
    assert (pointer.name, pointer.alias) == (SERVICE, "name." + SERVICE)
    assert text.name == pointer.alias
    strings = [f"dnsaddr={address}".encode() for address in addresses]
    assert text.text == b"".join(bytes([len(string)]) + string for string in strings)
    assert isinstance(service, DNSService)
    assert (service.name, service.server, service.port) == (pointer.alias, "name.local.", 4001)
    assert isinstance(a, DNSAddress)
    assert isinstance(aaaa, DNSAddress)
    assert {a.name, aaaa.name} == {service.server}
    assert [ipaddress.ip_address(record.address) for record in (a, aaaa)] == [
        ipaddress.ip_address("192.0.2.7"),
        ipaddress.ip_address("fd00::7"),
    ]


def test_a_name_needs_no_address_record() -> None:
    assert len(DNSIncoming(mdns._answer("name", [f"/dns4/boot.example/tcp/1/p2p/{B}"], 120)).answers()) == 3


def own(text: str, index: int, reach: Reach = Reach.PHYSICAL) -> OwnAddress:
    return OwnAddress(ipaddress.ip_address(text), f"if{index}", index, reach)


LOOPBACK = own("127.0.0.1", 1, Reach.LOOPBACK)


def test_one_takes_part_once_on_each_interface_the_useful_ones_first() -> None:
    links = mdns._links(
        Listing((own("192.0.2.1", 7), own("fd00::1", 7), own("192.0.2.2", 7), own("fd00::9", 3), LOOPBACK,
                 own("::1", 1, Reach.LOOPBACK)))
    )  # fmt: skip
    assert [(link.family, link.index) for link in links] == [
        (socket.AF_INET, 7),
        (socket.AF_INET6, 7),
        (socket.AF_INET6, 3),
        (socket.AF_INET, 1),
    ]


def test_as_many_interfaces_as_the_system_takes_and_the_useful_ones_among_them() -> None:
    many = [own(f"10.0.{n}.1", 100 - n) for n in range(50)]
    links = mdns._links(Listing((*many, LOOPBACK)))
    assert [link.index for link in links] == [*range(100, 81, -1), 1]


def test_where_interfaces_have_no_number_their_addresses_name_them() -> None:
    links = mdns._links(Listing((own("192.0.2.1", 0), own("192.0.2.2", 0), own("fd00::1", 0))))
    assert [link.host for link in links] == ["192.0.2.1", "192.0.2.2"]


LAN = mdns._Link(socket.AF_INET, 7, "", is_loopback=False)
INNER = mdns._Link(socket.AF_INET, 1, "", is_loopback=True)


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
    indexes = {"127.0.0.1": 1, "192.0.2.7": 7, "172.17.0.1": 3, "10.1.1.1": 1}
    address = f"/ip4/{host}/tcp/1/p2p/{B}"
    assert [mdns._belongs(address, link, indexes) for link in (LAN, INNER)] == [on_lan, on_loopback]


async def test_without_multicast_a_warning_says_so(caplog: pytest.LogCaptureFixture) -> None:
    nothing = Interfaces(lambda: Listing(()))
    with caplog.at_level(logging.WARNING, logger="p2pboot.transport.mdns"):
        async with open_mdns(A, tuple, interfaces=nothing) as found:
            assert found.statistics().current_buffer_used == 0
    assert "no discovery on the local network" in caplog.text


async def test_without_netlink_one_line_names_what_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    refused = Interfaces(lambda: Listing((LOOPBACK,), "Address family not supported by protocol"))
    with caplog.at_level(logging.WARNING, logger="p2pboot.transport.mdns"):
        async with open_mdns(A, tuple, interfaces=refused):
            pass
    (record,) = caplog.records
    assert "AF_NETLINK" in record.message


CABLE = own("192.168.77.1", 77)


class Plugged:
    """A machine whose interfaces come and go."""

    def __init__(self, *addresses: OwnAddress) -> None:
        self.addresses = addresses
        self.interfaces = Interfaces(lambda: Listing(self.addresses), now=count().__next__)


async def test_an_interface_that_comes_later_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdns, "_LOOK_S", 0.01)
    machine, said = Plugged(), list[str | None]()
    recovered = trio.Event()

    def report(reason: str | None) -> None:
        said.append(reason)
        if reason is None:
            recovered.set()

    address = f"/ip4/127.0.0.1/tcp/4001/p2p/{B}"
    async with (
        open_mdns(A, tuple, interfaces=machine.interfaces, report=report) as found,
        open_mdns(B, lambda: [address]),
    ):
        assert said == ["no interface takes part in multicast"]
        machine.addresses = (LOOPBACK,)
        assert await found.receive() == address
        machine.addresses = (LOOPBACK, CABLE)
        await recovered.wait()
    assert said == ["no interface takes part in multicast", mdns._ALONE, None]


async def test_an_address_that_changes_is_told_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdns, "_LOOK_S", 0.01)
    first, second = (f"/ip4/127.0.0.1/tcp/{port}/p2p/{A}" for port in (4001, 4002))
    addresses = [first]
    async with open_mdns(A, lambda: tuple(addresses)), open_mdns(B, tuple) as found:
        assert await found.receive() == first
        addresses[:] = [second]
        with trio.fail_after(mdns._QUESTION_EVERY_S / 2):  # nobody asks so soon
            while await found.receive() != second:
                pass


async def test_an_interface_that_went_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    left = trio.Event()
    monkeypatch.setattr(mdns, "_LOOK_S", 0.01)
    monkeypatch.setattr(mdns._Wire, "leave", lambda _wire, _link: left.set())
    machine = Plugged(LOOPBACK)
    async with open_mdns(A, tuple, interfaces=machine.interfaces):
        machine.addresses = ()
        await left.wait()


IPV6_ONLY = f"""
import json, trio
from p2pboot.transport.interfaces import Interfaces, Listing, list_own
from p2pboot.transport.interfaces import Interfaces, Listing, OwnAddress, Reach
from p2pboot.transport.mdns import open_mdns
from tests.transport.namespaces import namespace, run_python
def look():  # the network alone: on loopback they would find each other anyway
    return Listing(tuple(one for one in list_own().addresses if one.interface == "eth0"))
async def main():
    address = "/ip6/fd00:77::1/tcp/4001/p2p/{A}"
    async with open_mdns("{A}", lambda: [address], interfaces=Interfaces(look)):
        async with open_mdns("{B}", tuple, interfaces=Interfaces(look)) as found:
            with trio.fail_after(60):
                print(json.dumps(await found.receive()))
trio.run(main)
"""

SAID = f"""
import json, trio
from p2pboot.transport.mdns import open_mdns

async def main():
    said = []
    async with open_mdns("{A}", tuple, report=said.append):
        print(json.dumps(said))
trio.run(main)
"""


async def test_a_network_with_ipv6_only_finds_its_nodes() -> None:
    commands = ("link add eth0 type veth peer name far", "link set eth0 up", "link set far up")
    with namespace(*commands, "addr add fd00:77::1/64 dev eth0 nodad") as inside:
        found = await trio.to_thread.run_sync(run_python, inside, IPV6_ONLY)
    assert found == f"/ip6/fd00:77::1/tcp/4001/p2p/{A}"


@pytest.mark.parametrize(
    ("address", "is_alone"),
    [(None, True), ("fd00:77::1/64", False), ("169.254.7.1/16", True)],
    ids=["link-local of IPv6", "unique-local", "link-local of IPv4"],
)
def test_a_machine_without_an_address_says_so(address: str | None, is_alone: bool) -> None:
    commands = ["link add eth0 type veth peer name far", "link set eth0 up", "link set far up"]
    if address is not None:
        commands.append(f"addr add {address} dev eth0" + " nodad" * (":" in address))
    with namespace(*commands) as inside:
        said = run_python(inside, SAID)
    assert said == ([mdns._ALONE] if is_alone else [])
