"""Roots and freshness statements that contradict each other, as problems: as long as whoever signed both has a say."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from p2pboot.core.evidence import ROOT
from p2pboot.core.problems import Code, Problem
from p2pboot.core.trust import Trust
from p2pboot.core.trustdocs.freshness import decode_freshness
from p2pboot.core.trustdocs.rootreader import decode_root
from p2pboot.errors import Malformed, SignatureError
from p2pboot.store.trustdocs import EvidenceRow, TrustDocuments

SHOWN_S: Final = 7 * 86_400
"""For how long statements are a problem: of an accident (a copied key, a clock that was set) that is long enough."""

_SEE: Final = "p2pboot evidence list shows both, and export makes a file that proves it to anybody"


def contradiction_problems(documents: TrustDocuments, trust: Trust, now: float) -> list[Problem]:
    """What stands wrong; blocking. One of each kind and subject, the newest.

    Args:
        documents: hold the evidence.
        trust: in force.
        now: unix seconds.
    """
    found = {}
    for row in documents.evidence():
        problem = _of_roots(row, trust) if row.kind == ROOT else _of_statements(row, trust, now)
        if problem is not None:
            found[row.kind, row.subject] = problem
    return list(found.values())


def _of_roots(row: EvidenceRow, trust: Trust) -> Problem | None:
    try:
        first, second = decode_root(row.first), decode_root(row.second)
    except (Malformed, SignatureError):  # the disk changed it
        return None
    signers = {*first.signers, *second.signers}
    chains = [one.chain for one in trust.roots if one.chain is not None]
    inside = [one for one in chains if row.subject in (one.fleet, *(root.digest for root in one.roots))]
    if not any(signers.intersection(one.newest.body.root.keys) for one in inside):
        return None
    return Problem(
        Code.CONTRADICTION,
        first.claims.name,
        f"two roots of version {first.claims.version} are signed: sha256:{first.digest}, which stays, and"
        f" sha256:{second.digest} (from {row.source})",
        f"root keys are misused: {_SEE}; a next root without these keys ends it, or another one for all machines"
        " (--root)",
    )


def _of_statements(row: EvidenceRow, trust: Trust, now: float) -> Problem | None:
    try:
        first, second = decode_freshness(row.first), decode_freshness(row.second)
    except (Malformed, SignatureError):
        return None
    publisher = trust.publisher_for(*first.claims.pair)
    rule = None if publisher is None else publisher.freshness
    if rule is None or now > row.found_at + SHOWN_S or not _both(first.signers, second.signers, rule.keys):
        return None
    culprits = _both(first.signers, second.signers, rule.keys)
    return Problem(
        Code.CONTRADICTION,
        "/".join(first.claims.pair),
        f"two freshness statements contradict each other: {', '.join(culprits)} signed both",
        f"find out whether that key is on two machines, or stolen: {_SEE}",
    )


def _both(one: Collection[str], other: Collection[str], keys: Collection[str]) -> list[str]:
    return sorted(set(one).intersection(other, keys))
