"""Attacks that need no protocol of ours: sockets, handshakes, frames, streams nobody reads."""

from __future__ import annotations

import trio

from p2pboot.wire.identify import IDENTIFY_PROTOCOL
from p2pboot.wire.multistream import GREETING, encode_line
from p2pboot.wire.ping import PING_PROTOCOL
from p2pboot.wire.protobuf import bytes_field
from p2pboot.wire.varint import encode_varint
from p2pboot.wire.yamux.frames import (
    DATA,
    PING,
    RST,
    SESSION,
    SYN,
    WINDOW_UPDATE,
    header,
)
from siege.attack import Attack
from siege.peer import Peer, first_flight

IDENTIFY_PUSH = "/ipfs/id/push/1.0.0"
_MESSAGE = 60_000  # bytes of frames that go into one Noise message


async def fill(attack: Attack, peer: Peer, streams: int) -> None:
    """Open ping streams and send on each of them as much as ever fits; for ever."""

    async def one() -> None:
        while True:
            stream = await peer.open(PING_PROTOCOL)
            attack.count("streams")
            try:
                while True:
                    await peer.write(stream, bytes(60_000))
                    attack.count("sent", 60_000)
            except EOFError:
                attack.count("reset")
                await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for _ in range(streams):
            nursery.start_soon(one)


class PingWindows(Attack):
    name = "ping-windows"
    what = "250 ping streams a connection, their windows full, none of them read"
    bound = "what a connection, an address and the process hold unread"
    shows = "sent"
    connections, addresses = 20, 4

    async def one(self, number: int) -> None:
        async with self.peer(number, grants=False) as peer:
            await fill(self, peer, 250)


class PingDeaf(Attack):
    name = "ping-deaf"
    what = "the same, 256 connections with eight streams each, whose sockets nobody reads either"
    bound = "the same, and what waits to be sent"
    shows = "sent"
    connections, addresses = 256, 8

    async def one(self, number: int) -> None:
        async with self.peer(number, grants=False, bytes_per_s=1) as peer:
            await fill(self, peer, 8)


class IdlePeers(Attack):
    name = "idle-peers"
    what = "256 peers from four addresses that do nothing"
    bound = "admission of connections: shares by address, the idlest goes"
    shows = "secured"
    connections, addresses = 256, 4

    async def one(self, number: int) -> None:
        async with self.peer(number):
            await trio.sleep_forever()


class CrowdedPeers(Attack):
    name = "idle-crowd"
    what = "512 peers from 128 addresses that do nothing"
    bound = "admission of connections: a reserve for newcomers"
    shows = "secured"
    connections, addresses = 512, 128

    async def one(self, number: int) -> None:
        async with self.peer(number):
            await trio.sleep_forever()


class MuteSockets(Attack):
    name = "handshake-mute"
    what = "300 sockets from four addresses that say nothing"
    bound = "handshakes under way by address, and their time"
    connections, addresses = 300, 4

    async def one(self, number: int) -> None:
        async with self.socket(number) as sock:
            while await sock.receive_some(4096):
                pass
            raise EOFError


class TrickledHandshakes(Attack):
    name = "handshake-trickle"
    what = "300 handshakes from four addresses, a byte a second"
    bound = "handshakes under way by address, and their time"
    connections, addresses = 300, 4

    async def one(self, number: int) -> None:
        async with self.socket(number) as sock:
            for byte in first_flight():
                await sock.send_all(bytes([byte]))
                await trio.sleep(1)


class HalfHandshakes(Attack):
    name = "handshake-half"
    what = "300 handshakes from four addresses that end after the first message's answer"
    bound = "handshakes under way by address, and what each costs"
    connections, addresses = 300, 4

    async def one(self, number: int) -> None:
        async with self.socket(number) as sock:
            await sock.send_all(first_flight())
            while await sock.receive_some(4096):
                pass
            raise EOFError


class HandshakeChurn(Attack):
    name = "handshake-churn"
    what = "32 tasks from four addresses that shake hands and hang up, as somebody else each time"
    bound = "rate of handshakes by address"
    shows = "secured"
    connections, addresses = 32, 4

    async def one(self, number: int) -> None:
        while True:
            async with self.peer(number):
                pass


