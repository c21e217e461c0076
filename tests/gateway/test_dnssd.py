"""The announcement, seen by the library that others use to look for it; only on loopback."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from queue import Empty, Queue
from typing import Any, ClassVar

import pytest
import trio
from zeroconf import InterfaceChoice, IPVersion, ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf

from p2pboot.core.identity import SecretKey
from p2pboot.gateway import dnssd
from p2pboot.gateway.dnssd import SERVICE, ServiceAnnouncement, describe
from p2pboot.gateway.hosts import listen
from p2pboot.gateway.offers import Offers
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import content
from p2pboot.testing.waiting import HANG_S
from p2pboot.transport.interfaces import Interfaces, Listing, OwnAddress, Reach
from tests.fetch.world import FILES, manifest_of
from tests.gateway.world import PEER, OfferingNode, gateway_settings, put, serving

OTHER = SecretKey(b"o" * 32).public.peer_id


class Seen(ServiceListener):
    def __init__(self) -> None:
        self.events: Queue[tuple[str, ServiceInfo | None]] = Queue()

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.events.put(("here", zc.get_service_info(type_, name, timeout=int(HANG_S * 1000))))

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.events.put(("here", zc.get_service_info(type_, name, timeout=int(HANG_S * 1000))))

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.events.put(("gone", None))

    def wait_for(self, port: int, version: str) -> ServiceInfo:
        """The announcement of this very gateway: others may be on this machine."""
        while True:
            try:
                _, info = self.events.get(timeout=HANG_S)
            except Empty:
                raise AssertionError(f"nobody announced version {version} on port {port}") from None
            if info is not None and info.port == port and info.decoded_properties["version"] == version:
                return info


@contextmanager
def looking() -> Iterator[Seen]:
    try:
        zeroconf = Zeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
    except OSError as error:
        pytest.skip(f"no multicast on this machine: {error}")
    seen = Seen()
    browser = ServiceBrowser(zeroconf, SERVICE, seen)
    try:
        yield seen
    finally:
        browser.cancel()
        zeroconf.close()


async def test_gateway_is_found_and_its_update_is_seen(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dnssd, "LOOK_S", 0.05)
    put(store, version=1)
    settings = gateway_settings(tmp_path, **{"network.mdns": True, "provider.name": "rack.7"})
    with looking() as seen:
        async with serving(OfferingNode(store), settings) as gateway:
            info = await trio.to_thread.run_sync(seen.wait_for, gateway.port, "v1")
            assert info.decoded_properties == {
                "channel": "stable",
                "arch": "x86_64",
                "version": "v1",
                "http_port": str(gateway.port),
            }
            assert info.parsed_addresses() == ["127.0.0.1"]
            assert info.name == f"rack 7 stable x86_64 {PEER[-6:]}.{SERVICE}"
            assert info.server == f"p2pboot-{PEER[-12:].lower()}.local."
            put(store, {**FILES, "kernel": content("other", 100)}, version=2)
            await trio.to_thread.run_sync(seen.wait_for, gateway.port, "v2")


def announcement(
    listener: socket.socket, *, provider: str = "debian", peer_id: str = PEER
) -> ServiceAnnouncement:
    nothing: Any = None
    return ServiceAnnouncement(nothing, provider, peer_id, [listener], Interfaces())


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listen("127.0.0.1:0") as listener:
        yield listener


def test_long_names_fit_into_a_label(listener: socket.socket) -> None:
    manifest = manifest_of(channel="c" * 64)
    info = describe(manifest, announcement(listener, provider="ü" * 100), ["192.0.2.7", "fd00::1"])
    label = info.name.removesuffix(f".{SERVICE}")
    assert len(label.encode()) <= 60  # and a number behind it
    assert label.endswith(f" {PEER[-6:]}")
    assert info.addresses_by_version(IPVersion.All) == [
        socket.inet_aton("192.0.2.7"),
        socket.inet_pton(socket.AF_INET6, "fd00::1"),
    ]


def test_two_nodes_of_one_name_are_two_instances_on_two_hosts(listener: socket.socket) -> None:
    one, other = (
        describe(manifest_of(), announcement(listener, peer_id=peer), ["192.0.2.7"]) for peer in (PEER, OTHER)
    )
    assert one.name != other.name
    assert one.server != other.server
    assert one.name.startswith("debian stable x86_64 ")


def own(text: str, index: int, reach: Reach) -> OwnAddress:
    return OwnAddress(ipaddress.ip_address(text), f"if{index}", index, reach)


HOST = (
    own("192.0.2.7", 2, Reach.ROUTED),
    own("fd00::7", 2, Reach.ROUTED),
    own("192.0.2.8", 2, Reach.ROUTED),
    *(own(f"172.17.{number}.1", 10 + number, Reach.CONTAINER) for number in range(30)),
    own("127.0.0.1", 1, Reach.LOOPBACK),
)


def test_one_speaks_once_on_each_interface_and_not_on_more_than_can_be() -> None:
    with listen("[::]:0") as listener:
        said = ServiceAnnouncement(
            announcement(listener).offers, "x", PEER, [listener], Interfaces(lambda: Listing(HOST))
        )
        assert said.hosts() == ("192.0.2.7", "fd00::7", "192.0.2.8")
        assert said.spoken_from()[:3] == ("192.0.2.7", "fd00::7", "172.17.0.1")
        assert len(said.spoken_from()) == dnssd._MAX_INTERFACES


def test_where_there_is_only_loopback_one_speaks_there() -> None:
    with listen("0.0.0.0:0") as listener:
        inner = Interfaces(lambda: Listing(HOST[-1:]))
        said = ServiceAnnouncement(announcement(listener).offers, "x", PEER, [listener], inner)
        assert (said.hosts(), said.spoken_from()) == (("127.0.0.1",), ("127.0.0.1",))


class FakeZeroconf:
    opened: ClassVar[list[FakeZeroconf]] = []

    def __init__(self, interfaces: object) -> None:
        self.interfaces = interfaces
        self.registered: list[ServiceInfo] = []
        self.closed = False
        self.opened.append(self)

    def register_service(self, info: ServiceInfo, allow_name_change: bool) -> None:
        self.registered.append(info)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[FakeZeroconf]:
    monkeypatch.setattr(FakeZeroconf, "opened", [])
    monkeypatch.setattr(dnssd, "Zeroconf", FakeZeroconf)
    return FakeZeroconf.opened


@dataclass
class Machine:
    """A machine whose addresses change."""

    addresses: tuple[OwnAddress, ...]
    refused: str | None = None

    def interfaces(self) -> Interfaces:
        return Interfaces(lambda: Listing(self.addresses, self.refused), now=count().__next__)


def test_another_address_is_announced_and_the_former_one_withdrawn(
    store: Store, opened: list[FakeZeroconf]
) -> None:
    put(store)
    machine = Machine(HOST[-1:])
    with listen("0.0.0.0:0") as listener:
        speaker = dnssd._Speaker(
            ServiceAnnouncement(Offers(OfferingNode(store)), "x", PEER, [listener], machine.interfaces())
        )
        speaker.follow()
        speaker.follow()
        machine.addresses = HOST
        speaker.follow()
        speaker.follow()
        speaker.close()
    assert opened[0].interfaces == ["127.0.0.1"]
    assert [[info.parsed_addresses() for info in one.registered] for one in opened] == [
        [["127.0.0.1"]],
        [["192.0.2.7", "192.0.2.8"]],
    ]
    assert [one.closed for one in opened] == [True, True]


def test_without_netlink_the_library_is_not_made_to_use_it(store: Store, opened: list[FakeZeroconf]) -> None:
    machine = Machine(HOST, refused="Address family not supported by protocol")
    with listen("0.0.0.0:0") as listener:
        said = ServiceAnnouncement(Offers(OfferingNode(store)), "x", PEER, [listener], machine.interfaces())
        dnssd._Speaker(said).follow()
    assert [one.interfaces for one in opened] == [InterfaceChoice.Default]


def test_without_multicast_it_is_said_once_and_tried_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def fail(interfaces: object) -> None:
        tries.append(interfaces)
        raise OSError(19, "No such device")

    monkeypatch.setattr(dnssd, "Zeroconf", fail)
    with listen("127.0.0.1:0") as listener, caplog.at_level(logging.WARNING, logger="p2pboot.gateway"):
        speaker = dnssd._Speaker(
            ServiceAnnouncement(Offers(OfferingNode(store)), "x", PEER, [listener], Interfaces())
        )
        for _ in range(3):
            speaker.follow()
        speaker.close()
    assert len(tries) == 3
    assert caplog.text.count("not announced on the local network") == 1
