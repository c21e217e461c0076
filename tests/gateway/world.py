"""A gateway on a real socket in this process, over a real store and a node that is only a store."""

from __future__ import annotations

import http.client
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from p2pboot.config.load import Overrides, load
from p2pboot.config.settings import NodeSettings
from p2pboot.core.manifest import Manifest, sign_detached
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.gateway.admin.service import AdminService
from p2pboot.gateway.service import GatewayService
from p2pboot.gateway.slots import Slots
from p2pboot.node.awaiting import Awaited
from p2pboot.node.status import RunningNode, SnapshotsFacts, describe_node
from p2pboot.node.status.boots import Boots
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, Sample, sample
from p2pboot.testing.manifests import ALICE, NOW, signed_manifest
from p2pboot.testing.stores import hold_all, offer
from p2pboot.testing.waiting import HANG_S
from p2pboot.transport.bandwidth import Bandwidth
from tests.fetch.world import FILES, KEY, manifest_of

PEER = KEY.public.peer_id
TRUST = Trust(TrustPolicy((Publisher((KEY.public.keyid, ALICE.public.keyid)),)))
PAIR = "/stable/x86_64"


@dataclass
class OfferingNode:
    """What a gateway needs of a node."""

    store: Store
    peer_id: str = PEER
    default: tuple[str | None, str | None] = (None, None)
    now: int = NOW
    expected: list[Awaited] = field(default_factory=list)
    trust: Trust = TRUST
    counted: RunningNode = field(
        default_factory=lambda: RunningNode(peer_id=PEER, uptime_s=1.0, peers={PEER: ()})
    )

    def __post_init__(self) -> None:
        self.catalogue = Catalogue(self.store, self.trust, lambda: self.now)
        self.bandwidth = Bandwidth()
        self.boots = Boots(lambda _sha256: (), lambda: self.now)

    @property
    def snapshots(self) -> SnapshotsFacts | None:
        return self.counted.snapshots

    def default_pair(self) -> tuple[str | None, str | None]:
        return self.default

    def awaited(self) -> list[Awaited]:
        return self.expected

    def running(self) -> RunningNode:
        return self.counted

    async def status(self, *, watched: bool = True) -> dict[str, Any]:
        return await trio.to_thread.run_sync(describe_node, self.counted, self.store, self.catalogue)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def __getitem__(self, name: str) -> str:
        return self.headers[name.lower()]


@dataclass(frozen=True)
class Running:
    """A gateway that serves."""

    service: GatewayService
    node: OfferingNode
    admin: AdminService

    @property
    def port(self) -> int:
        return self.service.port

    async def get(self, path: str, headers: Mapping[str, str] | None = None, *, method: str = "GET") -> Reply:
        return await trio.to_thread.run_sync(ask, self.port, method, path, dict(headers or {}))

    async def report(
        self, path: str, headers: Mapping[str, str] | None = None, *, method: str = "GET"
    ) -> Reply:
        """Ask at the admin address."""
        return await trio.to_thread.run_sync(ask, self.admin.port, method, path, dict(headers or {}))

    async def report_at(self, host: str, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """The same by another address of this machine."""
        return await trio.to_thread.run_sync(ask, self.admin.port, "GET", path, dict(headers or {}), host)

    async def raw(self, request: bytes) -> bytes:
        """Send bytes and read until the gateway closes."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            received = bytearray()
            try:
                await stream.send_all(request)
                async for data in stream:
                    received += data
            except trio.BrokenResourceError:
                pass  # refused while we were still sending
            return bytes(received)


def ask(port: int, method: str, path: str, headers: Mapping[str, str], host: str = "127.0.0.1") -> Reply:
    connection = http.client.HTTPConnection(host, port, timeout=HANG_S)
    try:
        connection.request(method, path, headers=dict(headers))
        reply = connection.getresponse()
        fields = {name.lower(): value for name, value in reply.getheaders()}
        return Reply(reply.status, fields, reply.read())
    finally:
        connection.close()


def put(
    store: Store, files: Mapping[str, bytes] = FILES, version: int = 1, *, head: bool = True, **changes: Any
) -> Manifest:
    """Have a signed manifest and its artifacts in a store, as its head or still on the way."""
    signed = manifest_of(files, version, **changes)
    store.manifests.put(signed, sign_detached(signed.raw, KEY))
    hold_all(store, signed, files)
    if head:
        store.manifests.set_head(signed.digest)
    return signed


def put_arm64(
    store: Store, *, channel: str = "stable", version: str = "1.0"
) -> tuple[Manifest, dict[str, Sample]]:
    """The same for arm64, with a device tree."""
    samples = {
        key: sample(PIECE + number, seed=number, key=key)
        for number, key in enumerate(("kernel", "initramfs", "dtbs/board-4"), start=1)
    }
    files = {key: one.data for key, one in samples.items()}
    signed = signed_manifest(files, version=version, channel=channel, arch="arm64")
    offer(store, signed, files)
    return signed, samples


def gateway_settings(tmp_path: Path, **changes: Any) -> NodeSettings:
    values = {
        "gateway.http": "127.0.0.1:0",
        "gateway.admin": "127.0.0.1:0",
        "network.mdns": False,
        "store.state": str(tmp_path / "state"),
    }
    return load(
        Overrides({name: value for name, value in {**values, **changes}.items() if value is not None})
    ).settings


@asynccontextmanager
async def serving(
    node: OfferingNode, settings: NodeSettings, *, slots: Slots | None = None
) -> AsyncIterator[Running]:
    service = GatewayService(settings, slots=slots)
    admin = AdminService(settings, service.counted)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run, node)
        await nursery.start(admin.run, node)
        yield Running(service, node, admin)
        nursery.cancel_scope.cancel()
