"""Replies with the bytes of artifacts: whole ones by their digest, device trees, and why something can not be had."""

from __future__ import annotations

from typing import Final

from p2pboot.core.manifest import Artifact
from p2pboot.core.names import DTB_ARCHIVE
from p2pboot.errors import BlobMissing, ManifestError
from p2pboot.gateway import replies
from p2pboot.gateway.backend import Backend
from p2pboot.gateway.bases import Bases
from p2pboot.gateway.body import ArtifactBody
from p2pboot.gateway.offers import retry_after
from p2pboot.gateway.replies import Reply, refusal, unavailable
from p2pboot.gateway.request import Request
from p2pboot.gateway.trees import Representation, TreeArchives
from p2pboot.serving.threads import Threads, Turns
from p2pboot.store.errors import BlobGone

# Threads that read and hash at the same time; each may hold a piece of up to 16 MiB meanwhile.
READERS: Final = 4


class Artifacts:
    """Answers with what the store holds.

    Args:
        node: whose artifacts they are.
        lookups: threads for the database.
        bases: tells who asks.
    """

    def __init__(self, node: Backend, lookups: Threads, bases: Bases) -> None:
        self._node = node
        self._bases = bases
        self._blobs = node.store.blobs
        self._trees = TreeArchives(node.store.blobs)
        self._lookups = lookups
        self._may_give = node.catalogue.offering.allows
        self._readers = Turns(READERS)
        self._threads = Threads(READERS)

    async def by_digest(self, request: Request, sha256: str) -> Reply:
        """Answer with any artifact that is wholly held and may be given: also what a former manifest names."""
        size = await self._lookups.run(self._size_if_given, sha256)
        if size is None:
            return await self._not_here(sha256)
        return await self.send(request, Representation.whole(sha256, size), {}, replies.IMMUTABLE)

    async def device_tree(
        self, request: Request, archive: Artifact, name: str, headers: dict[str, str]
    ) -> Reply:
        """Answer with a device tree of an archive."""
        try:
            tree = await self._lookups.run(self._trees.find, archive, name)
        except (BlobMissing, BlobGone):
            return await self._not_here(archive.sha256)
        except ManifestError:
            return refusal(404, f"{DTB_ARCHIVE} of the current manifest is no archive of device trees")
        if tree is None:
            return refusal(404, "the current manifest has no device tree of that name")
        return await self.send(request, tree, headers, replies.REVALIDATE)

    async def send(
        self, request: Request, content: Representation, headers: dict[str, str], cache: str
    ) -> Reply:
        """Answer with an artifact or a member of one, or the part of it that is asked for."""
        headers = {"Content-Type": replies.BINARY, "Cache-Control": cache} | headers
        client = self._bases.client_of(request)
        if content.is_whole:
            headers["X-Artifact-Hash"] = f"sha256:{content.sha256}"

        async def read(offset: int, length: int) -> bytes:
            async with self._readers.take(request.ends.party):
                return await self._threads.run(self._blobs.read, content.sha256, offset, length)

        def told(size: int) -> None:
            if content.is_whole:
                self._node.boots.took_http(client, content.sha256, size)

        def body(start: int, end: int) -> ArtifactBody:
            return ArtifactBody(read, content.start + start, content.start + end, told)

        reply = replies.representation(request, content.tag, content.size, headers, body)
        if isinstance(reply.body, ArtifactBody) and request.method != "HEAD":
            try:
                await reply.body.open()
            except (BlobMissing, BlobGone):  # removed, or found damaged just now
                return await self._not_here(content.sha256)
        return reply

    def _size_if_given(self, sha256: str) -> int | None:
        return self._size(sha256) if self._may_give(sha256) else None

    def _size(self, sha256: str) -> int | None:
        table = self._blobs.table(sha256) if self._blobs.holds(sha256) else None
        return None if table is None else table.size

    async def _not_here(self, sha256: str) -> Reply:
        """An artifact that is not wholly here: on its way, damaged, gone with a former version, or never heard of."""
        missing = await self._lookups.run(self._node.catalogue.missing, sha256)
        if missing is None:
            return refusal(404, "no such artifact is known here")
        text = f"{missing.channel}/{missing.arch}: {missing.text}"
        return unavailable(text, retry_after(missing, self._node.awaited()))
