"""Gossip with extended validators (GossipSub v1.1) on py-libp2p, whose own know accept and reject only.

A message's way: topic → seen already? → the sender's rate → its score → size → the envelope's signature → the
validator → marked seen, forwarded. Cheap steps come first: what a flood costs us is its hashing.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio
from libp2p.abc import IHost, INetStream
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.utils import maybe_consume_signed_record
from libp2p.pubsub.validators import signature_validator
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from p2pboot.core.token_bucket import TokenBucket
from p2pboot.transport.interface import Forwarding, Validator
from p2pboot.transport.libp2p.options import Libp2pOptions
from p2pboot.transport.libp2p.router import HardenedGossipSub, message_id
from p2pboot.transport.seen import SeenMessages

log = logging.getLogger("p2pboot.transport.libp2p")

MAX_PAYLOAD: Final = 64 * 1024
_MAX_RPC: Final = 1024 * 1024
_MAX_TOPIC: Final = 256  # characters
_MAX_TOPICS_PER_PEER: Final = 256
# Stock queues 32 RPCs per peer and drops the rest without a word: our own messages keep this pace.
_PUBLISH_PER_S: Final = 20.0
_PUBLISH_BURST: Final = 16


class ValidatingPubsub(Pubsub):
    """libp2p's pubsub with our own reading and validating of messages."""

    router: HardenedGossipSub

    def __init__(self, host: IHost, router: HardenedGossipSub, options: Libp2pOptions) -> None:
        super().__init__(
            host,
            router,
            strict_signing=True,
            msg_id_constructor=message_id,
            max_inbound_rpc_size=_MAX_RPC,
            max_subscriptions_per_rpc=_MAX_TOPICS_PER_PEER,
            max_subscriptions_per_peer=_MAX_TOPICS_PER_PEER,
        )
        self.seen_messages.stop()
        self.seen = SeenMessages(options.gossip_seen_s)
        self.seen_messages = self.seen  # type: ignore[assignment]  # the router asks it too
        self.validators: dict[str, Validator] = {}
        self._options = options
        self._buckets: dict[ID, TokenBucket] = {}
        self._validating: set[bytes] = set()

    async def _handle_new_peer(self, peer_id: ID) -> None:
        """Greet a peer, and tell it what was joined or left while the greeting went out (stock tells it to nobody)."""
        before = set(self.topic_ids)
        await super()._handle_new_peer(peer_id)
        for topic in before.symmetric_difference(self.topic_ids):
            packet, _ = self._build_announce_rpc(topic, subscribe=topic in self.topic_ids)
            self.router.send_rpc(peer_id, packet)

    async def _replay_recent_messages(self, peer_id: ID, topic: str) -> None:
        """Take a peer into the mesh before it is sent what it missed: what comes in between would never reach it.

        (Stock grafts at the next heartbeat whoever subscribed before there was a stream to it.)
        """
        if peer_id in self.peers:
            await self.router.on_peer_subscribed(peer_id, topic)
        await super()._replay_recent_messages(peer_id, topic)

    async def continuously_read_stream(self, stream: INetStream) -> None:
        """Read a peer's RPCs until its stream ends, one message after the other.

        (Stock starts a task for each message: 5,000 small ones come in one RPC.)
        """
        peer_id = stream.muxed_conn.peer_id
        known_record = b""
        while True:
            rpc = rpc_pb2.RPC()
            rpc.ParseFromString(await read_varint_prefixed_bytes_limited(stream, self.max_inbound_rpc_size))
            if rpc.HasField("senderRecord") and rpc.senderRecord != known_record:
                if not maybe_consume_signed_record(rpc, self.host, peer_id):
                    log.debug("peer %s sent an invalid record of itself", peer_id)
                known_record = rpc.senderRecord
            for message in rpc.publish:
                await self.push_msg(peer_id, message)
            for subscription in rpc.subscriptions[: self.max_subscriptions_per_rpc]:
                self.handle_subscription(peer_id, subscription)
            if rpc.HasField("control"):
                await self.router.handle_rpc(rpc, peer_id)

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Validate and forward one message. Raises nothing: what a stranger sent must not end the service."""
        try:
            if msg_forwarder == self.my_id:
                # Also when it is seen already: an announcement repeated is meant to go out.
                self.seen.add(message_id(msg))
                await self.router.publish(self.my_id, msg)
            else:
                await self._receive(msg_forwarder, msg)
        except Exception:
            log.debug("gossip message from %s failed", msg_forwarder, exc_info=True)

    async def _receive(self, forwarder: ID, msg: rpc_pb2.Message) -> None:
        validator = self.validators.get(msg.topicIDs[0]) if len(msg.topicIDs) == 1 else None
        if validator is None:
            return
        topic, key = msg.topicIDs[0], message_id(msg)
        if self.seen.has(key) or key in self._validating:
            return
        if not self._bucket(forwarder).try_take(1, trio.current_time()):
            log.debug("gossip from %s dropped: more than it may send", forwarder)
            return  # not marked seen: another peer may bring it
        if not self.router.scores.allow_publish(forwarder, [topic]):
            return
        self._validating.add(
            key
        )  # the validator takes its time, and other peers bring the same message meanwhile
        try:
            forwarding = await self._forwarding_of(validator, forwarder, msg)
        finally:
            self._validating.discard(key)
        if forwarding is Forwarding.REJECT:
            self.router.scores.on_invalid_message(forwarder, topic)
            return
        self.seen.add(key, ignored=forwarding is Forwarding.IGNORE)
        if forwarding is Forwarding.ACCEPT:
            self.router.scores.on_first_delivery(forwarder, topic)
            await self.router.publish(forwarder, msg)

    async def _forwarding_of(self, validator: Validator, forwarder: ID, msg: rpc_pb2.Message) -> Forwarding:
        """Check the envelope, then ask the validator."""
        if len(msg.data) > MAX_PAYLOAD:
            return Forwarding.REJECT
        try:
            signed = signature_validator(msg)
        except Exception:  # it raises on a key or an id that is none
            signed = False
        if not signed:
            return Forwarding.REJECT
        if msg.from_id == self.my_id.to_bytes():
            return Forwarding.IGNORE  # our own, come back after its id was forgotten
        try:
            return await validator(str(forwarder), msg.data)
        except Exception as error:
            log.warning("validating a gossip message from %s failed: %r", forwarder, error)
            log.debug("the traceback", exc_info=True)
            return Forwarding.IGNORE

    def _bucket(self, peer_id: ID) -> TokenBucket:
        if peer_id not in self._buckets:
            for gone in [one for one in self._buckets if not self._peer_is_connected(one)]:
                del self._buckets[gone]
            options = self._options
            self._buckets[peer_id] = TokenBucket(
                options.gossip_messages_per_second, options.gossip_burst, trio.current_time()
            )
        return self._buckets[peer_id]

    def handle_subscription(self, origin_id: ID, sub_message: rpc_pb2.RPC.SubOpts) -> None:
        """Note that a peer joined or left a topic."""
        if len(sub_message.topicid) <= _MAX_TOPIC:
            super().handle_subscription(origin_id, sub_message)

    def notify_subscriptions(self, publish_message: rpc_pb2.Message) -> None:
        """Nobody reads libp2p's subscription channels: validators take what they accept."""


class Gossip:
    """Topics, validators and publishing for one host.

    Args:
        host: must run while `run` does.
        options: the limits.
    """

    def __init__(self, host: IHost, options: Libp2pOptions) -> None:
        self._router = HardenedGossipSub()
        self._pubsub = ValidatingPubsub(host, self._router, options)
        self._publishing = trio.Lock()
        self._pace = TokenBucket(_PUBLISH_PER_S, _PUBLISH_BURST, trio.current_time())

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Run libp2p's services for it."""
        async with background_trio_service(self._router), background_trio_service(self._pubsub):
            await self._pubsub.wait_until_ready()
            yield

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
