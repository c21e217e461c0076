"""Discovery on the local network, over this machine's own interfaces."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from itertools import count, pairwise

import pytest
import trio
import trio.lowlevel
import trio.testing

from p2pboot.core.identity import SecretKey
from p2pboot.transport.addresses import Address
from p2pboot.transport.interfaces import Interfaces, Listing, OwnAddress, Reach
from p2pboot.transport.mdns import discovery, open_mdns, records, sockets, sources, speaking
from p2pboot.transport.mdns.links import Link
from p2pboot.wire.dns import TXT, Message, Question, Record, read_message, write_answer, write_question
from tests.transport.namespaces import namespace, run_python

A, B = (SecretKey(bytes([n]) * 32).public.peer_id for n in (1, 2))
GROUP = sockets.GROUPS[socket.AF_INET]


@pytest.fixture(autouse=True)
def _own_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the real 5353: other nodes on the machine are none of our business."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 0))
        monkeypatch.setattr(sockets, "PORT", sock.getsockname()[1])


def own(text: str, name: str, index: int, reach: Reach) -> OwnAddress:
    return OwnAddress(ipaddress.ip_address(text), name, index, reach)


LOOPBACK = own("127.0.0.1", "lo", 1, Reach.LOOPBACK)
CABLE = own("192.168.77.1", "eth77", 1, Reach.PHYSICAL)  # of the number that there is everywhere


def here() -> Interfaces:
    """Loopback alone: what goes on in this machine's network is none of our business."""
    return Interfaces(lambda: Listing((LOOPBACK,)))


def stranger() -> socket.socket:
    """Any program on this machine."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    sock.bind(("127.0.0.1", 0))
    return sock


def say(packet: bytes, times: int = 1) -> None:
    with stranger() as sock:
        for _ in range(times):
            sock.sendto(packet, (GROUP, sockets.PORT))


def announcement(*addresses: str, name: bytes = b"x") -> bytes:
    strings = [b"dnsaddr=" + address.encode() for address in addresses]
    text = b"".join(bytes([len(string)]) + string for string in strings)
    return write_answer([], [Record((name,), TXT, 120, text)])


async def test_two_nodes_find_each_other() -> None:
    addresses = {peer: f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer}" for peer, port in ((A, 4001), (B, 4002))}
    async with (
        open_mdns(A, lambda: [addresses[A]], interfaces=here()) as found_by_a,
        open_mdns(B, lambda: [addresses[B]], interfaces=here()) as found_by_b,
    ):
        assert await found_by_a.receive() == addresses[B]
        assert await found_by_b.receive() == addresses[A]


async def test_one_that_comes_later_finds_who_is_there() -> None:
    address = f"/ip4/127.0.0.1/tcp/4001/p2p/{A}"
    async with open_mdns(A, lambda: [address], interfaces=here()):
        await trio.lowlevel.checkpoint()
        async with open_mdns(B, tuple, interfaces=here()) as found:
            assert await found.receive() == address


async def test_what_is_no_answer_is_passed_over() -> None:
    good = f"/ip4/192.0.2.7/tcp/4001/p2p/{B}"
    async with open_mdns(A, tuple, interfaces=here()) as found:
        say(b"\xff" * 200)
        say(announcement(f"/ip4/192.0.2.7/tcp/4001/p2p/{A}", good))
        assert await found.receive() == good


async def test_a_packet_that_nobody_foresaw_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    good = f"/ip4/192.0.2.7/tcp/4001/p2p/{B}"
    told, failures = records.told, [ZeroDivisionError]

    def fail_once(message: Message) -> list[Address]:
        if failures:
            raise failures.pop()
        return told(message)

    monkeypatch.setattr(records, "told", fail_once)
    async with open_mdns(A, tuple, interfaces=here()) as found:
        say(announcement(good), times=2)
        assert await found.receive() == good


async def test_who_floods_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ADDRESSES_HERE", 10)
    async with open_mdns(A, tuple, interfaces=here()) as found:
        for number in range(40):
            say(announcement(*(f"/ip4/192.0.2.{n}/tcp/{4000 + number}/p2p/{B}" for n in range(1, 9))))
        for _ in range(10):
            await found.receive()
        say(b"", times=100)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert found.statistics().current_buffer_used == 0
        assert found.statistics().max_buffer_size == discovery.CHANNEL_SIZE


async def test_a_program_that_asks_by_unicast_dns_is_answered_and_not_more_than_it_needs() -> None:
    address = f"/ip4/127.0.0.1/tcp/4001/p2p/{A}"
    question = bytearray(write_question(Question(records.SERVICE, 12)))
    question[:2] = (77).to_bytes(2, "big")
    async with open_mdns(A, lambda: [address], interfaces=here()):
        with stranger() as sock:
            sock.setblocking(False)
            for _ in range(20):
                sock.sendto(question, (GROUP, sockets.PORT))
            heard: list[Message] = []
            await trio.lowlevel.wait_readable(sock.fileno())
            await trio.testing.wait_all_tasks_blocked(0.05)
            while True:
                try:
                    heard.append(read_message(sock.recv(9000)))
                except BlockingIOError:
                    break
    assert len(heard) <= sources.ANSWERS_AT_ONCE
    assert {one.number for one in heard} == {77}
    assert [str(one) for one in records.told(heard[0])] == [address]


async def listen(port: int, wanted: Callable[[bytes], bool]) -> bytes:
    """The next packet to the group that is wanted; `port` is told once somebody listens."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        member = socket.inet_aton(GROUP) + socket.inet_aton("127.0.0.1")
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        await sock.bind(("", port))
        while True:
            packet: bytes = await sock.recv(9000)
            if wanted(packet):
                return packet


