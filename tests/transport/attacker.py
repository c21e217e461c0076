"""A stranger on py-libp2p as it comes, who speaks the lower layers correctly and the upper ones as it likes."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
from libp2p.abc import IMuxedStream, ISecureConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux

from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import Transport

MULTISTREAM = b"\x13/multistream/1.0.0\n"


def line(text: bytes) -> bytes:
    """A multistream-select message."""
    return bytes([len(text) + 1]) + text + b"\n"


@asynccontextmanager
async def tcp(node: Transport) -> AsyncIterator[trio.SocketStream]:
    """A bare connection to a node."""
    address = parse_address(node.addresses()[0])
    stream = await trio.open_tcp_stream(address.host, address.port)
    async with stream:
        yield stream


async def drain(stream: trio.SocketStream) -> bytes:
    """All that comes until the node hangs up."""
    received = bytearray()
    try:
        async for data in stream:
            received += data
    except trio.BrokenResourceError:
        pass
    return bytes(received)


@asynccontextmanager
async def noise(node: Transport) -> AsyncIterator[tuple[trio.SocketStream, ISecureConn]]:
    """A connection up to the Noise handshake, before a muxer is agreed on."""
    async with tcp(node) as stream:
        raw = RawConnection(TrioTCPStream(stream), initiator=True)
        transport = NoiseTransport(
            create_new_key_pair(b"a" * 32), noise_privkey=create_noise_key_pair().private_key
        )
        await MultiselectClient().select_one_of([TProtocol("/noise")], MultiselectCommunicator(raw), 5)
        yield stream, await transport.secure_outbound(raw, ID.from_base58(node.peer_id))


@dataclass
class Stranger:
    """Its connection with a node.

    Args:
        peer_id: its own.
        socket: for what is no Noise message.
        secured: for what is no Yamux frame.
        muxer: the library's own.
    """

    peer_id: str
    socket: trio.SocketStream
    secured: ISecureConn
    muxer: Yamux

    async def send_frames(self, frames: bytes) -> None:
        """Write bytes in place of what the muxer would."""
        await self.secured.write(frames)

    async def open_stream(self, protocol: str) -> IMuxedStream:
        """A negotiated stream on which anything may be written."""
        stream = await self.muxer.open_stream()
        await MultiselectClient().select_one_of([TProtocol(protocol)], MultiselectCommunicator(stream), 5)
        return stream


@asynccontextmanager
async def stranger(node: Transport) -> AsyncIterator[Stranger]:
    """Connect as a stranger; the node opens streams for identify and gossip, which nobody accepts."""
    async with noise(node) as (socket, secured), trio.open_nursery() as nursery:
        await MultiselectClient().select_one_of([TProtocol(YAMUX)], MultiselectCommunicator(secured), 5)
        muxer = Yamux(secured, secured.get_remote_peer(), is_initiator=True)
        nursery.start_soon(muxer.start)
        await muxer.event_started.wait()
        yield Stranger(str(ID.from_pubkey(create_new_key_pair(b"a" * 32).public_key)), socket, secured, muxer)
        nursery.cancel_scope.cancel()


def frame(kind: int, flags: int, stream_id: int, length: int, body: bytes = b"") -> bytes:
    """A Yamux frame, of whatever the numbers make of it."""
    return struct.pack("!BBHII", 0, kind, flags, stream_id, length) + body
