"""Finds the newest manifest that may be trusted, among all peers that can be reached in a short while.

A client without memory is only as safe as the best-informed peer that it hears, so it asks everybody: one
peer that is behind, or that lies, or says nothing, changes nothing as long as another one answers. Who is
mute costs a short grace.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import trio

from p2pboot.core.clock import Clock
from p2pboot.core.manifest import Manifest, check_detached
from p2pboot.core.policy import TrustPolicy
from p2pboot.core.rollback import AcceptedHead
from p2pboot.core.verify import Refused, Verdict, verify
from p2pboot.errors import ManifestError, NotFoundError, SignatureError
from p2pboot.fetch.asking import Misled, ask_peer, check_kept_word
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.peers import for_each_peer
from p2pboot.fetch.progress import Progress
from p2pboot.fetch.requests import Head, ManifestReply
from p2pboot.transport.interface import Transport

GRACE_S = 2.0
"""How long others may still answer after the first usable manifest: several round trips on any network, and
still little for somebody who waits for a machine to boot."""

ASK_AGAIN_S = 2.0
"""A mirror lists only what it holds wholly; one that is just fetching has it a moment later."""

MANIFESTS_PER_PEER = 4
"""An honest peer has one head for each set of signers; more than a few for one pair is a flood."""

TICK_S = 0.1


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for, and what decides.

    Args:
        channel: a name.
        arch: canonical.
        policy: whom to believe.
        clock: the moment to judge by.
        head: what was accepted before, None without memory.
        min_version: the lowest version taken.
        known_bad: digests that are evidence of equivocation from earlier runs.
    """

    channel: str
    arch: str
    policy: TrustPolicy
    clock: Clock
    head: AcceptedHead | None = None
    min_version: int = 0
    known_bad: frozenset[str] = frozenset()

    def judge(self, raw: bytes) -> Verdict:
        """The verdict on a manifest's bytes; its detached signature is judged apart."""
        return verify(
            raw,
            policy=self.policy,
            clock=self.clock,
            head=self.head,
            channel=self.channel,
            arch=self.arch,
            min_version=self.min_version,
        )


@dataclass(slots=True)
class Offer:
    """One manifest that was found, with its verdict.

    `detached` is its detached signature if a good one was found, `peers` who offer it.
    """

    manifest: Manifest
    verdict: Verdict
    detached: str | None
    peers: set[str]


@dataclass(frozen=True, slots=True)
class Found:
    """What the peers had to offer.

    Args:
        offers: every manifest that was found, taken or not, newest first.
        asked: peers that were connected at some time.
        invalid: the verdicts on documents that are no manifests, or not what was signed.
    """

    offers: tuple[Offer, ...]
    asked: frozenset[str]
    invalid: tuple[Verdict, ...] = ()

    def conflict(self) -> tuple[Manifest, Manifest] | None:
        """Two usable manifests under the newest number, if there are two: equivocation."""
        newest = self._newest()
        return (newest[0].manifest, newest[1].manifest) if len(newest) > 1 else None

    def _newest(self) -> list[Offer]:
        usable = [offer for offer in self.offers if offer.verdict.ok]
        highest = max((offer.manifest.manifest_version for offer in usable), default=0)
        return [offer for offer in usable if offer.manifest.manifest_version == highest]

    def choose(self, question: Question) -> Offer:
        """The newest manifest that may be used.

        Raises:
            Refused: what there is may not be used: the reason is the best candidate's, or equivocation.
            NotFoundError: no peer was reached, or none has a manifest for this channel and arch.
        """
        conflict = self.conflict()
        if conflict is not None:
            raise Refused(_equivocation(question, *conflict))
        newest = self._newest()
        if newest:
            _refuse_known_evidence(question, newest[0].manifest)
            return newest[0]
        if self.offers:
            raise Refused(max(self.offers, key=_closeness).verdict)
        if self.invalid:  # somebody answered, and what came was refused: that is not "nothing found"
            raise Refused(self.invalid[0])
        raise self._nothing(question)

    def _nothing(self, question: Question) -> NotFoundError:
        pair = f"{question.channel}/{question.arch}"
        if not self.asked:
            return NotFoundError(
                f"no peer answered in time, so there is no manifest for {pair}",
                remedy="check the --bootstrap addresses and that the provider runs, or raise --timeout",
            )
        return NotFoundError(
            f"none of {len(self.asked)} peers has a manifest for {pair}",
            remedy="check --channel and --arch with `p2pboot discover`, or ask other peers",
        )


