"""What this machine published itself: counters and last manifests, so that no number is used twice.

Two processes may build at the same time: both read the counter, both take the next number, and the one that
records second is told so (`CounterTaken`) and builds again. Nobody may have seen its manifest by then: record
before publishing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from p2pboot.store.database import Database
from p2pboot.store.errors import CounterTaken


@dataclass(frozen=True, slots=True)
class Publication:
    """The highest number that these signers used, and the document recorded last, which may lack signatures."""

    signers: tuple[str, ...]
    channel: str
    arch: str
    counter: int
    raw: bytes | None


class Publications:
    """Durable; any number of threads and processes.

    All methods raise StoreError (damaged database) or MachineError. `signers` are key ids in any order: a
    stream belongs to the set of them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def counter(self, signers: Iterable[str], channel: str, arch: str) -> int:
        """The highest `manifest_version` used or known, 0 when there was none."""
        row = self._database.row(
            "SELECT counter FROM publications WHERE signers = ? AND channel = ? AND arch = ?",
            _joined(signers),
            channel,
            arch,
        )
        return 0 if row is None else int(row[0])

    def last(self, signers: Iterable[str], channel: str, arch: str) -> bytes | None:
        """The manifest recorded last, as it was recorded."""
        row = self._database.row(
            "SELECT raw FROM publications WHERE signers = ? AND channel = ? AND arch = ?",
            _joined(signers),
            channel,
            arch,
        )
        return None if row is None else row[0]

    def all(self) -> list[Publication]:
        """Every counter, in the order of channels and archs."""
        rows = self._database.rows(
            "SELECT signers, channel, arch, counter, raw FROM publications ORDER BY channel, arch, signers"
        )
        return [Publication(tuple(signers.split(",")), *rest) for signers, *rest in rows]

    def record(
        self,
        raw: bytes,
        *,
        signers: Iterable[str],
        channel: str,
        arch: str,
        manifest_version: int,
        digest: str,
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

        Raises:
            CounterTaken: the number, or a higher one, belongs to other content.
        """
        stream = (_joined(signers), channel, arch)
        with self._database.transaction() as sql:
            row = sql.execute(
                "SELECT counter, digest FROM publications WHERE signers = ? AND channel = ? AND arch = ?",
                stream,
            ).fetchone()
            if row is not None and manifest_version <= row[0] and (manifest_version, digest) != row:
                raise CounterTaken(channel, arch, row[0])
            sql.execute(
                "INSERT OR REPLACE INTO publications VALUES (?, ?, ?, ?, ?, ?)",
                (*stream, manifest_version, digest, raw),
            )

    def raise_counter(self, signers: Iterable[str], channel: str, arch: str, at_least: int) -> None:
        """Take note that a number was used elsewhere (the mesh has it): the next one will be higher."""
        with self._database.transaction() as sql:
            sql.execute(
                "INSERT INTO publications VALUES (?, ?, ?, ?, NULL, NULL) ON CONFLICT DO UPDATE"
                # No content of ours has this number: nothing may be recorded under it.
                " SET counter = excluded.counter, digest = NULL WHERE excluded.counter > counter",
                (_joined(signers), channel, arch, at_least),
            )


def _joined(signers: Iterable[str]) -> str:
    return ",".join(sorted(set(signers)))
