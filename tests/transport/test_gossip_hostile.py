"""What gossip from strangers costs: their own connections, and next to nothing of ours."""

from __future__ import annotations

import contextlib
import itertools
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest
import trio
from libp2p.peer.id import ID

from p2pboot.core.identity import SecretKey
from p2pboot.transport.interface import DialError, Forwarding, Gossip, Stream, StreamReset, Transport
from p2pboot.transport.libp2p.gossip import ValidatingPubsub
from p2pboot.transport.libp2p.host import Libp2pTransport
from p2pboot.transport.libp2p.outbox import MAX_RPC
from p2pboot.transport.light import open_light
from p2pboot.transport.reputation import INHERITED
from p2pboot.wire.protobuf import bytes_field, number_field
from p2pboot.wire.pubsub import MAX_FIELDS, MAX_MESSAGES, signed_bytes
from p2pboot.wire.varint import encode_varint
from tests.transport.conftest import TOPIC, Lab, until, wait_connected

MESHSUB = "/meshsub/1.1.0"


def framed(rpc: bytes) -> bytes:
    return encode_varint(len(rpc)) + rpc


def subscription(topic: str = TOPIC, *, joins: bool = True) -> bytes:
    return bytes_field(1, number_field(1, int(joins)) + bytes_field(2, topic.encode()))


def graft(topic: str = TOPIC) -> bytes:
    return bytes_field(3, bytes_field(3, bytes_field(1, topic.encode())))


def message(key: SecretKey, data: bytes, *, topic: str = TOPIC, signature: bytes | None = None) -> bytes:
    seqno = secrets.token_bytes(8)
    sender = key.public.peer_id_bytes
    if signature is None:
        signature = key.sign(signed_bytes(sender=sender, data=data, seqno=seqno, topic=topic))
    fields = {1: sender, 2: data, 3: seqno, 4: topic.encode(), 5: signature}
    return bytes_field(2, b"".join(bytes_field(number, value) for number, value in fields.items()))


@dataclass
class Attacker:
    """Somebody with a connection and a gossip stream to a node.

    Args:
        key: its identity.
        transport: its network.
        stream: on which anything may be written.
    """

    key: SecretKey
    transport: Transport
    stream: Stream

    @property
    def peer_id(self) -> str:
        return self.key.public.peer_id

    @property
    def id(self) -> ID:
        return ID.from_base58(self.peer_id)

    async def send(self, *rpcs: bytes) -> None:
        for rpc in rpcs:
            await self.stream.write(framed(rpc))

    async def another_stream(self) -> Stream:
        (connection,) = self.transport.connections()
        return await self.transport.open_stream(connection, MESHSUB)


@asynccontextmanager
async def attacker(node: Transport, key: SecretKey | None = None) -> AsyncIterator[Attacker]:
    key = key or SecretKey(secrets.token_bytes(32))
    async with open_light(key, []) as transport:
        connection = await transport.dial(node.addresses()[0])
        yield Attacker(key, transport, await transport.open_stream(connection, MESHSUB))


@dataclass
class Recorder:
    """A validator that accepts what begins with `good`, and remembers all that it was asked about."""

    asked: list[bytes] = field(default_factory=list)

    async def __call__(self, _peer_id: str, payload: bytes) -> Forwarding:
        self.asked.append(payload)
        if payload.startswith(b"good"):
            return Forwarding.ACCEPT
        return Forwarding.IGNORE if payload.startswith(b"odd") else Forwarding.REJECT


def pubsub_of(node: Gossip) -> ValidatingPubsub:
    return cast(Libp2pTransport, node)._gossip._pubsub


@pytest.fixture
async def node(libp2p_lab: Lab) -> Gossip:
    return await libp2p_lab.node()


@pytest.fixture
async def recorder(node: Gossip) -> Recorder:
    recorder = Recorder()
    await node.subscribe(TOPIC, recorder)
    return recorder


FLAGRANT = {
    "a MiB of empty messages": bytes_field(2, b"") * 524_288,
    "a byte too long": bytes(MAX_RPC + 1),
    "empty messages": bytes_field(2, b"") * (MAX_MESSAGES + 1),
    "unknown fields": bytes_field(99, b"") * (MAX_FIELDS + 1),
    "subscriptions": subscription("t") * MAX_FIELDS,
    "grafts": graft() * MAX_FIELDS,
}


