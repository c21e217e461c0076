"""Which snapshot trusted signers agree on: announcements of several keys for one payload add up (m of n).

A *subject* is what must be agreed on: root and timetoke root. Under one sequence there should be one subject.
Where there are two, both documents are kept as evidence, and:

- a key that announced both counts for neither;
- if one subject still has enough keys and no other could have had, it is taken: thresholds are for that;
- otherwise nothing of that sequence is taken, and nothing older either: a conflict at the top must not be a
  way to roll consumers back. A higher sequence resumes.

So below the threshold hostile keys can neither choose a snapshot nor hold one up. Pure: no clock, no disk.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.policy import Publisher
from p2pboot.core.timetoke.announcement import Announcement, SnapshotFacts
from p2pboot.core.timetoke.errors import AnnouncementConflict

KEPT_SEQUENCES: Final = 16
"""Sequences that are remembered for each key: it could sign any number of them."""
KEPT_PER_SEQUENCE: Final = 2
"""Different announcements of one key and sequence: two prove that it contradicts itself."""

KEPT_CONFLICTS: Final = 64


class AnnouncementStanding(enum.Enum):
    """What an announcement is to those that were heard before."""

    NEW = "new"
    KNOWN = "known"  # these very bytes, or the same said again
    OLDER = "older"  # of a sequence below the newest that is agreed on
    CONFLICT = "conflict"  # other signers name another subject under the same sequence
    EQUIVOCATION = "equivocation"  # the same signer does
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two announcements of trusted keys that name different snapshots under one sequence."""

    sequence: int
    first: Announcement
    second: Announcement

    def error(self) -> AnnouncementConflict:
        """Return it as an error, for where nothing can be taken because of it."""
        return AnnouncementConflict(self.sequence, self.first.raw, self.second.raw)


@dataclass(frozen=True, slots=True)
class Agreed:
    """A snapshot that enough trusted keys announced; all of them, sorted by key."""

    announcements: tuple[Announcement, ...]

    @property
    def sequence(self) -> int:
        """The announcements' sequence."""
        return self.announcements[0].sequence

    @property
    def root(self) -> str:
        """The snapshot's root."""
        return self.announcements[0].root

    @property
    def variants(self) -> tuple[SnapshotFacts, ...]:
        """What the announcements say beyond their subject, best supported first.

        Usually one: signers may cut the same payload into chunks of another length, or lie about the table.
        """
        counted = Counter(announcement.facts for announcement in self.announcements)
        return tuple(facts for facts, _ in counted.most_common())


class Agreement:
    """Collects announcements, of which every signature was checked, and says what they come to.

    Args:
        trusted: keys and threshold.
    """

    def __init__(self, trusted: Publisher) -> None:
        self._trusted = trusted
        self._heard: dict[int, dict[str, list[Announcement]]] = {}  # sequence → signer → what it said
        self._conflicts: dict[tuple[int, frozenset[bytes]], Conflict] = {}
        self.floor = 0
        """The sequence below which nothing is agreed on."""

    def not_below(self, reached: Mapping[str, int]) -> None:
        """Agree on nothing older than what enough of the trusted keys reached before.

        Args:
            reached: the highest sequence of each key that was ever agreed on, also where its announcement is lost.
        """
        sequences = sorted((reached.get(key, 0) for key in self._trusted.keys), reverse=True)
        self.floor = sequences[self._trusted.threshold - 1]

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """The contradictions that were heard, at most 64, lowest sequence first."""
        return tuple(sorted(self._conflicts.values(), key=lambda conflict: conflict.sequence))

    @property
    def announcements(self) -> Iterable[Announcement]:
        """Everything that is remembered, newest sequence first."""
        for sequence in sorted(self._heard, reverse=True):
            for said in self._heard[sequence].values():
                yield from said

    def add(self, announcement: Announcement) -> AnnouncementStanding:
        """Take an announcement into account."""
        if announcement.signer not in self._trusted.keys:
            return AnnouncementStanding.UNTRUSTED
        signers = self._heard.get(announcement.sequence, {})
        said = signers.get(announcement.signer, [])
        if any(known.facts == announcement.facts for known in said):
            return AnnouncementStanding.KNOWN
        others = [known for other in signers.values() for known in other]
        contradicted = [known for known in others if known.subject != announcement.subject]
        newest = max(self.newest_sequence() or 0, self.floor)
        if not contradicted and announcement.sequence < newest:
            return AnnouncementStanding.OLDER
        if len(said) < KEPT_PER_SEQUENCE:
            self._heard.setdefault(announcement.sequence, {}).setdefault(announcement.signer, []).append(
                announcement
            )
            self._forget_oldest(announcement.signer)
        if not contradicted:
            return AnnouncementStanding.NEW
        for known in contradicted[:KEPT_PER_SEQUENCE]:
            if len(self._conflicts) == KEPT_CONFLICTS:
                break
            evidence = frozenset((known.raw, announcement.raw))
            self._conflicts.setdefault(
                (announcement.sequence, evidence), Conflict(announcement.sequence, known, announcement)
            )
        contradicts_itself = any(known.subject != announcement.subject for known in said)
        return AnnouncementStanding.EQUIVOCATION if contradicts_itself else AnnouncementStanding.CONFLICT

    def newest_sequence(self) -> int | None:
        """The highest sequence of which enough keys announced one subject, contradicted or not."""
        return next((sequence for sequence, _ in self._reached()), None)

    def latest(self) -> Agreed | None:
        """The newest snapshot that is agreed on; None when there is none yet.

        Raises:
            AnnouncementConflict: at the highest sequence that counts, nothing decides between two.
        """
        for sequence, subjects in self._reached():
            signers = self._heard[sequence]
            liars = {signer for signer, said in signers.items() if len({one.subject for one in said}) > 1}
            honest = [[one for one in subjects[subject] if one.signer not in liars] for subject in subjects]
            enough = [those for those in honest if self._trusted.is_met_by({one.signer for one in those})]
            if len(subjects) == 1 and enough:
                return Agreed(tuple(sorted(enough[0], key=lambda one: one.signer)))
            raise self._contradiction(sequence).error()
        return None

    def _reached(self) -> Iterable[tuple[int, dict[tuple[str, str], list[Announcement]]]]:
        """Sequences with their subjects that have enough keys, contradicting ones included; highest first."""
        for sequence in sorted(self._heard, reverse=True):
            if sequence < self.floor:
                return
            subjects: dict[tuple[str, str], list[Announcement]] = {}
            for said in self._heard[sequence].values():
                for one in said:
                    subjects.setdefault(one.subject, []).append(one)
            reached = {
                subject: those
                for subject, those in subjects.items()
                if self._trusted.is_met_by({one.signer for one in those})
            }
            if reached:
                yield sequence, reached

    def _contradiction(self, sequence: int) -> Conflict:
        """Two announcements of different subjects under a sequence that has them."""
        first, *others = (one for said in self._heard[sequence].values() for one in said)
        return Conflict(sequence, first, next(one for one in others if one.subject != first.subject))

    def _forget_oldest(self, signer: str) -> None:
        sequences = sorted(sequence for sequence, signers in self._heard.items() if signer in signers)
        for sequence in sequences[:-KEPT_SEQUENCES]:
            del self._heard[sequence][signer]
            if not self._heard[sequence]:
                del self._heard[sequence]
