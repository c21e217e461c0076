"""What a root and its yanks make wrong with a node: a root that runs out, and what is held and was taken back.

Each function looks at the present state and returns all the problems of its kind.
"""

from __future__ import annotations

from typing import Final

from p2pboot.core.names import is_next
from p2pboot.core.policy import TrustedRoot
from p2pboot.core.problems import Code, Problem
from p2pboot.core.timestamps import format_time
from p2pboot.core.trustdocs.rootbody import REFUSE
from p2pboot.store.believed import content_of
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.offering import newest_known
from p2pboot.store.store import Store

EXPIRING_SHARE: Final = 3
"""A root is told of when less than one part in so many of its validity is left: to sign a new one several people have
to open their drawers."""

_RENEW: Final = (
    "have a next version signed (`p2pboot root set FILE --expires-in 1y`, `p2pboot root sign`), and bring it into force"
    " on any node (`p2pboot root publish FILE`)"
)


def root_problems(catalogue: Catalogue) -> list[Problem]:
    """Roots that run out, or have; blocking.

    Raises:
        StoreError, MachineError: the state can not be read.
    """
    now = catalogue.clock().now
    found = [_root_problem(one, now) for one in catalogue.trust.roots]
    return [problem for problem in found if problem is not None]


def _root_problem(trusted: TrustedRoot, now: int) -> Problem | None:
    newest = trusted.newest
    if newest is None or newest.body.expires_at is None:
        return None
    body, expires_at = newest.body, newest.body.expires_at
    subject = trusted.name or body.name
    if now >= expires_at:
        then = (
            "nothing that it vouches for is taken or offered"
            if body.on_expiry == REFUSE
            else "what it says goes on to count"
        )
        text = f"version {body.version} of the root expired at {format_time(expires_at)}: {then}"
        return Problem(Code.ROOT_EXPIRED, subject, text, _RENEW)
    if expires_at - now >= (expires_at - body.created_at) // EXPIRING_SHARE:
        return None
    text = f"version {body.version} of the root expires at {format_time(expires_at)}"
    return Problem(Code.ROOT_EXPIRING, subject, text, _RENEW)


def yanked_problems(store: Store, catalogue: Catalogue) -> list[Problem]:
    """What was taken back, where nothing newer is known: machines find nothing to boot; blocking.

    What was rolled out and is aborted is not among them: all go back to what the channel itself has.

    Raises:
        StoreError, MachineError: the state can not be read.
    """
    found = []
    newest = newest_known(store, catalogue.trust, catalogue.clock().now)
    for pair, row in sorted(newest.items()):
        yanks = {} if is_next(pair[0]) else catalogue.yanks(*pair)
        stored = store.manifests.get(row.digest) if yanks else None
        yank = None if stored is None else yanks.get(content_of(stored.raw))
        if yank is not None:
            text = (
                f"version {row.manifest_version} was taken back at {format_time(yank.body.created_at)}, and nothing"
                f" newer is here, so nothing is offered: {yank.body.reason}"
            )
            found.append(Problem(Code.YANKED, "/".join(pair), text, _NEXT))
    return found


_NEXT: Final = (
    "publish the next release, or go back to an earlier one on the publisher (`p2pboot yank CHANNEL --back-to N`);"
    " where nothing shall boot, nothing is to be done"
)