@pytest.mark.parametrize("kind", FLAGRANT)
async def test_what_no_honest_node_sends_costs_the_connection(
    libp2p_lab: Lab, node: Gossip, recorder: Recorder, kind: str
) -> None:
    sender = await libp2p_lab.hold(attacker(node))
    await wait_connected(node, sender.peer_id)
    with pytest.raises(StreamReset):  # noqa: PT012
        await sender.stream.write(framed(FLAGRANT[kind]))
        while await sender.stream.read(1000):
            pass
    await wait_connected(node, sender.peer_id, connected=False)
    assert not recorder.asked


async def test_who_was_hung_up_on_is_not_let_in_again_and_its_neighbours_are_watched(
    libp2p_lab: Lab, node: Gossip, recorder: Recorder
) -> None:
    accounts = pubsub_of(node).accounts
    neighbour = await libp2p_lab.hold(attacker(node))
    await neighbour.send(subscription())
    await until(lambda: neighbour.id in pubsub_of(node).peer_topics.get(TOPIC, ()))
    key = SecretKey(secrets.token_bytes(32))
    for rpc in (bytes_field(99, b"") * (MAX_FIELDS + 1), message(key, b"good at last")):
        with pytest.raises(StreamReset):  # noqa: PT012
            async with attacker(node, key) as offender:
                await offender.send(rpc)
                while await offender.stream.read(1000):
                    pass
        await wait_connected(node, key.public.peer_id, connected=False)
    assert not recorder.asked
    assert accounts._points(neighbour.id) == 0
    newcomer = await libp2p_lab.hold(attacker(node))
    assert accounts._points(newcomer.id) == pytest.approx(INHERITED, abs=1)
    await newcomer.send(message(newcomer.key, b"good news"))
    await until(lambda: recorder.asked)  # it is heard all the same
    await newcomer.send(message(newcomer.key, b"bad news"))
    await until(lambda: accounts.is_muted(newcomer.id))


async def test_rejected_messages_mute_and_then_cost_the_connection(
    libp2p_lab: Lab, node: Gossip, recorder: Recorder
) -> None:
    sender = await libp2p_lab.hold(attacker(node))
    for number in range(2):
        await sender.send(message(sender.key, b"bad %d" % number, signature=bytes(64)))
    await until(lambda: pubsub_of(node).accounts.is_muted(sender.id))
    with pytest.raises(StreamReset):  # noqa: PT012
        for number in itertools.count():
            await sender.send(message(sender.key, b"good %d" % number) * MAX_MESSAGES)
    assert not recorder.asked


async def test_what_cannot_be_checked_cheaply_is_not_looked_at(
    libp2p_lab: Lab, node: Gossip, recorder: Recorder
) -> None:
    sender = await libp2p_lab.hold(attacker(node))
    rsa = b"\x12\x20" + bytes(32)  # a key that follows could take seconds
    fields = {1: rsa, 2: b"good", 3: bytes(8), 4: TOPIC.encode(), 5: bytes(256), 6: bytes(4000)}
    await sender.send(
        bytes_field(2, b"".join(bytes_field(number, value) for number, value in fields.items())),
        message(sender.key, b"good"),
    )
    await until(lambda: recorder.asked)  # in a good envelope it is still to be had
    assert recorder.asked == [b"good"]
    assert pubsub_of(node).accounts._points(sender.id) == 0


async def test_a_message_under_our_own_name_is_nobodys(
    libp2p_lab: Lab, node: Gossip, recorder: Recorder
) -> None:
    sender, ours = await libp2p_lab.hold(attacker(node)), SecretKey(b"s" * 32)
    sender_of_ours = bytes_field(1, ID.from_base58(node.peer_id).to_bytes())
    for number in range(2):
        forged = message(ours, b"good %d" % number).replace(
            bytes_field(1, ours.public.peer_id_bytes), sender_of_ours
        )
        await sender.send(forged)
    await until(lambda: pubsub_of(node).accounts.is_muted(sender.id))
    assert not recorder.asked


