"""A small world for whole fetches: real stores and servers on a network in memory, honest and otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from p2pboot.core.clock import Clock
from p2pboot.core.headway import Source
from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest, sign_detached
from p2pboot.core.pieces import PieceSet
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.core.verify import Question
from p2pboot.core.withheld import Withheld
from p2pboot.errors import BlobMissing
from p2pboot.fetch.asking.search import HeadSearch
from p2pboot.fetch.choosing.manifest import Found, FoundManifest
from p2pboot.fetch.client import FetchOrder
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.receiving.artifacts import fetch_artifacts
from p2pboot.fetch.receiving.swarm import Network
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, SYNC_PROTOCOL
from p2pboot.serving.accounts import Serving
from p2pboot.serving.artifacts import ArtifactServer
from p2pboot.serving.heads import Documents, SyncServer
from p2pboot.serving.limits import Limits
from p2pboot.store.blobs import BlobStore
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, artifact_of, content
from p2pboot.testing.manifests import ALICE, BOB, DAY_S, NOW, key_of, signed_manifest
from p2pboot.testing.network import MemoryNetwork
from p2pboot.testing.stores import offer
from p2pboot.transport.bandwidth import UNLIMITED, Bandwidth, Rates
from p2pboot.transport.interface import Transport

KEY, OTHER_KEY = ALICE, BOB
POLICY = TrustPolicy((Publisher((KEY.public.keyid,)),))
QUESTION = Question(channel="stable", arch="x86_64", policy=POLICY, clock=Clock(NOW))


FILES: Mapping[str, bytes] = {
    "kernel": content("kernel", 5 * PIECE + 1),
    "initramfs": content("initramfs", 3 * PIECE),
    "rootfs": content("rootfs", 60 * PIECE + 77),
}


def manifest_of(
    files: Mapping[str, bytes] = FILES, version: int = 1, *, key: SecretKey = KEY, **said: Any
) -> Manifest:
    facts = {"version": f"v{version}", "expires_at": NOW + DAY_S, "cmdline": "quiet", **said}
    return signed_manifest(files, [key], manifest_version=version, **facts)


class BlobsProxy:
    """A store's blobs as a server sees them, with a few things changed."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self.reads: list[tuple[str, int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    def read(self, sha256: str, offset: int, length: int) -> bytes:
        self.reads.append((sha256, offset, length))
        return self._blobs.read(sha256, offset, length)

    def at_hand(self, _sha256: str, _offset: int, _length: int) -> None:
        """Give everything through `read`."""


class CorruptBlobs(BlobsProxy):
    """Every piece that is sent has one bit wrong."""

    def read(self, sha256: str, offset: int, length: int) -> bytes:
        data = bytearray(super().read(sha256, offset, length))
        for start in range(0, len(data), PIECE):
            data[start] ^= 1
        return bytes(data)


