"""What was found of one channel and arch during a search, and what it is worth by what is known now.

The question changes while peers answer: another root comes into force, a later freshness statement, a yank. Whatever
was found before is judged anew then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set

import trio

from p2pboot.core.freshness import NAME as FRESHNESS
from p2pboot.core.freshness import is_overdue
from p2pboot.core.manifest import Manifest, check_detached
from p2pboot.core.policy import Policy
from p2pboot.core.verify import Outcome, Question, Verdict, judge, verify
from p2pboot.errors import SignatureError
from p2pboot.fetch.asking.listing import Misled, check_kept_word
from p2pboot.fetch.asking.reasons import PeerWord
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.fetch.asking.statements import Statements
from p2pboot.fetch.choosing.manifest import Found, FoundManifest
from p2pboot.fetch.ledger import Ledger
from p2pboot.protocol.client import ManifestReply, PeerBusy, PeerRefused, ask_manifest
from p2pboot.protocol.messages import Head
from p2pboot.transport.interface import Connection

MANIFESTS_PER_PEER = 4
"""An honest peer has one head for each set of signers; more than a few for one pair is a flood."""

NAMED_PER_PEER = 2
"""Manifests that are asked for because a statement names them: an honest peer has one statement of a fleet."""


class Offers:
    """The manifests of one channel and arch, what was told of them, and the question that they answer.

    Args:
        question: what decides before anybody was asked.
        ledger: told of peers whose detached signature is wrong.
    """

    def __init__(self, question: Question, ledger: Ledger) -> None:
        self.question = question
        """What decides now."""
        self.statements = Statements(question)
        self.first_offer = math.inf
        """When the first manifest came, clock of trio."""
        self._ledger = ledger
        self._offers: dict[str, FoundManifest] = {}
        self._invalid: list[Verdict] = []  # at most one of each peer: its sender is dropped
        self._judging = trio.Lock()

    def __bool__(self) -> bool:
        return bool(self._offers)

    def found(self, asked: frozenset[str]) -> Found:
        """All that was found, the newest first.

        Args:
            asked: peers that were connected at some time.
        """
        newest_first = sorted(self._offers.values(), key=lambda offer: -offer.manifest.manifest_version)
        failures = {peer: why for peer, why in self._ledger.failures.items() if peer in asked}
        words: Mapping[str, PeerWord] = self._ledger.words
        busy: Set[str] = asked & self._ledger.busy
        return Found(tuple(newest_first), asked, tuple(self._invalid), words, failures, frozenset(busy))

    @property
    def is_usable(self) -> bool:
        """Whether there is a manifest that may be used, and nobody may know of a newer statement than we do."""
        return any(offer.verdict.ok for offer in self._offers.values()) and not self.is_held_back

    @property
    def is_held_back(self) -> bool:
        """Whether somebody may well hold us back: then it is worth to wait for others.

        The newest statement should have been renewed by now, or nothing that is offered is as new as it demands.
        """
        asked, clock = self.question.freshness, self.question.clock
        if asked.accept_stale or (asked.require_clock and not clock.trusted):
            return False  # it does not matter, or nobody can mend it
        if asked.statement is not None and is_overdue(asked.statement, clock):
            return True
        verdicts = [offer.verdict for offer in self._offers.values()]
        return not any(one.ok for one in verdicts) and any(_fails_only_by_age(one) for one in verdicts)

    def manifest(self, digest: str) -> Manifest | None:
        """A manifest that was offered."""
        offer = self._offers.get(digest)
        return None if offer is None else offer.manifest

    # -- what comes --------------------------------------------------------------------------------------------------

    def select(self, connection: Connection, heads: Sequence[Head]) -> Iterator[Head]:
        """Trusted ones, highest first; without any the highest of strangers, to be able to say why not."""
        publisher_for = self.question.policy.publisher_for
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

    async def take(self, connection: Connection, head: Head, reply: ManifestReply) -> None:
        """Judge a manifest that a peer offers.

        Raises:
            Misled: it is none, or not what was listed.
        """
        manifest, verdict = await self._read(reply.raw)
        check_kept_word(head, (manifest.channel, manifest.arch, manifest.manifest_version, manifest.digest))
        offer = self._offers.get(manifest.digest)
        if offer is None:
            offer = self._offers[manifest.digest] = FoundManifest(manifest, verdict, None, set())
            self.first_offer = min(self.first_offer, trio.current_time())
        offer.connections.add(connection)
        if offer.detached is None and reply.detached is not None:
            self._take_detached(connection.peer_id, offer, reply.detached)

    async def take_named(self, requests: RequestStream) -> None:
        """Ask a peer for manifests that statements name and nobody has offered."""
        lacking = self.statements.lacking(self.manifest, self.question.policy, requests.peer_id)
        for statement in lacking[:NAMED_PER_PEER]:
            digest = statement.body.head_digest
            try:
                reply = await requests.ask(ask_manifest(digest))
            except PeerBusy:
                raise
            except PeerRefused:
                continue  # who only passes statements on may not have it
            manifest, _ = await self._read(reply.raw)
            if manifest.digest != digest:
                raise Misled("it was asked for a manifest and sent another one")
            publisher = self.question.policy.publisher_for(manifest.channel, manifest.arch)
            if publisher is not None and publisher.is_met_by(manifest.signers):
                self.statements.note_named(manifest)

    async def _read(self, raw: bytes) -> tuple[Manifest, Verdict]:
        # A document can be made to take tens of milliseconds: not in the event loop.
        question = self.question
        verdict = await trio.to_thread.run_sync(verify, raw, question)
        manifest = verdict.manifest
        if manifest is None:
            assert verdict.failed is not None  # noqa: S101 - for the type checker; core.verify's promise
            self._invalid.append(verdict)
            raise Misled(f"it sent an invalid manifest: {verdict.failed.detail}")
        if self.question is not question:  # others were judged anew meanwhile
            verdict = judge(manifest, self.question)
        return manifest, verdict

    def _take_detached(self, peer_id: str, offer: FoundManifest, text: str) -> None:
        """A wrong one is its sender's fault alone, and says nothing against the manifest."""
        try:
            check_detached(offer.manifest.raw, text, offer.manifest.signers)
        except SignatureError as error:
            self._ledger.progress.peer(peer_id, f"its detached signature is not used: {error.message}")
            return
        offer.verdict = judge(offer.manifest, self.question, text)
        offer.detached = text

    # -- what is known -----------------------------------------------------------------------------------------------

    async def look_again(self, policy: Policy) -> None:
        """Ask the question as it stands now, by what was told and whom to believe; judge all anew if it is another."""
        async with self._judging:
            question = self.statements.question(policy, self.manifest)
            if question == self.question:
                return
            self.question = question
            offers = list(self._offers.values())
            if policy.publishers:
                verdicts = await trio.to_thread.run_sync(_judge_all, offers, question)
                for offer, verdict in zip(offers, verdicts, strict=True):
                    offer.verdict = verdict


def _judge_all(offers: Sequence[FoundManifest], question: Question) -> list[Verdict]:
    return [judge(offer.manifest, question, offer.detached) for offer in offers]


def _fails_only_by_age(verdict: Verdict) -> bool:
    failed = [check.name for check in verdict.checks if check.outcome is Outcome.FAILED]
    return failed == [FRESHNESS]
