"""The gate of trust documents: the one way by which roots, freshness statements and yanks get into a state directory.

Whoever brought them (gossip, sync, an import, a file), they are judged here by the trust in force, kept or dropped, and
what follows from them comes into force in the same step. What contradicts what is kept is evidence.
"""

from __future__ import annotations

import enum
import hashlib
import logging
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from p2pboot.core.dataclass import dataclass
from p2pboot.core.events import Event
from p2pboot.core.freshness import contradict, is_ahead, supersedes
from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import Publisher, TrustedRoot, TrustPolicy
from p2pboot.core.trust import Pair
from p2pboot.core.trustdocs.chain import Chain, Followed, TwoRoots, claims_version, follow
from p2pboot.core.trustdocs.envelope import Document
from p2pboot.core.trustdocs.filling import by_version, fill
from p2pboot.core.trustdocs.freshness import Freshness, check_freshness, decode_freshness
from p2pboot.core.trustdocs.rootreader import decode_root
from p2pboot.core.trustdocs.yank import check_yank, decode_yank
from p2pboot.errors import Malformed, P2PBootError, SignatureError
from p2pboot.store.believed import yank_counts
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store
from p2pboot.store.trustdocs import EvidenceRow

if TYPE_CHECKING:
    from p2pboot.store.auditlog import AuditLog  # of nodes: a boot client keeps none

log = logging.getLogger(__name__)


class Fate(enum.Enum):
    """What becomes of a document."""

    NEWS = "news"  # it counts from now on
    KNOWN = "known"  # it, or one that says the same, is here already: worth passing on all the same
    OLDER = "older"  # there is a newer one
    EARLY = "early"  # what it speaks of is not at hand, or its date has not come: later, perhaps
    UNTRUSTED = "untrusted"  # by nobody who has a say here
    EVIDENCE = "evidence"  # it contradicts another one, and is not taken
    BAD = "bad"  # no honest node sends it