def _refuse_known_evidence(question: Question, manifest: Manifest) -> None:
    """One half of a known contradiction is no better because the other half does not show up now."""
    accepted_first = question.head is not None and question.head.digest == manifest.digest
    if manifest.digest in question.known_bad and not accepted_first:
        raise ManifestError(
            f"manifest refused: version {manifest.manifest_version} is known to be signed twice with"
            f" different content, and sha256:{manifest.digest} is one of the two",
            remedy="tell the publisher; a higher version resumes",
        )


def _closeness(offer: Offer) -> tuple[bool, int]:
    """A trusted signer's refused manifest says more than a stranger's, and a newer one more than an older."""
    return offer.verdict.reason != "untrusted", offer.manifest.manifest_version


def _equivocation(question: Question, one: Manifest, other: Manifest) -> Verdict:
    against_one = dataclasses.replace(question, head=AcceptedHead.of(one)).judge(other.raw)
    detail = (
        f"two manifests with version {one.manifest_version} are signed and offered:"
        f" sha256:{one.digest} and sha256:{other.digest}; neither is taken"
    )
    checks = tuple(
        dataclasses.replace(check, detail=detail) if check.name == "equivocation" else check
        for check in against_one.checks
    )
    return Verdict(checks, against_one.manifest)


class HeadSearch:
    """Asks every peer for the manifests of one channel and arch, until enough is known.

    Args:
        transport: whoever is or gets connected is asked.
        question: what is looked for.
        ledger: liars are dropped in it.
        progress: told of peers whose detached signature is wrong.
    """

    def __init__(self, transport: Transport, question: Question, ledger: Ledger, progress: Progress) -> None:
        self._transport = transport
        self._question = question
        self._ledger = ledger
        self._progress = progress
        self._offers: dict[str, Offer] = {}
        self._answered: set[str] = set()
        self._asked: set[str] = set()
        self._invalid: list[Verdict] = []  # at most one of each peer: its sender is dropped
        self._first_offer: float | None = None
        self._first_usable: float | None = None

    async def run(self, timeout_s: float, settled: Callable[[], bool]) -> Found:
        """Ask until everybody answered, a short grace after the first usable answer, or the timeout.

        Args:
            timeout_s: seconds at most.
            settled: whether no further peer is expected to connect.
        """
        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(for_each_peer, self._transport, self._follow)
                await self._wait_for_enough(settled)
                nursery.cancel_scope.cancel()
        newest_first = sorted(self._offers.values(), key=lambda offer: -offer.manifest.manifest_version)
        return Found(tuple(newest_first), frozenset(self._asked), tuple(self._invalid))

    async def _wait_for_enough(self, settled: Callable[[], bool]) -> None:
        """Look every now and then: it depends on answers, on connections and on the time."""
        while True:
            await trio.sleep(TICK_S)
            if self._enough(settled()):
                return

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
        self._asked.add(peer_id)
        while self._ledger.usable(peer_id):
            await ask_peer(
                self._transport,
                peer_id,
                self._ledger,
                channel=self._question.channel,
                arch=self._question.arch,
                select=lambda heads: self._select(peer_id, heads),
                take=self._take,
            )
            self._answered.add(peer_id)
            await trio.sleep(ASK_AGAIN_S)

    def _select(self, peer_id: str, heads: Sequence[Head]) -> Iterator[Head]:
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
                known.peers.add(peer_id)
            if known is None or known.detached is None:
                yield head

    async def _take(self, peer_id: str, head: Head, reply: ManifestReply) -> None:
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
            offer = self._offers[manifest.digest] = Offer(manifest, verdict, None, set())
            self._note_time(verdict)
        offer.peers.add(peer_id)
        if offer.detached is None and reply.detached is not None:
            offer.detached = self._checked_detached(peer_id, manifest, reply.detached)

    def _note_time(self, verdict: Verdict) -> None:
        now = trio.current_time()
        if self._first_offer is None:
            self._first_offer = now
        if verdict.ok and self._first_usable is None:
            self._first_usable = now

    def _checked_detached(self, peer_id: str, manifest: Manifest, text: str) -> str | None:
        try:
            check_detached(manifest.raw, text, manifest.signers)
        except SignatureError as error:
            self._progress.peer(peer_id, f"its detached signature is not used: {error.message}")
            return None
        return text