async def test_who_asks_for_one_peers_records_is_answered() -> None:
    address = f"/ip4/127.0.0.1/tcp/4001/p2p/{A}"
    async with open_mdns(A, lambda: [address], interfaces=here()):
        with stranger() as sock:
            sock.sendto(write_question(Question(records.SERVICE, 12)), (GROUP, sockets.PORT))
            await trio.lowlevel.wait_readable(sock.fileno())
            name = sock.recv(9000).partition(b"\x20")[2][:32]
            question = write_question(Question((name, *records.SERVICE), TXT))
            sock.sendto(question, (GROUP, sockets.PORT))
            await trio.lowlevel.wait_readable(sock.fileno())
            assert [str(one) for one in records.told(read_message(sock.recv(9000)))] == [address]


async def test_who_asks_what_services_there_are_is_answered() -> None:
    heard = trio.Event()
    async with trio.open_nursery() as nursery:

        async def hear() -> None:
            await listen(sockets.PORT, lambda packet: packet == records.services())
            heard.set()

        nursery.start_soon(hear)
        await trio.testing.wait_all_tasks_blocked()
        async with open_mdns(A, lambda: [f"/ip4/127.0.0.1/tcp/1/p2p/{A}"], interfaces=here()):
            say(write_question(Question(records.SERVICES, 12)))
            await heard.wait()


async def test_what_is_new_is_said_several_times_and_under_another_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "LOOK_S", 0.01)
    monkeypatch.setattr(speaking, "ANSWER_EVERY_S", 0.01)
    first, second = (f"/ip4/127.0.0.1/tcp/{port}/p2p/{A}" for port in (4001, 4002))
    addresses = [first]
    said: list[bytes] = []
    enough = {address: trio.Event() for address in (first, second)}

    def collect(packet: bytes) -> bool:
        said.append(packet)
        for address, event in enough.items():
            if sum(address.encode() in one for one in said) >= speaking.UNASKED:
                event.set()
        return enough[second].is_set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, sockets.PORT, collect)
        await trio.testing.wait_all_tasks_blocked()
        async with open_mdns(A, lambda: tuple(addresses), interfaces=here()):
            await enough[first].wait()
            addresses[:] = [second]
            await enough[second].wait()

    def names(address: str, *, held: bool) -> set[bytes]:
        about = [one for one in said if address.encode() in one]
        return {
            one.partition(b"\x20")[2][:32] for one in about if bool(records.told(read_message(one))) is held
        }

    (before,), (after,) = names(first, held=True), names(second, held=True)
    assert before != after
    assert names(first, held=False) == {before}


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


async def test_that_packets_can_not_be_sent_is_told_and_that_they_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "LOOK_S", 0.01)
    monkeypatch.setattr(speaking, "ANSWER_EVERY_S", 0.01)
    refused, told = [True], trio.open_memory_channel[str | None](10)
    send = sockets.LinkSocket.send

    def maybe(self: sockets.LinkSocket, packet: bytes) -> None:
        if refused[0]:
            raise PermissionError(1, "Operation not permitted")
        send(self, packet)

    monkeypatch.setattr(sockets.LinkSocket, "send", maybe)
    machine = Interfaces(lambda: Listing((CABLE,)))
    addresses = [f"/ip4/192.168.77.1/tcp/1/p2p/{A}"]
    async with open_mdns(A, lambda: tuple(addresses), interfaces=machine, report=told[0].send_nowait):
        assert await told[1].receive() == "packets can not be sent: Operation not permitted"
        refused.clear()
        refused.append(False)
        addresses[:] = [f"/ip4/192.168.77.1/tcp/2/p2p/{A}"]  # something to say
        assert await told[1].receive() is None