async def test_a_connection_has_one_stream_for_gossip_the_newest(
    libp2p_lab: Lab, node: Gossip, recorder: Recorder
) -> None:
    sender = await libp2p_lab.hold(attacker(node))
    await sender.send(message(sender.key, b"good old"))
    await until(lambda: recorder.asked)
    newest = await sender.another_stream()
    with pytest.raises(StreamReset):
        await sender.stream.read(1)
    await newest.write(framed(message(sender.key, b"good new")))
    await until(lambda: len(recorder.asked) == 2)
    assert len(pubsub_of(node)._reading) == 1


async def test_who_opens_one_stream_after_the_other_is_hung_up_on(libp2p_lab: Lab, node: Gossip) -> None:
    sender = await libp2p_lab.hold(attacker(node))
    await wait_connected(node, sender.peer_id)
    with pytest.raises(StreamReset):  # noqa: PT012
        for _ in range(100):
            await sender.another_stream()
            await trio.lowlevel.checkpoint()
        await trio.sleep_forever()
    await wait_connected(node, sender.peer_id, connected=False)


async def test_many_topics_are_kept_within_bounds_and_ours_always(
    libp2p_lab: Lab, node: Gossip, recorder: Recorder
) -> None:
    pubsub = pubsub_of(node)
    sender = await libp2p_lab.hold(attacker(node))
    for first in range(0, 600, 200):
        await sender.send(b"".join(subscription(f"/foreign/{first + n}") for n in range(200)))
    await sender.send(subscription("x" * 300), subscription("/foreign/0", joins=False), subscription())
    await until(lambda: sender.id in pubsub.peer_topics.get(TOPIC, ()))
    assert pubsub._peer_subscription_count[sender.id] == 256
    assert pubsub._foreign._shares.used == 255
    assert max(map(len, pubsub.peer_topics)) < 256
    await sender.stream.reset()
    await until(lambda: not pubsub.peer_topics)
    assert pubsub._foreign._shares.used == 0


async def test_what_is_of_no_use_is_borne_for_a_while(
    libp2p_lab: Lab, node: Gossip, recorder: Recorder
) -> None:
    sender = await libp2p_lab.hold(attacker(node))
    await wait_connected(node, sender.peer_id)
    useless: Iterable[bytes] = itertools.cycle(
        [
            b"",
            bytes_field(99, b""),
            message(sender.key, b"good", topic="/unknown") * MAX_MESSAGES,
            graft() * 100,
            bytes_field(3, bytes_field(4, bytes_field(1, TOPIC.encode()))) * 100,
            bytes_field(3, bytes_field(2, bytes_field(1, bytes(32)) * 100)),
            b"".join(subscription(joins=bool(n % 2)) for n in range(1, 100)) + subscription() * 50,
        ]
    )
    with pytest.raises(StreamReset):  # noqa: PT012
        for rpc in useless:
            await sender.send(rpc)
    await wait_connected(node, sender.peer_id, connected=False)
    assert not recorder.asked


