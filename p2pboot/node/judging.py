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
from p2pboot.errors import Malformed, SignatureError
from p2pboot.store.store import Store
from p2pboot.transport.interface import Verdict

log = logging.getLogger(__name__)

Pair = tuple[str, str]  # (channel, arch)


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


# REJECT only what no honest node sends; another policy or another clock is no offence.
_GOSSIP_VERDICTS = {
    Opinion.NEWER: Verdict.ACCEPT,
    Opinion.CURRENT: Verdict.ACCEPT,  # else re-announcements die at the first hop
    Opinion.MALFORMED: Verdict.REJECT,
    Opinion.WRONG_TOPIC: Verdict.REJECT,
    Opinion.BAD_SIGNATURE: Verdict.REJECT,
    Opinion.UNTRUSTED: Verdict.IGNORE,
    Opinion.EXPIRED: Verdict.IGNORE,
    Opinion.NOT_YET_VALID: Verdict.IGNORE,
    Opinion.OLDER: Verdict.IGNORE,
    Opinion.EQUIVOCATION: Verdict.IGNORE,
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """An opinion; the manifest is there when its form and signatures are good, whatever else is wrong with it."""

    opinion: Opinion
    detail: str = ""
    manifest: Manifest | None = None

    @property
    def gossip_verdict(self) -> Verdict:
        return _GOSSIP_VERDICTS[self.opinion]


class Judge:
    """The node's one opinion about manifests.

    Args:
        store: for the heads that were accepted and the evidence of equivocation.
        policy: whose manifests are taken.
        clock: gives the time and whether it can be trusted, see `core.clock`.
    """

    def __init__(self, store: Store, policy: TrustPolicy, clock: Callable[[], Clock]) -> None:
        self._store = store
        self._clock = clock
        self._turn = trio.Lock()  # heads are compared and moved by one task at a time
        self.policy = policy
        self.refused: Counter[str] = Counter()

    async def judge(self, raw: bytes, *, source: str, topic: Pair | None = None) -> Judgement:
        """Form an opinion on a manifest's bytes and remember the head when it is newer.

        Args:
            raw: the document as it was received, of any size and content.
            source: peer id it came from, for the log.
            topic: the (channel, arch) that the topic names, when it came by gossip.
        """
        judgement = await self._judge(raw, topic)
        if judgement.opinion not in (Opinion.NEWER, Opinion.CURRENT):
            self.refused[judgement.opinion.value] += 1
            level = logging.WARNING if judgement.opinion is Opinion.EQUIVOCATION else logging.DEBUG
            log.log(level, "manifest from %s: %s %s", source, judgement.opinion.value, judgement.detail)
        return judgement

    async def _judge(self, raw: bytes, topic: Pair | None) -> Judgement:
        try:
            candidate = Candidate.decode(raw)
        except Malformed as error:
            return Judgement(Opinion.MALFORMED, error.message)
        if topic is not None and (candidate.channel, candidate.arch) != topic:
            return Judgement(Opinion.WRONG_TOPIC, f"{candidate.channel}/{candidate.arch}")
        publisher = self.policy.publisher_for(candidate.channel, candidate.arch)
        if publisher is None or len(publisher.trusted_among(candidate.signers)) < publisher.threshold:
            return Judgement(Opinion.UNTRUSTED, ", ".join(candidate.signers))
        try:
            candidate.check_signatures(first=publisher.keys)  # a forger costs one check
            manifest = candidate.check_form()
        except SignatureError as error:
            return Judgement(Opinion.BAD_SIGNATURE, error.message)
        except Malformed as error:
            return Judgement(Opinion.MALFORMED, error.message)
        async with self._turn:
            return await trio.to_thread.run_sync(self._compare, manifest)

    def _compare(self, manifest: Manifest) -> Judgement:
        head = self._store.trust.head(manifest.channel, manifest.arch)
        verdict = verify.judge(manifest, policy=self.policy, clock=self._clock(), head=head)
        if verdict.failed is None:
            if head is not None and head.digest == manifest.digest:
                return Judgement(Opinion.CURRENT, manifest=manifest)
            self._store.manifests.put(manifest, None)  # first: a head whose bytes are lost can not be resumed
            publisher = self.policy.publisher_for(manifest.channel, manifest.arch)
            if publisher is not None and self._store.trust.accept(manifest, publisher.keys):
                return Judgement(Opinion.NEWER, manifest=manifest)
            return Judgement(Opinion.OLDER, "a newer one was accepted meanwhile", manifest)
        if verdict.reason == Opinion.EQUIVOCATION.value:
            self._keep_evidence(manifest, head)
        return Judgement(Opinion(verdict.reason), verdict.failed.detail, manifest)

    def _keep_evidence(self, manifest: Manifest, head: AcceptedHead | None) -> None:
        stored = self._store.manifests.get(head.digest) if head is not None else None
        if stored is not None:
            self._store.trust.record_equivocation(stored.raw, manifest.raw)
