"""Finds the newest manifest that may be trusted, among all peers that can be reached in a short while.

A client without memory is only as safe as the best-informed peer that it hears, so it asks everybody: one
peer that is behind, or that lies, or says nothing, changes nothing as long as another one answers. Who is
mute costs a short grace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import trio

from p2pboot.core.manifest import check_detached
from p2pboot.core.verify import Verdict
from p2pboot.errors import SignatureError
from p2pboot.fetch.asking.dialling import for_each_peer
from p2pboot.fetch.asking.listing import Misled, ask_peer, check_kept_word
from p2pboot.fetch.asking.same_key import SharedKeyServers
from p2pboot.fetch.choosing.manifest import Found, FoundManifest, Question
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import Progress, Stall
from p2pboot.protocol.client import ManifestReply
from p2pboot.protocol.messages import Head
from p2pboot.transport.interface import Transport

GRACE_S = 2.0
"""How long others may still answer after the first usable manifest: several round trips on any network, and
still little for somebody who waits for a machine to boot."""

ASK_AGAIN_S = 2.0
"""A mirror lists only what it holds wholly; one that is just fetching has it a moment later."""

MANIFESTS_PER_PEER = 4
"""An honest peer has one head for each set of signers; more than a few for one pair is a flood."""

TICK_S = 0.1


class HeadSearch:
    """Asks every peer for the manifests of one channel and arch, until enough is known.

    Args:
        transport: whoever is or gets connected is asked.
        question: what is looked for.
        ledger: liars are dropped in it.
        progress: told of peers whose detached signature is wrong.
        shared: servers that have to be asked apart, if there may be any.
    """

    def __init__(
        self,
        transport: Transport,
        question: Question,
        ledger: Ledger,
        progress: Progress,
        shared: SharedKeyServers | None = None,
    ) -> None:
        self._transport = transport
        self._question = question
        self._ledger = ledger
        self._progress = progress
        self._shared = shared
        self._offers: dict[str, FoundManifest] = {}
        self._answered: set[str] = set()
        self._asked: set[str] = set()
        self._invalid: list[Verdict] = []  # at most one of each peer: its sender is dropped
        self._first_offer: float | None = None
        self._first_usable: float | None = None
        self._stall = Stall(progress)

    async def run(self, timeout_s: float, settled: Callable[[], bool]) -> Found:
        """Ask until everybody answered, a short grace after the first usable answer, or the timeout.

        Args:
            timeout_s: seconds at most.
            settled: whether no further peer is expected to connect.
        """
        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(for_each_peer, self._transport, self._follow)
                if self._shared is not None:
                    nursery.start_soon(self._shared.run, self._ask_apart)
                await self._wait_for_enough(settled)
                nursery.cancel_scope.cancel()
        return self._found()

    def _found(self) -> Found:
        newest_first = sorted(self._offers.values(), key=lambda offer: -offer.manifest.manifest_version)
        asked = frozenset(self._asked)
        failures = {peer: why for peer, why in self._ledger.failures.items() if peer in asked}
        return Found(tuple(newest_first), asked, tuple(self._invalid), self._ledger.words, failures)

    async def _wait_for_enough(self, settled: Callable[[], bool]) -> None:
        """Look every now and then: it depends on answers, on connections and on the time."""
        began = trio.current_time()
        while True:
            await trio.sleep(TICK_S)
            now = trio.current_time()
            self._stall.look(now, now - began if self._first_offer is None else 0.0, self._why_nothing)
            if self._enough(settled() and (self._shared is None or self._shared.settled)):
                return

    def _why_nothing(self) -> str:
        pair = f"{self._question.channel}/{self._question.arch}"
        why = self._found().why() if self._asked else "no peer was reached"
        return f"no manifest for {pair} yet" + (f": {why}" if why else "")

    def _enough(self, settled: bool) -> bool:
        now = trio.current_time()
        if self._first_usable is not None and now >= self._first_usable + GRACE_S:
            return True
        everybody = settled and self._transport.peers() <= self._answered
        if self._first_usable is not None:
            return everybody
        if self._first_offer is not None:  # all refused: somebody slow may have a better one
            return everybody and now >= self._first_offer + GRACE_S
        dropped_all = settled and bool(self._asked) and self._asked <= self._ledger.dropped.keys()
        return dropped_all and self._transport.peers() <= self._asked

    async def _follow(self, peer_id: str) -> None:
        while self._ledger.usable(peer_id):
            await self._ask(self._transport, peer_id, lambda offer: offer.peers.add(peer_id))
            self._answered.add(peer_id)
            await trio.sleep(ASK_AGAIN_S)

    async def _ask_apart(self, transport: Transport, peer_id: str, address: str) -> None:
        await self._ask(transport, peer_id, lambda offer: offer.asked_apart.update({address: peer_id}))

    async def _ask(self, transport: Transport, peer_id: str, note: Callable[[FoundManifest], object]) -> None:
        """Ask one server once; `note` records it at whatever it offers."""
        self._asked.add(peer_id)
        await ask_peer(
            transport,
            peer_id,
            self._ledger,
            channel=self._question.channel,
            arch=self._question.arch,
            select=lambda heads: self._select(heads, note),
            take=partial(self._take, note),
        )

    def _select(self, heads: Sequence[Head], note: Callable[[FoundManifest], object]) -> Iterator[Head]:
        """Trusted ones, highest first; without any the highest of strangers, to be able to say why not."""
        publisher = self._question.policy.publisher_for(self._question.channel, self._question.arch)
        trusted = [
            head
            for head in heads
            if publisher is not None and len(publisher.trusted_among(head.signers)) >= publisher.threshold
        ]
        most = MANIFESTS_PER_PEER if trusted else 1
        for head in sorted(trusted or heads, key=lambda head: -head.manifest_version)[:most]:
            known = self._offers.get(head.digest)
            if known is not None:
                note(known)
            if known is None or known.detached is None:
                yield head

    async def _take(
        self, note: Callable[[FoundManifest], object], peer_id: str, head: Head, reply: ManifestReply
    ) -> None:
        # A document can be made to take tens of milliseconds: not in the event loop.
        verdict = await trio.to_thread.run_sync(self._question.judge, reply.raw)
        manifest = verdict.manifest
        if manifest is None:
            assert verdict.failed is not None  # noqa: S101 - for the type checker; core.verify's promise
            self._invalid.append(verdict)
            raise Misled(f"it sent an invalid manifest: {verdict.failed.detail}")
        check_kept_word(head, (manifest.channel, manifest.arch, manifest.manifest_version, manifest.digest))
        offer = self._offers.get(manifest.digest)
        if offer is None:
            offer = self._offers[manifest.digest] = FoundManifest(manifest, verdict, None, set())
            self._note_time(verdict)
        note(offer)
        if offer.detached is None and reply.detached is not None:
            await self._take_detached(peer_id, offer, reply.detached)

    def _note_time(self, verdict: Verdict) -> None:
        now = trio.current_time()
        if self._first_offer is None:
            self._first_offer = now
        if verdict.ok and self._first_usable is None:
            self._first_usable = now

    async def _take_detached(self, peer_id: str, offer: FoundManifest, text: str) -> None:
        """A wrong one is its sender's fault alone, and says nothing against the manifest."""
        try:
            check_detached(offer.manifest.raw, text, offer.manifest.signers)
        except SignatureError as error:
            self._progress.peer(peer_id, f"its detached signature is not used: {error.message}")
            return
        offer.verdict = await trio.to_thread.run_sync(self._question.judge, offer.manifest.raw, text)
        offer.detached = text