class Crumbs(Attack):
    name = "yamux-crumbs"
    what = "8 connections that send pings in frames of one byte"
    bound = "cost of a frame; what a connection may have done for it at once"
    shows = "frames"
    connections, addresses = 8, 2

    async def one(self, number: int) -> None:
        async with self.peer(number) as peer:
            stream = await peer.open(PING_PROTOCOL)
            count = _MESSAGE // 13
            frames = (header(DATA, 0, stream.id, 1) + b"\0") * count
            while not stream.over:
                while stream.room < count and not stream.over:
                    await stream.changed.wait()
                stream.room -= count
                await peer.send(frames)
                self.count("frames", count)
            raise EOFError


class WindowUpdates(Attack):
    name = "yamux-windows"
    what = "8 connections that grow a window by a byte without end"
    bound = "control frames by connection"
    shows = "frames"
    connections, addresses = 8, 2

    async def one(self, number: int) -> None:
        async with self.peer(number) as peer:
            stream = await peer.open(PING_PROTOCOL)
            count = _MESSAGE // 12
            frames = header(WINDOW_UPDATE, 0, stream.id, 1) * count
            while True:
                await peer.send(frames)
                self.count("frames", count)


class MuxerPings(Attack):
    name = "yamux-pings"
    what = "8 connections that send Yamux pings, 30 a message, and read the answers"
    bound = "control frames by connection"
    shows = "frames"
    connections, addresses = 8, 2

    async def one(self, number: int) -> None:
        async with self.peer(number) as peer:
            frames = b"".join(header(PING, SYN, SESSION, value) for value in range(30))
            while True:
                await peer.send(frames)
                self.count("frames", 30)


class StreamChurn(Attack):
    name = "yamux-churn"
    what = "8 connections that open streams and reset them at once"
    bound = "streams opened by connection and address"
    shows = "streams"
    connections, addresses = 8, 2

    async def one(self, number: int) -> None:
        async with self.peer(number) as peer:
            while True:
                frames = b""
                for _ in range(60):
                    stream = peer.reserve()
                    del peer.streams[stream.id]
                    frames += header(WINDOW_UPDATE, SYN, stream.id, 0)
                    frames += header(WINDOW_UPDATE, RST, stream.id, 0)
                await peer.send(frames)
                self.count("streams", 60)


class Guesses(Attack):
    name = "negotiation-guesses"
    what = "16 connections that guess protocols, 60 on each stream, stream after stream"
    bound = "streams opened by connection and address"
    shows = "streams"
    connections, addresses = 16, 2

    async def one(self, number: int) -> None:
        async with self.peer(number) as peer:
            guesses = encode_line(GREETING) + b"".join(encode_line(f"/guess/{n}") for n in range(60))
            while True:
                streams = [peer.reserve() for _ in range(16)]
                for stream in streams:
                    await peer.send(header(DATA, SYN, stream.id, len(guesses)) + guesses)
                await trio.sleep(0.05)
                for stream in streams:
                    await peer.reset(stream)
                self.count("streams", 16)


class IdentifyChurn(Attack):
    name = "identify-churn"
    what = "16 connections that ask who the node is, again and again"
    bound = "streams opened by connection and address"
    shows = "streams"
    connections, addresses = 16, 2

    async def one(self, number: int) -> None:
        async with self.peer(number) as peer:
            while True:
                streams = [await peer.open(IDENTIFY_PROTOCOL) for _ in range(16)]
                await trio.sleep(0.05)
                for stream in streams:
                    await peer.reset(stream)
                self.count("streams", 16)


class IdentifyPushes(Attack):
    name = "identify-push"
    what = "16 connections that say anew who they are, each time with a thousand addresses and protocols"
    bound = "streams opened by connection and address; what is kept of a peer"
    shows = "streams"
    connections, addresses = 16, 2

    async def one(self, number: int) -> None:
        said = b"".join(
            bytes_field(2, b"\x04\x7f\0\0\x01\x06" + at.to_bytes(2, "big"))
            + bytes_field(3, b"/siege/%d" % at)
            for at in range(1000)
        )
        async with self.peer(number) as peer:
            while True:
                streams = [await peer.open(IDENTIFY_PUSH, encode_varint(len(said)) + said) for _ in range(16)]
                await trio.sleep(0.05)
                for stream in streams:
                    await peer.reset(stream)
                self.count("streams", len(streams))


ATTACKS = (
    PingWindows,
    PingDeaf,
    IdlePeers,
    CrowdedPeers,
    MuteSockets,
    TrickledHandshakes,
    HalfHandshakes,
    HandshakeChurn,
    Crumbs,
    WindowUpdates,
    MuxerPings,
    StreamChurn,
    Guesses,
    IdentifyChurn,
    IdentifyPushes,
)
