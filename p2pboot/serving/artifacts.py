"""The answers of `/p2pboot/artifact/1` to each request, from what the store holds.

Owns the way from a checked request to a reply. Streams, order and limits are `serving.conversation`'s; whether
bytes are intact, the store judges.
"""

from __future__ import annotations

import logging
from typing import Final

from typing_extensions import override

from p2pboot.errors import BlobMissing, P2PBootError
from p2pboot.protocol.messages import (
    ARTIFACT_PROTOCOL,
    ArtifactRequest,
    HaveRequest,
    LongBody,
    PiecesRequest,
    ReadRequest,
    Reply,
    Status,
)
from p2pboot.serving.accounts import Serving
from p2pboot.serving.conversation import Reserve
from p2pboot.serving.server import UNREADABLE, Server, table_reply
from p2pboot.store.blobs import BlobStore
from p2pboot.store.errors import BlobGone, RangeError

log = logging.getLogger(__name__)

# Only what the status does not say: what was never here is `not_found`, and what is outside is `range`.
_CHANGED: Final = "its file changed on this node's disk and is being examined"
_ON_ITS_WAY: Final = "it is being fetched here, and this part has not come yet"


class ArtifactServer(Server):
    """Serves pieces of artifacts.

    Args:
        blobs: where they are.
        serving: limits and accounts, shared with the other servers of this node.
    """

    protocol = ARTIFACT_PROTOCOL

    def __init__(self, blobs: BlobStore, serving: Serving) -> None:
        super().__init__(serving)
        self._blobs = blobs

    @override
    async def _answer(self, request: ArtifactRequest, reserve: Reserve) -> Reply:
        try:
            match request:
                case ReadRequest():
                    return await self._read(request, reserve)
                case PiecesRequest():
                    return await self._pieces(request, reserve)
                case HaveRequest():
                    return await self._have(request)
        except RangeError:
            return Reply(Status.RANGE)
        except BlobGone:
            return Reply.refusal(Status.GONE, _CHANGED)
        except P2PBootError as error:  # a disk that fails costs this request, not the stream
            log.warning("%s of sha256:%s failed: %s", request.op, request.sha256, error)
            return Reply.refusal(Status.NOT_FOUND, UNREADABLE)

    async def _read(self, request: ReadRequest, reserve: Reserve) -> Reply:
        at_once = await reserve(request.length)
        sha256, start = request.sha256, request.offset

        async def read(offset: int, length: int) -> bytes:
            return await self._in_thread(self._blobs.read, sha256, start + offset, length)

        try:
            if not at_once:
                return Reply(Status.OK, await read(0, request.length))
            await self._in_thread(self._blobs.check, sha256, start, request.length)
            return Reply(Status.OK, long_body=LongBody(await read(0, at_once), request.length, read))
        except BlobMissing:
            something = await self._in_thread(self._blobs.held, request.sha256)
            if something is not None:
                return Reply.refusal(Status.NOT_FOUND, _ON_ITS_WAY)
            return Reply(Status.NOT_FOUND)

    async def _pieces(self, request: PiecesRequest, reserve: Reserve) -> Reply:
        table = await self._in_thread(self._blobs.table, request.sha256)
        if table is None:
            return Reply(Status.NOT_FOUND)
        return await table_reply(table, reserve)

    async def _have(self, request: HaveRequest) -> Reply:
        held = await self._in_thread(self._blobs.held, request.sha256)
        return Reply(Status.NOT_FOUND) if held is None else Reply(Status.OK, held.to_bytes())
