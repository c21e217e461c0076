"""Numbering: which ``manifest_version`` a manifest gets, and when the one in force is handed out again.

The counter is the one thing that must never go wrong: two different manifests of one number are
equivocation, and readers refuse both. So a number is claimed durably, with the bytes that carry it, before
anybody sees them; what was claimed is handed out again, byte for byte, as long as it still says what the
directory says.

Dates come from the clock as it is. Where that would go behind a date that was given before, one of the two readings
was wrong: the document is made all the same, and :func:`went_back` says so for as long as somebody may suffer from it.

Another machine may publish the same directory with the same key. What it says last is recorded beside what was made
here (:meth:`.Publications.record`); if it says what is wanted, it is handed out as it is, and left to its maker to
renew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

from p2pboot import RELEASE_DATE
from p2pboot.core.dataclass import dataclass
from p2pboot.core.jsonform import MAX_INTEGER
from p2pboot.core.manifest import (
    Artifact,
    Candidate,
    ManifestBody,
    ManifestTooLarge,
    Rollout,
    Statement,
    compose,
    content_digest_of,
    unsigned,
)
from p2pboot.core.policy import MAX_LIFETIME_S
from p2pboot.core.problems import Code, Problem
from p2pboot.core.timestamps import MAX_TIME, format_time
from p2pboot.core.verify import MAX_AHEAD_S
from p2pboot.errors import Malformed, StoreError, UsageError
from p2pboot.store.errors import CounterTaken
from p2pboot.store.publications import Dated, Publications

_MAX_ATTEMPTS: Final = 10
"""How often another process may take the number before us; each time it has published something."""
_OWN_SHARE: Final = 3  # what was made here is renewed when a third of its validity is left
_ELSEWHERE_SHARE: Final = 6  # by then its maker would have: it is gone, or can not be heard


class Series(NamedTuple):
    """What has a counter of its own: the set of signers (sorted key ids), channel and architecture."""

    signers: tuple[str, ...]
    channel: str
    arch: str


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is wanted of number and dates.

    Args:
        version: the image's version; None for the day of the build, which alone makes no new manifest.
        manifest_version: exactly this number; None for the next.
        expires_in_s: validity, seconds.
        now: unix seconds.
        floor: the highest number that these signers gave to another manifest, as far as is known elsewhere.
    """

    version: str | None
    manifest_version: int | None
    expires_in_s: int
    now: int
    floor: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A document whose number is ours.

    Args:
        raw: its bytes.
        unchanged: it is the one that was claimed before.
        first: there was none before.
    """

    raw: bytes
    unchanged: bool
    first: bool


@dataclass(frozen=True, slots=True)
class Content:
    """What a manifest says, whatever its number and dates.

    Args:
        series: whose counter counts.
        artifacts: each with every address that it is to be named at, the most useful first.
        cmdline: the kernel command line; None for none.
        peer_id: of the provider.
        name: of the provider.
        rollout: to which machines it is given, and when; of a channel that ends in ``.next``.
    """

    series: Series
    artifacts: tuple[Artifact, ...]
    cmdline: str | None
    peer_id: str
    name: str
    rollout: Rollout | None = None

    @property
    def digest(self) -> str:
        """The digest of what is booted of it (`core.manifest.content_digest`)."""
        return content_digest_of(self.series.channel, self.series.arch, self.artifacts, self.cmdline)

    def compose(
        self, *, version: str, manifest_version: int, created_at: int, expires_at: int
    ) -> ManifestBody:
        """Compose with as many addresses as there is room for: they are hints, and without them it can be had too."""
        room = max((len(artifact.urls) for artifact in self.artifacts), default=0)
        while True:
            try:
                return compose(
                    version=version,
                    manifest_version=manifest_version,
                    channel=self.series.channel,
                    arch=self.series.arch,
                    created_at=created_at,
                    expires_at=expires_at,
                    artifacts=[replace(one, urls=one.urls[:room]) for one in self.artifacts],
                    provider_peer_id=self.peer_id,
                    provider_name=self.name,
                    signers=self.series.signers,
                    cmdline=self.cmdline,
                    rollout=self.rollout,
                )
            except ManifestTooLarge:
                if not room:
                    raise
                room -= 1


def claim(
    content: Content, publications: Publications, wishes: Wishes, sign: Callable[[bytes], bytes]
) -> Claimed:
    """Return the document to hand out for ``content``; it is recorded durably by then.

    Args:
        content: what to publish.
        publications: counters and last documents.
        wishes: of number and dates.
        sign: adds to a document the signatures that are to be had here.

    Raises:
        UsageError: the number that is wished for is used up, or something can not be said in a manifest.
        StoreError, MachineError: the state directory.
    """
    claim_ = _Claim(content, publications, wishes)
    for _ in range(_MAX_ATTEMPTS):
        with contextlib.suppress(CounterTaken):  # another process was faster: look again
            return claim_.attempt(sign)
    series = content.series
    raise StoreError(
        f"another process publishes {series.channel}/{series.arch} again and again",
        remedy="let only one process publish with this state directory",
    )


def last_published(publications: Publications, series: Series) -> tuple[Artifact, ...]:
    """The artifacts of the document of a series that was recorded last, wherever it was made, if it can be read."""
    raw = publications.last(*series)
    try:
        return () if raw is None else tuple(Candidate.decode(raw).claims.artifacts.values())
    except Malformed:
        return ()


def renewal_at(claims: Statement, *, elsewhere: bool) -> int:
    """Unix seconds from which on a document is to be renewed.

    Args:
        claims: what it says.
        elsewhere: another machine with the same key made it, and renews it sooner: never both at one moment.
    """
    share = _ELSEWHERE_SHARE if elsewhere else _OWN_SHARE
    return claims.expires_at - (claims.expires_at - claims.created_at) // share


def same_content(one: Statement, other: Statement) -> bool:
    """Whether two documents name the same artifacts and command line for the same machines, wherever those are."""
    return (
        one.cmdline == other.cmdline
        and one.rollout == other.rollout
        and _places_aside(one) == _places_aside(other)
    )


def _places_aside(claims: Statement) -> dict[str, object]:
    return {key: replace(artifact, urls=()) for key, artifact in claims.artifacts.items()}


def publishing_time(wall: int) -> int:
    """The date for what is published now: the clock's, and never before this program was made.

    What this node published before is no evidence of the time: it bears this very clock's readings.
    """
    return min(max(wall, RELEASE_DATE), MAX_TIME)


def went_back(publications: Publications, series: Series, now: int) -> Problem | None:
    """Say that an earlier document bears a later date than what is published now.

    Machines that accepted it believe that its date has passed, and may take what is made now for out of date.

    Args:
        publications: counters and dates.
        series: whose.
        now: unix seconds, of the clock that dates come from.

    Returns:
        None where there is none, and when its date or its validity is over.
    """
    dated = publications.latest_dated(*series)
    if dated is None or dated.created_at <= now + MAX_AHEAD_S or dated.expires_at <= now:
        return None
    number = dated.manifest_version
    if number >= publications.counter(*series):
        return None
    return Problem(
        Code.CLOCK_WENT_BACK,
        f"{series.channel}/{series.arch}",
        f"version {number} is dated {format_time(dated.created_at)}, and this machine's clock says {format_time(now)}:"
        " one of the two is wrong; machines that took that version may refuse what is published now",
        f"check this clock; if it is right now, run `p2pboot state recover --state DIR` on machines that took version"
        f" {number}",
    )


def valid_too_long(dated: Statement) -> Problem | None:
    """Say that a document is valid for longer than machines take which were told nothing else; None if it is not."""
    valid_s = dated.expires_at - dated.created_at
    if valid_s <= MAX_LIFETIME_S:
        return None
    return Problem(
        Code.LIFETIME,
        f"{dated.channel}/{dated.arch}",
        f"version {dated.manifest_version} is valid for {-(-valid_s // 86_400)} days, and machines take at most"
        f" {MAX_LIFETIME_S // 86_400} unless they are told otherwise",
        "publish with a shorter --expires-in, which a running publisher renews by itself; or give --max-lifetime there",
    )


@dataclass(frozen=True, slots=True)
class _Claim:
    content: Content
    publications: Publications
    wishes: Wishes

    def attempt(self, sign: Callable[[bytes], bytes]) -> Claimed:
        counter = self.publications.counter(*self.content.series)
        stored = self._stored()
        if stored is not None and self._still_holds(stored, counter):
            raw = sign(stored.raw)
            if raw != stored.raw:  # it lacked signatures that are to be had here
                self._record(raw, stored.claims, stored.digest)
            return Claimed(raw, unchanged=True, first=False)
        body = self._compose_next(stored, counter)
        raw = sign(unsigned(body))
        if stored is not None:
            self._note_date(stored.claims)
        self._record(raw, body.statement, body.digest)
        return Claimed(raw, unchanged=False, first=counter == 0)

    def _stored(self) -> Candidate | None:
        raw = self.publications.last(*self.content.series)
        if raw is None:
            return None
        try:
            return Candidate.decode(raw)
        except Malformed:  # of a newer format, say: its number counts, its content can not be compared
            return None

    def _record(self, raw: bytes, claims: Statement, digest: str) -> None:
        named = self.content.series._asdict()
        self.publications.record(raw, **named, manifest_version=claims.manifest_version, digest=digest)
        self._note_date(claims)

    def _note_date(self, claims: Statement) -> None:
        dated = Dated(claims.manifest_version, claims.created_at, claims.expires_at)
        self.publications.note_date(*self.content.series, dated)

    def _still_holds(self, stored: Candidate, counter: int) -> bool:
        """Whether the stored document still says what is wanted, and may be handed out again."""
        claims = stored.claims
        if claims.manifest_version < counter or claims.manifest_version <= self.wishes.floor:
            return False  # the number was overtaken: readers would take ours for a rollback
        if self.wishes.manifest_version not in (None, claims.manifest_version):
            return False
        return not self._renewal_is_due(stored) and self._says_the_same(stored)

    def _renewal_is_due(self, stored: Candidate) -> bool:
        """Whether little of the validity is left, or nobody takes it.

        Nobody takes what a clock far ahead made, and what is valid for too long, where the operator now wants less.
        For a clock that stands before the release of this program that date is put in its place: such a clock can
        not tell what was made too early.
        """
        claims, now = stored.claims, self.wishes.now
        if now >= renewal_at(claims, elsewhere=self._is_from_elsewhere(stored)):
            return True
        if claims.expires_at - claims.created_at > MAX_LIFETIME_S >= self.wishes.expires_in_s:
            return True
        return claims.created_at > now + MAX_AHEAD_S and now != RELEASE_DATE

    def _is_from_elsewhere(self, stored: Candidate) -> bool:
        return self.publications.is_from_elsewhere(stored.digest)

    def _says_the_same(self, stored: Candidate) -> bool:
        """Compare bytes: what is wanted, said with the stored document's number and dates.

        What another machine says differs in who provides it and where it can be had, which is no reason to say it
        again.
        """
        claims = stored.claims
        wanted = self.content.compose(
            version=claims.version if self.wishes.version is None else self.wishes.version,
            manifest_version=claims.manifest_version,
            created_at=claims.created_at,
            expires_at=claims.expires_at,
        )
        if self._is_from_elsewhere(stored):
            return wanted.statement.version == claims.version and same_content(wanted.statement, claims)
        return wanted.data == stored.data

    def _compose_next(self, stored: Candidate | None, counter: int) -> ManifestBody:
        highest = max(counter, self.wishes.floor)
        number = highest + 1 if self.wishes.manifest_version is None else self.wishes.manifest_version
        series = self.content.series
        if highest >= MAX_INTEGER:
            raise UsageError(
                f"{series.channel}/{series.arch}: {', '.join(series.signers)} signed version {highest}, and no manifest"
                " can have a higher one",
                remedy="publish with another key (--signing-key), and have machines trust that in place of this one",
            )
        if number > MAX_INTEGER:
            raise UsageError(
                f"manifest_version {number} is too high: at most {MAX_INTEGER}",
                remedy=f"use {highest + 1}, or leave the number out",
            )
        if 1 <= number <= highest:
            raise UsageError(
                f"manifest_version {number} is used up: {series.channel}/{series.arch} is at {highest}",
                remedy=f"use {highest + 1}, or leave the number out",
            )
        return self.content.compose(
            version=self._version(stored),
            manifest_version=number,
            created_at=self.wishes.now,
            expires_at=self.wishes.now + self.wishes.expires_in_s,
        )

    def _version(self, stored: Candidate | None) -> str:
        if self.wishes.version is not None:
            return self.wishes.version
        if stored is not None and self._says_the_same(stored):
            return stored.claims.version  # a renewal does not make the image any newer
        try:
            return format_time(self.wishes.now)[:10].replace("-", ".")
        except ValueError as error:
            raise UsageError(f"the clock is wrong: {error}", remedy="set the clock") from None
