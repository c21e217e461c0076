"""The answers of `/p2pboot/snapshot/1` to each request, from what a snapshot store holds.

As `serving.artifacts` for artifacts: the way from a checked request to a reply. Streams, order and limits are
`serving.conversation`'s; whether bytes and signatures are intact, the store judges.
"""

from __future__ import annotations

import logging
from typing import Final

from typing_extensions import override

from p2pboot.core.events import Event
from p2pboot.core.pieces import check_piece_length
from p2pboot.core.timetoke.errors import (
    ChunkMissing,
    KeyVersionInvalid,
    SignatureEmpty,
    SignatureLengthError,
    SignatureMismatch,
    SignatureMissing,
    SignatureNoFile,
    SignatureUndecodable,
    SnapshotChanged,
    SnapshotMissing,
)
from p2pboot.errors import MachineError, P2PBootError
from p2pboot.protocol.messages import LongBody, Reply, Status
from p2pboot.protocol.snapshots import (
    MAX_SNAPSHOT_HEADS,
    SNAPSHOT_PROTOCOL,
    AnnouncementRequest,
    ChunkRequest,
    ChunksRequest,
    InfoRequest,
    SnapshotHead,
    SnapshotHeadsRequest,
    SnapshotRequest,
    encode_snapshot_heads,
)
from p2pboot.serving.accounts import Serving
from p2pboot.serving.conversation import Reserve, serve_stream
from p2pboot.serving.server import Server, table_reply
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from p2pboot.transport.interface import Stream

log = logging.getLogger(__name__)

_REASONS: Final = {
    SignatureMissing: "it has no signature, and this server requires one",
    SignatureEmpty: "its signature file is empty",
    KeyVersionInvalid: "what stands before the colon in its signature file is no key version",
    SignatureNoFile: "its signature is a link to nothing, or no file",
    SignatureUndecodable: "its signature file holds no base64 text of a signature",
    SignatureLengthError: "its signature file does not hold the 64 bytes of a signature",
    SignatureMismatch: "its signature is not one over its bytes by a key that this server knows",
    SnapshotChanged: "its file changed on the disk",
    MachineError: "its files can not be read",
}
"""What whoever asks is told. The log has the error itself, with paths, which are nobody else's business."""


class SnapshotServer(Server):
    """Serves announcements, and snapshots chunk by chunk.

    Args:
        store: where they are; it also decides whether a snapshot without signature is served.
        serving: limits and accounts, shared with the other servers of this node.

    Raises:
        ValueError: the store cuts payloads into chunks of a length that is not sent.
    """

    protocol = SNAPSHOT_PROTOCOL

    def __init__(self, store: DiskSnapshotStore, serving: Serving) -> None:
        super().__init__(serving)
        check_piece_length(store.chunk_length)
        self._store = store

    @override
    async def handle(self, stream: Stream) -> None:
        await serve_stream(stream, self.protocol, self._answer, self._serving)

    async def _answer(self, request: SnapshotRequest, reserve: Reserve) -> Reply:
        try:
            return await self._look_up(request, reserve)
        except SnapshotMissing as error:
            return Reply.refusal(Status.NOT_FOUND, self._store.why_missing(error.root))
        except ChunkMissing:
            return Reply(Status.RANGE)
        except SnapshotChanged as error:
            return Reply.refusal(Status.GONE, _REASONS[type(error)])
        except P2PBootError as error:  # an unusable signature, or a disk that fails: costs this request only
            log.warning(
                "%s is not answered: %s", request.op, error, extra=Event.SERVING_FAILED(op=request.op)
            )
            return Reply.refusal(Status.NOT_FOUND, _REASONS.get(type(error)))

    async def _look_up(self, request: SnapshotRequest, reserve: Reserve) -> Reply:
        match request:
            case SnapshotHeadsRequest():
                return Reply(Status.OK, encode_snapshot_heads(await self._in_thread(self._heads)))
            case AnnouncementRequest():
                return await self._in_thread(self._announcement, request)
            case InfoRequest():
                return await self._in_thread(self._info, request)
            case ChunksRequest():
                table = await self._in_thread(self._store.table, request.root)
                return await table_reply(table, reserve)
            case ChunkRequest():
                return await self._chunk(request, reserve)

    def _heads(self) -> list[SnapshotHead]:
        held = [one for one in self._store.announcements.all() if self._store.has_snapshot(one.root)]
        return [SnapshotHead(one.signer, one.sequence, one.root) for one in held[:MAX_SNAPSHOT_HEADS]]

    def _announcement(self, request: AnnouncementRequest) -> Reply:
        announcement = self._store.announcements.get(request.signer, request.root)
        return Reply(Status.NOT_FOUND) if announcement is None else Reply(Status.OK, announcement.raw)

    def _info(self, request: InfoRequest) -> Reply:
        table = self._store.table(request.root)
        return Reply(
            Status.OK,
            b"",
            {
                "size": table.size,
                "chunk_length": table.piece_length,
                "total": table.count,
                "signature": self._store.signature_text(request.root),
            },
        )

    async def _chunk(self, request: ChunkRequest, reserve: Reserve) -> Reply:
        table = await self._in_thread(self._store.chunk_table, request.root, request.index)
        _, length = table.span(request.index)
        header = {"root": request.root, "index": request.index, "total": table.count}
        at_once = await reserve(length)
        if not at_once:
            chunk = await self._in_thread(self._store.chunk, request.root, request.index)
            return Reply(Status.OK, chunk.data, header)
        await self._in_thread(self._store.check_chunk, request.root, request.index)

        async def read(offset: int, size: int) -> bytes:
            part = self._store.part_of_chunk
            return await self._in_thread(part, request.root, request.index, offset, size)

        return Reply(Status.OK, b"", header, LongBody(await read(0, at_once), length, read))
