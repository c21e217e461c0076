"""Attacks on the serving of artifacts: slots, bytes waiting, disk work. Many of them are honest peers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import trio

from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, MAX_IN_FLIGHT, ReadRequest, encode_request
from siege.asker import Asker
from siege.attack import Attack
from siege.peer import Peer, Stream
from siege.target import MIB


class _Reader(Asker):
    """Reads of the largest artifact, of any place there."""

    protocol = ARTIFACT_PROTOCOL
    when_busy_s = 0.1
    length = MIB

    def questions(self, number: int) -> Iterator[bytes]:
        chance = random.Random(number)
        while True:
            length = min(self.length, self.target.size)
            offset = chance.randrange(self.target.size - length + 1)
            yield encode_request(ReadRequest(self.target.sha256, offset, length))


class SlowReaders(_Reader):
    name = "slow-readers"
    what = "40 honest peers from 40 addresses that read 0.5 MB/s each, sixteen requests of 1 MiB in flight"
    bound = "bytes waiting go round by peer; a stalled stream holds a slice"
    connections, addresses = 40, 40
    bytes_per_s = 500_000


class SlowSite(_Reader):
    name = "slow-site"
    what = "40 of the same from one address"
    bound = "the same, by address"
    connections = 40
    bytes_per_s = 500_000


class BootStorm(_Reader):
    name = "boot-storm"
    what = "64 honest clients from 64 addresses at 1 Mbit/s each, sixteen requests of 1 MiB in flight"
    bound = "bytes waiting go round by peer; nobody is reset for being slow"
    connections, addresses = 64, 64
    bytes_per_s = 125_000


class Crawlers(_Reader):
    name = "crawlers"
    what = "64 peers from four addresses that take a kilobyte every other second"
    bound = "the same: each holds a slice, and gives it up while others wait"
    shows = "secured"  # a reply takes half an hour
    connections, addresses = 64, 4
    bytes_per_s = 512


class SingleBytes(_Reader):
    name = "single-bytes"
    what = "60 ids of one address ask for single bytes, each of another piece"
    bound = "disk work by address; small reads of a piece are served from one verification"
    connections = 60
    length = 1


class SingleBytesOfOnePiece(SingleBytes):
    name = "single-bytes-of-one"
    what = "60 ids of one address ask for single bytes of one piece"

    def questions(self, number: int) -> Iterator[bytes]:
        while True:
            yield encode_request(ReadRequest(self.target.sha256, random.randrange(100), 1))


class Sprinters(_Reader):
    name = "sprinters"
    what = "16 ids of one address read as fast as they can"
    bound = "fair queues by address"
    connections = 16


class IdleStreams(Attack):
    name = "idle-streams"
    what = "64 ids of one address with 16 idle streams each: all 1,024"
    bound = "slots of streams: shares by address, a reserve, the idlest goes"
    shows = "streams"
    connections = 64

    async def one(self, number: int) -> None:
        async with self.peer(number) as peer:
            streams = [await peer.open(ARTIFACT_PROTOCOL) for _ in range(16)]
            self.count("streams", len(streams))
            async with trio.open_nursery() as nursery:
                for stream in streams:
                    nursery.start_soon(self._hold, peer, stream)

    async def _hold(self, peer: Peer, stream: Stream) -> None:
        while True:
            await stream.ended()
            self.count("reset")
            await trio.sleep(1)
            stream = await peer.open(ARTIFACT_PROTOCOL)


class NeverRead(Attack):
    name = "never-read"
    what = "64 ids from four addresses ask for 16 times 1 MiB on each of 16 streams, and read nothing"
    bound = "bytes waiting by address and in all"
    shows = "streams"
    connections, addresses = 64, 4

    async def one(self, number: int) -> None:
        async with self.peer(number, grants=False) as peer:
            asked = encode_request(ReadRequest(self.target.sha256, 0, min(MIB, self.target.size)))
            streams = [await peer.open(ARTIFACT_PROTOCOL, asked * MAX_IN_FLIGHT) for _ in range(16)]
            self.count("streams", len(streams))
            for stream in streams:
                await stream.ended()
            raise EOFError


class Cancelled(Attack):
    name = "cancelled-replies"
    what = "32 ids of two addresses ask for 16 times 1 MiB, take the first header, reset, and ask again"
    bound = "a reply that is given up is paid for: disk work by address"
    shows = "streams"
    connections, addresses = 32, 2

    async def one(self, number: int) -> None:
        chance = random.Random(number)
        async with self.peer(number) as peer:
            while True:
                heard, hear = _first()
                room = max(1, self.target.size - MIB)
                asked = b"".join(
                    encode_request(ReadRequest(self.target.sha256, chance.randrange(room), MIB))
                    for _ in range(MAX_IN_FLIGHT)
                )
                stream = await peer.open(ARTIFACT_PROTOCOL, asked, hear)
                with trio.move_on_after(2):
                    await heard.wait()
                await peer.reset(stream)
                self.count("streams")


def _first() -> tuple[trio.Event, Callable[[bytes], None]]:
    """An event that is set with the first byte behind the negotiation's lines."""
    event, heard = trio.Event(), [0]

    def hear(data: bytes) -> None:
        heard[0] += len(data)
        if heard[0] > 100:
            event.set()

    return event, hear


class TrickledRequests(Attack):
    name = "trickled-requests"
    what = "64 ids of one address, eight streams each, a byte of a request every second"
    bound = "time that a request may take to arrive; slots of streams by address"
    shows = "secured"
    connections = 64

    async def one(self, number: int) -> None:
        async with self.peer(number) as peer:
            streams = [await peer.open(ARTIFACT_PROTOCOL) for _ in range(8)]
            for byte in encode_request(ReadRequest(self.target.sha256, 0, 1)):
                for stream in streams:
                    await peer.write(stream, bytes([byte]))
                await trio.sleep(1)


ATTACKS = (
    SlowReaders,
    SlowSite,
    BootStorm,
    Crawlers,
    SingleBytes,
    SingleBytesOfOnePiece,
    Sprinters,
    IdleStreams,
    NeverRead,
    Cancelled,
    TrickledRequests,
)
