"""The freeze alarm: nobody has vouched for a while for what a node holds, so it may be kept from what is newer.

Whoever stands between a mirror and its publisher can hold back what is new, and nothing wrong is ever seen: only that
nobody says any more that what is here is the newest. The age of the newest freshness statement tells; and where the
clock can not be believed, for how long this node has been awake and heard none.
"""

from __future__ import annotations

from typing import Final

from p2pboot.core.clock import Clock
from p2pboot.core.dataclass import dataclass
from p2pboot.core.names import NEXT
from p2pboot.core.problems import Code, Problem
from p2pboot.core.timestamps import MAX_TIME, format_time
from p2pboot.core.trust import Pair
from p2pboot.core.trustdocs.freshness import RENEW_S, Freshness, FreshnessBody
from p2pboot.core.trustdocs.rootbody import FreshnessRule
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store

INTERVALS: Final = 2
"""So many renewals may fail to come. An interval is a quarter of a statement's validity, six hours of the usual day:
where a courier brings them, whoever signs makes them valid for as long as he is on his way."""

GRACE_S: Final = 120.0
"""After the start, or after a pair was seen first, statements are waited for so long: peers have to be met first."""

NEAR_SHARE: Final = 4
"""What is required is an error from the last part in so many of its `max_age_s` on."""

_REMEDY: Final = (
    "see that whoever signs freshness statements runs (`p2pboot serve` with a freshness key, or `p2pboot freshness"
    " sign` from a timer) and is reached from here: `p2pboot doctor`; if others have a newer one, it is held back"
)


@dataclass(frozen=True, slots=True)
class _Heard:
    """The newest statement of a pair, by its digest, and since when it is, by trio's clock."""

    digest: str | None
    at: float


class FreezeAlarm:
    """Remembers since when nothing newer was heard; asked again and again.

    Args:
        store: of the node.
        catalogue: of the same store.
        awake_at: trio's time now; it stands still while the machine sleeps.
    """

    def __init__(self, store: Store, catalogue: Catalogue, awake_at: float) -> None:
        self._store = store
        self._catalogue = catalogue
        self._started = awake_at
        self._heard: dict[Pair, _Heard] = {}

    def problems(self, awake_at: float) -> list[Problem]:
        """Of every channel and arch of which something is known whether somebody vouches for it still; blocking.

        A roll-out's is left out: its channel says more of it, and it ends without anybody saying so.

        Args:
            awake_at: trio's time now.

        Raises:
            StoreError, MachineError: the state can not be read.
        """
        trust, clock = self._catalogue.trust, self._catalogue.clock()
        pairs = {row.pair for row in self._store.manifests.known() if trust.takes(row)}
        self._heard = {pair: heard for pair, heard in self._heard.items() if pair in pairs}
        found = []
        for pair in sorted(pair for pair in pairs if not pair[0].endswith(NEXT)):
            publisher = trust.publisher_for(*pair)
            if publisher is None or publisher.freshness is None:
                continue
            statement = self._catalogue.statement(*pair)
            heard = self._note(pair, statement, awake_at)
            if awake_at - max(self._started, heard.at if statement is None else 0) >= GRACE_S:
                problem = _judge(pair, publisher.freshness, statement, clock, awake_at - heard.at)
                found += [] if problem is None else [problem]
        return found

    def _note(self, pair: Pair, statement: Freshness | None, awake_at: float) -> _Heard:
        digest = None if statement is None else statement.digest
        heard = self._heard.get(pair)
        if heard is None or heard.digest != digest:
            heard = self._heard[pair] = _Heard(digest, awake_at)
        return heard


def _judge(
    pair: Pair, rule: FreshnessRule, statement: Freshness | None, clock: Clock, awake_s: float
) -> Problem | None:
    """What is wrong with one pair.

    Args:
        pair: its channel and arch.
        rule: who vouches for it.
        statement: the newest one.
        clock: the time.
        awake_s: for how long this node has been awake and heard nothing newer.
    """
    if statement is None:
        found = _without(rule, awake_s)
    else:
        body = statement.body
        found = _too_old(rule, body, clock.now - body.created_at if clock.trusted else awake_s)
    return None if found is None else Problem(found[0], "/".join(pair), found[1], _REMEDY)


def _without(rule: FreshnessRule, awake_s: float) -> tuple[Code, str] | None:
    said = "nobody has shown a freshness statement"
    if rule.required:
        return Code.FRESHNESS_OVERDUE, f"{said}, and one is required: nothing of it is offered"
    return (Code.FRESHNESS_OLD, said) if awake_s > INTERVALS * RENEW_S else None


def _too_old(rule: FreshnessRule, body: FreshnessBody, age_s: float) -> tuple[Code, str] | None:
    said = f"nobody has vouched for it since {format_time(body.created_at)}"
    if rule.required and age_s > rule.max_age_s:
        return Code.FRESHNESS_OVERDUE, f"{said}, and that is longer than it may be: nothing of it is offered"
    if rule.required and age_s > rule.max_age_s - rule.max_age_s // NEAR_SHARE:
        until = format_time(min(body.created_at + rule.max_age_s, MAX_TIME))
        return Code.FRESHNESS_OVERDUE, f"{said}: from {until} on nothing of it is offered"
    if age_s > INTERVALS * (body.valid_until - body.created_at) // 4:
        return Code.FRESHNESS_OLD, f"{said}, and it may be that something newer is out"
    return None
