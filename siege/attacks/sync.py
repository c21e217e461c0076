"""Attacks on what a node says of itself, and on the reading of requests."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import trio

from p2pboot.protocol.frames import encode_prefix
from p2pboot.protocol.messages import (
    ARTIFACT_PROTOCOL,
    SYNC_PROTOCOL,
    HaveRequest,
    HeadsRequest,
    ManifestRequest,
    PeersRequest,
    PiecesRequest,
    encode_request,
)
from siege.asker import Asker
from siege.attack import Attack


class _Crowd(Asker):
    connections, addresses = 40, 4
    protocol = SYNC_PROTOCOL


class SyncFlood(_Crowd):
    name = "sync-flood"
    what = "40 ids from four addresses ask for heads and peers without pause"
    bound = "requests by address"
    shows = "ok"

    def questions(self, _number: int) -> Iterator[bytes]:
        return itertools.cycle((encode_request(HeadsRequest()), encode_request(PeersRequest())))


class ManifestFlood(_Crowd):
    name = "manifest-flood"
    what = "40 ids from four addresses ask for manifests that nobody has"
    bound = "requests by address"
    shows = "not_found"

    def questions(self, _number: int) -> Iterator[bytes]:
        return (encode_request(ManifestRequest(f"{number:064x}")) for number in itertools.count())


class TableFlood(_Crowd):
    name = "table-flood"
    what = "40 ids from four addresses ask for piece tables, and which pieces there are"
    bound = "requests by address"
    shows = "ok"
    protocol = ARTIFACT_PROTOCOL

    def questions(self, _number: int) -> Iterator[bytes]:
        sha256 = self.target.sha256
        return itertools.cycle((encode_request(PiecesRequest(sha256)), encode_request(HaveRequest(sha256))))


class BadRequests(_Crowd):
    name = "bad-requests"
    what = "40 ids from four addresses send JSON that is as large and deep as it may be, and no request"
    bound = "requests by address; reading costs no more than answering"
    shows = "bad_request"

    def questions(self, _number: int) -> Iterator[bytes]:
        nested = "[" * 1900 + "]" * 1900
        many = json.dumps({f"{number:x}": number for number in range(360)}, separators=(",", ":"))
        return itertools.cycle(encode_prefix(len(text)) + text.encode() for text in (nested, many))


class BadFrames(Attack):
    name = "bad-frames"
    what = "16 ids of two addresses open streams, send what is no frame, and do it again"
    bound = "streams opened by address"
    shows = "streams"
    connections, addresses = 16, 2

    async def one(self, number: int) -> None:
        async with self.peer(number) as peer:
            while True:
                streams = [await peer.open(SYNC_PROTOCOL, b"\xff" * 64) for _ in range(16)]
                self.count("streams", len(streams))
                with trio.move_on_after(2):
                    for stream in streams:
                        await stream.ended()


ATTACKS = (SyncFlood, ManifestFlood, TableFlood, BadRequests, BadFrames)
