"""Decides about every manifest that reaches the node, whichever way it came: gossip, sync or the publisher itself.

Owns the trust policy in force and the heads that were accepted; does not fetch artifacts (`mirroring`) and speaks to
no peer. The order of the checks is the order of their cost, so that a flood of rubbish is cheap to turn away: size and
typed decoding, the topic, whether a trusted key is named at all, Ed25519, and only then the canonical form.
"""

from __future__ import annotations

import enum
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import trio

from p2pboot.core import verify
from p2pboot.core.clock import Clock
from p2pboot.core.manifest import Candidate, Manifest
from p2pboot.core.policy import TrustPolicy
from p2pboot.core.rollback import AcceptedHead
from p2pboot.errors import Malformed, P2PBootError, SignatureError
from p2pboot.node.trust import Pair, Trust
from p2pboot.store.store import Store
from p2pboot.transport.interface import Forwarding

log = logging.getLogger(__name__)


class Opinion(enum.Enum):
    """What the node thinks of a manifest; the values are the reasons of `core.verdict`, and labels of the counters."""

    NEWER = "newer"
    CURRENT = "current"
    MALFORMED = "malformed"
    WRONG_TOPIC = "wrong_topic"
    BAD_SIGNATURE = "signature"
    UNTRUSTED = "untrusted"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    OLDER = "rollback"
    EQUIVOCATION = "equivocation"
    NOT_RECORDED = "not_recorded"  # newer, but this node's disk did not take it down
    UNDECIDED = "undecided"  # this node's disk does not say what was accepted before


