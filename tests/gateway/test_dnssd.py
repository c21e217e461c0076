"""The announcement, seen by the library that others use to look for it; only on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

import pytest
import trio
from zeroconf import IPVersion, ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf

from p2pboot.gateway import dnssd
from p2pboot.gateway.dnssd import SERVICE, describe
from p2pboot.store.store import Store
from tests.fetch.world import FILES, content, manifest_of
from tests.gateway.world import OfferingNode, gateway_settings, put, serving


class Seen(ServiceListener):
    def __init__(self) -> None:
        self.events: Queue[tuple[str, ServiceInfo | None]] = Queue()

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.events.put(("here", zc.get_service_info(type_, name)))

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.events.put(("here", zc.get_service_info(type_, name)))

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.events.put(("gone", None))

    def wait_for(self, port: int, version: str) -> ServiceInfo:
        """The announcement of this very gateway: others may be on this machine."""
        while True:
            try:
                _, info = self.events.get(timeout=20)
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
            assert info.name == f"rack 7 stable x86_64.{SERVICE}"
            put(store, {**FILES, "kernel": content("other", 100)}, version=2)
            await trio.to_thread.run_sync(seen.wait_for, gateway.port, "v2")


def test_long_names_fit_into_a_label() -> None:
    manifest = manifest_of(channel="c" * 64)
    info = describe(manifest, "ü" * 100, 8080, ["192.0.2.7", "fd00::1"])
    label = info.name.removesuffix(f".{SERVICE}")
    assert len(label.encode()) <= 63
    assert info.addresses_by_version(IPVersion.All) == [
        socket.inet_aton("192.0.2.7"),
        socket.inet_pton(socket.AF_INET6, "fd00::1"),
    ]
