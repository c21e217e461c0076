"""What a state knows of what time it is: the dates of roots, manifests and freshness statements that are believed now.

How they raise the time, :mod:`p2pboot.core.clock` says. A key that is not trusted any more takes its dates along, since
each is judged whenever the time is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from p2pboot.core.clock import STATEMENT, AcceptedTime, latest
from p2pboot.core.trust import Trust
from p2pboot.store.believed import statements
from p2pboot.store.store import Store


def latest_known(store: Store, trust: Trust) -> AcceptedTime | None:
    """The latest that is known to have been, by the word of those who are trusted now; asked at every request.

    The newest first: nothing raises the time above its own date, so the rest needs not be judged. Blocking.

    Args:
        store: is only read.
        trust: who counts.

    Returns:
        None where nobody said anything.

    Raises:
        StoreError, MachineError: the store can not be read.
    """
    best = latest(_of_roots(store, trust))
    for times in (_of_manifests(store, trust), _of_statements(store, trust)):
        for one in times:
            if best is not None and one.created_at <= best.at:
                break
            best = latest(filter(None, (best, replace(one, until=_ends(one, trust)))))
    return best


def _of_roots(store: Store, trust: Trust) -> Iterator[AcceptedTime]:
    for trusted in trust.roots:
        if trusted.newest is not None:
            body = trusted.newest.body
            kind = f"root version {body.version} of {body.name!r}"
            yield AcceptedTime(body.created_at, "", "", (), str(store.path), body.expires_at, kind)


def _of_manifests(store: Store, trust: Trust) -> Iterator[AcceptedTime]:
    for one in sorted(store.trust.times(), key=lambda one: one.created_at, reverse=True):
        if trust.tells_time(one.channel, one.arch, one.signers):
            yield one


def _of_statements(store: Store, trust: Trust) -> Iterator[AcceptedTime]:
    for one in statements(store.documents, trust):
        at, state = one.body.created_at, str(store.path)
        yield AcceptedTime(at, *one.pair, one.signed_by, state, kind=STATEMENT)


def _ends(one: AcceptedTime, trust: Trust) -> int | None:
    """When the root expires that names the publisher of a channel and arch: it vouches for no later date."""
    publisher = trust.publisher_for(one.channel, one.arch)
    return None if publisher is None or publisher.root is None else publisher.root.expires_at