# REJECT only what no honest node sends; another policy or another clock is no offence.
_GOSSIP_VERDICTS = {
    Opinion.NEWER: Forwarding.ACCEPT,
    Opinion.CURRENT: Forwarding.ACCEPT,  # else re-announcements die at the first hop
    Opinion.MALFORMED: Forwarding.REJECT,
    Opinion.WRONG_TOPIC: Forwarding.REJECT,
    Opinion.BAD_SIGNATURE: Forwarding.REJECT,
    Opinion.UNTRUSTED: Forwarding.IGNORE,
    Opinion.EXPIRED: Forwarding.IGNORE,
    Opinion.NOT_YET_VALID: Forwarding.IGNORE,
    Opinion.OLDER: Forwarding.IGNORE,
    Opinion.EQUIVOCATION: Forwarding.IGNORE,
    Opinion.NOT_RECORDED: Forwarding.ACCEPT,  # the others' disks may well have room
    Opinion.UNDECIDED: Forwarding.IGNORE,
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """An opinion; the manifest is there when its form and signatures are good, whatever else is wrong with it."""

    opinion: Opinion
    detail: str = ""
    manifest: Manifest | None = None
    remedy: str | None = None

    @property
    def gossip_verdict(self) -> Forwarding:
        """What becomes of a gossip message with it."""
        return _GOSSIP_VERDICTS[self.opinion]


class Judge:
    """The node's one opinion about manifests.

    Args:
        store: for the heads that were accepted and the evidence of equivocation.
        trust: whose manifests are taken.
        clock: gives the time and whether it can be trusted, see `core.clock`; called in threads.
    """

    def __init__(self, store: Store, trust: Trust, clock: Callable[[], Clock]) -> None:
        self._store = store
        self._clock = clock
        self._turn = trio.Lock()  # heads are compared and moved by one task at a time
        self._trust = trust
        self.refused: Counter[str] = Counter()

    @property
    def trust(self) -> Trust:
        """Whose manifests are taken now."""
        return self._trust

    async def change_trust(self, trust: Trust) -> None:
        """Judge by another trust from now on: when this returns, nothing is taken by the former any more."""
        async with self._turn:
            self._trust = trust

    async def judge(self, raw: bytes, *, source: str, topic: Pair | None = None) -> Judgement:
        """Form an opinion on a manifest's bytes and remember the head when it is newer.

        Args:
            raw: the document as it was received, of any size and content.
            source: peer id it came from, for the log.
            topic: the (channel, arch) that the topic names, when it came by gossip.
        """
        manifest = self._read(raw, topic)
        judgement = manifest if isinstance(manifest, Judgement) else await self._weigh(manifest, source)
        if judgement.opinion not in (Opinion.NEWER, Opinion.CURRENT):
            self.refused[judgement.opinion.value] += 1
            log.debug("manifest from %s: %s %s", source, judgement.opinion.value, judgement.detail)
        return judgement

    def _read(self, raw: bytes, topic: Pair | None) -> Manifest | Judgement:
        try:
            candidate = Candidate.decode(raw)
        except Malformed as error:
            return Judgement(Opinion.MALFORMED, error.message)
        if topic is not None and (candidate.channel, candidate.arch) != topic:
            return Judgement(Opinion.WRONG_TOPIC, f"{candidate.channel}/{candidate.arch}")
        publisher = self._trust.publisher_for(candidate.channel, candidate.arch)
        if publisher is None or not self._trust.takes(candidate.claims):
            return Judgement(Opinion.UNTRUSTED, ", ".join(candidate.signers))
        try:
            candidate.check_signatures(first=publisher.keys)  # a forger costs one check
            return candidate.check_form()
        except SignatureError as error:
            return Judgement(Opinion.BAD_SIGNATURE, error.message)
        except Malformed as error:
            return Judgement(Opinion.MALFORMED, error.message)

    async def _weigh(self, manifest: Manifest, source: str) -> Judgement:
        async with self._turn:
            policy = self._trust.policy_for(manifest.channel, manifest.arch)
            if not policy.publishers:  # it changed while this one was looked at
                return Judgement(Opinion.UNTRUSTED, ", ".join(manifest.signers))
            return await trio.to_thread.run_sync(self._compare, manifest, policy, source)

    def _compare(self, manifest: Manifest, policy: TrustPolicy, source: str) -> Judgement:
        try:
            clock, head = self._clock(), self._store.trust.head(manifest.channel, manifest.arch)
        except P2PBootError as error:
            log.error("a manifest can not be judged: %s", error)
            return Judgement(Opinion.UNDECIDED, error.message)
        verdict = verify.judge(manifest, policy=policy, clock=clock, head=head)
        if verdict.failed is None:
            if head is not None and head.digest == manifest.digest:
                return Judgement(Opinion.CURRENT, manifest=manifest)
            return self._accept(manifest, policy)
        if verdict.reason == Opinion.EQUIVOCATION.value and head is not None:
            self._keep_evidence(manifest, head, source)
        return Judgement(Opinion(verdict.reason), verdict.failed.detail, manifest, verdict.failed.remedy)

    def _accept(self, manifest: Manifest, policy: TrustPolicy) -> Judgement:
        publisher = policy.publisher_for(manifest.channel, manifest.arch)
        keys = () if publisher is None else publisher.keys
        try:
            self._store.manifests.put(manifest, None)  # first: a head whose bytes are lost can not be resumed
            taken = self._store.trust.accept(manifest, keys)
        except P2PBootError as error:  # sync and the next announcement try again
            log.error("a manifest can not be taken down: %s", error)
            return Judgement(Opinion.NOT_RECORDED, error.message)
        if not taken:
            return Judgement(Opinion.OLDER, "a newer one was accepted meanwhile", manifest)
        return Judgement(Opinion.NEWER, manifest=manifest)

    def _keep_evidence(self, manifest: Manifest, head: AcceptedHead, source: str) -> None:
        """Keep both manifests; the alarm is given once, however often either comes again."""
        try:
            stored = self._store.manifests.get(head.digest)
            if stored is None or not self._store.trust.record_equivocation(stored.raw, manifest.raw):
                return
        except P2PBootError as error:
            log.error("evidence of equivocation can not be kept: %s", error)
        log.error(
            "%s/%s: two manifests with version %d are signed, sha256:%s (accepted first, and kept) and sha256:%s"
            " (from %s): a key is misused or its counter was lost; a higher version resumes",
            manifest.channel,
            manifest.arch,
            manifest.manifest_version,
            head.digest,
            manifest.digest,
            source,
        )
