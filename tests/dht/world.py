"""Members of a table on the network in memory, and strangers who speak its protocol as they like."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import trio

from p2pboot.dht.addresses import AddressPolicy
from p2pboot.dht.client import DhtClient
from p2pboot.dht.keys import manifest_key, pair_key
from p2pboot.dht.member import DhtMember
from p2pboot.testing.manifests import key_of
from p2pboot.testing.network import MemoryNetwork
from p2pboot.transport.interface import Connection, Stream, Transport
from p2pboot.wire.kad import (
    KAD_PROTOCOL,
    KadPeer,
    Message,
    MessageType,
    Record,
    decode_message,
    encode_message,
)
from p2pboot.wire.varint import decode_varint

KEY = manifest_key("stable", "arm64")
PAIR = pair_key("stable", "arm64")
RIGHT = b"http://10.0.0.1:8080/phase/stable/arm64/manifest.json"


@dataclass
class Peer:
    """A member, and its end of the network."""

    transport: Transport
    member: DhtMember

    @property
    def address(self) -> str:
        return self.transport.addresses()[0]


class DhtWorld:
    """The machines of one test."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()

    @asynccontextmanager
    async def member(
        self,
        name: str,
        *,
        serves: bool = True,
        policy: AddressPolicy | None = None,
        named: Iterable[str] = (),
    ) -> AsyncIterator[Peer]:
        """Run a member whose operator named some others."""
        trusted = {key_of(one).public.peer_id for one in named}
        async with self.network.open(key_of(name).public.peer_id) as transport:
            member = DhtMember(
                transport, policy or AddressPolicy(), serves=serves, is_trusted=trusted.__contains__
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(member.run)
                yield Peer(transport, member)
                nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def mesh(self, count: int, dials: int = 3) -> AsyncIterator[list[Peer]]:
        """Run members each of which has dialled the few before it."""
        async with AsyncExitStack() as stack:
            peers: list[Peer] = []
            for number in range(count):
                peer = await stack.enter_async_context(self.member(f"member {number}"))
                for other in peers[-dials:]:
                    await peer.transport.dial(other.address)
                peers.append(peer)
            await trio.sleep(1)
            yield peers

    @asynccontextmanager
    async def client(self, name: str = "client") -> AsyncIterator[DhtClient]:
        """Run somebody who only asks."""
        async with self.network.open(key_of(name).public.peer_id, is_client=True) as transport:
            yield DhtClient(transport, AddressPolicy())


async def raw_stream(transport: Transport, to: Peer) -> Stream:
    """A stream on which anything may be said."""
    connection = await transport.dial(to.address)
    return await transport.open_stream(connection, KAD_PROTOCOL)


async def read_message(stream: Stream) -> Message | None:
    """The next message; None at the end."""
    frame = b""
    while (length := decode_varint(frame, max_bytes=4, minimal=False)) is None:
        data = await stream.read(1)  # nothing of the next one is taken
        if not data:
            return None
        frame += data
    while (missing := sum(length) - len(frame)) > 0:
        data = await stream.read(missing)
        if not data:
            return None
        frame += data
    return decode_message(frame[length[1] :])


async def exchange(stream: Stream, message: Message) -> Message:
    """One request and its reply, the only one that is under way."""
    await stream.write(encode_message(message))
    reply = await read_message(stream)
    assert reply is not None
    return reply


async def connected(transport: Transport, to: Peer) -> Connection:
    """A connection with a member."""
    return await transport.dial(to.address)


INVENTED = [key_of(f"invented {number}").public.peer_id_bytes for number in range(200)]


class Liar:
    """Answers that a wrong value is there, and tells of peers that are not."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    async def handle(self, stream: Stream) -> None:
        while (request := await read_message(stream)) is not None:
            invented = tuple(
                KadPeer(peer_id, (bytes([4, 10, 9, self._chance.randrange(256), number, 6, 3, 232]),))
                for number, peer_id in enumerate(self._chance.sample(INVENTED, 20))
            )
            wrong = Record(request.key, b"wrong %f" % self._chance.random())
            lie = Message(request.type, request.key, wrong, closer=invented, providers=invented)
            if request.type is not MessageType.ADD_PROVIDER:
                await stream.write(encode_message(lie))
