"""What signers announced of snapshots, and where they contradict each other: rows of the state's database.

One announcement for each signer and snapshot, the newest few of each signer. One that its own payload contradicts is
remembered with that fault, and counts as announced for nobody but who follows the signer. Whoever has both documents of
a contradiction can show them to anybody, so they are kept whatever becomes of the announcements.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from p2pboot.core.events import Event
from p2pboot.errors import Malformed, SignatureError
from p2pboot.store.database import Database

if TYPE_CHECKING:  # every store has this, and boot clients no snapshots
    from p2pboot.core.timetoke.agreement import Conflict
    from p2pboot.core.timetoke.announcement import Announcement

logger = logging.getLogger(__name__)

KEPT_PER_SIGNER: Final = 16
"""Newest sequences of one signer, and of those with a fault; a follower needs one, an auditor a few."""

KEPT_CONFLICTS: Final = 32
"""Two documents each; a hostile trusted key could sign any number."""


class Announcements:
    """Any number of threads and processes; all methods raise StoreError (damaged database) or MachineError (disk).

    Args:
        database: keeps them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> tuple[Announcement, ...]:
        """Every announcement without a fault, highest sequence first."""
        return self._which("")

    def said(self) -> tuple[Announcement, ...]:
        """Everything that signers are known to have said, also with a fault, and both sides of every contradiction."""
        return self._parsed(
            "SELECT raw FROM announcements"
            " UNION SELECT first FROM announcement_conflicts UNION SELECT second FROM announcement_conflicts"
        )

    def faults(self) -> dict[tuple[str, str, int], str]:
        """What is wrong with announcements that have a fault, by (signer, root, sequence)."""
        query = "SELECT signer, root, sequence, fault FROM announcements WHERE fault IS NOT NULL"
        return {(signer, root, sequence): why for signer, root, sequence, why in self._database.rows(query)}

    def get(self, signer: str, root: str) -> Announcement | None:
        """The announcement of one snapshot by one signer (a key id)."""
        return next((one for one in self.of_root(root) if one.signer == signer), None)

    def of_root(self, root: str) -> tuple[Announcement, ...]:
        """All announcements of one snapshot without a fault, highest sequence first."""
        return self._which("AND root = ?", root)

    def _which(self, condition: str, *values: object) -> tuple[Announcement, ...]:
        where = f"WHERE fault IS NULL {condition}"
        query = f"SELECT raw FROM announcements {where} ORDER BY sequence DESC, signer"  # noqa: S608 - ours
        return self._parsed(query, *values)

    def _parsed(self, query: str, *values: object) -> tuple[Announcement, ...]:
        rows = self._database.rows(query, *values)
        return tuple(one for (raw,) in rows if (one := _parse(raw)) is not None)

    def chunk_length(self, root: str) -> int | None:
        """Into what an announced snapshot is cut, bytes; None when nobody announced it."""
        return next((one.facts.chunk_length for one in self.of_root(root)), None)

    def last_sequence(self) -> int:
        """The highest sequence of anybody, also of what is not kept any more; 0 when there is none."""
        row = self._database.row("SELECT max(sequence) FROM announced")
        return 0 if row is None or row[0] is None else int(row[0])

    def reached(self) -> dict[str, int]:
        """The highest sequence of each signer, also where its announcement is lost."""
        return dict(self._database.rows("SELECT signer, sequence FROM announced"))

    def put(self, announcement: Announcement, fault: str | None = None) -> None:
        """Keep an announcement, unless a newer one of the same signer and snapshot is there.

        Args:
            announcement: of any snapshot, held or not.
            fault: how its payload contradicts it; that stays with this sequence for ever.
        """
        signer = announcement.signer
        with self._database.transaction() as sql:
            sql.execute(
                "INSERT INTO announcements(signer, root, sequence, raw, fault) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (signer, root) DO UPDATE"
                " SET sequence = excluded.sequence, raw = excluded.raw, fault = excluded.fault"
                " WHERE excluded.sequence > sequence OR excluded.sequence = sequence AND excluded.fault IS NOT NULL",
                (signer, announcement.root, announcement.sequence, announcement.raw, fault),
            )
            if fault is None:
                raised = sql.execute(
                    "INSERT INTO announced VALUES (?, ?) ON CONFLICT DO UPDATE SET sequence = excluded.sequence"
                    " WHERE excluded.sequence > sequence",
                    (signer, announcement.sequence),
                )
                if raised.rowcount:
                    self._database.record_change()
            sql.execute(
                "DELETE FROM announcements WHERE signer = ?1 AND (fault IS NULL) = ?2 AND rowid NOT IN ("
                "SELECT rowid FROM announcements WHERE signer = ?1 AND (fault IS NULL) = ?2"
                " ORDER BY sequence DESC, rowid DESC LIMIT ?3)",
                (signer, fault is None, KEPT_PER_SIGNER),
            )

    @property
    def are_durable(self) -> bool:
        """Whether what is put here outlasts the process: not where the directory can only be read."""
        return self._database.refusal is None

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Choose a sequence and put its announcement while nobody else, in any process, does.

        Raises:
            MachineError: what is put would not be kept. A sequence that is forgotten is used twice.
        """
        with self._database.transaction():
            if self._database.refusal is not None:
                raise self._database.refusal
            yield

    def put_all(self, announcements: Iterable[Announcement], conflicts: Iterable[Conflict]) -> None:
        """Keep all of these, or none."""
        with self._database.transaction():
            for announcement in announcements:
                self.put(announcement)
            for conflict in conflicts:
                self.put_conflict(conflict)

    def conflicts(self) -> tuple[tuple[bytes, bytes], ...]:
        """Both documents of every contradiction that is kept, lowest sequence first."""
        query = "SELECT first, second FROM announcement_conflicts ORDER BY sequence, id"
        return tuple((first, second) for first, second in self._database.rows(query))

    def put_conflict(self, conflict: Conflict) -> bool:
        """Keep both documents of a contradiction; False when there is no room for more."""
        documents = sorted((conflict.first.raw, conflict.second.raw))
        with self._database.transaction() as sql:
            sql.execute(
                "INSERT OR IGNORE INTO announcement_conflicts(sequence, first, second) SELECT ?, ?, ?"
                " WHERE (SELECT count(*) FROM announcement_conflicts) < ?",
                (conflict.sequence, *documents, KEPT_CONFLICTS),
            )
            query = "SELECT 1 FROM announcement_conflicts WHERE first = ? AND second = ?"
            return sql.execute(query, documents).fetchone() is not None


@functools.lru_cache(maxsize=1024)
def _parse(raw: bytes) -> Announcement | None:
    """The announcement in a row; each is checked once in the life of the process."""
    from p2pboot.core.timetoke.announcement import Announcement

    try:
        return Announcement.parse(raw)
    except (Malformed, SignatureError) as error:
        logger.warning(
            "an announcement that is kept is none and is not offered: %s", error, extra=Event.DAMAGED()
        )
        return None
