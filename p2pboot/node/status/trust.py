"""Of the status document `trust`: roots, who vouched for what and when, what was taken back, roll-outs, evidence."""

from __future__ import annotations

from typing import Any, Final

from p2pboot.core.clock import Clock
from p2pboot.core.policy import Publisher, TrustedRoot
from p2pboot.core.timestamps import format_time
from p2pboot.core.trust import Pair
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.node import rolledout
from p2pboot.node.statements import said_of
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store

MAX_PAIRS: Final = 256
"""Channels and architectures of which it is told; a key can make up any number."""

MAX_NAMED: Final = 64
"""Keys, channels or architectures that are listed of one publisher of a root."""


def describe_trust(store: Store, catalogue: Catalogue) -> dict[str, Any]:
    """What is believed now, and by whose word; blocking.

    Args:
        store: of the node.
        catalogue: of that store.

    Returns:
        Plain values, as ``docs/status.md`` names them.

    Raises:
        StoreError, MachineError: the store can not be read.
    """
    clock = catalogue.quick_clock()
    pairs = sorted({row.pair for row in store.manifests.known() if catalogue.trust.takes(row)})
    return {
        "clock_trusted": clock.trusted,
        "roots": [_root(one, clock) for one in catalogue.trust.roots],
        "pairs": [_pair(pair, catalogue, clock) for pair in pairs[:MAX_PAIRS]],
        "pairs_total": len(pairs),
        "rollouts": rolledout.held(store, catalogue, clock.now)[:MAX_PAIRS],
        "evidence": len(store.documents.evidence()),
    }


def _root(trusted: TrustedRoot, clock: Clock) -> dict[str, Any]:
    """One root that the operator believes; what it says is null as long as it is not at hand."""
    newest = trusted.newest
    body = None if newest is None else newest.body
    expires_at = None if body is None else body.expires_at
    return {
        "anchor": trusted.anchor.digest,
        "name": trusted.name or (None if body is None else body.name),
        "fleet": trusted.fleet,
        "version": None if body is None else body.version,
        "created_at": None if body is None else format_time(body.created_at),
        "expires_at": None if expires_at is None else format_time(expires_at),
        "expires_in_s": None if expires_at is None else expires_at - clock.now,
        "on_expiry": None if body is None else body.on_expiry,
        "publishers": [_publisher(one) for one in trusted.publishers()],
    }


def _publisher(publisher: Publisher) -> dict[str, Any]:
    rule = publisher.freshness
    return {
        "keys": list(publisher.keys[:MAX_NAMED]),
        "threshold": publisher.threshold,
        "channels": None if publisher.channels is None else list(publisher.channels[:MAX_NAMED]),
        "archs": None if publisher.archs is None else list(publisher.archs),
        "freshness_keys": [] if rule is None else list(rule.keys[:MAX_NAMED]),
    }


def _pair(pair: Pair, catalogue: Catalogue, clock: Clock) -> dict[str, Any]:
    publisher = catalogue.trust.publisher_for(*pair)
    rule = None if publisher is None else publisher.freshness
    yanks = catalogue.yanks(*pair).values()
    last = max(yanks, key=lambda one: one.body.created_at, default=None)
    return {
        "channel": pair[0],
        "arch": pair[1],
        "floor": catalogue.trust.floor(*pair),
        "freshness_required": rule is not None and rule.required,
        "max_age_s": None if rule is None else rule.max_age_s,
        "statement": _statement(catalogue.statement(*pair), clock),
        "yanks": len(yanks),
        "yanked_at": None if last is None else format_time(last.body.created_at),
        "yank_reason": None if last is None else last.body.reason,
    }


def _statement(statement: Freshness | None, clock: Clock) -> dict[str, Any] | None:
    if statement is None:
        return None
    said = said_of(statement, clock.now if clock.trusted else None)
    return {**said, "head": statement.body.head_version}
