"""Roll-outs as plain values: those whose image is held here, whoever publishes them.

All that is shown is signed, so a mirror knows as much as the publisher: the plan by the manifest of the ``.next``
channel, a pause by the freshness statement, and that one is over by what the channel itself has.
"""

from __future__ import annotations

from typing import Any

from p2pboot.core.freshness import paused_since
from p2pboot.core.manifest import content_digest
from p2pboot.core.names import is_next
from p2pboot.core.rollouts import ended, fraction_of, pause_of
from p2pboot.core.timestamps import MAX_TIME, format_time
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.publish.rollouts import Staged
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store


def described(staged: Staged, now: int, statement: Freshness | None) -> dict[str, Any]:
    """A roll-out as plain values.

    Args:
        staged: it.
        now: unix seconds.
        statement: the newest that counts of its channel and arch; None for none.
    """
    claims, plan = staged.claims, staged.rollout
    paused = pause_of(plan, paused_since(statement)) if staged.ended is None else None
    by = () if paused is None or statement is None else statement.body.signers
    return {
        "into": plan.into,
        "channel": claims.channel,
        "arch": claims.arch,
        "version": claims.version,
        "manifest_version": claims.manifest_version,
        "signers": list(claims.signers),
        "content": content_digest(claims),
        "over": plan.over,
        "percent": plan.percent,
        "fraction": round(fraction_of(plan, now, paused), 4) if staged.ended is None else None,
        "start": format_time(plan.start),
        "end": format_time(min(plan.start + plan.duration_s, MAX_TIME)),
        "duration_s": plan.duration_s,
        "paused_since": None if paused is None else format_time(paused),
        "paused_by": list(by),
        "ended": None if staged.ended is None else staged.ended.value,
    }


def held(store: Store, catalogue: Catalogue, now: int) -> list[dict[str, Any]]:
    """Roll-outs whose image is held here, over or not, sorted by channel and arch; blocking.

    Args:
        store: what there is.
        catalogue: of the same store.
        now: unix seconds.

    Raises:
        StoreError, MachineError: the store can not be read.
    """
    found = []
    current = store.manifests.current()
    for row in sorted(current, key=lambda one: one.pair):
        claims = (
            store.manifests.claims(row.digest)
            if is_next(row.channel) and catalogue.trust.takes(row)
            else None
        )
        if claims is None or claims.rollout is None:
            continue
        heads = [one for one in current if one.pair == (claims.rollout.into, row.arch)]
        into = max(filter(catalogue.trust.takes, heads), key=lambda one: one.manifest_version, default=None)
        why = ended(
            claims, None if into is None else store.manifests.claims(into.digest), catalogue.yanks(*row.pair)
        )
        found.append(described(Staged(claims, claims.rollout, why), now, catalogue.statement(*row.pair)))
    return found
