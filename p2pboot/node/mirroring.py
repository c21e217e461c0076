"""Brings the artifacts of accepted manifests into the store and moves the node's heads.

One task for each (channel, arch): the newest accepted manifest is fetched from whoever has pieces of it; only when all
of it is there does the node's head move, and until then the previous version is served. A publisher that moves its head
faster than `_MOVES` allows makes us skip versions, not fetch more.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from p2pboot.core.manifest import Manifest
from p2pboot.core.problems import Code, Problem
from p2pboot.core.token_bucket import TokenBucket
from p2pboot.errors import FetchError, P2PBootError
from p2pboot.node.trust import Pair

log = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 60.0
MAX_PAIRS: Final = 256  # followed at the same time: a trusted key can make up any number of channels
_MOVES_BURST: Final = 8  # versions that may follow each other at once
_MOVES_PER_S: Final = 1 / 60  # and in the long run

FetchAll = Callable[[Manifest], Awaitable[None]]
Whole = Callable[[Manifest], Awaitable[None]]


@dataclass(eq=False, slots=True)
class _Pursuit:
    """What is wanted of one (channel, arch), and how far it is."""

    pair: Pair
    wanted: Manifest | None = None
    held: str | None = None  # digest of `wanted`, once it is whole
    changed: trio.Event = field(default_factory=trio.Event)  # `wanted` is another one, or to be fetched again
    at_rest: trio.Event = field(default_factory=trio.Event)  # nothing is being fetched


class Mirror:
    """Fetches what the node follows.

    Args:
        fetch: brings all artifacts of a manifest into the store, or raises P2PBootError.
        whole: called when a manifest is wholly held; moves the head and tells others.
        max_artifact_bytes: a manifest with a larger artifact is not mirrored.
        report: is told of all that can not be had now.
    """

    def __init__(
        self,
        *,
        fetch: FetchAll,
        whole: Whole,
        max_artifact_bytes: int,
        report: Callable[[list[Problem]], None],
    ) -> None:
        self._fetch = fetch
        self._whole = whole
        self._report = report
        self.max_artifact_bytes = max_artifact_bytes
        self._pursuits: dict[Pair, _Pursuit] = {}
        self._retry = trio.Event()
        self._send_new, self._receive_new = trio.open_memory_channel[_Pursuit](MAX_PAIRS)
        self._problems: dict[Pair, Problem] = {}

    def want(self, manifest: Manifest) -> None:
        """Follow this manifest now, in place of what was wanted of its channel and arch.

        The judge, who compares versions and publishers, was asked before. One that is wanted or held already is
        no news.
        """
        pursuit = self._pursuit((manifest.channel, manifest.arch))
        if pursuit is not None and (pursuit.wanted is None or pursuit.wanted.digest != manifest.digest):
            self._set(pursuit, manifest)

    def want_again(self, manifest: Manifest) -> None:
        """Part of what was held is gone: fetch it like something new, unless something newer is on its way."""
        pursuit = self._pursuit((manifest.channel, manifest.arch))
        if pursuit is not None and (pursuit.wanted is None or pursuit.held == manifest.digest):
            self._set(pursuit, manifest)

    async def forget(self, unwanted: Callable[[Manifest], bool]) -> None:
        """Give up what is not wanted any more; when this returns, nothing of it is being fetched."""
        for pursuit in tuple(self._pursuits.values()):
            if pursuit.wanted is not None and unwanted(pursuit.wanted):
                self._set(pursuit, None)
                self._note(pursuit.pair, None)
                await pursuit.at_rest.wait()

    def stalled(self, pair: Pair, why: str | None) -> None:
        """Nothing of a channel and arch has come in for a while, and why; None: it goes on."""
        self._note(pair, None if why is None else Problem(Code.NOT_MIRRORED, "/".join(pair), why))

    def retry(self) -> None:
        """Try again soon what is waiting (a peer connected, a limit changed)."""
        self._retry.set()
        self._retry = trio.Event()

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with trio.open_nursery() as nursery:
            async for pursuit in self._receive_new:
                nursery.start_soon(self._follow, pursuit)

    def _pursuit(self, pair: Pair) -> _Pursuit | None:
        if pair not in self._pursuits:
            if len(self._pursuits) >= MAX_PAIRS:
                log.warning("%s/%s is not followed: %d others are", *pair, MAX_PAIRS)
                return None
            pursuit = self._pursuits[pair] = _Pursuit(pair)
            pursuit.at_rest.set()
            self._send_new.send_nowait(pursuit)
        return self._pursuits[pair]

    def _set(self, pursuit: _Pursuit, manifest: Manifest | None) -> None:
        pursuit.wanted, pursuit.held = manifest, None
        pursuit.changed.set()

    async def _follow(self, pursuit: _Pursuit) -> None:
        moves = TokenBucket(rate=_MOVES_PER_S, burst=_MOVES_BURST, now=trio.current_time())
        while True:
            if pursuit.wanted is not None:
                await self._wait_for_turn(pursuit, moves)
            pursuit.changed = trio.Event()  # from here on what is newer supersedes what is being fetched
            if pursuit.wanted is None:
                await pursuit.changed.wait()
                continue
            pursuit.at_rest = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_whole, pursuit, pursuit.wanted)
                await pursuit.changed.wait()
                nursery.cancel_scope.cancel()
            pursuit.at_rest.set()

    async def _wait_for_turn(self, pursuit: _Pursuit, moves: TokenBucket) -> None:
        wait_s = moves.take(1, trio.current_time())
        if wait_s > 0:
            log.warning(
                "%s/%s moves its head too often: the next version is taken in %.0f s", *pursuit.pair, wait_s
            )
            await trio.sleep(wait_s)

    async def _until_whole(self, pursuit: _Pursuit, manifest: Manifest) -> None:
        pair, delay_s = pursuit.pair, FIRST_RETRY_S
        while True:
            try:
                self._check_size(manifest)
                await self._fetch(manifest)
                await self._whole(manifest)
            except P2PBootError as error:
                self._note(pair, Problem.of(Code.NOT_MIRRORED, "/".join(pair), error))
                await trio.sleep(FIRST_RETRY_S)  # however many peers come and go
                with trio.move_on_after(delay_s - FIRST_RETRY_S):
                    await self._retry.wait()
                delay_s = min(delay_s * 2, LONGEST_RETRY_S)
            else:
                pursuit.held = manifest.digest
                self._note(pair, None)
                return

    def _note(self, pair: Pair, problem: Problem | None) -> None:
        if problem is None:
            self._problems.pop(pair, None)
        else:
            self._problems[pair] = problem
        self._report(list(self._problems.values()))

    def _check_size(self, manifest: Manifest) -> None:
        for artifact in manifest.artifacts.values():
            if artifact.size > self.max_artifact_bytes:
                raise FetchError(
                    f"{artifact.key} has {artifact.size} bytes, more than the {self.max_artifact_bytes} that a"
                    " publisher may make this node fetch",
                    remedy="raise store.max_artifact in the configuration",
                )
