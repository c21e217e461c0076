"""What a node offers of what it holds, and why not the rest: each manifest is judged anew, whoever asks.

Firmware checks nothing. So gateway, Phase view, announcements and the lists that peers are given show only what a
verdict of this node would take now: by trust, root, floor, yanks, expiry and freshness. By digest more is given
(`Offering.served`), since machines may just be fetching the version before; never what is forbidden.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

from p2pboot.core import rules
from p2pboot.core.clock import Clock
from p2pboot.core.dataclass import dataclass
from p2pboot.core.freshness import too_old
from p2pboot.core.policy import Publisher
from p2pboot.core.rules import Objection
from p2pboot.core.trust import Pair, Trust
from p2pboot.core.trustdocs.yank import Yank
from p2pboot.core.withheld import Why, Withheld
from p2pboot.store.believed import content_of, may_have_yanks, statement_of, yank_of
from p2pboot.store.manifests import HeadRow, StoredManifest
from p2pboot.store.store import Store

SOON_S: Final = 10  # when to ask again for what is on its way

_NEVER: Final = 1 << 62


class Offering:
    """Blocks on the database, but for `allows`; any thread. Raises StoreError or MachineError.

    Args:
        store: what there is.
        trust: whose manifests count now.
        clock: the time to judge by now.
        quick_clock: the same without waiting for the disk.
    """

    def __init__(
        self,
        store: Store,
        trust: Callable[[], Trust],
        clock: Callable[[], Clock],
        quick_clock: Callable[[], Clock],
    ) -> None:
        self._store = store
        self._manifests = store.manifests
        self._trust = trust
        self._clock = clock
        self._quick_clock = quick_clock
        self._looking = threading.Lock()
        self._changes = 0
        self._served: _Served | None = None

    # -- one manifest ------------------------------------------------------------------------------------------------

    def forbids(self, row: HeadRow, clock: Clock) -> Objection | None:
        """Why what a manifest names may not be given to anybody; None if it may.

        Args:
            row: the manifest.
            clock: the moment to judge by.
        """
        trust, now = self._trust(), clock.now
        publisher = trust.publisher_for(*row.pair)
        over = None if publisher is None else rules.root_over(publisher.root, now)
        if over is not None:
            return over
        if publisher is None or not publisher.is_met_by(row.signers):
            return Objection(
                "trust",
                f"the signers of manifest version {row.manifest_version} are not trusted for it any more",
                "trust their keys, if you believe them",
            )
        return (
            rules.below_floor(row, trust)
            or rules.taken_back(row, self._yank_of(row, publisher))
            or rules.expired(row, now)
        )

    def objection(self, row: HeadRow, clock: Clock) -> Objection | None:
        """Why a manifest that is wholly here is not offered; None if it is. Arguments as for `forbids`."""
        forbidden = self.forbids(row, clock)
        if forbidden is not None:
            return forbidden
        publisher = self._trust().publisher_for(*row.pair)
        rule = None if publisher is None else publisher.freshness
        statement = statement_of(self._store.documents, row.pair, publisher)
        return too_old(row, rule, statement, clock) or self._taken_back(row, clock)

    def _taken_back(self, row: HeadRow, clock: Clock) -> Objection | None:
        """Nobody goes back behind what was in force here: where that was yanked, nothing is offered until the next."""
        publisher = self._trust().publisher_for(*row.pair)
        if not may_have_yanks(self._store.documents, row.pair, publisher):
            return None
        for newer in self._manifests.of_pair(row.pair):
            if newer.role == "current" and newer.manifest_version > row.manifest_version:
                objection = self.forbids(newer, clock)
                if objection is not None and objection.why is Why.YANKED:
                    return objection
        return None

    def _yank_of(self, row: HeadRow, publisher: Publisher) -> Yank | None:
        documents = self._store.documents
        if not may_have_yanks(documents, row.pair, publisher):
            return None
        stored = self._manifests.get(row.digest)
        content = "" if stored is None else content_of(stored.raw)
        return yank_of(documents, row.pair, publisher, content)

    # -- what is offered ---------------------------------------------------------------------------------------------

    def heads(self, channel: str | None = None, arch: str | None = None) -> list[HeadRow]:
        """The newest manifest of each series that is wholly here, if it may be offered now.

        Args:
            channel: only this one.
            arch: only this (canonical) one.
        """
        clock = self._clock()
        return [row for row in self._manifests.heads(channel, arch) if self.objection(row, clock) is None]

    def get(self, digest: str) -> StoredManifest | None:
        """A manifest that is here, by its digest; who has that knows already what it says."""
        return self._manifests.get(digest)

    def in_date(self) -> list[tuple[Pair, bytes]]:
        """The documents of all that may be offered now."""
        found = [(row.pair, self._manifests.get(row.digest)) for row in self.heads()]
        return [(pair, stored.raw) for pair, stored in found if stored is not None]

    def offered(self, channel: str | None = None, arch: str | None = None) -> list[HeadRow]:
        """One at most for each channel and arch: where several series of a publisher's keys exist, the newest.

        Arguments are those of `heads`.
        """
        return list(newest(self.heads(channel, arch)).values())

    # -- what is not -------------------------------------------------------------------------------------------------

    def withheld(self, channel: str | None = None, arch: str | None = None) -> list[Withheld]:
        """What is known and trusted, or was, but not offered, and why; arguments as for `heads`."""
        clock, trust = self._clock(), self._trust()
        offered = {row.pair for row in self.offered(channel, arch)}
        whole = {row.digest for row in self._manifests.heads(channel, arch)}
        asked = [
            row
            for row in self._manifests.known()
            if channel in (None, row.channel) and arch in (None, row.arch) and row.pair not in offered
        ]
        # What nobody trusts any more says why nothing is offered only where nothing else does.
        known = {**newest(row for row in asked if row.is_parked), **newest(filter(trust.takes, asked))}
        return [self._withhold(row, clock, whole=row.digest in whole) for row in known.values()]

    def _withhold(self, row: HeadRow, clock: Clock, *, whole: bool) -> Withheld:
        number = row.manifest_version
        objection = self.objection(row, clock) if whole else self.forbids(row, clock)
        if objection is not None:
            return _withheld(row, objection)
        if row.fault is not None:
            text = f"manifest version {number} contradicts itself, by its publisher's fault"
            return Withheld(row.channel, row.arch, Why.INCOMPLETE, text)
        state = "is not in force yet" if whole else "is not complete here"
        return Withheld(row.channel, row.arch, Why.INCOMPLETE, f"manifest version {number} {state}", SOON_S)

    def missing(self, sha256: str) -> Withheld | None:
        """Why an artifact is not given that a manifest here names; None if none does."""
        trust = self._trust()
        rows = [row for row in self._manifests.naming(sha256) if row.is_parked or trust.takes(row)]
        if not rows:
            return None
        clock = self._clock()
        objections = {row.digest: self.forbids(row, clock) for row in rows}
        # What only a former or an expired manifest names is not fetched any more.
        known = {row.digest for row in self._manifests.known() if row.fault is None}
        expected = {row.digest for row in rows if row.digest in known and objections[row.digest] is None}
        row = max(rows, key=lambda one: (one.digest in expected, objections[one.digest] is None))
        objection = objections[row.digest]
        if objection is not None:
            return _withheld(row, objection)
        return Withheld(
            row.channel,
            row.arch,
            Why.INCOMPLETE,
            f"an artifact of manifest version {row.manifest_version} is not complete here",
            retry_after_s=SOON_S if row.digest in expected else None,
        )

    # -- what is served by digest ------------------------------------------------------------------------------------

    @property
    def is_looked_up(self) -> bool:
        """Whether `allows` knows what may be given now; never waits."""
        served, now = self._served, self._quick_clock().now
        return served is not None and served.as_of == self._changes and served.since <= now < served.until

    def look_up(self) -> None:
        """Find out what may be given now; blocking. Whoever comes meanwhile waits for the same look."""
        with self._looking:
            if not self.is_looked_up:
                self._served = self._look()

    def forget_served(self) -> None:
        """Something changed: what may be given is to be found out again."""
        self._changes += 1  # not less than that: somebody may just be looking

    def allows(self, sha256: str) -> bool:
        """Whether a manifest that is kept here names an artifact, and is not forbidden; looks first where it must."""
        if not self.is_looked_up:
            self.look_up()
        served = self._served
        return served is not None and sha256 in served.names

    def _look(self) -> _Served:
        as_of, clock = self._changes, self._clock()
        named = self._manifests.artifacts()
        rows = [row for row in self._manifests.all() if row.digest in named]
        allowed = [row for row in rows if self.forbids(row, clock) is None]
        roots = [trusted.newest for trusted in self._trust().roots]
        ends = [
            *(row.expires_at for row in allowed),
            *(
                root.body.expires_at
                for root in roots
                if root is not None and root.body.expires_at is not None
            ),
        ]
        until = min((end for end in ends if end > clock.now), default=_NEVER)
        names = frozenset[str]().union(*(named[row.digest] for row in allowed))
        return _Served(names, as_of, clock.now, until)


def _withheld(row: HeadRow, objection: Objection) -> Withheld:
    return Withheld(row.channel, row.arch, objection.why, objection.text)


@dataclass(frozen=True, slots=True)
class _Served:
    """The artifacts that may be given as of a change, from when until when, unix seconds."""

    names: frozenset[str]
    as_of: int
    since: int
    until: int


def newest_known(store: Store, trust: Trust, now: int) -> dict[Pair, HeadRow]:
    """Of each channel and arch the newest manifest that is trusted, in date and can be whole, whether it is or not.

    Args:
        store: is only read.
        trust: whose manifests count.
        now: unix seconds.
    """
    known = store.manifests.known()
    return newest(row for row in known if row.fault is None and row.expires_at > now and trust.takes(row))


def newest(rows: Iterable[HeadRow]) -> dict[Pair, HeadRow]:
    """The highest version of each channel and arch."""
    found: dict[Pair, HeadRow] = {}
    for row in rows:
        found[row.pair] = max(found.get(row.pair, row), row, key=lambda one: one.manifest_version)
    return found
