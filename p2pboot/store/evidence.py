"""The evidence of a state, of all kinds in one form: what its tables keep, with what makes it provable elsewhere."""

from __future__ import annotations

from dataclasses import replace

from p2pboot.core.evidence import MANIFEST, ROOT, Evidence, judge
from p2pboot.core.trustdocs.root import Root
from p2pboot.errors import Malformed, P2PBootError, SignatureError
from p2pboot.store.store import Store


def kept_evidence(store: Store) -> list[Evidence]:
    """All that is kept: manifests first, each kind the oldest first.

    Args:
        store: is only read.

    Raises:
        StoreError, MachineError: it can not be read.
    """
    found = [
        Evidence(MANIFEST, f"{one.channel}/{one.arch}", one.first, one.second)
        for one in store.trust.equivocations()
    ]
    for row in store.documents.evidence():
        one = Evidence(row.kind, row.subject, row.first, row.second, None, row.source, row.found_at)
        found.append(_provable(store, one) if row.kind == ROOT else one)
    return found


def _provable(store: Store, one: Evidence) -> Evidence:
    """With the version before, where that proves it: of the root that is believed, what came before proves nothing."""
    before = _before(store, one.first)
    if before is None:
        return one
    better = replace(one, before=before)
    try:
        judge(better)
    except P2PBootError:
        return one
    return better


def _before(store: Store, raw: bytes) -> bytes | None:
    """The version before a root of a chain that is kept here."""
    try:
        root = Root.parse(raw)
    except (Malformed, SignatureError):
        return None  # the disk changed it
    chain = store.documents.roots(root.digest, after=max(root.version - 2, 0))
    return chain[0] if root.version > 1 and len(chain) > 1 and _is(chain[1], root.digest) else None


def _is(raw: bytes, digest: str) -> bool:
    try:
        return Root.parse(raw).digest == digest
    except (Malformed, SignatureError):
        return False