class Plugged:
    """A machine whose interfaces come and go."""

    def __init__(self, *addresses: OwnAddress) -> None:
        self.addresses = addresses
        self.interfaces = Interfaces(lambda: Listing(self.addresses), now=count().__next__)


async def test_an_interface_that_comes_later_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "LOOK_S", 0.01)
    monkeypatch.setattr(speaking, "ANSWER_EVERY_S", 0.01)
    machine, said = Plugged(), list[str | None]()
    unplugged, recovered = trio.Event(), trio.Event()

    def report(reason: str | None) -> None:
        said.append(reason)
        if reason == discovery.UNPLUGGED:
            unplugged.set()
        if reason is None:
            recovered.set()

    address = f"/ip4/127.0.0.1/tcp/4001/p2p/{B}"
    async with (
        open_mdns(A, tuple, interfaces=machine.interfaces, report=report) as found,
        open_mdns(B, lambda: [address], interfaces=here()),
    ):
        assert said == [discovery.NO_INTERFACE]
        machine.addresses = (LOOPBACK,)
        assert await found.receive() == address
        machine.addresses = (LOOPBACK, replace(CABLE, reach=Reach.DOWN))
        await unplugged.wait()
        machine.addresses = (LOOPBACK, CABLE)
        await recovered.wait()
    assert said == [discovery.NO_INTERFACE, discovery.ALONE, discovery.UNPLUGGED, None]


async def test_an_interface_that_went_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    left = trio.Event()
    close = sockets.LinkSocket.close

    def leave(self: sockets.LinkSocket) -> None:
        close(self)
        left.set()

    monkeypatch.setattr(discovery, "LOOK_S", 0.01)
    monkeypatch.setattr(sockets.LinkSocket, "close", leave)
    machine = Plugged(LOOPBACK)
    async with open_mdns(A, tuple, interfaces=machine.interfaces):
        machine.addresses = ()
        await left.wait()


SAID = f"""
import json, trio
from p2pboot.transport.mdns import open_mdns

async def main():
    said = []
    async with open_mdns("{A}", tuple, report=said.append):
        print(json.dumps(said))
trio.run(main)
"""


@pytest.mark.parametrize("address", [None, "fd00:77::1/64", "169.254.7.1/16"])
def test_on_a_link_there_is_nothing_to_say(address: str | None) -> None:
    commands = ["link add eth0 type veth peer name far", "link set eth0 up", "link set far up"]
    if address is not None:
        commands.append(f"addr add {address} dev eth0" + " nodad" * (":" in address))
    else:
        commands.append("addr add fe80::7/64 dev eth0 nodad")
    with namespace(*commands) as inside:
        assert run_python(inside, SAID) == []


def test_a_machine_without_a_link_says_so() -> None:
    with namespace("link add eth0 type veth peer name far") as inside:
        assert run_python(inside, SAID) == [discovery.ALONE]


def test_it_costs_a_client_little_to_import() -> None:
    """No zeroconf, and so no asyncio: 45 ms and 70 modules that were there for reading DNS messages."""
    code = "import json, sys, p2pboot.transport.mdns; print(json.dumps(sorted(sys.modules)))"
    assert not {"zeroconf", "asyncio"} & set(run_python([], code))  # type: ignore[call-overload]


class Deaf:
    """A link on which nobody says anything, also not that nobody is there."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def send(self, packet: bytes) -> None:
        assert packet == records.QUESTION
        self.asked.append(trio.current_time())

    async def receive(self) -> tuple[bytes, tuple[str, int]]:
        await trio.sleep_forever()
        raise AssertionError

    def close(self) -> None:
        pass


async def test_who_hears_nothing_asks_ever_later_and_for_ever(autojump_clock: None) -> None:
    """A switch passes nothing on for half a minute after a cable was plugged in."""
    socket_ = Deaf()
    found = sources.Sources(trio.current_time())
    link = Link(socket.AF_INET, 7, "eth7")
    speaker = speaking.Speaker(link, socket_, A, here(), found, found=lambda _address: True)  # type: ignore[arg-type]
    with trio.move_on_after(300):
        await speaker.run()
    pauses = [later - sooner for sooner, later in pairwise(socket_.asked)]
    assert [round(pause, 6) for pause in pauses[:2]] == [1, 2]
    usual = (4, 8, 16, 32, 60, 60)
    assert all(0.9 * due <= pause <= 1.1 * due for pause, due in zip(pauses[2:], usual, strict=False))
    assert len(pauses) >= 2 + len(usual)
