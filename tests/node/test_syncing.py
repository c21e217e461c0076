"""Comparing heads with peers, honest and otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pboot.core.manifest import sign_detached
from p2pboot.node import syncing as syncing_module
from p2pboot.node.syncing import MANIFESTS_PER_ROUND, ROUND_TIMEOUT_S, Syncer, find_detached
from p2pboot.protocol.messages import SYNC_PROTOCOL, Head
from p2pboot.serving.accounts import Serving
from p2pboot.serving.heads import SyncServer
from p2pboot.store.manifests import Manifests
from p2pboot.store.store import Store
from p2pboot.testing.manifests import NOW, key_of
from p2pboot.testing.network import MemoryNetwork
from p2pboot.testing.stores import offer
from p2pboot.transport.interface import Stream, Transport
from tests.node.world import files_of, signed

OWN = key_of("own").public.peer_id


@dataclass
class Desk:
    """What the node's other parts would do."""

    taken: list[tuple[str, bytes, str | None]] = field(default_factory=list)
    offered: list[list[int]] = field(default_factory=list)

    async def choose(self, heads: Sequence[Head], _peer_id: str) -> list[Head]:
        self.offered.append([head.manifest_version for head in heads])
        return list(heads)

    async def take(self, _head: Head, raw: bytes, detached: str | None, peer_id: str) -> None:
        self.taken.append((peer_id, raw, detached))


