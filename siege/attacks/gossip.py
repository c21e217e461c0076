"""Attacks on gossip: RPCs that cost more to read than to send, and messages that cost more to judge than to make."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Iterator

from p2pboot.core.identity import SecretKey
from p2pboot.wire.varint import encode_varint
from siege import rpc
from siege.attack import Attack
from siege.manifests import made_up


class Gossiper(Attack):
    shows = "RPCs"
    """Subscribes, and sends one RPC after the other as fast as the node reads them."""

    connections, addresses = 16, 4

    async def one(self, number: int) -> None:
        key = SecretKey(secrets.token_bytes(32))
        async with self.peer(number, key=key) as peer:
            greeting = rpc.rpc(*map(rpc.subscription, self.topics()))
            stream = await peer.open(rpc.GOSSIP_PROTOCOL, greeting)
            for said in self.rpcs(key):
                self.count("RPCs")  # begun: of some the node never reads the end
                await peer.write(stream, said)
            await stream.ended()

    def topics(self) -> tuple[str, ...]:
        """Of which topics they say that they are in."""
        return (self.target.topic,)

    @abstractmethod
    def rpcs(self, key: SecretKey) -> Iterator[bytes]:
        """What one of them says."""


class EmptyMessages(Gossiper):
    name = "gossip-empties"
    what = "16 ids send RPCs of 1 MiB of empty messages"
    bound = "RPCs by bytes, entries and CPU, before they are decoded"

    def rpcs(self, key: SecretKey) -> Iterator[bytes]:
        said = rpc.filled(rpc.empty_message())
        while True:
            yield said


class Subscriptions(Gossiper):
    name = "gossip-subscriptions"
    what = "16 ids send RPCs of 1 MiB of subscriptions, to topics that nobody knows"
    bound = "subscriptions count as entries"

    def rpcs(self, key: SecretKey) -> Iterator[bytes]:
        while True:
            topics = (f"/p2pboot/1/manifests/{secrets.token_hex(8)}/x86_64" for _ in range(1000))
            yield rpc.rpc(*(rpc.subscription(topic, join=join) for topic in topics for join in (True, False)))


class Control(Gossiper):
    name = "gossip-control"
    what = "16 ids send RPCs full of IHAVE, IWANT, GRAFT and PRUNE"
    bound = "control messages count as entries"

    def rpcs(self, key: SecretKey) -> Iterator[bytes]:
        topic = self.target.topic
        while True:
            ids = [secrets.token_bytes(32) for _ in range(64)]
            entries = (rpc.ihave(topic, ids), rpc.iwant(ids), rpc.graft(topic), rpc.prune(topic))
            yield rpc.rpc(*([rpc.control(*entries * 16)] * 8))


class Measured(Gossiper):
    name = "gossip-measured"
    what = "40 ids send RPCs that keep within every bound of an RPC: eight messages, 1,500 entries, 200 KiB"
    bound = "RPCs wait for turns, at their price"
    connections = 40

    def rpcs(self, key: SecretKey) -> Iterator[bytes]:
        topic = self.target.topic
        while True:
            ids = [secrets.token_bytes(32) for _ in range(64)]
            entries = rpc.control(*[rpc.ihave(topic, ids), rpc.iwant(ids)] * 10)
            messages = [rpc.message(topic, secrets.token_bytes(18_000), key) for _ in range(8)]
            yield rpc.rpc(entries, *messages)


class Grafts(Gossiper):
    name = "gossip-grafts"
    what = "40 ids send single small RPCs, GRAFT and PRUNE by turns, thousands a second"
    bound = "RPCs count, however small"
    connections = 40

    def rpcs(self, key: SecretKey) -> Iterator[bytes]:
        topic = self.target.topic
        while True:
            yield (rpc.rpc(rpc.control(rpc.graft(topic))) + rpc.rpc(rpc.control(rpc.prune(topic)))) * 200


class Dribbles(Gossiper):
    name = "gossip-nothing"
    what = "40 ids send RPCs of no byte, tens of thousands a second"
    bound = "RPCs count, however small"
    connections = 40

    def rpcs(self, key: SecretKey) -> Iterator[bytes]:
        while True:
            yield b"\0" * 20_000


class Unfinished(Gossiper):
    name = "gossip-unfinished"
    what = "64 ids send all but the last byte of an RPC of 1 MiB, and wait"
    bound = "bytes of RPCs that have not arrived wholly"
    connections = 64

    def rpcs(self, key: SecretKey) -> Iterator[bytes]:
        yield encode_varint(rpc.MAX_RPC - 16) + bytes(rpc.MAX_RPC - 17)


class Junk(Gossiper):
    name = "gossip-junk"
    what = "40 ids send manifests, each another one, signed by keys that nobody trusts, in true envelopes"
    bound = "messages by address; what is rejected costs score and connection"
    connections = 40

    def rpcs(self, key: SecretKey) -> Iterator[bytes]:
        version = 0
        while True:
            version += 1
            yield rpc.rpc(rpc.message(self.target.topic, made_up(key, version), key))


class Forged(Gossiper):
    name = "gossip-forged"
    what = "40 ids send RPCs of 500 messages whose envelopes are forged"
    bound = "messages by address, counted before the envelope is looked at"
    connections = 40

    def rpcs(self, key: SecretKey) -> Iterator[bytes]:
        while True:
            yield rpc.rpc(
                *(
                    rpc.message(self.target.topic, secrets.token_bytes(64), key, forged=True)
                    for _ in range(500)
                )
            )


class Large(Gossiper):
    name = "gossip-large"
    what = "16 ids send messages of 64 KiB of nothing, sixteen in an RPC"
    bound = "messages by address; bytes of gossip by address"

    def rpcs(self, key: SecretKey) -> Iterator[bytes]:
        while True:
            yield rpc.rpc(
                *(rpc.message(self.target.topic, secrets.token_bytes(60_000), key) for _ in range(16))
            )


ATTACKS = (
    EmptyMessages,
    Subscriptions,
    Control,
    Measured,
    Grafts,
    Dribbles,
    Unfinished,
    Junk,
    Forged,
    Large,
)
