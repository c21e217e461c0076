"""The answers of `/p2pboot/sync/1` and `/p2pboot/artifact/1` to each request, from what the store holds.

Owns the way from a checked request to a reply. Streams, order and limits are `node.conversation`'s; whether
bytes are intact, the store judges. All of the store is called in threads of our own, so that slow disks hold
up only who reads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import trio

from p2pboot.errors import BlobMissing, P2PBootError
from p2pboot.node.conversation import Reserve, serve_stream
from p2pboot.node.offering import Withheld
from p2pboot.node.serving import Serving
from p2pboot.protocol.messages import (
    ARTIFACT_PROTOCOL,
    MAX_DETACHED,
    SYNC_PROTOCOL,
    ArtifactRequest,
    HaveRequest,
    Head,
    HeadsRequest,
    ManifestRequest,
    PeersRequest,
    PiecesRequest,
    ReadRequest,
    Reply,
    Status,
    SyncRequest,
    encode_heads,
    encode_peers,
)
from p2pboot.protocol.withheld import WithheldHead, encode_withheld
from p2pboot.store.blobs import BlobStore
from p2pboot.store.errors import BlobGone, RangeError
from p2pboot.store.manifests import HeadRow, ManifestCatalogue
from p2pboot.transport.interface import Stream

log = logging.getLogger(__name__)

T = TypeVar("T")
DISK_THREADS: Final = 4
"""At the same time: enough to keep a disk busy, few enough that hashing leaves the processor to others."""


# Only what the status does not say: what was never here is `not_found`, and what is outside is `range`.
_CHANGED: Final = "its file changed on this node's disk and is being examined"
_ON_ITS_WAY: Final = "it is being fetched here, and this part has not come yet"
_UNREADABLE: Final = "this node can not read it at the moment"


class InThreads:
    """Runs blocking calls, a bounded number at a time; waiting for a thread is first come, first served."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(DISK_THREADS)

    async def __call__(self, function: Callable[..., T], *args: object) -> T:
        """Run `function(*args)` in a thread and return what it returns."""
        return await trio.to_thread.run_sync(function, *args, limiter=self._limiter)


class ArtifactServer:
    """Serves pieces of artifacts.

    Args:
        blobs: where they are.
        serving: limits and accounts, shared with the other servers of this node.
    """

    def __init__(self, blobs: BlobStore, serving: Serving) -> None:
        self._blobs = blobs
        self._serving = serving
        self._in_thread = InThreads()

    async def handle(self, stream: Stream) -> None:
        """Serve one inbound stream of ARTIFACT_PROTOCOL to its end; raises nothing but Cancelled."""
        await serve_stream(stream, ARTIFACT_PROTOCOL, self._answer, self._serving)

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
            return Reply.refusal(Status.NOT_FOUND, _UNREADABLE)

    async def _read(self, request: ReadRequest, reserve: Reserve) -> Reply:
        await reserve(request.length)
        try:
            data = await self._in_thread(self._blobs.read, request.sha256, request.offset, request.length)
        except BlobMissing:
            something = await self._in_thread(self._blobs.bitmap, request.sha256)
            if something is not None:
                return Reply.refusal(Status.NOT_FOUND, _ON_ITS_WAY)
            return Reply(Status.NOT_FOUND)
        return Reply(Status.OK, data)

    async def _pieces(self, request: PiecesRequest, reserve: Reserve) -> Reply:
        table = await self._in_thread(self._blobs.table, request.sha256)
        if table is None:
            return Reply(Status.NOT_FOUND)
        await reserve(len(table.raw))
        return Reply(Status.OK, table.raw)

    async def _have(self, request: HaveRequest) -> Reply:
        bitmap = await self._in_thread(self._blobs.bitmap, request.sha256)
        return Reply(Status.NOT_FOUND) if bitmap is None else Reply(Status.OK, bitmap.to_bytes())


class SyncServer:
    """Serves heads, manifests and peers.

    Args:
        catalogue: the manifests.
        peer_records: gives signed peer records of peers that are worth knowing, best first; must be quick.
        now: the time in unix seconds, for what is expired is not offered any more.
        serving: limits and accounts, shared with the other servers of this node.
        withheld: what is known of a channel and arch (None: of all) and not offered; called in threads.
    """

    def __init__(
        self,
        catalogue: ManifestCatalogue,
        peer_records: Callable[[], Sequence[bytes]],
        now: Callable[[], int],
        serving: Serving,
        withheld: Callable[[str | None, str | None], Sequence[Withheld]],
    ) -> None:
        self._catalogue = catalogue
        self._peer_records = peer_records
        self._now = now
        self._serving = serving
        self._withheld = withheld
        self._in_thread = InThreads()

    async def handle(self, stream: Stream) -> None:
        """Serve one inbound stream of SYNC_PROTOCOL to its end; raises nothing but Cancelled."""
        await serve_stream(stream, SYNC_PROTOCOL, self._answer, self._serving)

    async def _answer(self, request: SyncRequest, _reserve: Reserve) -> Reply:
        try:
            match request:
                case HeadsRequest():
                    return await self._heads(request)
                case ManifestRequest():
                    return await self._manifest(request)
                case PeersRequest():
                    return self._peers()
        except P2PBootError as error:  # the catalogue fails; other streams and requests may go on
            log.warning("%s failed: %s", request.op, error)
            return Reply.refusal(Status.NOT_FOUND, _UNREADABLE)

    async def _heads(self, request: HeadsRequest) -> Reply:
        rows = await self._in_thread(self._catalogue.heads, request.channel, request.arch)
        now = self._now()
        heads = [_head(row) for row in rows if row.expires_at > now]
        if heads and request.channel is not None and request.arch is not None:
            return Reply(Status.OK, encode_heads(heads))  # the pair is offered: there is nothing to explain
        known = await self._in_thread(self._withheld, request.channel, request.arch)
        withheld = encode_withheld(WithheldHead(w.channel, w.arch, w.why.value, w.text) for w in known)
        return Reply(Status.OK, encode_heads(heads), {"withheld": withheld} if withheld else None)

    async def _manifest(self, request: ManifestRequest) -> Reply:
        stored = await self._in_thread(self._catalogue.get, request.digest)
        if stored is None:
            return Reply(Status.NOT_FOUND)
        detached = stored.detached if len(stored.detached or "") <= MAX_DETACHED else None
        return Reply(Status.OK, stored.raw, {"detached": detached})

    def _peers(self) -> Reply:
        # Any peer may be of use, so the filters narrow nothing: records do not say what their peers offer.
        return Reply(Status.OK, encode_peers(self._peer_records()))


def _head(row: HeadRow) -> Head:
    return Head(row.channel, row.arch, row.signers, row.manifest_version, row.digest, row.size)
