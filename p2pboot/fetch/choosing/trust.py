"""What a search found out of whom to believe, of what is fresh and of what was taken back, gets into the state.

So a later run with the same state is held to it: to the newest root, to the minimum of the newest statement, to yanks.
Without another run there is the result, which says what was gone by.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from p2pboot.core.amounts import duration_text
from p2pboot.core.dataclass import dataclass
from p2pboot.core.freshness import NAME as FRESHNESS
from p2pboot.core.freshness import is_overdue
from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import Policy, RootFacts, TrustedRoot
from p2pboot.core.timestamps import format_time
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.verify import Outcome, Question, Verdict, judge
from p2pboot.fetch.asking.offers import Offers
from p2pboot.fetch.asking.search import HeadSearch
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store

if TYPE_CHECKING:
    from p2pboot.store.trustgate import TrustGate

SOURCE = "peers, by a fetch"


def remember(search: HeadSearch, store: Store, catalogue: Catalogue) -> list[str]:
    """Put down what was heard; blocks on the disk.

    Args:
        search: it is over.
        store: what remembers.
        catalogue: of the same store; sees everything by the newest root from then on.

    Returns:
        What a person should know of it, one line each.
    """
    roots, notes = search.roots, []
    heard = [one for one in search.offers if one.statements.new_yanks or one.statements.heard]
    if not (roots.grown or roots.contradictions or heard):
        return []
    gate = _gate(store, catalogue)
    for _trusted, chain in roots.grown:
        gate.take_roots([root.raw for root in chain.roots], source=SOURCE)
    for found in roots.contradictions:
        gate.keep_two_roots(found.error, _root_of(roots.policy, found.anchor), source=found.source)
        notes.append(f"{found.error.message}; the first, which was known here, is kept")
    for offers in heard:
        _remember_pair(offers, gate)
    return notes


def _remember_pair(offers: Offers, gate: TrustGate) -> None:
    statements = offers.statements
    for yank in statements.new_yanks:
        gate.take_yank(yank.raw, source=SOURCE)
    for statement in sorted(statements.heard, key=lambda one: one.body.created_at):
        named = offers.manifest(statement.body.head_digest) or statements.named(statement)
        gate.take_freshness(statement.raw, pair=statements.pair, source=SOURCE, at_hand=named)


def keep_two_roots(search: HeadSearch, store: Store, catalogue: Catalogue) -> None:
    """Keep what ended a search; blocks on the disk."""
    found = search.roots.undecided
    if found is not None:
        root = _root_of(search.roots.policy, found.anchor)
        _gate(store, catalogue).keep_two_roots(found.error, root, source=found.source)


def _gate(store: Store, catalogue: Catalogue) -> TrustGate:
    from p2pboot.store.trustgate import TrustGate  # most searches hear nothing new

    return TrustGate(store, catalogue)


def _root_of(policy: Policy, anchor: str) -> TrustedRoot:
    return next(one for one in policy.roots if one.anchor.digest == anchor)


@dataclass(frozen=True, slots=True)
class Basis:
    """By what a manifest was taken.

    Args:
        question: that decided.
        verdict: on the manifest.
    """

    question: Question
    verdict: Verdict

    @property
    def manifest(self) -> Manifest:
        """What was taken."""
        assert self.verdict.manifest is not None  # noqa: S101 - it was taken
        return self.verdict.manifest

    @property
    def root(self) -> RootFacts | None:
        """Of the root that names the publisher; None where the operator does."""
        publisher = self.question.policy.publisher_for(self.manifest.channel, self.manifest.arch)
        return None if publisher is None else publisher.root

    @property
    def statement(self) -> Freshness | None:
        """The freshness statement that counted."""
        return self.question.freshness.statement

    @property
    def overridden(self) -> tuple[str, ...]:
        """The checks that it passes only because the operator wants that."""
        asked = self.question.freshness
        if not asked.accept_stale:
            return ()
        strictly = judge(self.manifest, replace(self.question, freshness=replace(asked, accept_stale=False)))
        return tuple(
            check.name
            for check in strictly.checks
            if check.name == FRESHNESS and check.outcome is Outcome.FAILED
        )

    def dates(self) -> str:
        """How old the manifest is, and for how long it holds, at the moment by which it was judged, for people."""
        now = self.question.clock.now
        age = duration_text(max(0, now - self.manifest.created_at))
        return f"created    {age} ago, expires in {duration_text(max(0, self.manifest.expires_at - now))}"

    def lines(self) -> list[str]:
        """The same for people: nothing without a root, a statement, and anything overridden."""
        lines, found, clock, root = [], self.statement, self.question.clock, self.root
        if root is not None:
            lines.append(
                f"root       version {root.version}" + (f" of fleet {root.fleet}" if root.fleet else "")
            )
        if found is not None:
            age = f"{duration_text(max(0, clock.now - found.body.created_at))} ago"
            if not clock.trusted:
                age = "this machine's clock can not be believed"
            overdue = ", and overdue" if is_overdue(found, clock) else ""
            newest = f"the newest is manifest version {found.body.head_version}"
            lines.append(f"fresh      as of {format_time(found.body.created_at)} ({age}{overdue}): {newest}")
        if self.overridden:
            lines.append("STALE      taken all the same, as --accept-stale asks for")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON document; times in unix seconds."""
        found, clock, root = self.statement, self.question.clock, self.root
        return {
            "root": None if root is None else {"version": root.version, "fleet": root.fleet},
            "freshness": None
            if found is None
            else {
                "created_at": found.body.created_at,
                "valid_until": found.body.valid_until,
                "age_s": max(0, clock.now - found.body.created_at) if clock.trusted else None,
                "head_version": found.body.head_version,
                "minimum": found.body.minimum,
                "signers": list(found.signed_by),
            },
            "clock_trusted": clock.trusted,
            "overridden": list(self.overridden),
        }
