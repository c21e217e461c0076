"""The gate: the one way by which a manifest gets into a state directory, whoever brought it.

Judged, put down, accepted, or kept as evidence: all in one transaction, so that of two processes that take a manifest
at once the higher one wins, whatever their order. Nodes, boot clients, `manifest verify --state` and the publisher
itself come through here. What is done with a manifest afterwards is the catalogue's to know.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from p2pboot.core.events import Event
from p2pboot.core.freshness import Asked, supersedes
from p2pboot.core.manifest import Manifest
from p2pboot.core.trust import Pair
from p2pboot.core.verify import Question, Verdict, judge, read_trusted, verify
from p2pboot.errors import P2PBootError
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.errors import NotRecorded, PublisherRevoked
from p2pboot.store.store import Store

if TYPE_CHECKING:
    from p2pboot.store.auditlog import AuditLog  # of nodes: a boot client keeps none

log = logging.getLogger(__name__)


class Gate:
    """Takes manifests or refuses them; any thread.

    Everything but `read` blocks, and raises StoreError or MachineError where the store can not be read or written.

    Args:
        store: where everything is kept.
        catalogue: of the same store; its trust and its clock decide.
        audit: takes down what is accepted, published and contradicted.
    """

    def __init__(self, store: Store, catalogue: Catalogue, audit: AuditLog | None = None) -> None:
        self._store = store
        self.catalogue = catalogue
        self.audit = audit

    def question(
        self, channel: str | None = None, arch: str | None = None, *, min_version: int = 0
    ) -> Question:
        """What decides now about a manifest, as far as that is known before there is one."""
        heads = () if channel is None or arch is None else self._store.trust.heads_of(channel, arch)
        question = Question(self.catalogue.trust, self.catalogue.clock(), heads, channel, arch, min_version)
        if channel is None or arch is None:
            return question
        return replace(
            question,
            yanks=self.catalogue.yanks(channel, arch),
            freshness=Asked(self.catalogue.statement(channel, arch)),
        )

    def read(self, raw: bytes, channel: str | None = None, arch: str | None = None) -> Manifest | Verdict:
        """Read what a stranger sent, in the order of what that costs; quick, and nothing is looked up.

        Args:
            raw: of any size and content.
            channel: the only one that is meant here; None for any.
            arch: likewise, canonical.

        Returns:
            The manifest, for `enter`; or the verdict that refuses it.
        """
        return read_trusted(raw, self.catalogue.trust, channel, arch)

    def consider(
        self, raw: bytes, detached: str | None = None, *, source: str, question: Question | None = None
    ) -> Verdict:
        """Make every check of a document that lies here, and take the manifest if it passes them all.

        Args:
            raw: of any size and content.
            detached: the text of its detached signature, if there is one.
            source: where it came from, for people.
            question: what is asked for; None takes whatever the trust covers.

        Returns:
            The verdict. Unless a check failed, the manifest is accepted and kept.

        Raises:
            UsageError: nobody is trusted at all.
            NotRecorded: it passes, and the disk does not take it down.
        """
        question = question or self.question()
        verdict = verify(raw, question, detached)
        if verdict.manifest is not None:
            verdict = self.enter(verdict.manifest, detached, source=source, question=question)
        if self.audit is not None and verdict.failed is not None and verdict.reason != "equivocation":
            self.audit.refused(verdict, source)
        return verdict

    def enter(
        self,
        manifest: Manifest,
        detached: str | None = None,
        *,
        source: str,
        question: Question | None = None,
    ) -> Verdict:
        """The same for a manifest that was read already: the trust, the time and the head are those of now."""
        verdict: Verdict | None = None
        is_new, contradicted = False, []
        try:
            with self._store.transaction():
                verdict = judge(manifest, self._as_of_now(manifest, question), detached)
                if verdict.ok:
                    is_new = self._take(manifest, detached)
                elif verdict.reason == "equivocation":
                    contradicted = self._keep_evidence(manifest, source)
        except P2PBootError as error:
            if verdict is None:
                raise
            if verdict.ok:
                raise NotRecorded(error) from error
            log.error(
                "evidence of equivocation can not be kept: %s",
                error,
                extra=Event.NOT_KEPT(what="evidence of equivocation"),
            )  # that changes no verdict
        if self.audit is not None and is_new:
            self.audit.accepted(manifest, source)
        if self.audit is not None:
            for digest in contradicted:
                self.audit.contradicted(manifest, source, digest)
        if verdict.ok:
            self.catalogue.tell()
        return verdict

    def settle(self, manifest: Manifest, detached: str | None, *, question: Question) -> None:
        """Judge for the last time, and bring into force what passes, as one step.

        All that the manifest names is here, and nothing of it is placed yet: what came in between (a newer one that
        another process accepted, the expiry) is found now or never.

        Raises:
            Refused: it may not be used any more; what is in force stays.
        """

        def check() -> None:
            judge(manifest, self._as_of_now(manifest, question), detached).raise_if_refused()

        self.catalogue.completed(manifest.digest, check)

    def publish(self, manifest: Manifest, detached: str | None) -> bool:
        """Bring into force what this machine publishes itself: nobody else's trust or clock judges it.

        Returns:
            False when it is not newer than what is known of its signers, who would contradict themselves.

        Raises:
            PublisherRevoked: by the root its signers have no say.
        """
        pair = (manifest.channel, manifest.arch)
        self.check_say(pair, manifest.signers)
        with self._store.transaction():
            trust = self.catalogue.trust.publishing(pair, manifest.signers)
            if not self._store.trust.accept(manifest, trust.publisher_for(*pair)):
                return False
            is_new = self._store.manifests.row(manifest.digest) is None
            self._store.manifests.put(manifest, detached)
        if self.audit is not None and is_new:  # the same comes again when files were touched
            self.audit.published(manifest)
        self.catalogue.publishes(pair, manifest.signers)
        self.catalogue.completed(manifest.digest)
        return True

    def check_say(self, pair: Pair, signers: tuple[str, ...]) -> None:
        """Raise PublisherRevoked where there is a root, and by that these keys have no say for a channel and arch."""
        trust = self.catalogue.trust
        if trust.revokes(pair, signers):
            is_known = all(root.chain is not None for root in trust.roots)
            raise PublisherRevoked(*pair, signers, is_known=is_known)

    def contradiction(self, first: Manifest, second: Manifest) -> None:
        """Keep two manifests of one number that came together: neither is taken, now or later.

        Raises:
            ValueError: they do not contradict each other.
        """
        self._store.trust.record_equivocation(first.raw, second.raw)

    def _as_of_now(self, manifest: Manifest, question: Question | None) -> Question:
        # What nobody asked for is kept for others, and may be what the next statement is about.
        asked = question or Question(
            self.catalogue.trust, self.catalogue.clock(), freshness=Asked(applies=False)
        )
        pair = (manifest.channel, manifest.arch)
        return replace(
            asked,
            policy=self.catalogue.trust,
            clock=self.catalogue.clock(),
            heads=self._store.trust.heads_of(*pair),
            known_bad=self._store.trust.contradicted(*pair),
            yanks={**asked.yanks, **self.catalogue.yanks(*pair)},
            freshness=self._freshness(asked.freshness, pair),
        )

    def _freshness(self, asked: Asked, pair: Pair) -> Asked:
        """What is asked for, with the newest statement: what was found on the way, or what is remembered."""
        kept = self.catalogue.statement(*pair)
        newest = asked.statement
        if kept is not None and supersedes(kept, newest):
            newest = kept
        return replace(asked, statement=newest)

    def _take(self, manifest: Manifest, detached: str | None) -> bool:
        """Put it down and accept it; whether it was not known before."""
        trust, manifests, pair = (
            self.catalogue.trust,
            self._store.manifests,
            (manifest.channel, manifest.arch),
        )
        if manifest.digest in {head.digest for head in self.catalogue.accepted(*pair)}:
            if trust.is_own(manifest):
                return False  # taken out of the directory, it is not brought back by mirrors
            if detached is None and manifests.row(manifest.digest) is not None:
                return False  # nothing to write: it is announced again and again
        is_new = manifests.row(manifest.digest) is None
        manifests.put(manifest, detached)  # a head whose bytes are lost can not be resumed
        manifests.drop_superseded(manifest)
        self._store.trust.accept(manifest, trust.publisher_for(*pair))
        return is_new

    def _keep_evidence(self, manifest: Manifest, source: str) -> list[str]:
        """Keep it beside the one that was accepted; the alarm is given once, however often either comes again.

        Returns the digests of those that it contradicts, where that is news.
        """
        contradicted = []
        for head in self.catalogue.accepted(manifest.channel, manifest.arch):
            accepted = self._store.manifests.get(head.digest)
            if accepted is None or head.manifest_version != manifest.manifest_version:
                continue
            if head.digest == manifest.digest or not self._store.trust.record_equivocation(
                accepted.raw, manifest.raw
            ):
                continue
            contradicted.append(head.digest)
            log.error(
                "%s/%s: two manifests with version %d are signed, sha256:%s (accepted first, and kept) and sha256:%s"
                " (from %s): a key is misused or its counter was lost; a higher version resumes",
                manifest.channel,
                manifest.arch,
                manifest.manifest_version,
                head.digest,
                manifest.digest,
                source,
                extra=Event.EQUIVOCATION(
                    channel=manifest.channel,
                    arch=manifest.arch,
                    manifest_version=manifest.manifest_version,
                    digest=manifest.digest,
                    accepted=head.digest,
                    source=source,
                ),
            )
        return contradicted
