"""Attacks on the swarm: on who deals, on who is asked what changed, and on who tells of whom."""

from __future__ import annotations

import itertools
import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

import trio

from p2pboot.core.changes import MAX_CHANGES, Change, Form
from p2pboot.protocol.frames import encode_frame
from p2pboot.protocol.messages import MAX_IN_FLIGHT, SYNC_PROTOCOL, PeersRequest, encode_request
from p2pboot.protocol.swarm import (
    MAX_RUNS,
    MAX_SERIAL,
    MAX_WAIT_MS,
    SWARM_PROTOCOL,
    ChangesRequest,
    DealRequest,
    SomePiecesRequest,
    encode_changes,
)
from siege.asker import Asker
from siege.attack import Attack
from siege.peer import Peer, Stream


class _Swarmer(Asker):
    protocol = SWARM_PROTOCOL
    in_flight = MAX_IN_FLIGHT
    when_busy_s = 0.1


class Polls(_Swarmer):
    name = "swarm-polls"
    what = "64 ids of one address ask what changed, from everywhere, and wait for nothing"
    bound = "requests by address"
    connections = 64

    def questions(self, _number: int) -> Iterator[bytes]:
        afters = itertools.cycle((0, 1, MAX_SERIAL - 1, MAX_SERIAL))
        return (encode_request(ChangesRequest(self.target.table, after, 0)) for after in afters)


class Waits(Attack):
    name = "swarm-waits"
    what = "64 ids of one address wait on 16 streams each for changes of tables that they made up"
    bound = "who waits is idle, and gives way; looks for tables take turns"
    shows = "streams"
    connections = 64

    async def one(self, number: int) -> None:
        async with self.peer(number) as peer:
            streams = [await self._wait(peer) for _ in range(16)]
            self.count("streams", len(streams))
            async with trio.open_nursery() as nursery:
                for stream in streams:
                    nursery.start_soon(self._hold, peer, stream)

    async def _wait(self, peer: Peer) -> Stream:
        asked = (ChangesRequest(secrets.token_hex(32), 0, MAX_WAIT_MS) for _ in range(MAX_IN_FLIGHT))
        return await peer.open(SWARM_PROTOCOL, b"".join(map(encode_request, asked)))

    async def _hold(self, peer: Peer, stream: Stream) -> None:
        while True:
            await stream.ended()
            self.count("reset")
            await trio.sleep(1)
            stream = await self._wait(peer)


class Takers(Attack):
    name = "swarm-takers"
    what = "64 ids from four addresses have pieces dealt on four streams each, and read none of it"
    bound = "replies begin by address in turn; what is not taken was never dealt"
    shows = "streams"
    connections, addresses = 64, 4

    async def one(self, number: int) -> None:
        async with self.peer(number, grants=False) as peer:
            asked = encode_request(DealRequest(self.target.table, (), 1)) * MAX_IN_FLIGHT
            streams = [await peer.open(SWARM_PROTOCOL, asked) for _ in range(4)]
            self.count("streams", len(streams))
            for stream in streams:
                await stream.ended()
            raise EOFError


class Droppers(Attack):
    name = "swarm-droppers"
    what = "32 tasks of two addresses have pieces dealt and hang up, as somebody else each time"
    bound = "a deal whose connection ended never happened; handshakes by address"
    connections, addresses = 32, 2

    async def one(self, number: int) -> None:
        async with self.peer(number) as peer:
            begun = trio.Event()
            asked = encode_request(DealRequest(self.target.table, (), 16)) * 2
            await peer.open(SWARM_PROTOCOL, asked, lambda _: begun.set())
            with trio.move_on_after(2):
                await begun.wait()


class SamePieces(_Swarmer):
    name = "swarm-pieces"
    what = "40 ids from four addresses ask for one piece 64 times in each request, four requests in flight"
    bound = "disk work and replies on their way by address"
    connections, addresses = 40, 4
    in_flight = 4

    def questions(self, _number: int) -> Iterator[bytes]:
        return itertools.repeat(encode_request(SomePiecesRequest(self.target.table, ((0, 1),) * MAX_RUNS)))


class Claims(_Swarmer):
    name = "swarm-claims"
    what = "64 ids from four addresses take deals, and say a thousand things whenever they are asked what they have"
    bound = "changes heard by address; claims order, and deny nobody anything"
    connections, addresses = 64, 4
    in_flight = 2

    async def one(self, number: int) -> None:
        every = range(self.target.pieces)
        lie = encode_changes(
            Change(Form.COMING if index % 3 else Form.HELD, range(every[index % len(every)], len(every)))
            for index in range(MAX_CHANGES)
        )

        def answer(asked: Mapping[str, Any]) -> bytes | None:
            self.count(asked["op"])
            header = {"status": "ok", "length": len(lie), "at": 7, "form": "runs"}
            return (
                encode_frame(header) + lie if asked["op"] == "changes" else encode_frame({"status": "busy"})
            )

        async with self.peer(number) as peer:
            peer.answers = {SWARM_PROTOCOL: answer}
            await self.ask(peer, self.questions(number))

    def questions(self, _number: int) -> Iterator[bytes]:
        return itertools.repeat(encode_request(DealRequest(self.target.table, ((0, self.target.pieces),), 1)))


class Records(_Swarmer):
    name = "swarm-records"
    what = "40 ids from four addresses ask for peers without pause, with another record each time"
    bound = "a record of a peer is read once a second; requests by address"
    protocol = SYNC_PROTOCOL
    connections, addresses = 40, 4

    def questions(self, _number: int) -> Iterator[bytes]:
        while True:
            record = secrets.token_bytes(2100)
            request = PeersRequest(digest=secrets.token_hex(32), record=b64encode(record).decode())
            yield encode_request(request)


ATTACKS = (Polls, Waits, Takers, Droppers, SamePieces, Claims, Records)
