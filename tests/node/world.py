"""Whole nodes on a network in memory, with real stores and real artifact directories."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio

from p2pboot.config.gateway import GatewaySettings
from p2pboot.config.network import NetworkSettings
from p2pboot.config.provider import IdentitySettings, ProviderSettings
from p2pboot.config.settings import NodeSettings
from p2pboot.config.storage import LogSettings, SnapshotSettings, StoreSettings
from p2pboot.core.manifest import Manifest
from p2pboot.core.pieces import MIN_PIECE
from p2pboot.core.policy import Publisher
from p2pboot.core.trust import Pair
from p2pboot.node.node import Node
from p2pboot.store.manifests import HeadRow
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import content
from p2pboot.testing.manifests import NOW, key_of, signed_manifest
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.bandwidth import Bandwidth
from p2pboot.transport.interface import Gossip

PAIR: Pair = ("stable", "x86_64")


@dataclass
class Wall:
    now: int = NOW


def trusting(*names: str, threshold: int = 1, **limits: Any) -> tuple[Publisher, ...]:
    return (Publisher(tuple(key_of(name).public.keyid for name in names), threshold, **limits),)


def files_of(seed: str) -> dict[str, bytes]:
    return {
        "kernel": content(f"{seed}/kernel", 70_001),
        "initramfs": content(f"{seed}/initramfs", 131_072),
    }


def write_tree(directory: Path, seed: str, pair: Pair = PAIR) -> Path:
    leaf = directory.joinpath(*pair)
    leaf.mkdir(parents=True, exist_ok=True)
    for name, data in files_of(seed).items():
        (leaf / "new.tmp").write_bytes(data)
        (leaf / "new.tmp").rename(leaf / name)
    return leaf


def signed(version: int, *names: str, seed: str = "image", pair: Pair = PAIR, **changes: Any) -> Manifest:
    """A manifest of `files_of(seed)`, in the very form that a directory's would have."""
    keys = [key_of(name) for name in names or ("publisher",)]
    facts = {"version": "2026", "channel": pair[0], "arch": pair[1], "piece_length": MIN_PIECE, **changes}
    return signed_manifest(files_of(seed), keys, manifest_version=version, **facts)


def settings_of(directory: Path, name: str, **changes: Any) -> NodeSettings:
    """Settings of a node; `changes` by table, as `network={"gossip": False}`."""
    tables: dict[str, Any] = {
        "identity": IdentitySettings(key_path=directory / name / "key"),
        "provider": ProviderSettings(name="test"),
        "network": NetworkSettings(listen=("/ip4/0.0.0.0/tcp/0",), listen_is_default=False, mdns=False),
        "gateway": GatewaySettings(),
        "snapshots": SnapshotSettings(),
        "log": LogSettings(),
        "store": StoreSettings(
            chosen=directory / name / "state", max_artifact_bytes=1 << 40, quota_bytes=None
        ),
        "trust": (),
        "roots": (),
    }
    for table, values in changes.items():
        tables[table] = values if table in ("trust", "roots") else replace(tables[table], **values)
    return NodeSettings(**tables)


@dataclass
class Running:
    """A node that runs."""

    name: str
    node: Node
    store: Store
    transport: Gossip
    settings: NodeSettings

    @property
    def address(self) -> str:
        return self.transport.addresses()[0]

    def head(self, pair: Pair = PAIR) -> HeadRow | None:
        """The newest head that is wholly held."""
        rows = self.store.manifests.heads(*pair)
        return max(rows, key=lambda row: row.manifest_version, default=None)

    def version(self, pair: Pair = PAIR) -> int:
        head = self.head(pair)
        return 0 if head is None else head.manifest_version

    async def ask(self, **message: Any) -> dict[str, Any]:
        """One request on the control socket."""
        async with await trio.open_unix_socket(str(self.settings.store.state / "control.sock")) as stream:
            await stream.send_all(json.dumps(message).encode() + b"\n")
            received = b""
            while not received.endswith(b"\n"):
                received += await stream.receive_some()
        answer: dict[str, Any] = json.loads(received)
        return answer

    async def status(self) -> dict[str, Any]:
        return await self.ask(op="status")


class Mesh:
    """The nodes of one test."""

    def __init__(self, directory: Path, wall: Wall) -> None:
        self.directory = directory
        self.wall = wall
        self.network = MemoryNetwork()

    def settings(self, name: str, **changes: Any) -> NodeSettings:
        return settings_of(self.directory, name, **changes)

    def tree(self, name: str, seed: str = "image", pair: Pair = PAIR) -> Path:
        return write_tree(self.directory / name / "artifacts", seed, pair).parent.parent

    @asynccontextmanager
    async def node(self, name: str, **changes: Any) -> AsyncIterator[Running]:
        """Run a node; its key is `key_of(name)`, unless `key` names another one's."""
        key = key_of(changes.pop("key", name))
        urls = changes.pop("urls", tuple)
        freshness_key = changes.pop("freshness_key", None)
        settings = self.settings(name, **changes)
        settings.store.state.parent.mkdir(parents=True, exist_ok=True)
        with Store.open(settings.store.state, quota_bytes=settings.store.quota_bytes) as store:
            bandwidth = Bandwidth(settings.network.rates)
            async with self.network.open(key_of(name).public.peer_id, bandwidth) as transport:
                node = Node(
                    settings,
                    store=store,
                    transport=transport,
                    bandwidth=bandwidth,
                    signing_key=key,
                    freshness_key=freshness_key,
                    urls=urls,
                    wall=lambda: self.wall.now,
                )
                async with trio.open_nursery() as nursery:
                    await nursery.start(node.run)
                    yield Running(name, node, store, transport, settings)
                    nursery.cancel_scope.cancel()

    def publisher(self, name: str = "publisher", seed: str = "image", **changes: Any) -> Any:
        provider = {"directory": self.tree(name, seed), **changes.pop("provider", {})}
        return self.node(name, provider=provider, **changes)


async def until(happened: Callable[[], object], within_s: float = 120) -> None:
    """Look again and again, on the clock that jumps."""
    with trio.fail_after(within_s):
        while not happened():  # noqa: ASYNC110 - what is waited for is on a disk, or gives no event
            await trio.sleep(0.05)


async def never(happened: Callable[[], object], within_s: float = 60) -> None:
    """Look a hundred times or more; what happens has to stay to be seen for that long, as a version does."""
    end = trio.current_time() + within_s
    while trio.current_time() < end:
        assert not happened()
        await trio.sleep(min(max(0.5, within_s / 100), end - trio.current_time()))
    assert not happened()
