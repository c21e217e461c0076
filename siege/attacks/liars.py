"""Attacks on those who fetch: peers that are found as everybody is, and give nothing good."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import trio

from p2pboot.core.pieces import PieceSet
from p2pboot.fetch.asking.requests import requests_to
from p2pboot.protocol.client import ask_heads, ask_peers
from p2pboot.protocol.frames import FrameReader
from p2pboot.protocol.messages import SYNC_PROTOCOL, Reply, Status, parse_request
from p2pboot.protocol.swarm import MAX_SERIAL, SWARM_PROTOCOL
from p2pboot.transport.interface import Connection, Stream, StreamReset, Transport
from siege.listener import Listener
from siege.target import ARCH, CHANNEL


class Liars(Listener):
    """Those of whom the node tells who fetch what it offers."""

    shows = "told"
    connections, addresses = 16, 4
    protocol = SWARM_PROTOCOL

    async def be_known(self, transport: Transport, node: Connection) -> None:
        async with requests_to(transport, node, SYNC_PROTOCOL) as requests:
            for head in (await requests.ask(ask_heads(CHANNEL, ARCH))).heads:
                await requests.ask(ask_peers(digest=head.digest, record=transport.own_record()))
                self.count("told")

    async def serve(self, stream: Stream) -> None:
        frames = FrameReader()
        with suppress(StreamReset):
            while data := await stream.read(4096):
                frames.receive_data(data)
                while (payload := frames.next_frame()) is not None:
                    await self._answer(stream, parse_request(SWARM_PROTOCOL, payload))

    async def _answer(self, stream: Stream, request: Any) -> None:
        self.count(request.op)
        if request.table != self.target.table:
            await stream.write(Reply(Status.NOT_FOUND).encode_header())
        elif request.op == "changes":
            body = PieceSet.full(self.target.pieces).to_bytes()
            reply = Reply(Status.OK, body, {"at": MAX_SERIAL, "form": "bitmap"})
            await stream.write(reply.encode_header() + body)
        else:
            await self.give(stream, request)

    async def give(self, stream: Stream, request: Any) -> None:
        """Answer who wants pieces."""
        raise NotImplementedError


class Busy(Liars):
    name = "swarm-busy"
    what = (
        "16 peers of four addresses tell those who fetch that they have everything, and are busy for a moment"
    )
    bound = "who refuses is not counted on; a pause is a tenth of a second at least"

    async def give(self, stream: Stream, _request: Any) -> None:
        await stream.write(Reply.busy(0).encode_header())


class Poison(Liars):
    name = "swarm-poison"
    what = "the same, who deal and give what is not what was signed"
    bound = "a piece each, and of their address one at a time after the first; the liar is not asked any more"

    async def give(self, stream: Stream, request: Any) -> None:
        first, count = request.want[0] if request.want else (0, 1)
        size = self.target.piece_length if request.op == "deal" else count * self.target.piece_length
        extra = {"index": first, "count": 1} if request.op == "deal" else None
        await stream.write(Reply(Status.OK, bytes(size), extra).encode_header() + bytes(size))


class Trickle(Liars):
    name = "swarm-trickle"
    what = "the same, who send what they deal byte by byte"
    bound = "what is far too late is not counted on where others wait; second copies at the end"

    async def give(self, stream: Stream, request: Any) -> None:
        first, count = request.want[0] if request.want else (0, 1)
        size = self.target.piece_length if request.op == "deal" else count * self.target.piece_length
        extra = {"index": first, "count": 1} if request.op == "deal" else None
        await stream.write(Reply(Status.OK, bytes(size), extra).encode_header())
        for _ in range(size):
            await trio.sleep(0.5)
            await stream.write(b"0")


ATTACKS = (Busy, Poison, Trickle)
