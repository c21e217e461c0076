"""Finds the newest manifest that may be trusted, among all peers that can be reached in a short while.

A client without memory is only as safe as the best-informed peer that it hears, so it asks everybody.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

import trio

from p2pboot.core.manifest import Manifest, check_detached
from p2pboot.core.verify import Question, Verdict, judge, verify
from p2pboot.errors import SignatureError
from p2pboot.fetch.asking.listing import Misled, ask_peer, check_kept_word
from p2pboot.fetch.asking.rounds import GRACE_S, Rounds
from p2pboot.fetch.choosing.manifest import Found, FoundManifest
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import Stall
from p2pboot.protocol.client import ManifestReply
from p2pboot.protocol.messages import Head
from p2pboot.transport.interface import Connection, Transport

MANIFESTS_PER_PEER = 4
"""An honest peer has one head for each set of signers; more than a few for one pair is a flood."""


_LOOK_S = 1.0
"""How often whoever watches is told that there is nothing yet."""


class HeadSearch:
    """Asks every peer for the manifests of one channel and arch, until enough is known.

    Args:
        transport: whoever is or gets connected is asked.
        question: what is looked for.
        ledger: liars are dropped in it; its progress is told of peers whose detached signature is wrong.
        suggest: is told, whenever that changes, which manifest would be taken if nothing more came; None: none.
    """

    def __init__(
        self,
        transport: Transport,
        question: Question,
        ledger: Ledger,
        suggest: Callable[[Manifest | None], None] = lambda _manifest: None,
    ) -> None:
        self._transport = transport
        self._question = question
        self._ledger = ledger
        self._suggest = suggest
        self._offers: dict[str, FoundManifest] = {}
        self._rounds = Rounds(transport, ledger, self._ask, will_do_at=self._will_do_at)
        self._invalid: list[Verdict] = []  # at most one of each peer: its sender is dropped
        self._first_offer = math.inf
        self._is_usable = False
        self._stall = Stall(ledger.progress)

    async def run(self, timeout_s: float, settle: Callable[[], Awaitable[None]]) -> Found:
        """Ask until everybody answered, a short grace after the first usable answer, or the timeout (see `Rounds`).

        Args:
            timeout_s: seconds at most.
            settle: returns when no further peer is expected to connect.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._say_why_nothing_comes)
            await self._rounds.run(timeout_s, settle)
            nursery.cancel_scope.cancel()
        return self._found()

    def _found(self) -> Found:
        newest_first = sorted(self._offers.values(), key=lambda offer: -offer.manifest.manifest_version)
        asked = frozenset(connection.peer_id for connection in self._rounds.asked)
        failures = {peer: why for peer, why in self._ledger.failures.items() if peer in asked}
        busy = asked & self._ledger.busy
        return Found(tuple(newest_first), asked, tuple(self._invalid), self._ledger.words, failures, busy)

    async def _say_why_nothing_comes(self) -> None:
        began = trio.current_time()
        while not self._offers:
            await trio.sleep(_LOOK_S)
            now, peers = trio.current_time(), len(self._transport.peers())
            self._stall.look(now, 0.0 if self._offers else now - began, peers, self._why_nothing)

    def _why_nothing(self) -> str:
        pair = f"{self._question.channel}/{self._question.arch}"
        why = self._found().why() if self._rounds.asked else "no peer was reached"
        return f"no manifest for {pair} yet" + (f": {why}" if why else "")

    def _will_do_at(self) -> float:
        """Where all that came is refused, somebody slow may have a better one."""
        return -math.inf if self._is_usable else self._first_offer + GRACE_S

    async def _ask(self, connection: Connection) -> None:
        await ask_peer(
            self._transport,
            connection,
            self._ledger,
            channel=self._question.channel,
            arch=self._question.arch,
            select=partial(self._select, connection),
            take=partial(self._take, connection),
        )

    def _select(self, connection: Connection, heads: Sequence[Head]) -> Iterator[Head]:
        """Trusted ones, highest first; without any the highest of strangers, to be able to say why not."""
        publisher_for = self._question.policy.publisher_for
        trusted = [
            head
            for head in heads
            if (publisher := publisher_for(head.channel, head.arch)) and publisher.is_met_by(head.signers)
        ]
        most = MANIFESTS_PER_PEER if trusted else 1
        for head in sorted(trusted or heads, key=lambda head: -head.manifest_version)[:most]:
            known = self._offers.get(head.digest)
            if known is not None:
                known.connections.add(connection)
            if known is None or known.detached is None:
                yield head

    async def _take(self, connection: Connection, head: Head, reply: ManifestReply) -> None:
        # A document can be made to take tens of milliseconds: not in the event loop.
        verdict = await trio.to_thread.run_sync(verify, reply.raw, self._question)
        manifest = verdict.manifest
        if manifest is None:
            assert verdict.failed is not None  # noqa: S101 - for the type checker; core.verify's promise
            self._invalid.append(verdict)
            raise Misled(f"it sent an invalid manifest: {verdict.failed.detail}")
        check_kept_word(head, (manifest.channel, manifest.arch, manifest.manifest_version, manifest.digest))
        offer = self._offers.get(manifest.digest)
        if offer is None:
            offer = self._offers[manifest.digest] = FoundManifest(manifest, verdict, None, set())
            self._note_offer(verdict)
        offer.connections.add(connection)
        if offer.detached is None and reply.detached is not None:
            await self._take_detached(connection.peer_id, offer, reply.detached)
            self._suggest(self._found().candidate())

    def _note_offer(self, verdict: Verdict) -> None:
        now = trio.current_time()
        self._first_offer = min(self._first_offer, now)
        self._stall.look(now, 0.0, len(self._transport.peers()), self._why_nothing)
        if verdict.ok:
            self._is_usable = True
            self._rounds.note_usable()
        self._suggest(self._found().candidate())

    async def _take_detached(self, peer_id: str, offer: FoundManifest, text: str) -> None:
        """A wrong one is its sender's fault alone, and says nothing against the manifest."""
        try:
            check_detached(offer.manifest.raw, text, offer.manifest.signers)
        except SignatureError as error:
            self._ledger.progress.peer(peer_id, f"its detached signature is not used: {error.message}")
            return
        offer.verdict = judge(offer.manifest, self._question, text)
        offer.detached = text
