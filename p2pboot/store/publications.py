"""What this machine published itself: counters and last manifests, so that no number is used twice.

Two processes may build at the same time: both read the counter, both take the next number, and the one that
records second is told so (`CounterTaken`) and builds again. Nobody may have seen its manifest by then: record
before publishing.

What another machine with the same key published is recorded here as well: its numbers are used up, and when its
content is ours it need not be said twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Candidate
from p2pboot.errors import Malformed
from p2pboot.store.database import Database, Row
from p2pboot.store.errors import CounterTaken


@dataclass(frozen=True, slots=True)
class Publication:
    """The highest number that these signers used, and the document recorded last, which may lack signatures."""

    signers: tuple[str, ...]
    channel: str
    arch: str
    counter: int
    raw: bytes | None

    @property
    def created_at(self) -> int | None:
        """The document's date, unix seconds; None where none is kept, or it can not be read."""
        try:
            return None if self.raw is None else Candidate.decode(self.raw).claims.created_at
        except Malformed:
            return None


@dataclass(frozen=True, slots=True)
class Dated:
    """A manifest's dates, unix seconds."""

    manifest_version: int
    created_at: int
    expires_at: int


class Publications:
    """Durable; any number of threads and processes.

    All methods raise StoreError (damaged database) or MachineError. `signers` are key ids in any order: a
    series belongs to the set of them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def counter(self, signers: Iterable[str], channel: str, arch: str) -> int:
        """The highest `manifest_version` used or known, 0 when there was none."""
        row = self._row("SELECT counter FROM publications", signers, channel, arch)
        return 0 if row is None else int(row[0])

    def last(self, signers: Iterable[str], channel: str, arch: str) -> bytes | None:
        """The manifest recorded last, as it was recorded."""
        row = self._row("SELECT raw FROM publications", signers, channel, arch)
        return None if row is None else row[0]

    def all(self) -> list[Publication]:
        """Every counter, in the order of channels and archs."""
        rows = self._database.rows(
            "SELECT signers, channel, arch, counter, raw FROM publications ORDER BY channel, arch, signers"
        )
        return [Publication(tuple(signers.split(",")), *rest) for signers, *rest in rows]

    def pairs(self, signers: Iterable[str]) -> list[tuple[str, str]]:
        """Every (channel, arch) of which a manifest of these signers is recorded, sorted."""
        return self._database.rows(
            "SELECT channel, arch FROM publications WHERE signers = ? AND raw IS NOT NULL ORDER BY channel, arch",
            _joined(signers),
        )

    def is_empty(self) -> bool:
        """Whether nothing was ever published with this state."""
        return self._database.row("SELECT 1 FROM publications LIMIT 1") is None

    def is_from_elsewhere(self, digest: str) -> bool:
        """Whether the manifest recorded last, which has this digest, is another machine's with the same key."""
        return self._database.row("SELECT 1 FROM publications_elsewhere WHERE digest = ?", digest) is not None

    def note_date(self, signers: Iterable[str], channel: str, arch: str, dated: Dated) -> None:
        """Remember the dates of a manifest if none of this series was ever dated later."""
        with self._database.transaction() as sql:
            sql.execute(
                "INSERT INTO publication_dates VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " manifest_version = excluded.manifest_version, created_at = excluded.created_at,"
                " expires_at = excluded.expires_at WHERE excluded.created_at >= created_at",
                (_joined(signers), channel, arch, dated.manifest_version, dated.created_at, dated.expires_at),
            )

    def latest_dated(self, signers: Iterable[str], channel: str, arch: str) -> Dated | None:
        """The manifest of this series that bears the latest date, whatever was published since."""
        dates = "SELECT manifest_version, created_at, expires_at FROM publication_dates"
        row = self._row(dates, signers, channel, arch)
        return None if row is None else Dated(*row)

    def latest_dates(self) -> list[tuple[tuple[str, ...], str, str, Dated]]:
        """The manifest with the latest date of each (signers, channel, arch), sorted."""
        rows = self._database.rows(
            "SELECT signers, channel, arch, manifest_version, created_at, expires_at FROM publication_dates"
            " ORDER BY channel, arch, signers"
        )
        return [
            (tuple(signers.split(",")), channel, arch, Dated(*rest)) for signers, channel, arch, *rest in rows
        ]

    def forget_date(self, signers: Iterable[str], channel: str, arch: str) -> None:
        """Remember no earlier date of a series any more: whoever took that manifest is mended."""
        with self._database.transaction() as sql:
            sql.execute(
                "DELETE FROM publication_dates WHERE signers = ? AND channel = ? AND arch = ?",
                (_joined(signers), channel, arch),
            )

    def record(
        self,
        raw: bytes,
        *,
        signers: Iterable[str],
        channel: str,
        arch: str,
        manifest_version: int,
        digest: str,
        elsewhere: bool = False,
    ) -> None:
        """Claim a number for a manifest and keep its bytes.

        Args:
            raw: the document, which may still lack signatures; the same content may be recorded again with
                more.
            signers: key ids.
            channel: of the manifest.
            arch: of the manifest.
            manifest_version: the number.
            digest: of the manifest (its signed data), hex.
            elsewhere: another machine with the same key published it.

        Raises:
            CounterTaken: the number, or a higher one, belongs to other content.
        """
        with self._database.transaction() as sql:
            row = self._row("SELECT counter, digest FROM publications", signers, channel, arch)
            if row is not None and manifest_version <= row[0] and (manifest_version, digest) != row:
                raise CounterTaken(channel, arch, row[0])
            if row is None or manifest_version != row[0]:
                self._database.record_change()
            if row is not None:
                sql.execute("DELETE FROM publications_elsewhere WHERE digest = ?", (row[1],))
            if elsewhere:
                sql.execute("INSERT OR REPLACE INTO publications_elsewhere VALUES (?)", (digest,))
            sql.execute(
                "INSERT OR REPLACE INTO publications VALUES (?, ?, ?, ?, ?, ?)",
                (_joined(signers), channel, arch, manifest_version, digest, raw),
            )

    def raise_counter(self, signers: Iterable[str], channel: str, arch: str, at_least: int) -> None:
        """Take note that a number was used elsewhere (the mesh has it): the next one will be higher."""
        with self._database.transaction() as sql:
            changed = sql.execute(
                "INSERT INTO publications VALUES (?, ?, ?, ?, NULL, NULL) ON CONFLICT DO UPDATE"
                # No content of ours has this number: nothing may be recorded under it.
                " SET counter = excluded.counter, digest = NULL WHERE excluded.counter > counter",
                (_joined(signers), channel, arch, at_least),
            )
            if changed.rowcount:
                self._database.record_change()

    def _row(self, query: str, signers: Iterable[str], channel: str, arch: str) -> Row | None:
        return self._database.row(
            f"{query} WHERE signers = ? AND channel = ? AND arch = ?", _joined(signers), channel, arch
        )


def _joined(signers: Iterable[str]) -> str:
    return ",".join(sorted(set(signers)))
