"""The manifests that peers offer, and which one of them is taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Manifest
from p2pboot.core.rollback import AcceptedHead
from p2pboot.core.verify import Question, Refused, Verdict, judge
from p2pboot.errors import NotFoundError
from p2pboot.fetch.asking.reasons import PeerWord, describe_peers, peers_to_json, remedy_for
from p2pboot.transport.interface import Connection


@dataclass(slots=True)
class FoundManifest:
    """One manifest that was found.

    Args:
        manifest: well-formed and signed by those whom it names.
        verdict: on it, and on `detached`.
        detached: its detached signature if a good one was found.
        connections: over which it was offered; of two servers with one key each has its own.
    """

    manifest: Manifest
    verdict: Verdict
    detached: str | None
    connections: set[Connection]

    @property
    def offered_by(self) -> set[str]:
        """The peer ids of those who offer it."""
        return {connection.peer_id for connection in self.connections}


@dataclass(frozen=True, slots=True)
class Found:
    """What the peers had to offer.

    Args:
        offers: every manifest that was found, taken or not, newest first.
        asked: peers that were connected at some time.
        invalid: the verdicts on documents that are no manifests, or not what was signed.
        words: what peers said of what they do not offer, by peer id.
        failures: what went wrong with peers, by peer id.
        busy: of those that were asked, peers that had no room for us.
    """

    offers: tuple[FoundManifest, ...]
    asked: frozenset[str]
    invalid: tuple[Verdict, ...] = ()
    words: Mapping[str, PeerWord] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()

    def conflict(self) -> tuple[Manifest, Manifest] | None:
        """Two usable manifests under the newest number, if there are two: equivocation."""
        newest = self._newest()
        return (newest[0].manifest, newest[1].manifest) if len(newest) > 1 else None

    def _newest(self) -> list[FoundManifest]:
        usable = [offer for offer in self.offers if offer.verdict.ok]
        highest = max((offer.manifest.manifest_version for offer in usable), default=0)
        return [offer for offer in usable if offer.manifest.manifest_version == highest]

    def candidate(self) -> Manifest | None:
        """What would be taken if this were all; None for nothing, also where the newest number is signed twice."""
        newest = self._newest()
        return newest[0].manifest if len(newest) == 1 else None

    def choose(self, question: Question) -> FoundManifest:
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
            return newest[0]
        if self.offers:
            raise self._refused(max(self.offers, key=_closeness).verdict)
        if self.invalid:  # somebody answered, and what came was refused: that is not "nothing found"
            raise self._refused(self.invalid[0])
        raise self._nothing(question)

    def _refused(self, verdict: Verdict) -> Refused:
        """Beside the reason for the refusal: what the peers withhold that offer nothing."""
        withholding = {peer: word for peer, word in self.words.items() if word.withheld}
        aside = describe_peers(withholding, {})
        details = {"peers": peers_to_json(withholding, {})} if withholding else {}
        return Refused(verdict, aside=aside, details=details)

    def _nothing(self, question: Question) -> NotFoundError:
        pair = f"{question.channel}/{question.arch}"
        if not self.asked:
            return NotFoundError(f"no peer answered in time, so there is no manifest for {pair}")
        answered = len(self.asked) - len(self.busy)
        if not answered:
            said = f"{_counted(self.busy)} busy, so it is not known whether there is a manifest for {pair}"
        elif self.busy:
            said = f"none of {answered} peers has a manifest for {pair}, and {_counted(self.busy)} busy"
        else:
            said = f"none of {answered} peers has a manifest for {pair}"
        because = self.why()
        return NotFoundError(
            said + (f": {because}" if because else ""),
            remedy=self._remedy(),
            details={"peers": peers_to_json(self.words, self.failures)},
        )

    def why(self) -> str:
        """What the peers say, and what went wrong with them: for people, "" when there is nothing."""
        return describe_peers(self.words, self.failures)

    def _remedy(self) -> str:
        if self.busy:
            return "try again in a moment, raise --timeout, or ask another provider: --bootstrap MULTIADDR"
        if any(word.elsewhere for word in self.words.values()):
            other = "check --channel and --arch, or ask other peers: --bootstrap MULTIADDR"
        else:
            other = "ask other peers: --bootstrap MULTIADDR"
        return remedy_for(self.words.values()) or other


def _counted(peers: frozenset[str]) -> str:
    return "1 peer is" if len(peers) == 1 else f"{len(peers)} peers are"


def _closeness(offer: FoundManifest) -> tuple[bool, int]:
    """A trusted signer's refused manifest says more than a stranger's, and a newer one more than an older."""
    return offer.verdict.reason != "untrusted", offer.manifest.manifest_version


def _equivocation(question: Question, one: Manifest, other: Manifest) -> Verdict:
    against_one = judge(other, dataclasses.replace(question, heads=(AcceptedHead.of(one),)))
    detail = (
        f"two manifests with version {one.manifest_version} are signed and offered:"
        f" sha256:{one.digest} and sha256:{other.digest}; neither is taken"
    )
    checks = tuple(
        dataclasses.replace(check, detail=detail) if check.name == "equivocation" else check
        for check in against_one.checks
    )
    return Verdict(checks, against_one.manifest)