_BEST_FIRST = (
    Fate.NEWS,
    Fate.EVIDENCE,
    Fate.KNOWN,
    Fate.OLDER,
    Fate.EARLY,
    Fate.BAD,
    Fate.UNTRUSTED,
)


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a document, and why: one line for a person.

    `lies` says of several documents that no honest node sends one of them, whatever became of those before it.
    """

    fate: Fate
    why: str = ""
    lies: bool = False


class TrustGate:
    """Takes trust documents or refuses them; any thread. Everything blocks on the disk.

    All methods raise StoreError or MachineError where the store can not be read or written.

    Args:
        store: where everything is kept.
        catalogue: of the same store; its trust and its clock decide.
        audit: takes down roots and yanks that came into force, what is refused, and what contradicts itself.
    """

    def __init__(self, store: Store, catalogue: Catalogue, audit: AuditLog | None = None) -> None:
        self._audit = audit
        self._store = store
        self._documents = store.documents
        self._catalogue = catalogue
        self._following = threading.Lock()  # or of two threads the slower one would bring an older root back

    # -- roots -------------------------------------------------------------------------------------------------------

    def keep_roots(self) -> None:
        """Keep what the operator gave as files as well: others who know the digest alone ask for them."""
        with self._following:
            for trusted in self._catalogue.trust.configured.roots:
                if trusted.chain is not None:
                    self._documents.put_chain(trusted.anchor, trusted.chain)

    def change_policy(self, policy: TrustPolicy) -> None:
        """Bring what the operator says into force, with the newest roots that are known; none goes back meanwhile.

        Raises:
            ConfigError: a root names a publisher of what another one publishes already; nothing has changed.
        """
        with self._following:
            self._catalogue.take_policy(self._catalogue.resolved(policy))

    def take_roots(self, raw: Iterable[bytes], *, anchor: str | None = None, source: str) -> Judged:
        """Go on from the roots in force with what somebody has of their chains, and bring the newest into force.

        Args:
            raw: roots of one fleet, ascending.
            anchor: the digest by which the operator named the root that is meant; None for whichever they belong to.
            source: who brought them, for people.

        Raises:
            ConfigError: the root names a publisher of what another one publishes already; it is not in force.
        """
        documents = list(raw)
        with self._following:
            judged = [
                self._follow(trusted, documents, source, is_meant=anchor is not None)
                for trusted in self._catalogue.trust.configured.roots
                if anchor in (None, trusted.anchor.digest)
            ]
        unknown = Judged(Fate.UNTRUSTED, "it is of no fleet that is known here")
        return min(judged, key=lambda one: _BEST_FIRST.index(one.fate), default=unknown)

    def hand_in(self, raw: Iterable[bytes], *, source: str) -> Judged:
        """The same for files that this machine's operator brings, in any order, together with what is kept here.

        So a version that is missing in between can be brought alone, later.

        Args:
            raw: roots of one fleet.
            source: who brought them, for people.

        Returns:
            What became of them; EARLY where a version is missing, whatever could be taken without it.

        Raises:
            ConfigError: as `take_roots`.
        """
        brought = by_version(raw)
        with self._following:
            judged = [
                self._hand_in(trusted, brought, source)
                for trusted in self._catalogue.trust.configured.roots
                if not any(_is_of_another(one, trusted.fleet) for one in brought.values())
            ]
        unknown = Judged(Fate.UNTRUSTED, "it is of no fleet that is known here")
        return min(judged, key=lambda one: _BEST_FIRST.index(one.fate), default=unknown)

    def _hand_in(self, trusted: TrustedRoot, brought: dict[int, bytes], source: str) -> Judged:
        given = () if trusted.anchor.root is None else (trusted.anchor.root,)
        roots = given if trusted.chain is None else trusted.chain.roots
        known = by_version(self._documents.roots(trusted.fleet or trusted.anchor.digest))
        known.update((root.version, root.raw) for root in roots)
        believed = trusted.newest or trusted.anchor.root
        at = believed.version if believed is not None else min({**known, **brought})
        filled = fill(brought, known, at)
        judged = self._follow(trusted, list(filled.documents), source, is_meant=True)
        if filled.missing is not None and judged.fate in (Fate.NEWS, Fate.KNOWN) and not judged.lies:
            return Judged(Fate.EARLY, f"the file of version {filled.missing} is missing")
        return judged

    def keep_two_roots(self, error: TwoRoots, trusted: TrustedRoot, *, source: str) -> None:
        """Keep two roots of one version that somebody has come across as evidence; nothing else changes."""
        subject = trusted.fleet or trusted.anchor.digest
        self._keep("root", subject, (error.first, error.second), error.message, source)

    def _follow(self, trusted: TrustedRoot, documents: list[bytes], source: str, *, is_meant: bool) -> Judged:
        if trusted.chain is not None and len(documents) == 1:
            glanced = self._glance(trusted.chain, documents[0])
            if glanced is not None:
                return glanced
        try:
            followed = follow(trusted.anchor, trusted.chain, documents)
        except TwoRoots as error:
            self.keep_two_roots(error, trusted, source=source)
            return Judged(Fate.EVIDENCE, error.message)
        chain, changed = followed.chain, followed.chain != trusted.chain
        if changed and chain is not None:
            if not self._documents.admits(trusted.anchor, chain):
                return Judged(Fate.OLDER, "a newer root was in force here", lies=followed.lie is not None)
            self._bring_into_force(trusted, chain, source)
        if followed.ended_by is not None and not is_meant and _is_of_another(documents[0], trusted.fleet):
            return Judged(Fate.UNTRUSTED, "it is of another fleet")
        if chain is None and followed.ended_by is None:
            return Judged(Fate.UNTRUSTED, "the root that is believed here is not among them")
        return _judged(followed, changed=changed)

    def _glance(self, chain: Chain, raw: bytes) -> Judged | None:
        """What becomes of one root, as far as that is seen without a signature check; None to look further."""
        known = chain.newest
        if raw == known.raw:
            return Judged(Fate.KNOWN)
        version = claims_version(raw)
        if version is not None and version > known.version + 1:
            return Judged(Fate.EARLY, f"root version {known.version + 1} is missing before version {version}")
        return None

    def _bring_into_force(self, trusted: TrustedRoot, chain: Chain, source: str) -> None:
        policy = self._catalogue.trust.configured.with_chains({trusted.anchor.digest: chain})
        self._documents.put_chain(trusted.anchor, chain)
        self._catalogue.take_policy(policy)
        if self._audit is not None:
            self._audit.root(chain.newest, trusted.fleet or chain.fleet, source)

    # -- freshness ---------------------------------------------------------------------------------------------------

    def take_freshness(
        self, raw: bytes, *, pair: Pair | None = None, source: str, at_hand: Manifest | None = None
    ) -> Judged:
        """Judge a freshness statement, and keep it if it is the newest.

        Args:
            raw: the document.
            pair: the channel and arch that it has to be of; None for any.
            source: who brought it, for people.
            at_hand: the manifest that it names, by who has that and will not keep it.
        """
        return self._told("freshness", raw, source, self._take_freshness(raw, pair, source, at_hand))

    def _take_freshness(self, raw: bytes, pair: Pair | None, source: str, at_hand: Manifest | None) -> Judged:
        try:
            found = decode_freshness(raw)
            publisher = self._who(found.claims.pair, found.claims.fleet, pair)
            if isinstance(publisher, Judged):
                return publisher
            if not publisher.may_vouch(found.claims.fleet, found.claims.signers):
                return Judged(Fate.UNTRUSTED, "it is not signed by who says what is fresh")
            statement = check_freshness(found)
        except (Malformed, SignatureError) as error:
            return Judged(Fate.BAD, error.message)
        with self._store.transaction():
            return self._enter_freshness(statement, source, at_hand)

    def _enter_freshness(self, statement: Freshness, source: str, at_hand: Manifest | None) -> Judged:
        known = self._catalogue.statement(*statement.pair)
        if known is not None and known.digest == statement.digest:
            return Judged(Fate.KNOWN)
        if is_ahead(statement, self._catalogue.clock()):
            return Judged(Fate.EARLY, "it is dated later than this machine's clock")
        refused = None if known is None else self._against(known, statement, source)
        if refused is not None:
            return refused
        if not supersedes(statement, known):
            return Judged(Fate.OLDER)
        body = statement.body
        if not (
            self._is_of(statement, at_hand)
            or self._catalogue.has_trusted(statement.pair, body.head_digest, body.head_version)
        ):
            return Judged(Fate.EARLY, "the manifest that it names is not here")
        self._documents.put_statement(statement)
        self._catalogue.tell()
        return Judged(Fate.NEWS)

    def _against(self, known: Freshness, statement: Freshness, source: str) -> Judged | None:
        """What becomes of a statement that contradicts the one that is known; None where it does not."""
        publisher = self._catalogue.trust.publisher_for(*statement.pair)
        version = 0 if publisher is None else publisher.root_version
        if not contradict(known, statement, version):
            return None
        if not contradict(
            known, statement
        ):  # by a later root it is honest, and anybody can write such a number
            return Judged(Fate.EARLY, f"root version {statement.body.root_version} is not known here")
        subject = "/".join(statement.pair)
        why = f"{subject}: two freshness statements contradict each other"
        self._keep("freshness", subject, (known, statement), why, source)
        return Judged(Fate.EVIDENCE, why)

    def _is_of(self, statement: Freshness, manifest: Manifest | None) -> bool:
        return (
            manifest is not None
            and (manifest.channel, manifest.arch) == statement.pair
            and (manifest.manifest_version, manifest.digest)
            == (statement.body.head_version, statement.body.head_digest)
            and self._catalogue.trust.takes(manifest)
        )

    # -- yanks -------------------------------------------------------------------------------------------------------

    def take_yank(self, raw: bytes, *, pair: Pair | None = None, source: str) -> Judged:
        """Judge a yank, and keep it; what it means comes into force at once. Arguments as for `take_freshness`."""
        return self._told("yank", raw, source, self._take_yank(raw, pair, source))

    def _take_yank(self, raw: bytes, pair: Pair | None, source: str) -> Judged:
        try:
            found = decode_yank(raw)
            publisher = self._who(found.claims.pair, found.claims.fleet, pair)
            if isinstance(publisher, Judged):
                return publisher
            if not publisher.may_yank(found.claims.fleet, found.signers):
                return Judged(Fate.UNTRUSTED, "it is not signed by enough of who may publish")
            yank = check_yank(found, trusted=publisher.keys)
        except (Malformed, SignatureError) as error:
            return Judged(Fate.BAD, error.message)
        if not self._documents.put_yank(yank, lambda kept: yank_counts(kept, publisher)):
            kept = self._catalogue.yanks(*yank.pair).get(yank.body.content)
            if kept is None or kept.digest != yank.digest:
                # Not to be passed on: whoever has the key makes any number of them.
                return Judged(Fate.OLDER, "the same was yanked before, or there are as many yanks as may be")
            return Judged(Fate.KNOWN)
        self._catalogue.tell()
        if self._audit is not None:
            self._audit.yanked(yank, source)
        return Judged(Fate.NEWS)

    # -- what they share ---------------------------------------------------------------------------------------------

    def _who(self, found: Pair, fleet: str, asked: Pair | None) -> Publisher | Judged:
        if asked is not None and found != asked:
            return Judged(Fate.BAD, "it is of another channel or arch than it was sent for")
        publisher = self._catalogue.trust.publisher_for(*found)
        if publisher is None or publisher.fleet != fleet:
            return Judged(Fate.UNTRUSTED, "it is of no publisher that is trusted here")
        return publisher

    def _told(self, kind: str, raw: bytes, source: str, judged: Judged) -> Judged:
        """Take down that a document was refused: by nobody who has a say, or one that no honest node sends."""
        if self._audit is not None and judged.fate in (Fate.UNTRUSTED, Fate.BAD):
            digest = hashlib.sha256(raw).hexdigest()
            entry = self._audit.refusal(kind, source, digest=digest, detail=judged.why)
            if entry is not None:
                self._audit.write_refusal(entry)
        return judged

    def _keep(self, kind: str, subject: str, both: tuple[Document, Document], why: str, source: str) -> None:
        found_at = self._catalogue.clock().now
        row = EvidenceRow.of(kind, subject, *both, source=source, found_at=found_at)
        try:
            if self._documents.record_evidence(row):
                log.error(
                    "%s (from %s): both are kept as evidence",
                    why,
                    source,
                    extra=Event.CONTRADICTION(kind=kind),
                )
                if self._audit is not None:
                    self._audit.contradiction(kind, subject, [one.digest for one in both], source)
        except P2PBootError as error:
            log.error(
                "evidence can not be kept: %s",
                error,
                extra=Event.NOT_KEPT(what=f"evidence of two {kind} documents"),
            )  # that changes no verdict


def _judged(followed: Followed, *, changed: bool) -> Judged:
    why = "" if followed.ended_by is None else followed.ended_by.message
    if followed.lie is not None:
        return Judged(Fate.NEWS if changed else Fate.BAD, why, lies=True)
    if changed:
        return Judged(Fate.NEWS, why)
    return Judged(Fate.KNOWN if followed.ended_by is None else Fate.EARLY, why)


def _is_of_another(raw: bytes, fleet: str | None) -> bool:
    try:
        found = decode_root(raw)
    except (Malformed, SignatureError):
        return False
    said = found.digest if found.claims.version == 1 else found.claims.fleet
    return None not in (said, fleet) and said != fleet
