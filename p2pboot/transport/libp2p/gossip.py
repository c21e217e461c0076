"""Gossip with extended validators (GossipSub v1.1) on py-libp2p, whose own know accept and reject only.

An RPC's way: its length → its turn, once it is weighed → decoded. A message's way from there: topic → seen already? →
the sender's rate → size → the envelope's signature → the validator → marked seen, forwarded. Cheap steps come first;
what all of them may cost, and whose turn it is, `accounts` says.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

import trio
from libp2p.abc import IHost, IMuxedConn, INetStream
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.pubsub.utils import maybe_consume_signed_record
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils import encode_varint_prefixed
from libp2p.utils.varint import decode_uvarint

from p2pboot.core.events import Event
from p2pboot.core.token_bucket import TokenBucket
from p2pboot.errors import RemoteProtocolError
from p2pboot.transport.allowlist import EVERYBODY, AllowList
from p2pboot.transport.interface import Forwarding, Validator
from p2pboot.transport.libp2p import accounts as offences
from p2pboot.transport.libp2p.accounts import RECORD_S, Accounts, price_s
from p2pboot.transport.libp2p.options import Libp2pOptions
from p2pboot.transport.libp2p.outbox import MAX_RPC, Outgoing
from p2pboot.transport.libp2p.router import HardenedGossipSub, message_id
from p2pboot.transport.libp2p.topics import ForeignTopics
from p2pboot.transport.records import read_record
from p2pboot.transport.seen import SeenMessages
from p2pboot.wire.pubsub import TooMuch, is_of_other_kind, signed_bytes, signer_of, weigh

log = logging.getLogger("p2pboot.transport.libp2p")

MAX_PAYLOAD: Final = 64 * 1024
_MAX_TOPIC: Final = 256  # characters
_MAX_TOPICS_PER_PEER: Final = 256
_MAX_CLAIM: Final = 16 * 1024 * 1024  # a length above it is garbage rather than a message
_UNHEARD: Final = 20  # entries that a message of one who is muted counts as
_LENGTH_BYTES: Final = 10
_JUST_SENT: Final = 64  # messages that one stream brought last
# Stock queues 32 RPCs per peer and drops the rest without a word: our own messages keep this pace.
_PUBLISH_PER_S: Final = 20.0
_PUBLISH_BURST: Final = 16


class ValidatingPubsub(Pubsub):
    """libp2p's pubsub with our own reading and validating of messages."""

    router: HardenedGossipSub

    def __init__(self, host: IHost, router: HardenedGossipSub, seen: SeenMessages) -> None:
        super().__init__(host, router, strict_signing=True, msg_id_constructor=message_id)
        self.seen_messages.stop()
        self.accounts = router.accounts
        self.seen = seen
        self.validators: dict[str, Validator] = {}
        self.outgoing = Outgoing()
        self.tasks: (
            trio.Nursery
        )  # of what peers make us do, as long as the service runs; stock's own search a tree
        self._welcoming: set[tuple[ID, str]] = set()
        self._greeting: set[ID] = set()
        self._reading: dict[IMuxedConn, INetStream] = {}
        self._validating: set[tuple[str, bytes]] = set()
        self._foreign = ForeignTopics()

    # What we send.

    async def _handle_new_peer(self, peer_id: ID) -> None:
        """Open a stream to a peer and greet it, once (stock does it twice for two connections at once)."""
        if peer_id in self.peers or peer_id in self._greeting or not self.accounts.is_heard(peer_id):
            return
        self._greeting.add(peer_id)
        try:
            await self._greet(peer_id, await self.host.new_stream(peer_id, self.protocols))
        finally:
            self._greeting.discard(peer_id)
        await self.router.flush_pending_messages(peer_id)
        await self._send_recent_messages_to_new_peer(peer_id)

    async def _greet(self, peer_id: ID, stream: INetStream) -> None:
        """Tell a peer which topics we are in, in RPCs that it will read, and make it one that messages are sent to.

        What is joined or left while the greeting goes out is told to it then (stock tells it to nobody).
        """
        before = set(self.topic_ids)
        greeting = self.get_hello_packet()
        topics = list(greeting.subscriptions)
        for first in range(0, max(1, len(topics)), _MAX_TOPICS_PER_PEER):
            del greeting.subscriptions[:]
            greeting.subscriptions.extend(topics[first : first + _MAX_TOPICS_PER_PEER])
            await stream.write(encode_varint_prefixed(greeting.SerializeToString()))
        self.router.add_peer(peer_id, stream.get_protocol())
        self.peers[peer_id] = stream
        outbox = self.outgoing.open(self.accounts.party(peer_id), lambda: self.accounts.is_known(peer_id))
        self.peer_queues[peer_id] = outbox
        self.manager.run_task(self.handle_sending_messages, peer_id, stream, outbox)
        for topic in before.symmetric_difference(self.topic_ids):
            packet, _ = self._build_announce_rpc(topic, subscribe=topic in self.topic_ids)
            self.router.send_rpc(peer_id, packet)

    async def handle_sending_messages(self, peer_id: ID, stream: INetStream, queue: RpcQueue) -> None:
        """Write what is in a peer's outbox, until either is closed."""
        try:
            while (frame := cast(bytes | None, await queue.pop())) is not None:
                await stream.write(frame)
        except Exception as error:
            log.debug("gossip to %s ended: %r", peer_id, error)
            if self.peers.get(peer_id) is stream:
                self._handle_dead_peer(peer_id)
        finally:
            queue.close()

    async def _peer_stream_retry_task(self, peer_id: ID) -> None:
        """Open a stream to a peer again; a while later, if it ends them again and again."""
        await trio.sleep(self.accounts.reopening_s(peer_id))
        await super()._peer_stream_retry_task(peer_id)

    async def _replay_recent_messages(self, peer_id: ID, topic: str) -> None:
        """Take a peer into the mesh before it is sent what it missed: what comes in between would never reach it.

        (Stock grafts at the next heartbeat whoever subscribed before there was a stream to it.)
        """
        if peer_id in self.peers:
            await self.router.on_peer_subscribed(peer_id, topic)
        await super()._replay_recent_messages(peer_id, topic)

    # What we read.

    async def stream_handler(self, stream: INetStream) -> None:
        """Read one stream of a connection: the newest, for a peer knows best which of them it still writes to."""
        connection = stream.muxed_conn
        peer_id = connection.peer_id
        if not (self.accounts.is_allowed(peer_id) and self.accounts.may_open(peer_id)):
            await stream.reset()
            return
        former, self._reading[connection] = self._reading.get(connection), stream
        try:
            if former is not None:
                await former.reset()
            await self.continuously_read_stream(stream)
        except Exception as error:
            self._note_end(peer_id, error)
            await stream.reset()
            if self._reading.get(connection) is stream:
                self._handle_dead_peer(peer_id)
        finally:
            if self._reading.get(connection) is stream:
                del self._reading[connection]

    def _note_end(self, peer_id: ID, error: Exception) -> None:
        log.debug("gossip from %s ended: %r", peer_id, error)
        if isinstance(error, TooMuch):
            self.accounts.blame(peer_id, offences.FLAGRANT, error.message)
        elif isinstance(error, RemoteProtocolError):
            self.accounts.blame(peer_id, offences.MALFORMED, error.message)

    async def continuously_read_stream(self, stream: INetStream) -> None:
        """Read a peer's RPCs until its stream ends, one message after the other.

        Nothing more is read while one waits for its turn. (Stock starts a task for each message.)

        Raises:
            TooMuch: an RPC is larger than any that an honest node sends.
            RemoteProtocolError: it is none.
        """
        peer_id = stream.muxed_conn.peer_id
        known_record = b""
        just_sent: deque[bytes] = deque(maxlen=_JUST_SENT)
        while True:
            raw = await _read_rpc(stream)
            weight = weigh(raw)
            await self.accounts.take_turn(peer_id, price_s(weight))
            if self.accounts.is_muted(peer_id):
                self.accounts.note_useless(peer_id, 1 + weight.fields // 8 + _UNHEARD * weight.messages)
                continue
            rpc = rpc_pb2.RPC()
            try:
                rpc.ParseFromString(raw)
            except Exception as error:
                raise RemoteProtocolError(f"an RPC cannot be decoded: {error}") from error
            if rpc.senderRecord and rpc.senderRecord != known_record:
                known_record = rpc.senderRecord
                await self.accounts.take_turn(peer_id, RECORD_S)
                self._take_record(peer_id, rpc)
            useless = int(not (weight.messages or weight.subscriptions or weight.controls))
            for message in rpc.publish:
                useless += message.signature in just_sent or not self._concerns_us(message)
                just_sent.append(message.signature)
                await self.push_msg(peer_id, message)
            for subscription in rpc.subscriptions:
                useless += not self._note_subscription(peer_id, subscription)
            self.accounts.note_useless(peer_id, useless)
            if rpc.HasField("control"):
                await self.router.handle_rpc(rpc, peer_id)

    def _take_record(self, peer_id: ID, rpc: rpc_pb2.RPC) -> None:
        """Keep what a peer says of itself. Ours is read first: it refuses keys that cost seconds to check."""
        if read_record(rpc.senderRecord) is None or not maybe_consume_signed_record(rpc, self.host, peer_id):
            log.debug("peer %s sent an invalid record of itself", peer_id)

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Validate and forward one message. Raises nothing: what a stranger sent must not end the service."""
        try:
            if msg_forwarder == self.my_id:
                # Also when it is seen already: an announcement repeated is meant to go out.
                self.seen.add(msg.topicIDs[0], message_id(msg))
                await self.router.publish(self.my_id, msg)
            else:
                await self._receive(msg_forwarder, msg)
        except Exception:
            log.debug("gossip message from %s failed", msg_forwarder, exc_info=True)

    def _concerns_us(self, msg: rpc_pb2.Message) -> bool:
        return len(msg.topicIDs) == 1 and msg.topicIDs[0] in self.validators

    async def _receive(self, forwarder: ID, msg: rpc_pb2.Message) -> None:
        if not self._concerns_us(msg):
            return
        topic = msg.topicIDs[0]
        key = topic, message_id(msg)
        if self.seen.has(*key) or key in self._validating:
            return
        if not self.accounts.may_publish(forwarder):
            log.debug("gossip from %s dropped: more than it may send", forwarder)
            return  # not marked seen: another peer may bring it
        if self.accounts.is_muted(forwarder):  # since this RPC began
            return
        self._validating.add(
            key
        )  # the validator takes its time, and other peers bring the same message meanwhile
        try:
            forwarding = await self._forwarding_of(self.validators[topic], forwarder, msg)
        finally:
            self._validating.discard(key)
        if forwarding is Forwarding.REJECT:
            self.accounts.blame(forwarder, offences.REJECTED, "it sent a message that no honest node sends")
        elif forwarding is None:
            self.accounts.note_useless(forwarder, 1)
        else:
            self.seen.add(*key, ignored=forwarding is Forwarding.IGNORE)
        if forwarding is Forwarding.ACCEPT:
            self.accounts.earned(forwarder)
            await self.router.publish(forwarder, msg)

    async def _forwarding_of(
        self, validator: Validator, forwarder: ID, msg: rpc_pb2.Message
    ) -> Forwarding | None:
        """Check the envelope, then ask the validator; None where the message is not looked at in this envelope."""
        if len(msg.data) > MAX_PAYLOAD:
            return Forwarding.REJECT
        signer = signer_of(msg.from_id)
        if signer is None:
            return None if is_of_other_kind(msg.from_id) else Forwarding.REJECT
        signed = signed_bytes(sender=msg.from_id, data=msg.data, seqno=msg.seqno, topic=msg.topicIDs[0])
        if not signer.verify(signed, msg.signature):
            return Forwarding.REJECT
        if msg.from_id == self.my_id.to_bytes():
            return Forwarding.IGNORE  # our own, come back after its id was forgotten
        try:
            return await validator(str(forwarder), msg.data)
        except Exception as error:
            log.warning(
                "validating a gossip message from %s failed: %r",
                forwarder,
                error,
                extra=Event.GOSSIP_FAILED(peer=str(forwarder)),
            )
            log.debug("the traceback", exc_info=True)
            return Forwarding.IGNORE

    # Who is in which topic.

    def handle_subscription(self, origin_id: ID, sub_message: rpc_pb2.RPC.SubOpts) -> None:
        """Note that a peer joined or left a topic."""
        self._note_subscription(origin_id, sub_message)

    def _note_subscription(self, peer_id: ID, subscription: rpc_pb2.RPC.SubOpts) -> bool:
        """Note that a peer joined or left a topic; returns whether that was news which we keep."""
        topic = subscription.topicid
        was_in = peer_id in self.peer_topics.get(topic, ())
        if not subscription.subscribe:
            self._forget_subscription(peer_id, topic)
            return was_in
        joined = self._peer_subscription_count.get(peer_id, 0)
        if was_in or len(topic) > _MAX_TOPIC or joined >= _MAX_TOPICS_PER_PEER:
            return False
        concerns_us = topic in self.topic_ids or self.router.has_sent_on(topic)
        if not concerns_us and not self._keep_foreign(peer_id, topic):
            return False
        self.peer_topics.setdefault(topic, set()).add(peer_id)
        self._peer_subscription_count[peer_id] = joined + 1
        if (concerns_us or self.router.awaits(peer_id)) and (peer_id, topic) not in self._welcoming:
            self._welcoming.add((peer_id, topic))
            self.tasks.start_soon(self._welcome, peer_id, topic)
        return True

    def _keep_foreign(self, peer_id: ID, topic: str) -> bool:
        party, is_known = self.accounts.party(peer_id), self.accounts.is_known(peer_id)
        return self._foreign.take(peer_id, party, topic, trusted=is_known)

    async def _welcome(self, peer_id: ID, topic: str) -> None:
        """Give a peer that joined a topic what it missed, and from now on all there is."""
        self._welcoming.discard((peer_id, topic))
        try:
            await self.router.flush_pending_messages(peer_id)
            await self._replay_recent_messages(peer_id, topic)
        except Exception:
            log.debug("welcoming %s failed", peer_id, exc_info=True)

    def _forget_subscription(self, peer_id: ID, topic: str) -> None:
        super()._forget_subscription(peer_id, topic)
        self._foreign.leave(peer_id, topic)

    def _forget_all_subscriptions(self, peer_id: ID) -> None:
        super()._forget_all_subscriptions(peer_id)
        self._foreign.forget(peer_id)

    def notify_subscriptions(self, publish_message: rpc_pb2.Message) -> None:
        """Nobody reads libp2p's subscription channels: validators take what they accept."""


async def _read_rpc(stream: INetStream) -> bytes:
    """Read one RPC.

    Raises:
        TooMuch: it is too long; none of it is read.
        RemoteProtocolError: this is no length.
        StreamError: the stream ends first.
    """
    prefix = bytearray()
    while not prefix or prefix[-1] & 0x80:
        if len(prefix) == _LENGTH_BYTES:
            raise RemoteProtocolError("an RPC begins with no length")
        prefix += await _read_exactly(stream, 1)
    length = decode_uvarint(bytes(prefix))
    if length > _MAX_CLAIM:
        raise RemoteProtocolError(f"an RPC claims to have {length} bytes")
    if length > MAX_RPC:
        raise TooMuch(f"an RPC of {length} bytes is longer than {MAX_RPC}")
    return await _read_exactly(stream, length)


async def _read_exactly(stream: INetStream, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        received += await stream.read(count - len(received))  # raises at the end
    return bytes(received)


class Gossip:
    """Topics, validators and publishing for one host.

    Args:
        host: must run while `run` does.
        options: the limits.
        allowed: whose gossip is heard.
    """

    def __init__(self, host: IHost, options: Libp2pOptions, allowed: AllowList = EVERYBODY) -> None:
        seen = SeenMessages(options.gossip_seen_s)
        self._accounts = Accounts(host, options, allowed)
        self._router = HardenedGossipSub(self._accounts, seen)
        self._pubsub = ValidatingPubsub(host, self._router, seen)
        self._publishing = trio.Lock()
        self._pace = TokenBucket(_PUBLISH_PER_S, _PUBLISH_BURST, trio.current_time())

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Run libp2p's services for it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._accounts.run)
            self._pubsub.tasks = nursery
            async with background_trio_service(self._router), background_trio_service(self._pubsub):
                await self._pubsub.wait_until_ready()
                yield
            nursery.cancel_scope.cancel()

    async def join(self, topic: str, validator: Validator) -> None:
        """Join a topic; joining again replaces the validator."""
        self._pubsub.validators[topic] = validator
        await self._pubsub.subscribe(topic)

    async def leave(self, topic: str) -> None:
        """Leave a topic."""
        if self._pubsub.validators.pop(topic, None) is not None:
            await self._pubsub.unsubscribe(topic)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send a message, not faster than peers can be expected to take it.

        Raises:
            ValueError: longer than `MAX_PAYLOAD`.
        """
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a gossip message has at most {MAX_PAYLOAD} bytes, not {len(payload)}")
        async with self._publishing:
            await trio.sleep(self._pace.take(1, trio.current_time()))
            await self._pubsub.publish(topic, payload)

    def forget_seen(self) -> None:
        """Let messages that were ignored be validated again."""
        self._pubsub.seen.forget_ignored()
