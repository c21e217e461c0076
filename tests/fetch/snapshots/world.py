"""Snapshot providers on a network in memory, honest ones and liars."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from p2pboot.core.identity import SecretKey
from p2pboot.core.policy import Publisher
from p2pboot.core.timetoke.announcement import Announcement
from p2pboot.errors import P2PBootError
from p2pboot.fetch.snapshots.sync import SyncOrder, SyncResult, open_output, sync_snapshot
from p2pboot.protocol.frames import FrameReader, encode_frame
from p2pboot.protocol.messages import BadRequest, Reply, Request, parse_request
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL, ChunkRequest
from p2pboot.serving.accounts import Serving
from p2pboot.serving.conversation import Reserve, serve_stream
from p2pboot.serving.snapshots import SnapshotServer
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.interface import Stream, Transport
from tests.core.timetoke.samples import ALICE, CHUNK, announce, payload_of, sign
from tests.fetch.world import Watcher

PAYLOAD = payload_of(12_000)
ANNOUNCEMENT = announce(PAYLOAD)
ROOT = ANNOUNCEMENT.root
TOTAL = ANNOUNCEMENT.facts.total_chunks

Tamper = Callable[["LyingServer", ChunkRequest, Reply], Awaitable[Reply] | Reply]


async def _whole(_size: int) -> int:
    """Have every body in memory."""
    return 0


class LyingServer(SnapshotServer):
    """Answers every chunk as `tamper` makes it."""

    def __init__(self, store: DiskSnapshotStore, serving: Serving, tamper: Tamper) -> None:
        super().__init__(store, serving)
        self._tamper = tamper
        self.asked: list[int] = []

    async def handle(self, stream: Stream) -> None:
        await serve_stream(stream, SNAPSHOT_PROTOCOL, self._lie, self._serving)

    async def _lie(self, request: Any, _reserve: Reserve) -> Reply:
        reply = await self._answer(request, _whole)  # which can be changed
        if isinstance(request, ChunkRequest):
            self.asked.append(request.index)
            changed = self._tamper(self, request, reply)
            return changed if isinstance(changed, Reply) else await changed
        return reply

    async def honest(self, request: ChunkRequest, index: int) -> Reply:
        return await self._answer(dataclasses.replace(request, index=index), _whole)


RawLie = Callable[[Stream, bytes, dict[str, object]], Awaitable[None]]


class RawLiar(SnapshotServer):
    """Answers honestly until a chunk is asked for; then it does with the stream what it likes."""

    def __init__(self, store: DiskSnapshotStore, serving: Serving, lie: RawLie) -> None:
        super().__init__(store, serving)
        self._raw_lie = lie

    async def handle(self, stream: Stream) -> None:
        frames = FrameReader()
        while data := await stream.read(4096):
            frames.receive_data(data)
            while (payload := frames.next_frame()) is not None:
                request: Request | BadRequest = parse_request(SNAPSHOT_PROTOCOL, payload)
                assert not isinstance(request, BadRequest)
                reply = await self._answer(request, _whole)  # type: ignore[arg-type]
                if isinstance(request, ChunkRequest):
                    header = {"status": "ok", "length": len(reply.body), **(reply.extra or {})}
                    await self._raw_lie(stream, bytes(reply.body), header)
                    return
                await stream.write(reply.encode_header() + bytes(reply.body))


async def endless(stream: Stream, body: bytes, header: dict[str, object]) -> None:
    await stream.write(encode_frame(header) + body)
    while True:
        await stream.write(bytes(64 * 1024))


async def stop_in_the_middle(stream: Stream, body: bytes, header: dict[str, object]) -> None:
    await stream.write(encode_frame(header) + body[: len(body) // 2])
    await stream.close()


class SnapshotWorld:
    """The network of one test, and stores below its directory."""

    def __init__(self, directory: Path) -> None:
        self.network = MemoryNetwork()
        self.directory = directory
        self._count = 100

    def new_peer_id(self) -> str:
        self._count += 1
        return SecretKey(self._count.to_bytes(32, "big")).public.peer_id

    def next_number(self) -> int:
        """Which peer the next provider will be: its store is there before it is opened."""
        return self._count + 1

    def last_store(self) -> DiskSnapshotStore:
        """The store of the last provider, opened once more."""
        return DiskSnapshotStore(self.directory / f"peer{self._count}", chunk_length=CHUNK)

    def visible(self) -> list[str]:
        """What lies under a final name where snapshots are fetched to."""
        return [path.name for path in (self.directory / "out").iterdir() if not path.name.startswith(".")]

    @asynccontextmanager
    async def existing_provider(self) -> AsyncIterator[Transport]:
        """A provider of whatever its store has already."""
        async with self.network.open(self.new_peer_id()) as transport:
            transport.handle(SNAPSHOT_PROTOCOL, SnapshotServer(self.last_store(), Serving()).handle)
            yield transport

    def store(
        self, payload: bytes = PAYLOAD, *announcements: Announcement, signature: str | None = ""
    ) -> DiskSnapshotStore:
        """A store with a payload; by default signed and announced by Alice."""
        store = DiskSnapshotStore(self.directory / f"peer{self._count}", chunk_length=CHUNK)
        store.insert(payload, sign(payload) if signature == "" else signature)
        for one in announcements:
            store.announcements.put(one)
        return store

    @asynccontextmanager
    async def provider(
        self,
        payload: bytes = PAYLOAD,
        *announcements: Announcement,
        server: Callable[[DiskSnapshotStore, Serving], SnapshotServer] = SnapshotServer,
        signature: str | None = "",
        twin_of: Transport | None = None,
    ) -> AsyncIterator[Transport]:
        new_id = self.new_peer_id()
        peer_id = new_id if twin_of is None else twin_of.peer_id
        store = self.store(payload, *announcements, signature=signature)
        async with self.network.open(peer_id) as transport:
            transport.handle(SNAPSHOT_PROTOCOL, server(store, Serving()).handle)
            yield transport

    def order(self, *providers: Transport, **changes: Any) -> SyncOrder:
        options: dict[str, Any] = {
            "root": None,
            "trusted": Publisher((ALICE.public.keyid,)),
            "directory": self.directory / "out",
            "timeout_s": 20.0,
            "bootstrap": tuple(provider.addresses()[0] for provider in providers),
            **changes,
        }
        return SyncOrder(**options)

    async def sync(self, *providers: Transport, watcher: Watcher | None = None, **changes: Any) -> SyncResult:
        order = self.order(*providers, **changes)
        async with self.network.open(self.new_peer_id()) as transport:
            try:
                return await sync_snapshot(
                    order, open_output(order), transport=transport, progress=watcher or Watcher()
                )
            except P2PBootError as error:
                failure = error  # raised outside: the network's nursery would wrap it in a group
        raise failure

    async def sync_beside_mute(
        self, *providers: Transport, mute: Transport, late: Transport | None = None, **changes: Any
    ) -> tuple[SyncResult, float]:
        """Sync while somebody is connected who says nothing, and another one comes a second later.

        Returns:
            The result, and the seconds that it took.
        """
        order = self.order(*providers, **changes)
        async with self.network.open(self.new_peer_id()) as transport, trio.open_nursery() as nursery:
            await transport.dial(mute.addresses()[0])
            self.network.freeze(mute.peer_id)

            async def come() -> None:
                await trio.sleep(1)
                if late is not None:
                    await transport.dial(late.addresses()[0])

            nursery.start_soon(come)
            began = trio.current_time()
            try:
                store = open_output(order)
                result = await sync_snapshot(order, store, transport=transport, progress=Watcher())
                return result, trio.current_time() - began
            except P2PBootError as error:
                failure = error  # raised outside: a nursery would wrap it in a group
        raise failure

    def assert_synced(self, payload: bytes = PAYLOAD, signature: str | None = "") -> None:
        """Payload and signature are byte for byte what was published, and nothing else is visible."""
        out = self.directory / "out"
        root = announce(payload).root
        expected = {f"{root}.json": payload}
        if signature is not None:
            expected[f"{root}.json.sig"] = (signature or sign(payload)).encode()
        visible = [path for path in out.iterdir() if not path.name.startswith(".")]
        assert {path.name: path.read_bytes() for path in visible} == expected
