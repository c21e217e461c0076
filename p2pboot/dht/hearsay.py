"""Whom many tell of is dialled before whom one tells of: a liar invents as many providers as he likes.

Of each teller a few are taken at once, so that what is told first is tried first. The rest waits until all were asked.
And who tells of servers that are not there is not listened to for a while: he may mean to have us dial somebody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.origins import Party
from p2pboot.dht.table import Contact

AT_ONCE: Final = 4
"""Of one teller."""

MOST: Final = 2048
"""Peers that are remembered: as many as thirty tellers can tell of."""


IN_VAIN: Final = 8
"""Servers that one teller tells of and that do not answer, before this counts against him."""

_THERE: Final = 3  # for each that does answer so many more may be gone: of an honest teller's some always are


@dataclass(slots=True)
class Word:
    """What became of the servers that one teller told of first."""

    there: int = 0
    away: int = 0

    @property
    def counts(self) -> bool:
        """Whether he is listened to."""
        return self.away < IN_VAIN or self.away <= _THERE * self.there


class Hearsay:
    """What was told in one lookup."""

    def __init__(self) -> None:
        # By peer and addresses, with who told of it: who lies about where somebody is does not hide him.
        self._told: dict[Contact, set[Party]] = {}
        self._taken: set[Contact] = set()
        self._of_teller: dict[Party, int] = {}

    def hear(self, contact: Contact, teller: Party) -> bool:
        """Take down that somebody tells of a peer; returns whether this one is to be tried at once."""
        if contact not in self._told and len(self._told) >= MOST:
            return False
        self._told.setdefault(contact, set()).add(teller)
        if contact in self._taken or self._of_teller.get(teller, 0) >= AT_ONCE:
            return False
        self._of_teller[teller] = self._of_teller.get(teller, 0) + 1
        self._taken.add(contact)
        return True

    def rest(self) -> Iterator[Contact]:
        """Those that were not to be tried at once, whom most tell of first; an address counts once, then its peers."""
        waiting = [entry for entry in self._told.items() if entry[0] not in self._taken]
        waiting.sort(key=lambda entry: (-len({party.origin for party in entry[1]}), -len(entry[1])))
        for contact, _ in waiting:
            self._taken.add(contact)
            yield contact