class PartialBlobs(BlobsProxy):
    """Only some pieces are there; which ones can change."""

    def __init__(self, blobs: BlobStore, has: Callable[[int], bool]) -> None:
        super().__init__(blobs)
        self.has = has

    def held(self, sha256: str, table_digest: str | None = None) -> PieceSet | None:
        full = self._blobs.held(sha256, table_digest)
        return None if full is None else PieceSet.of(full.count, filter(self.has, range(full.count)))

    def read(self, sha256: str, offset: int, length: int) -> bytes:
        if not all(self.has(index) for index in range(offset // PIECE, -(-(offset + length) // PIECE))):
            raise BlobMissing(sha256)
        return super().read(sha256, offset, length)


@dataclass
class Provider:
    """A running peer."""

    store: Store
    transport: Transport
    blobs: BlobsProxy
    serving: Serving
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def peer_id(self) -> str:
        return self.transport.peer_id

    @property
    def address(self) -> str:
        return self.transport.addresses()[0]


class World:
    """The network of one test, and stores below its directory."""

    def __init__(self, directory: Path) -> None:
        self.network = MemoryNetwork()
        self.watcher = Watcher()
        self.directory = directory
        self._count = 0

    def new_peer_id(self) -> str:
        self._count += 1
        return key_of(f"peer {self._count}").public.peer_id

    @asynccontextmanager
    async def provider(
        self,
        manifest: Manifest | None = None,
        files: Mapping[str, bytes] = FILES,
        *,
        blobs: Callable[[BlobStore], BlobsProxy] = BlobsProxy,
        catalogue: Callable[[Any], Any] = lambda catalogue: catalogue,
        limits: Limits | None = None,
        rates: Rates = UNLIMITED,
        detached: bool = True,
        twin_of: Provider | None = None,
        withheld: Callable[[str | None, str | None], Sequence[Withheld]] | None = None,
        introduces: bool = False,
        documents: Documents | None = None,
    ) -> AsyncIterator[Provider]:
        """Run a provider.

        Args:
            introduces: whether it tells of those whom it is connected with.
            documents: the trust documents that it tells.
        """
        new_id = self.new_peer_id()
        peer_id = new_id if twin_of is None else twin_of.peer_id
        with Store.open(self.directory / f"peer{self._count}") as store:
            if manifest is not None:
                offer(store, manifest, files, sign_detached(manifest.raw, KEY) if detached else None)
            async with self.network.open(peer_id, Bandwidth(rates)) as transport:
                serving, proxy = Serving(limits), blobs(store.blobs)
                transport.handle(ARTIFACT_PROTOCOL, ArtifactServer(proxy, serving).handle)  # type: ignore[arg-type]
                offering = Catalogue(store, Trust(POLICY), lambda: NOW)
                sync = SyncServer(
                    catalogue(store.manifests),
                    transport.peer_records if introduces else lambda: (),
                    lambda: NOW,
                    serving,
                    withheld or offering.withheld,
                    documents=documents,
                    read_record=transport.read_peer_record,
                )
                transport.handle(SYNC_PROTOCOL, sync.handle)
                yield Provider(store, transport, proxy, serving, files)

    @asynccontextmanager
    async def client(
        self, state: str = "state", rates: Rates = UNLIMITED
    ) -> AsyncIterator[tuple[Transport, Store]]:
        with Store.open(self.directory / state) as store:
            opened = self.network.open(self.new_peer_id(), Bandwidth(rates), is_client=True)
            async with opened as transport:
                yield transport, store

    def order(self, *providers: Provider, **changes: Any) -> FetchOrder:
        options: dict[str, Any] = {
            "channel": "stable",
            "arch": "x86_64",
            "policy": POLICY,
            "directory": self.directory / "out",
            "timeout_s": 20.0,
            "bootstrap": tuple(provider.address for provider in providers),
            **changes,
        }
        return FetchOrder(**options)


@dataclass
class Client:
    """A client that is told where to fetch from."""

    world: World
    transport: Transport
    store: Store

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.world.watcher)

    async def connect(self, *providers: Provider) -> None:
        for provider in providers:
            await self.transport.dial(provider.address)

    async def fetch(self, manifest: Manifest, patience_s: float = 30.0) -> float:
        """Fetch everything; returns the seconds it took."""
        self.store.manifests.put(manifest, None)
        began = trio.current_time()
        network = Network(self.transport, self.ledger, patience_s)
        await fetch_artifacts(manifest.artifacts.values(), self.store.blobs, network)
        return trio.current_time() - began

    def assert_holds(self, files: dict[str, bytes] | None = None) -> None:
        for key, data in (files or FILES).items():
            assert self.store.blobs.path(artifact_of(key, data).sha256).read_bytes() == data


@asynccontextmanager
async def client_of(world: World, state: str = "state", rates: Rates = UNLIMITED) -> AsyncIterator[Client]:
    async with world.client(state, rates) as (transport, store):
        yield Client(world, transport, store)


class Search:
    """One search over a client's connections."""

    def __init__(self, world: World, transport: Transport) -> None:
        self.transport = transport
        self.watcher = world.watcher
        self.ledger = Ledger(self.watcher)

    async def run(
        self, *providers: Provider, question: Question = QUESTION, timeout_s: float = 20, settled: bool = True
    ) -> Found:
        for provider in providers:
            await self.transport.dial(provider.address)
        search = HeadSearch(self.transport, question, self.ledger)
        return await search.run(timeout_s, trio.lowlevel.checkpoint if settled else trio.sleep_forever)

    async def choose(
        self, *providers: Provider, question: Question = QUESTION, **options: Any
    ) -> FoundManifest:
        return (await self.run(*providers, question=question, **options)).choose(question)


class Watcher:
    """A `Progress` that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stalls: list[str | None] = []
        self.sizes: dict[str, int] = {}
        self.sources: Counter[Source] = Counter()
        self.pulses: list[tuple[float, int]] = []
        self.peers: list[tuple[str, str]] = []
        self.done: dict[str, int] = {}
        self.on_artifact: Callable[[str, int], None] = lambda _key, _done: None

    def plan(self, sizes: Mapping[str, int]) -> None:
        self.sizes = dict(sizes)

    def arrived(self, peer_id: str, source: Source, size_bytes: int) -> None:
        assert peer_id
        self.sources[source] += size_bytes

    def pulse(self, idle_s: float, peers: int) -> None:
        self.pulses.append((idle_s, peers))

    def artifact(self, key: str, done_bytes: int, total_bytes: int) -> None:
        assert done_bytes <= total_bytes
        self.done[key] = done_bytes
        self.on_artifact(key, done_bytes)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def peer(self, peer_id: str, text: str) -> None:
        self.peers.append((peer_id, text))

    def stalled(self, why: str | None) -> None:
        self.stalls.append(why)
