"""What strangers do to a node on the real library, after which it still serves."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Sequence

import pytest
import trio
import trio.lowlevel
from libp2p.abc import IMuxedStream
from libp2p.io.exceptions import IOException
from libp2p.peer.id import ID
from libp2p.protocol_muxer.exceptions import MultiselectClientError, MultiselectError
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.utils.varint import encode_varint_prefixed

from p2pboot.transport.interface import Forwarding, Gossip
from p2pboot.transport.libp2p import Libp2pOptions
from p2pboot.transport.libp2p.gossip import MAX_PAYLOAD
from p2pboot.transport.libp2p.host import Libp2pTransport
from p2pboot.transport.libp2p.router import HardenedGossipSub
from tests.connections import connection_with
from tests.transport import attacker
from tests.transport.attacker import Stranger
from tests.transport.conftest import ECHO, TOPIC, Lab, echo, until, wait_connected

MESHSUB = str(PROTOCOL_ID_V11)
NOISE = random.Random(20260101).randbytes(4096)


@pytest.fixture
async def node(libp2p_lab: Lab) -> Gossip:
    node = await libp2p_lab.node()
    node.handle(ECHO, echo)
    return node


@pytest.fixture
async def stranger(libp2p_lab: Lab, node: Gossip) -> Stranger:
    stranger = await libp2p_lab.hold(attacker.stranger(node))
    await wait_connected(node, stranger.peer_id)
    return stranger


async def ignore(_peer_id: str, _payload: bytes) -> Forwarding:
    return Forwarding.IGNORE


async def still_serves(lab: Lab, node: Gossip) -> None:
    """A newcomer is served, by stream and by gossip."""
    taken: list[bytes] = []

    async def validator(_peer_id: str, payload: bytes) -> Forwarding:
        taken.append(payload)
        done.set()
        return Forwarding.ACCEPT

    done = trio.Event()
    client = await lab.node()
    await client.dial(node.addresses()[0])
    stream = await client.open_stream(connection_with(client, node), ECHO)
    await stream.write(b"still there?")
    assert await stream.read(100) == b"still there?"
    await stream.close()
    await node.subscribe(TOPIC, validator)
    await client.publish(TOPIC, b"gossip too?")
    await done.wait()
    assert taken == [b"gossip too?"]


@pytest.mark.parametrize("protocol", ["/plaintext/2.0.0", "/secio/1.0.0", "/tls/1.0.0"])
async def test_nothing_but_noise_is_spoken(node: Gossip, protocol: str) -> None:
    async with attacker.tcp(node) as stream:
        await stream.send_all(
            attacker.MULTISTREAM + attacker.line(protocol.encode()) + attacker.line(b"/noise")
        )
        expected = attacker.MULTISTREAM + attacker.line(b"na") + attacker.line(b"/noise")
        received = b""
        while len(received) < len(expected):
            received += await stream.receive_some()
        assert received == expected


@pytest.mark.parametrize(("protocol", "spoken"), [("/mplex/6.7.0", False), ("/yamux/1.0.0", True)])
async def test_nothing_but_yamux_is_spoken(node: Gossip, protocol: str, spoken: bool) -> None:
    async with attacker.noise(node) as (_, secured):
        await secured.write(attacker.MULTISTREAM + attacker.line(protocol.encode()))
        communicator = MultiselectCommunicator(secured)
        assert await communicator.read() == "/multistream/1.0.0"
        assert await communicator.read() == (protocol if spoken else "na")


BEFORE_A_SESSION = [
    NOISE,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    attacker.MULTISTREAM + NOISE,
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a line of 2**63 bytes
    attacker.MULTISTREAM + b"\xff\xff\xff\x7f" + NOISE,  # a line of 256 MiB
    attacker.MULTISTREAM + attacker.line(b"\xff\xfe"),  # not UTF-8
    attacker.MULTISTREAM + attacker.line(b"/noise") + b"\x00\x20" + NOISE[:32],
    attacker.MULTISTREAM + attacker.line(b"/noise") + b"\xff\xff" + NOISE,
    attacker.MULTISTREAM + attacker.line(b"/noise") + b"\x00\x00\x00\x00",
]


async def test_garbage_before_a_session_is_hung_up_on(libp2p_lab: Lab, node: Gossip) -> None:
    for garbage in BEFORE_A_SESSION:
        async with attacker.tcp(node) as stream:
            await stream.send_all(garbage)
            await stream.send_eof()
            assert len(await attacker.drain(stream)) < 1000, garbage[:40]
    await still_serves(libp2p_lab, node)


async def test_garbage_inside_a_noise_session_ends_it(
    libp2p_lab: Lab, node: Gossip, stranger: Stranger
) -> None:
    await stranger.socket.send_all(b"\x00\x40" + NOISE[:64])
    await wait_connected(node, stranger.peer_id, connected=False)
    await still_serves(libp2p_lab, node)


FRAMES = [
    NOISE,
    attacker.frame(9, 0xFFFF, 1, 5),
    attacker.frame(0, 0, 4_000_000_000, 5, b"12345"),
    attacker.frame(0, 1, 0, 0),
    attacker.frame(0, 8 | 4 | 2 | 1, 77, 3, b"abc"),
    attacker.frame(1, 0, 1, 0xFFFFFFFF) * 50,
    attacker.frame(2, 1, 0, 7) * 500,
    attacker.frame(3, 0, 0, 99),
    attacker.frame(0, 1, 99, 0x7FFFFFFF),
]


async def test_garbage_frames_end_at_most_their_connection(libp2p_lab: Lab, node: Gossip) -> None:
    for frames in FRAMES:
        async with attacker.stranger(node) as stranger:
            await stranger.send_frames(frames)
    await until(lambda: not node.peers())
    await still_serves(libp2p_lab, node)


async def test_a_peer_that_ignores_the_window_is_hung_up_on(
    libp2p_lab: Lab, node: Gossip, stranger: Stranger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "p2pboot.transport.tcp")
    idle = trio.Event()
    node.handle("/test/idle/1", lambda _stream: idle.wait())
    await stranger.open_stream("/test/idle/1")
    stream_id = max(
        number for number in stranger.muxer.streams if number % 2
    )  # of its own: the node's are even
    body = bytes(60_000)
    # Its own library may hear of the end before it writes again: what it writes then goes nowhere, without an error.
    with contextlib.suppress(IOException):
        for _ in range(2000):  # 120 MB where 1 MiB is allowed
            await stranger.send_frames(attacker.frame(0, 0, stream_id, len(body), body))
    await wait_connected(node, stranger.peer_id, connected=False)
    assert f"more data on stream {stream_id} than its window allows" in caplog.text
    idle.set()
    await still_serves(libp2p_lab, node)


@pytest.mark.parametrize("protocol", [MESHSUB, "/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", ECHO])
async def test_garbage_on_a_stream_ends_at_most_that_stream(
    libp2p_lab: Lab, node: Gossip, stranger: Stranger, protocol: str
) -> None:
    for garbage in (b"\x05hello", NOISE, b"\xff" * 20, b"\xff\xff\xff\x7f", b"\x00" * 50, b""):
        for end in ("close", "reset"):
            stream = await stranger.open_stream(protocol)
            await stream.write(garbage)
            await getattr(stream, end)()
    assert stranger.peer_id in node.peers()
    await still_serves(libp2p_lab, node)


async def test_identify_push_is_not_spoken(stranger: Stranger) -> None:
    with pytest.raises(MultiselectClientError):
        await stranger.open_stream("/ipfs/id/push/1.0.0")


def message(
    *,
    topics: Sequence[str] = (TOPIC,),
    data: bytes = b"data",
    from_id: bytes = b"\x00",
    key: bytes | None = None,
    signature: bytes | None = None,
) -> rpc_pb2.Message:
    return rpc_pb2.Message(
        topicIDs=topics, data=data, from_id=from_id, seqno=b"1", key=key, signature=signature
    )


async def test_gossip_that_is_not_properly_signed_is_never_judged(
    libp2p_lab: Lab, node: Gossip, stranger: Stranger
) -> None:
    validated: list[bytes] = []

    async def validator(_peer_id: str, payload: bytes) -> Forwarding:
        validated.append(payload)
        return Forwarding.ACCEPT

    await node.subscribe(TOPIC, validator)
    stranger_id = ID.from_base58(stranger.peer_id).to_bytes()
    rpc = rpc_pb2.RPC(
        publish=[
            message(),
            message(from_id=b"", key=NOISE, signature=NOISE),
            message(from_id=stranger_id),
            message(from_id=stranger_id, signature=bytes(64)),
            message(from_id=stranger_id, data=bytes(MAX_PAYLOAD + 1)),
            message(topics=[]),
            message(topics=["x" * 100_000]),
            message(topics=[TOPIC, "another"]),
        ],
        subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid="t" * 5000)],
        senderRecord=NOISE,
    )
    stream = await stranger.open_stream(MESHSUB)
    await stream.write(encode_varint_prefixed(rpc.SerializeToString()))
    await still_serves(libp2p_lab, node)
    assert not validated
    assert isinstance(node, Libp2pTransport)
    assert all(len(topic) < 1000 for topic in node._gossip._pubsub.peer_topics)


async def test_control_messages_make_us_do_little(libp2p_lab: Lab, node: Gossip, stranger: Stranger) -> None:
    assert isinstance(node, Libp2pTransport)
    router, other = node._gossip._router, await libp2p_lab.node()
    await node.subscribe(TOPIC, ignore)
    rpc = rpc_pb2.RPC()
    rpc.control.ihave.add(topicID="unknown", messageIDs=[bytes(32)])
    rpc.control.ihave.add(topicID=TOPIC, messageIDs=[NOISE, b"short"])
    rpc.control.iwant.add(messageIDs=[bytes([n]) * 32 for n in range(256)])
    for number in range(200):  # as many as an RPC may have
        rpc.control.prune.add(topicID=f"topic {number}", backoff=2**63)
        rpc.control.graft.add(topicID=f"topic {number}")
    dial_me = rpc.control.prune.add(topicID=TOPIC, backoff=1).peers.add()
    dial_me.peerID = ID.from_base58(other.peer_id).to_bytes()
    stream = await stranger.open_stream(MESHSUB)
    await stream.write(encode_varint_prefixed(rpc.SerializeToString()))
    await still_serves(libp2p_lab, node)
    assert set(router.back_off) <= {TOPIC}
    assert set(router.mesh) == {TOPIC}
    assert other.peer_id not in node.peers()


async def never(_router: HardenedGossipSub) -> None:
    await trio.sleep_forever()


async def test_who_subscribes_before_it_takes_streams_is_grafted_when_it_does(
    libp2p_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HardenedGossipSub, "heartbeat", never)  # which would graft it sometime
    node = await libp2p_lab.node()
    assert isinstance(node, Libp2pTransport)
    pubsub, router = node._gossip._pubsub, node._gossip._router
    await node.subscribe(TOPIC, ignore)
    slow = await libp2p_lab.hold(attacker.stranger(node))
    stream = await slow.open_stream(MESHSUB)
    rpc = rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)])
    await stream.write(encode_varint_prefixed(rpc.SerializeToString()))
    await until(lambda: pubsub.peer_topics.get(TOPIC))
    assert not router.mesh[TOPIC]

    async def accept() -> None:
        while True:
            nursery.start_soon(agree, await slow.muxer.accept_stream())

    async def agree(stream: IMuxedStream) -> None:
        with contextlib.suppress(MultiselectError, MuxedStreamError):
            await Multiselect({PROTOCOL_ID_V11: None}).negotiate(MultiselectCommunicator(stream), 5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        await until(lambda: router.mesh[TOPIC])
        nursery.cancel_scope.cancel()


async def test_a_message_is_resent_three_times_to_one_who_asks_for_ever(node: Gossip) -> None:
    assert isinstance(node, Libp2pTransport)
    router, peer = node._gossip._router, ID.from_base58(node.peer_id)
    await node.publish(TOPIC, b"wanted")
    (key,) = router.mcache.msgs
    assert [router._resendable(peer, [key, key, bytes(32)]) for _ in range(5)] == [[key]] * 3 + [[]] * 2
    router.remove_peer(peer)
    assert router._resends == {}


async def test_what_the_rate_limit_dropped_may_come_from_another(libp2p_lab: Lab) -> None:
    options = Libp2pOptions(gossip_messages_per_second=0.001, gossip_burst=2)
    node, one, other = await libp2p_lab.node(options), await libp2p_lab.node(), await libp2p_lab.node()
    send, validated = trio.open_memory_channel[tuple[str, bytes]](100)

    async def validator(peer_id: str, payload: bytes) -> Forwarding:
        await send.send((peer_id, payload))
        return Forwarding.ACCEPT

    await node.subscribe(TOPIC, validator)
    for peer in (one, other):
        await peer.dial(node.addresses()[0])
    sent = [b"%d" % number for number in range(4)]
    for payload in sent:
        await one.publish(TOPIC, payload)
    first = [await validated.receive() for _ in range(2)]  # mostly the first two; gossip keeps no order
    assert {peer_id for peer_id, _ in first} == {one.peer_id}
    dropped = next(payload for payload in sent if (one.peer_id, payload) not in first)
    await other.publish(TOPIC, dropped)
    assert await validated.receive() == (other.peer_id, dropped)


async def test_a_handshake_that_stalls_holds_up_nobody(libp2p_lab: Lab, node: Gossip) -> None:
    async with attacker.tcp(node) as one, attacker.tcp(node) as two:
        await one.send_all(attacker.MULTISTREAM[:5])
        await two.send_all(attacker.MULTISTREAM + attacker.line(b"/noise"))
        await still_serves(libp2p_lab, node)


async def test_a_stranger_cannot_make_us_remember_much(
    libp2p_lab: Lab, stranger: Stranger, node: Gossip
) -> None:
    from multiaddr import Multiaddr

    from p2pboot.transport.libp2p.peerstore import BoundedPeerStore
    from p2pboot.transport.records import MAX_ADDRESSES

    store, peer = BoundedPeerStore(), ID.from_base58(stranger.peer_id)
    for number in range(100):
        store.add_addrs(peer, [Multiaddr(f"/ip4/192.0.2.1/tcp/{number + 1 + n * 100}") for n in range(100)])
        store.add_protocols(peer, [f"/x/{number}/{n}" for n in range(100)] + ["y" * 5000])
    assert len(store.addrs(peer)) == MAX_ADDRESSES
    assert len(store.get_protocols(peer)) <= 64
    assert max(map(len, store.get_protocols(peer))) <= 128


def test_no_peer_is_forgotten_because_the_clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a battery begins in 1970, and its node ended with an internal error once the time came."""
    from multiaddr import Multiaddr

    from p2pboot.core.identity import SecretKey
    from p2pboot.transport.libp2p.peerstore import BoundedPeerStore

    key = SecretKey(b"k" * 32)
    store, peer = BoundedPeerStore(), ID.from_base58(key.public.peer_id)
    store.add_addrs(peer, [Multiaddr("/ip4/192.0.2.1/tcp/4001")], 7200)
    monkeypatch.setattr("libp2p.peer.peerdata.time.time", lambda: 4e9)
    assert store.peer_info(peer).peer_id == peer
    assert store.addrs(peer)
    assert peer in store.valid_peer_ids()
