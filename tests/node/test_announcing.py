from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from p2pboot.errors import MachineError
from p2pboot.node.announcing import AFTER_CONNECT_S, BETWEEN_S, Announcer
from p2pboot.testing.manifests import key_of
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.interface import Forwarding, Gossip

pytestmark = pytest.mark.usefixtures("inline_threads")

OWN, PEER = (key_of(name).public.peer_id for name in ("own", "peer"))


@dataclass
class Listener:
    """The other side."""

    heard: list[tuple[float, str, bytes]] = field(default_factory=list)

    async def listen(self, transport: Gossip, topic: str) -> None:
        async def take(_peer_id: str, payload: bytes) -> Forwarding:
            self.heard.append((trio.current_time(), topic, payload))
            return Forwarding.IGNORE

        await transport.subscribe(topic, take)


class Desk:
    def __init__(self, transport: Gossip) -> None:
        self.heads: list[tuple[str, bytes]] = [("a", b"head of a")]
        self.fails = False
        self.verdicts: list[tuple[str, str, bytes]] = []
        self.topics = ["a"]
        self.announcer: Announcer[str] = Announcer(
            transport,
            topic=lambda key: f"/{key}",
            hear=self.hear,
            heads=self.read,
            topics=lambda held: {*held, *self.topics},
            interval_s=300,
        )

    async def hear(self, key: str, peer_id: str, payload: bytes) -> Forwarding:
        self.verdicts.append((key, peer_id, payload))
        return Forwarding.REJECT

    def read(self) -> Iterable[tuple[str, bytes]]:
        if self.fails:
            raise MachineError("the disk fails")
        return self.heads


@asynccontextmanager
async def announcing() -> AsyncIterator[tuple[Desk, Listener, Gossip, Gossip, MemoryNetwork]]:
    network = MemoryNetwork()
    async with network.open(OWN) as own, network.open(PEER) as peer, trio.open_nursery() as nursery:
        desk, listener = Desk(own), Listener()
        await listener.listen(peer, "/a")
        nursery.start_soon(desk.announcer.run)
        yield desk, listener, own, peer, network
        nursery.cancel_scope.cancel()


async def test_heads_are_announced_soon_after_a_peer_came_and_then_at_intervals(
    autojump_clock: None,
) -> None:
    async with announcing() as (_, listener, own, peer, _network):
        began = trio.current_time()
        await peer.dial(own.addresses()[0])
        await trio.sleep(1000)
    assert [round(at - began) for at, _, _ in listener.heard] == [2, 312, 622, 932]
    assert {payload for _, _, payload in listener.heard} == {b"head of a"}


async def test_peers_that_come_and_go_cause_no_flood(autojump_clock: None) -> None:
    async with announcing() as (_, listener, own, peer, network):
        began = trio.current_time()
        while trio.current_time() < began + 120:
            await peer.dial(own.addresses()[0])
            await trio.sleep(0.5)
            network.disconnect(OWN, PEER)
    assert len(listener.heard) <= 120 / (AFTER_CONNECT_S + BETWEEN_S) + 1


async def test_a_disk_that_fails_ends_no_announcing(
    autojump_clock: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with announcing() as (desk, listener, own, peer, _network):
        desk.fails = True
        await peer.dial(own.addresses()[0])
        await trio.sleep(400)
        assert not listener.heard
        assert "the disk fails" in caplog.text
        desk.fails = False
        await trio.sleep(400)
        assert listener.heard


async def test_a_topic_is_listened_to_while_it_is_joined(autojump_clock: None) -> None:
    async with announcing() as (desk, _listener, own, peer, _network):
        await peer.dial(own.addresses()[0])
        desk.topics = ["b"]
        await desk.announcer.reconcile()
        await peer.publish("/b", b"1")
        await trio.sleep(1)
        desk.topics = []
        await desk.announcer.reconcile()
        await peer.publish("/b", b"2")
        await peer.publish("/a", b"3")
        await trio.sleep(1)
    assert desk.verdicts == [("b", PEER, b"1"), ("a", PEER, b"3")]


async def test_two_who_look_at_once_end_with_what_is_cared_for_now(autojump_clock: None) -> None:
    async with announcing() as (desk, _listener, own, _peer, _network):
        desk.topics = ["b", "c"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.announcer.reconcile)
            await trio.lowlevel.checkpoint()
            desk.topics = ["c", "d"]
            nursery.start_soon(desk.announcer.reconcile)
        assert set(own.validators) == {"/a", "/c", "/d"}  # type: ignore[attr-defined]


async def test_what_is_new_is_announced_at_once_and_what_was_there_to_who_connects(
    autojump_clock: None,
) -> None:
    async with announcing() as (desk, listener, own, peer, _network):
        await listener.listen(peer, "/b")
        await peer.dial(own.addresses()[0])
        await trio.sleep(AFTER_CONNECT_S + 1)
        assert [payload for _, _, payload in listener.heard] == [b"head of a"]
        await desk.announcer.reconcile()
        desk.heads.append(("b", b"head of b"))
        for _ in range(3):
            await desk.announcer.reconcile()
        await trio.sleep(1)
        assert [payload for _, _, payload in listener.heard] == [b"head of a", b"head of b"]
        desk.heads.remove(("a", b"head of a"))  # damaged,
        await desk.announcer.reconcile()
        await trio.sleep(150)  # the network remembers a message for two minutes
        desk.heads.append(("a", b"head of a"))  # and mended
        await desk.announcer.reconcile()
        await trio.sleep(1)
        assert [payload for _, _, payload in listener.heard][2:] == [b"head of a"]
