"""When a freshness statement is signed, and what it says: decided here, from the statement before. Pure.

The publisher's own counterpart of :mod:`p2pboot.core.freshness`, which judges. All that must survive a restart is in
the last statement itself: there is no counter and no table that could be lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import SecretKey
from p2pboot.core.timestamps import MAX_TIME, format_time
from p2pboot.core.trust import Pair
from p2pboot.core.trustdocs.envelope import add_signature
from p2pboot.core.trustdocs.freshness import RENEW_S, SETTLE_S, VALID_S, FreshnessBody
from p2pboot.errors import UsageError

STEP_S: Final = 60
"""How far a statement may be dated ahead of the clock: two of one key and second are evidence against it, so the next
of a second is dated one later. A clock that was set back by more is waited for."""

MAX_HEADS: Final = 64
"""Publications of a pair that are remembered until they have settled; more in an hour only raise the minimum later."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """How a publisher vouches; seconds.

    Args:
        valid_s: how long a statement is valid, at least 60.
        settle_s: after a publication, for how long the head before may still be taken.
    """

    valid_s: int = VALID_S
    settle_s: int = SETTLE_S

    @property
    def renew_s(self) -> int:
        """The time between two statements that say the same: a quarter of their validity, and six hours at most."""
        return min(RENEW_S, self.valid_s // 4)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest manifest of a channel and arch, and for whom it is vouched.

    Args:
        fleet: the digest of the root's version 1; 64 zeros without a root.
        root_version: of the root in force; 0 without.
        pair: channel and arch.
        version: its `manifest_version`.
        digest: its digest, hex.
        created_at: its date, unix seconds; None where others dated it, and when it was published is not known.
    """

    fleet: str
    root_version: int
    pair: Pair
    version: int
    digest: str
    created_at: int | None = None


class Settling:
    """Since when each of a pair's latest heads has been published: what has settled may be insisted on."""

    def __init__(self) -> None:
        self._since: dict[int, int] = {}

    def note(self, head: Head, known: FreshnessBody | None, now: int) -> None:
        """There is this head now; and, after a restart, what the statement before said.

        Args:
            head: as it is now.
            known: the newest statement; None where there is none.
            now: unix seconds.
        """
        for version in [version for version in self._since if version > head.version]:
            del self._since[version]  # a root took the right away from whoever signed it
        if known is not None and known.head_version <= head.version:
            self._since.setdefault(known.head_version, known.created_at)
        since = now if head.created_at is None else min(head.created_at, now)
        self._since[head.version] = min(self._since.get(head.version, since), since)
        for version in sorted(self._since)[:-MAX_HEADS]:
            del self._since[version]

    def settled(self, now: int, settle_s: int) -> int:
        """The newest head that has been published for long enough; 0 where none has."""
        return max((version for version, since in self._since.items() if since + settle_s <= now), default=0)

    def next_at(self, now: int, settle_s: int) -> int | None:
        """When the next head will have, unix seconds; None where all have."""
        return min(
            (since + settle_s for since in self._since.values() if since + settle_s > now), default=None
        )


def minimum_of(head: Head, known: FreshnessBody | None, settled: int) -> int:
    """What nothing below is to be taken: never lowered, and never above the head.

    Args:
        head: as it is now.
        known: the newest statement; None where there is none.
        settled: what may be insisted on.

    Raises:
        UsageError: the head is lower than what was insisted on, and no newer root allows that.
    """
    if known is None or (known.root_version < head.root_version and known.minimum > head.version):
        return min(settled, head.version)  # a newer root may end what a stolen key began
    if known.minimum > head.version:
        raise UsageError(
            f"the newest statement takes nothing below version {known.minimum}, and version {head.version} is what"
            " is published here",
            remedy="another machine publishes it, too: get its version, or publish a higher one",
        )
    return max(known.minimum, min(settled, head.version))


def is_behind(head: Head, known: FreshnessBody | None) -> bool:
    """Whether somebody has vouched for a newer manifest already; then there is nothing to say here."""
    return known is not None and known.root_version >= head.root_version and known.head_version > head.version


def is_due(
    head: Head,
    known: FreshnessBody | None,
    minimum: int,
    paused_since: int | None,
    *,
    now: int,
    renew_s: int,
) -> bool:
    """Whether a statement is to be signed now: it would say something else, or the last one is old.

    Args:
        head: as it is now.
        known: the newest statement; None where there is none.
        minimum: as `minimum_of` has it.
        paused_since: since when a roll-out has been paused; None where it goes on.
        now: unix seconds.
        renew_s: after how many seconds the same is said again.
    """
    if known is None:
        return True
    # Who knows a newer root has said it already: two machines would answer each other for as long as one knows less.
    root_version = max(known.root_version, head.root_version)
    says = (known.fleet, known.root_version, known.head_version, known.head_digest, known.minimum)
    news = (head.fleet, root_version, head.version, head.digest, minimum)
    return (*says, known.paused_since) != (*news, paused_since) or now >= known.created_at + renew_s


def body_of(
    head: Head,
    known: FreshnessBody | None,
    *,
    minimum: int,
    paused_since: int | None,
    now: int,
    valid_s: int,
    signers: Iterable[str],
) -> FreshnessBody:
    """What is signed now.

    Args:
        head: as it is now.
        known: the newest statement; None where there is none.
        minimum: nothing below is to be taken.
        paused_since: unix seconds; None while nothing is paused.
        now: unix seconds, by a clock that can be believed.
        valid_s: seconds.
        signers: key ids.

    Raises:
        UsageError: the newest statement is dated later than the clock.
    """
    created_at = now if known is None else max(now, known.created_at + 1)
    if created_at > now + STEP_S:
        raise UsageError(
            # Without how long to wait: what has another text each time is logged each time.
            f"the newest statement is dated {format_time(created_at - 1)}, after this machine's clock;"
            f" it is signed by {', '.join(known.signers) if known is not None else 'nobody'}",
            remedy="set the clock of this machine, or of the one that signed; if both are right, wait until then, or"
            " have another freshness key named in place of that one (p2pboot key generate)",
        )
    return FreshnessBody(
        fleet=head.fleet,
        root_version=head.root_version,
        channel=head.pair[0],
        arch=head.pair[1],
        created_at=created_at,
        valid_until=min(created_at + valid_s, MAX_TIME),
        head_version=head.version,
        head_digest=head.digest,
        minimum=minimum,
        signers=tuple(sorted(signers)),
        paused_since=None if paused_since is None else min(paused_since, created_at),
    )


def sign(body: FreshnessBody, key: SecretKey) -> bytes:
    """The statement, signed by a key that it names.

    Raises:
        UsageError: it breaks a rule of the format.
    """
    return add_signature(body.document(), key)
