"""Brings the artifacts of accepted manifests into the store and moves the node's heads.

One task for each (channel, arch): the newest accepted manifest is fetched from whoever has pieces of it; only when all
of it is there does the node's head move, and until then the previous version is served. A publisher that moves its head
faster than `_MOVES` allows makes us skip versions, not fetch more.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from p2pboot.core.manifest import Manifest
from p2pboot.errors import FetchError, P2PBootError
from p2pboot.node.judging import Pair
from p2pboot.node.limits import TokenBucket

log = logging.getLogger(__name__)

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
_MOVES_BURST = 8  # versions that may follow each other at once
_MOVES_PER_S = 1 / 60  # and in the long run

FetchAll = Callable[[Manifest], Awaitable[None]]
Whole = Callable[[Manifest], Awaitable[None]]


class Mirror:
    """Fetches what the node follows.

    Args:
        fetch: brings all artifacts of a manifest into the store, or raises P2PBootError.
        whole: called when a manifest is wholly held; moves the head and tells others.
        max_artifact_bytes: a manifest with a larger artifact is not mirrored.
    """

    def __init__(self, *, fetch: FetchAll, whole: Whole, max_artifact_bytes: int) -> None:
        self._fetch = fetch
        self._whole = whole
        self.max_artifact_bytes = max_artifact_bytes
        self._wanted: dict[Pair, Manifest] = {}
        self._held: dict[Pair, str] = {}
        self._changed: dict[Pair, trio.Event] = {}
        self._retry = trio.Event()
        self._send_new, self._receive_new = trio.open_memory_channel[Pair](
            1024
        )  # bounded by the trust policy's pairs
        self.problems: dict[Pair, str] = {}

    def want(self, manifest: Manifest) -> None:
        """Follow this manifest now; one that is wanted or held already is no news."""
        pair = (manifest.channel, manifest.arch)
        wanted = self._wanted.get(pair)
        if self._held.get(pair) == manifest.digest:
            return
        if wanted is not None and wanted.manifest_version >= manifest.manifest_version:
            return
        self._wanted[pair] = manifest
        if pair in self._changed:
            self._changed[pair].set()
        else:
            self._changed[pair] = trio.Event()
            self._send_new.send_nowait(pair)

    def want_again(self, manifest: Manifest) -> None:
        """Part of what was held is gone: fetch it like something new."""
        pair = (manifest.channel, manifest.arch)
        if self._held.pop(pair, manifest.digest) == manifest.digest:
            self._wanted.pop(pair, None)
            self.want(manifest)

    def retry(self) -> None:
        """Try again at once what is waiting (a peer connected)."""
        self._retry.set()
        self._retry = trio.Event()

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with trio.open_nursery() as nursery:
            async for pair in self._receive_new:
                nursery.start_soon(self._follow, pair)

    async def _follow(self, pair: Pair) -> None:
        moves = TokenBucket(rate=_MOVES_PER_S, burst=_MOVES_BURST, now=trio.current_time())
        while True:
            wait_s = moves.take(1, trio.current_time())
            if wait_s > 0:
                log.warning(
                    "%s/%s moves its head too often: the next version is taken in %.0f s", *pair, wait_s
                )
                await trio.sleep(wait_s)
            self._changed[pair] = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_whole, pair, self._wanted[pair])
                await self._changed[pair].wait()  # what is newer supersedes what is being fetched
                nursery.cancel_scope.cancel()

    async def _until_whole(self, pair: Pair, manifest: Manifest) -> None:
        delay_s = FIRST_RETRY_S
        while True:
            try:
                self._check_size(manifest)
                await self._fetch(manifest)
                await self._whole(manifest)
            except P2PBootError as error:
                self.problems[pair] = error.message
                log.warning("%s/%s version %d: %s", *pair, manifest.manifest_version, error)
                with trio.move_on_after(delay_s):
                    await self._retry.wait()
                delay_s = min(delay_s * 2, LONGEST_RETRY_S)
            else:
                self._held[pair] = manifest.digest
                self.problems.pop(pair, None)
                return

    def _check_size(self, manifest: Manifest) -> None:
        for artifact in manifest.artifacts.values():
            if artifact.size > self.max_artifact_bytes:
                raise FetchError(
                    f"{artifact.key} has {artifact.size} bytes, more than the {self.max_artifact_bytes} that a publisher "
                    "may make this node fetch",
                    remedy="raise store.max_artifact in the configuration",
                )
