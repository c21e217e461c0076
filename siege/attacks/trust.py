"""Attacks with trust documents: by strangers, and by keys that have a say; by gossip, and by who is asked for them."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress

from typing_extensions import override

from p2pboot.core.identity import SecretKey
from p2pboot.protocol.frames import FrameReader
from p2pboot.protocol.messages import (
    SYNC_PROTOCOL,
    FreshnessRequest,
    Reply,
    RootsRequest,
    Status,
    YanksRequest,
    encode_documents,
    encode_request,
    freshness_topic,
    parse_request,
    roots_topic,
    yanks_topic,
)
from p2pboot.transport.interface import Connection, Stream, StreamReset, Transport
from siege import rpc, trustdocs
from siege.asker import Asker
from siege.attacks.gossip import Gossiper
from siege.listener import Listener
from siege.target import ARCH, CHANNEL, SECOND_CHANNEL

_LARGE = 60_000


def _somebody() -> SecretKey:
    return SecretKey(secrets.token_bytes(32))


class _Documents(Gossiper):
    connections, addresses = 64, 16

    def rpcs(self, key: SecretKey) -> Iterator[bytes]:
        for topic, raw in self.documents(key):
            yield rpc.rpc(rpc.message(topic, raw, key))

    def documents(self, key: SecretKey) -> Iterator[tuple[str, bytes]]:
        """What is said, and on which topic; for ever."""
        raise NotImplementedError

    def topics(self) -> tuple[str, ...]:
        fleet = self.target.fleet
        pairs = [(fleet, channel, ARCH) for channel in (CHANNEL, SECOND_CHANNEL)]
        return roots_topic(fleet), *(name(*pair) for name in (freshness_topic, yanks_topic) for pair in pairs)


class Strangers(_Documents):
    name = "trust-strangers"
    what = "64 ids send statements, yanks and roots, each another one, signed by keys that have no say"
    bound = "messages by address; no signature of who has no say is looked at"

    def documents(self, key: SecretKey) -> Iterator[tuple[str, bytes]]:
        fleet = self.target.fleet
        for number in itertools.count():
            now = int(time.time())
            yield (
                freshness_topic(fleet, CHANNEL, ARCH),
                trustdocs.statement(key, fleet, CHANNEL, created_at=now - number),
            )
            content = secrets.token_hex(32)
            raw = trustdocs.yank(key, fleet, CHANNEL, content)
            yield yanks_topic(fleet, CHANNEL, ARCH), raw
            yield (
                yanks_topic(fleet, CHANNEL, ARCH),
                trustdocs.padded(raw, key, _LARGE),
            )
            own = trustdocs.root([key], {CHANNEL: _somebody().public.keyid}, _somebody())
            yield roots_topic(fleet), own
            yield roots_topic(fleet), trustdocs.padded(own, key, _LARGE)


class Elsewhere(_Documents):
    name = "trust-elsewhere"
    what = (
        "64 ids join the topics of fleets and channels that they make up, and send there and on true topics"
    )
    bound = "the same; topics by peer"

    def documents(self, key: SecretKey) -> Iterator[tuple[str, bytes]]:
        while True:
            fleet, channel = secrets.token_hex(32), secrets.token_hex(8)
            raw = trustdocs.statement(key, fleet, channel)
            yield freshness_topic(fleet, channel, ARCH), raw
            yield freshness_topic(self.target.fleet, CHANNEL, ARCH), raw


class Vouching(_Documents):
    name = "trust-vouching"
    what = "64 ids send statements of a freshness key that has a say, each another: later, of one second, of nothing"
    bound = "the later one counts; evidence of one subject is bounded"

    def documents(self, key: SecretKey) -> Iterator[tuple[str, bytes]]:
        target, fleet = self.target, self.target.fleet
        topic = freshness_topic(fleet, CHANNEL, ARCH)
        named = {"head_version": target.head_version, "head_digest": target.head_digest}
        for number in itertools.count():
            now = int(time.time())
            said = {"valid_until": now + 7200 + secrets.randbelow(100_000), "minimum": 0}
            yield (
                topic,
                trustdocs.statement(
                    target.vouching_key, fleet, CHANNEL, created_at=now + number % 600, **named, **said
                ),
            )
            yield topic, trustdocs.statement(target.vouching_key, fleet, CHANNEL, **named, **said)
            missing = {"head_digest": secrets.token_hex(32)}
            yield (
                topic,
                trustdocs.statement(
                    target.vouching_key, fleet, CHANNEL, created_at=now + number % 600, **missing
                ),
            )


class Yanking(_Documents):
    name = "trust-yanking"
    what = "64 ids send yanks of a publisher that means no good, each another one, of 64 KiB"
    bound = "64 of a channel and arch; no more is passed on"

    def documents(self, key: SecretKey) -> Iterator[tuple[str, bytes]]:
        target, fleet = self.target, self.target.fleet
        while True:
            raw = trustdocs.yank(target.second_key, fleet, SECOND_CHANNEL, secrets.token_hex(32))
            yield yanks_topic(fleet, SECOND_CHANNEL, ARCH), trustdocs.padded(raw, target.second_key, _LARGE)


class Asking(Asker):
    name = "trust-asking"
    what = "64 ids from four addresses ask for roots, statements and yanks without pause"
    bound = "requests by address"
    protocol = SYNC_PROTOCOL
    connections, addresses = 64, 4

    def questions(self, _number: int) -> Iterator[bytes]:
        return itertools.cycle(
            encode_request(one)
            for one in (
                RootsRequest(self.target.fleet),
                FreshnessRequest(CHANNEL, ARCH),
                YanksRequest(SECOND_CHANNEL, ARCH),
            )
        )


class Chains(Listener):
    name = "trust-chains"
    what = "32 ids from eight addresses have chains of roots without end of their own fleets, whatever fleet is meant"
    bound = "a walk ends with the first that does not follow; who sent it is not asked again"
    shows = "known"
    connections, addresses = 32, 8
    protocol = SYNC_PROTOCOL

    @override
    async def be_known(self, transport: Transport, node: Connection) -> None:
        self.count("known")

    async def serve(self, stream: Stream) -> None:
        frames, key = FrameReader(), _somebody()
        with suppress(StreamReset):
            while data := await stream.read(4096):
                frames.receive_data(data)
                while (payload := frames.next_frame()) is not None:
                    request = parse_request(SYNC_PROTOCOL, payload)
                    self.count(request.op)
                    body = b"[]"
                    if isinstance(request, RootsRequest):
                        body = encode_documents(self._chain(key, request.after or 0))
                    await stream.write(Reply(Status.OK, body).encode_header() + body)

    def _chain(self, key: SecretKey, after: int) -> list[bytes]:
        said = {"fleet": self.target.fleet}
        return [
            trustdocs.root(
                [key],
                {CHANNEL: _somebody().public.keyid},
                _somebody(),
                version=version,
                **(said if version > 1 else {}),
            )
            for version in range(after + 1, after + 33)
        ]


ATTACKS = (Strangers, Elsewhere, Vouching, Yanking, Asking, Chains)