async def test_hanging_up_on_many_takes_one_line_of_the_log(
    libp2p_lab: Lab, node: Gossip, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        async with attacker(node) as sender:
            await sender.stream.write(framed(bytes_field(99, b"") * (MAX_FIELDS + 1)))
            await until(lambda: not node.peers())
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == 1
    assert "hung up on" in warned[0].getMessage()
    assert pubsub_of(node).accounts.hung_up == 5


async def test_ids_that_nobody_has_are_asked_for_within_bounds(
    libp2p_lab: Lab, node: Gossip, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    router, asked = pubsub_of(node).router, list[int]()

    def note(_peer_id: ID, rpc: object, priority: bool = False) -> None:
        asked.extend(len(iwant.messageIDs) for iwant in rpc.control.iwant)  # type: ignore[attr-defined]

    monkeypatch.setattr(router, "send_rpc", note)
    for _ in range(3):
        sender = await libp2p_lab.hold(attacker(node))
        ids = b"".join(bytes_field(2, secrets.token_bytes(32)) for _ in range(100))
        told = bytes_field(3, bytes_field(1, bytes_field(1, TOPIC.encode()) + ids) * 2)
        router._asked.clear()
        await sender.send(told, message(sender.key, b"good %d" % _))
        await until(lambda: recorder.asked)
        recorder.asked.clear()
    assert max(asked) <= 3
    assert sum(asked) <= 3 * 64


async def test_many_ids_of_an_address_are_resent_no_more_than_one(node: Gossip) -> None:
    accounts = pubsub_of(node).accounts
    ids = [ID.from_base58(SecretKey(secrets.token_bytes(32)).public.peer_id) for _ in range(40)]
    sent = sum(accounts.may_be_resent(one, 64 * 1024) for one in ids for _ in range(100))
    assert sent * 64 * 1024 <= 9 * 1024 * 1024
    accounts.earned(ids[0])  # has an account of its own
    assert accounts.may_be_resent(ids[0], 64 * 1024)


@pytest.mark.parametrize("ignored", [True, False])
async def test_what_was_seen_on_one_topic_is_new_on_another(
    libp2p_lab: Lab, node: Gossip, recorder: Recorder, ignored: bool
) -> None:
    elsewhere = Recorder()
    await node.subscribe("/elsewhere", elsewhere)
    sender, data = await libp2p_lab.hold(attacker(node)), b"odd" if ignored else b"good"
    await sender.send(message(sender.key, data, topic="/elsewhere"), message(sender.key, data))
    await until(lambda: recorder.asked)
    assert elsewhere.asked == recorder.asked == [data]


FLOODS: list[Callable[[SecretKey], bytes]] = [
    lambda _: bytes_field(2, b"") * MAX_MESSAGES,
    lambda _: bytes_field(99, b"") * MAX_FIELDS,
    lambda _: b"".join(subscription(secrets.token_hex(16)) for _ in range(600)),
    lambda _: b"".join(subscription(joins=bool(n % 2)) for n in range(600)),
    lambda _: graft() * 600,
    lambda key: message(key, secrets.token_bytes(60_000)),
    lambda key: message(key, b"odd" + secrets.token_bytes(100)) * MAX_MESSAGES,
    lambda key: message(key, b"bad", signature=secrets.token_bytes(64)),
    lambda _: bytes_field(
        3, bytes_field(1, bytes_field(1, TOPIC.encode()) + bytes_field(2, bytes(32)) * 500)
    ),
    lambda _: b"",
]


async def flood(node: Transport, make: Callable[[SecretKey], bytes], go: trio.Event) -> None:
    """Be somebody who joins a mesh, then sends what it can, and comes again with another id when hung up on."""
    while True:
        with contextlib.suppress(StreamReset, DialError):
            async with attacker(node) as sender:
                await sender.send(subscription() + graft())
                rpc = make(sender.key)
                await go.wait()
                while True:
                    await sender.send(rpc)


async def mesh_has(node: Gossip, *peer_ids: str) -> None:
    await until(lambda: {ID.from_base58(one) for one in peer_ids} <= pubsub_of(node).router.mesh[TOPIC])


async def test_a_message_reaches_the_third_node_through_meshes_full_of_strangers(libp2p_lab: Lab) -> None:
    a, b, c = [await libp2p_lab.node() for _ in range(3)]
    reached, go = Recorder(), trio.Event()
    for node in (a, b):
        await node.subscribe(TOPIC, Recorder())
    await c.subscribe(TOPIC, reached)
    meshes = pubsub_of(b).router.mesh[TOPIC], pubsub_of(c).router.mesh[TOPIC]
    async with trio.open_nursery() as nursery:
        for number in range(16):
            nursery.start_soon(flood, (b, c)[number % 2], FLOODS[number % len(FLOODS)], go)
        # The meshes are full before the honest ones know each other.
        await until(lambda: list(map(len, meshes)) == [8, 8])
        go.set()
        await a.dial(b.addresses()[0])
        await c.dial(b.addresses()[0])
        await mesh_has(b, a.peer_id, c.peer_id)
        await a.publish(TOPIC, b"good news")
        await until(lambda: reached.asked)
        nursery.cancel_scope.cancel()
    assert not pubsub_of(b).accounts.is_muted(ID.from_base58(a.peer_id))
