"""The answers of `/p2pboot/sync/1` to each request: heads, manifests and peers, from what the store holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

import trio
from cachetools import LRUCache
from typing_extensions import override

from p2pboot.core.events import Event
from p2pboot.core.origins import origin_of
from p2pboot.core.token_bucket import TokenBucket
from p2pboot.core.withheld import Withheld
from p2pboot.errors import P2PBootError
from p2pboot.protocol.messages import (
    MAX_DETACHED,
    SYNC_PROTOCOL,
    DocumentsRequest,
    FreshnessRequest,
    Head,
    HeadsRequest,
    ManifestRequest,
    PeersRequest,
    Reply,
    RootsRequest,
    Status,
    SyncRequest,
    encode_documents,
    encode_heads,
    encode_peers,
)
from p2pboot.protocol.withheld import WithheldHead, encode_withheld
from p2pboot.serving.accounts import KNOWN_PEERS, Serving
from p2pboot.serving.conversation import HandedOver, Reserve, serve_stream
from p2pboot.serving.limits import BURST_S
from p2pboot.serving.referrals import Referrals
from p2pboot.serving.server import UNREADABLE, Server
from p2pboot.store.manifests import HeadRow, StoredManifest
from p2pboot.transport.interface import Connection, PeerRecord, Stream
from p2pboot.transport.records import read_record

log = logging.getLogger(__name__)

PEERS_PER_S: Final = 50.0
"""Questions for peers that are answered to one address, and as many for some seconds at once: an answer is made of all
who are known. Of a rack that boots behind one address each machine asks three times in the first two seconds."""


class Offered(Protocol):
    """The manifests that are offered, as `store.manifests` has them; called in threads."""

    def heads(self, channel: str | None, arch: str | None) -> Sequence[HeadRow]:
        """The heads that are wholly held."""

    def get(self, digest: str) -> StoredManifest | None:
        """One manifest."""


class Documents(Protocol):
    """The trust documents that are told, as `store.trustdocs` has them; called in threads."""

    def roots(self, fleet: str, after: int) -> Sequence[bytes]:
        """The roots of a fleet above a version, ascending."""

    def freshness(self, channel: str, arch: str) -> Sequence[bytes]:
        """The newest freshness statements of a channel and arch."""

    def yanks(self, channel: str, arch: str, after: str | None) -> Sequence[bytes]:
        """The yanks of a channel and arch, the newest first; behind that of a content, where one is named."""


class NoDocuments:
    """For who keeps no trust documents to tell."""

    def roots(self, _fleet: str, _after: int) -> tuple[bytes, ...]:
        """None."""
        return ()

    def freshness(self, _channel: str, _arch: str) -> tuple[bytes, ...]:
        """None."""
        return ()

    def yanks(self, _channel: str, _arch: str, _after: str | None) -> tuple[bytes, ...]:
        """None."""
        return ()


class NothingOffered:
    """For who offers no manifests, and only tells peers of each other."""

    def heads(self, _channel: str | None, _arch: str | None) -> tuple[HeadRow, ...]:
        """None."""
        return ()

    def get(self, _digest: str) -> None:
        """None."""


class SyncServer(Server):
    """Serves heads, manifests and peers.

    Args:
        catalogue: the manifests.
        peer_records: gives signed records of the nodes that are connected, for everyone; must be quick.
        now: the time in unix seconds, for what is expired is not offered any more.
        serving: limits and accounts, shared with the other servers of this node.
        withheld: what is known of a channel and arch (None: of all) and not offered; called in threads.
        documents: the trust documents; None for none.
        read_record: reads a signed record that came from anybody; at most one signature check.
        note_site: is told where somebody who asks says that it stands.
        is_clients: whether it is a client's, which tells of nodes only who is there for something in particular.
    """

    protocol = SYNC_PROTOCOL

    def __init__(  # noqa: PLR0913 - what a node tells, and of whom
        self,
        catalogue: Offered,
        peer_records: Callable[[], Sequence[bytes]],
        now: Callable[[], int],
        serving: Serving,
        withheld: Callable[[str | None, str | None], Sequence[Withheld]],
        *,
        documents: Documents | None = None,
        read_record: Callable[[bytes], PeerRecord | None] = read_record,
        note_site: Callable[[Connection, str], None] = lambda _connection, _site: None,
        is_clients: bool = False,
    ) -> None:
        super().__init__(serving)
        self._asked: LRUCache[str, TokenBucket] = LRUCache(KNOWN_PEERS)  # by origin
        self._catalogue = catalogue
        self._referrals = Referrals(read_record, peer_records, note_site, is_clients=is_clients)
        self._now = now
        self._withheld = withheld
        self._documents = documents or NoDocuments()

    @override
    async def handle(self, stream: Stream) -> None:
        asker = stream.connection
        answers = partial(self._answer_to, asker), self._serving, partial(self._pace, asker)
        await serve_stream(stream, self.protocol, *answers)

    async def _pace(self, asker: Connection, request: SyncRequest, _handed_over: HandedOver) -> None:
        """Have those of one address wait who ask for peers more often together than a large site does."""
        if isinstance(request, PeersRequest):
            now, origin = trio.current_time(), origin_of(asker.address)
            bucket = self._asked.get(origin)
            if bucket is None:
                bucket = self._asked[origin] = TokenBucket(PEERS_PER_S, PEERS_PER_S * BURST_S, now)
            wait_s = bucket.take(1, now)
            if wait_s:
                await trio.sleep(wait_s)

    async def _answer_to(self, asker: Connection, request: SyncRequest, reserve: Reserve) -> Reply:
        if isinstance(request, PeersRequest):
            return Reply(Status.OK, encode_peers(self._referrals.answer(asker, request)))
        if isinstance(request, ManifestRequest):
            self._referrals.note_manifest(asker, request.digest)
        return await self._answer(request, reserve)

    async def _answer(
        self, request: HeadsRequest | ManifestRequest | DocumentsRequest, _reserve: Reserve
    ) -> Reply:
        try:
            match request:
                case HeadsRequest():
                    return await self._heads(request)
                case ManifestRequest():
                    return await self._manifest(request)
                case _:
                    return Reply(Status.OK, encode_documents(await self._trust_documents(request)))
        except P2PBootError as error:  # the catalogue fails; other streams and requests may go on
            log.warning("%s failed: %s", request.op, error, extra=Event.SERVING_FAILED(op=request.op))
            return Reply.refusal(Status.NOT_FOUND, UNREADABLE)

    async def _trust_documents(self, request: DocumentsRequest) -> Sequence[bytes]:
        if isinstance(request, RootsRequest):
            return await self._in_thread(self._documents.roots, request.fleet, request.after or 0)
        if isinstance(request, FreshnessRequest):
            return await self._in_thread(self._documents.freshness, request.channel, request.arch)
        return await self._in_thread(self._documents.yanks, request.channel, request.arch, request.after)

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


def _head(row: HeadRow) -> Head:
    return Head(row.channel, row.arch, row.signers, row.manifest_version, row.digest, row.size)