class Lab:
    def __init__(self, directory: Path, nursery: trio.Nursery, stack: ExitStack) -> None:
        self.network = MemoryNetwork()
        self.desk = Desk()
        self.directory = directory
        self._nursery = nursery
        self._stack = stack
        self.own: Transport

    async def peer(self, name: str) -> Transport:
        """A peer; another one with the same name has the same key."""
        peer: Transport = await self._nursery.start(self._open, key_of(name).public.peer_id)
        return peer

    async def _open(self, peer_id: str, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """In a task of its own: fixtures and tests are different ones."""
        async with self.network.open(peer_id) as peer:
            task_status.started(peer)
            await trio.sleep_forever()

    async def honest(self, name: str, *versions: int, directory: str | None = None) -> Transport:
        """A peer that holds one manifest for each of these versions, each in a channel of its own."""
        peer = await self.peer(name)
        store = self._stack.enter_context(Store.open(self.directory / (directory or name)))
        self.serve(peer, store.manifests)
        for version in versions:
            hold(store, version)
        await self.own.dial(peer.addresses()[0])
        return peer

    def serve(self, peer: Transport, catalogue: Manifests) -> None:
        server = SyncServer(catalogue, lambda: (), lambda: NOW, Serving(), lambda _channel, _arch: [])
        peer.handle(SYNC_PROTOCOL, server.handle)

    async def odd(self, name: str, handler: Callable[[Stream], Awaitable[None]]) -> Transport:
        peer = await self.peer(name)
        peer.handle(SYNC_PROTOCOL, handler)
        await self.own.dial(peer.addresses()[0])
        return peer


def hold(store: Store, version: int) -> None:
    manifest = signed(version, pair=(f"channel{version}", "x86_64"))
    offer(store, manifest, files_of("image"), sign_detached(manifest.raw, key_of("publisher")))


@pytest.fixture
async def lab(tmp_path: Path, inline_threads: None) -> AsyncIterator[Lab]:
    with ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            lab = Lab(tmp_path, nursery, stack)
            lab.own = await lab.peer("own")
            yield lab
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def syncing(lab: Lab, interval_s: float = 15, **more: Any) -> AsyncIterator[Syncer]:
    syncer = Syncer(lab.own, choose=lab.desk.choose, take=lab.desk.take, interval_s=interval_s, **more)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(syncer.run)
        yield syncer
        nursery.cancel_scope.cancel()


async def test_every_peer_is_asked_on_connecting_and_at_intervals(lab: Lab, autojump_clock: None) -> None:
    first = await lab.honest("first", 1)
    async with syncing(lab):
        await trio.sleep(1)
        second = await lab.honest("second", 2, 3)
        await trio.sleep(1)
        taken = {(peer_id, raw) for peer_id, raw, _ in lab.desk.taken}
        assert taken == {
            (first.peer_id, signed(1, pair=("channel1", "x86_64")).raw),
            (second.peer_id, signed(2, pair=("channel2", "x86_64")).raw),
            (second.peer_id, signed(3, pair=("channel3", "x86_64")).raw),
        }
        assert all(detached for _, _, detached in lab.desk.taken)
        assert len(lab.desk.offered) == 2
        await trio.sleep(30)
        assert len(lab.desk.offered) == 6


async def test_who_is_not_heeded_is_not_asked_and_not_waited_for(lab: Lab, autojump_clock: None) -> None:
    await lab.honest("heeded", 1)
    guest = await lab.honest("guest", 2)
    async with syncing(lab, heeds=lambda peer_id: peer_id != guest.peer_id) as syncer:
        await syncer.all_synced()
        await trio.sleep(100)
    assert {peer_id for peer_id, _, _ in lab.desk.taken} == {key_of("heeded").public.peer_id}


async def test_of_many_peers_each_is_asked_less_often(
    lab: Lab, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncing_module, "PEERS_PER_INTERVAL", 2)
    for name in ("first", "second", "third", "fourth"):
        await lab.honest(name)
    async with syncing(lab):
        await trio.sleep(29)
        assert len(lab.desk.offered) == 4
        await trio.sleep(2)
        assert len(lab.desk.offered) == 8


async def test_two_servers_with_one_key_are_both_asked(lab: Lab, autojump_clock: None) -> None:
    one = await lab.honest("peer", 1)
    other = await lab.honest("peer", 2, directory="other")
    assert one.peer_id == other.peer_id
    async with syncing(lab) as syncer:
        await syncer.all_synced()
    assert {raw for _, raw, _ in lab.desk.taken} == {
        signed(version, pair=(f"channel{version}", "x86_64")).raw for version in (1, 2)
    }


async def test_what_is_not_chosen_is_not_fetched(lab: Lab, autojump_clock: None) -> None:
    async def choose(heads: Sequence[Head], _peer_id: str) -> list[Head]:
        return [head for head in heads if head.manifest_version == 2]

    lab.desk.choose = choose  # type: ignore[method-assign]
    await lab.honest("peer", 1, 2, 3)
    async with syncing(lab):
        await trio.sleep(1)
    assert [raw for _, raw, _ in lab.desk.taken] == [signed(2, pair=("channel2", "x86_64")).raw]


async def test_a_round_fetches_a_bounded_number_the_highest_first(lab: Lab, autojump_clock: None) -> None:
    await lab.honest("peer", *range(1, MANIFESTS_PER_ROUND + 5))
    async with syncing(lab):
        await trio.sleep(1)
    fetched = [raw for _, raw, _ in lab.desk.taken]
    assert fetched == [
        signed(version, pair=(f"channel{version}", "x86_64")).raw
        for version in range(MANIFESTS_PER_ROUND + 4, 4, -1)
    ]


async def test_a_head_that_moved_meanwhile_does_not_end_the_round(lab: Lab, autojump_clock: None) -> None:
    class Moving:
        def __init__(self, catalogue: Manifests) -> None:
            self.heads = catalogue.heads
            self.get = lambda digest: None if digest == newest else catalogue.get(digest)

    newest = signed(2, pair=("channel2", "x86_64")).digest
    peer = await lab.honest("peer", 1, 2)
    with Store.open(lab.directory / "peer") as store:
        lab.serve(peer, Moving(store.manifests))  # type: ignore[arg-type]
        async with syncing(lab):
            await trio.sleep(1)
    assert [raw for _, raw, _ in lab.desk.taken] == [signed(1, pair=("channel1", "x86_64")).raw]


async def mute(_stream: Stream) -> None:
    await trio.sleep_forever()


async def rubbish(stream: Stream) -> None:
    await stream.write(b"\xff" * 10_000)


async def hang_up(stream: Stream) -> None:
    await stream.reset()


async def test_odd_peers_hold_up_nobody_else(lab: Lab, autojump_clock: None) -> None:
    for name, handler in (("mute", mute), ("rubbish", rubbish), ("reset", hang_up)):
        await lab.odd(name, handler)
    await lab.own.dial((await lab.peer("speaks nothing")).addresses()[0])
    await lab.honest("honest", 1)
    async with syncing(lab) as syncer:
        await trio.sleep(1)
        assert len(lab.desk.taken) == 1
        await trio.sleep(ROUND_TIMEOUT_S)
        assert syncer.synced == lab.own.connections()
        await trio.sleep(60)
        assert len(lab.desk.taken) >= 4


async def test_a_poke_begins_a_round_now(lab: Lab, autojump_clock: None) -> None:
    await lab.honest("peer", 1)
    async with syncing(lab, interval_s=1000) as syncer:
        await trio.sleep(1)
        syncer.poke()
        await trio.sleep(1)
        assert len(lab.desk.offered) == 2


async def test_a_peer_that_went_is_not_asked_and_one_that_is_back_is(lab: Lab, autojump_clock: None) -> None:
    peer = await lab.honest("peer", 1)
    async with syncing(lab) as syncer:
        await trio.sleep(1)
        lab.network.disconnect(OWN, peer.peer_id)
        await trio.sleep(100)
        assert len(lab.desk.offered) == 1
        assert not syncer.synced
        await lab.own.dial(peer.addresses()[0])
        await trio.sleep(1)
        assert len(lab.desk.offered) == 2


async def test_all_synced_waits_for_every_peer_and_for_one_at_least(lab: Lab, autojump_clock: None) -> None:
    async with syncing(lab) as syncer:
        with trio.move_on_after(100) as nobody:
            await syncer.all_synced()
        assert nobody.cancelled_caught
        await lab.honest("honest", 1)
        await syncer.all_synced()
        await lab.odd("mute", mute)
        with trio.move_on_after(ROUND_TIMEOUT_S - 1) as waiting:
            await syncer.all_synced()
        assert waiting.cancelled_caught
        with trio.fail_after(2):
            await syncer.all_synced()


async def test_the_search_for_a_detached_signature_ends_with_the_first_good_one(
    lab: Lab, autojump_clock: None
) -> None:
    await lab.odd("mute", mute)
    honest = await lab.honest("honest", 1)
    await lab.honest("has nothing")
    seen: list[str] = []

    async def keep(peer_id: str, _text: str) -> bool:
        seen.append(peer_id)
        return True

    began = trio.current_time()
    await find_detached(lab.own, signed(1, pair=("channel1", "x86_64")).digest, keep, timeout_s=3)
    assert (seen, trio.current_time() - began) == ([honest.peer_id], 0)

    async def refuse(peer_id: str, _text: str) -> bool:
        seen.append(peer_id)
        return False

    await find_detached(lab.own, signed(1, pair=("channel1", "x86_64")).digest, refuse, timeout_s=3)
    assert len(seen) == 2
    assert trio.current_time() - began == pytest.approx(3)
