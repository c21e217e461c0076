"""A stranger with a key of its own, who speaks the lower layers correctly and the upper ones as it likes."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from libp2p.abc import INetStream, ISecureConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.transport import Transport as NoiseTransport

from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import Transport
from p2pboot.transport.libp2p.host import Libp2pTransport
from p2pboot.transport.libp2p.muxer import HardenedYamux
from p2pboot.transport.libp2p.tcp import dial_tcp

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


async def noise(node: Transport, seed: bytes = b"a" * 32) -> ISecureConn:
    """A connection up to the Noise handshake, before a muxer is agreed on."""
    raw = await dial_tcp(parse_address(node.addresses()[0]))
    pair = create_new_key_pair(seed)
    transport = NoiseTransport(pair, noise_privkey=create_noise_key_pair().private_key)
    await MultiselectClient().select_one_of([TProtocol("/noise")], MultiselectCommunicator(raw), 5)
    return await transport.secure_outbound(raw, ID.from_base58(node.peer_id))


def muxer(attacker: Transport, victim: str) -> HardenedYamux:
    """The attacker's end of its (first) connection with the victim."""
    assert isinstance(attacker, Libp2pTransport)
    muxed = attacker._swarm.get_connections(ID.from_base58(victim))[0].muxed_conn
    assert isinstance(muxed, HardenedYamux)
    return muxed


async def stream(attacker: Transport, victim: str, protocol: str) -> INetStream:
    """A negotiated stream on which anything may be written."""
    assert isinstance(attacker, Libp2pTransport)
    return await attacker._host.new_stream(ID.from_base58(victim), [TProtocol(protocol)])


def frame(kind: int, flags: int, stream_id: int, length: int, body: bytes = b"") -> bytes:
    """A Yamux frame, of whatever the numbers make of it."""
    return struct.pack("!BBHII", 0, kind, flags, stream_id, length) + body
