"""The manifests of a state directory and their roles: what is held, what is being brought in, what must stay.

What that means under the present trust, and when it changes, is the catalogue's to know (`store.catalogue`), which is
the only one to move a head and to clear up. A *series* is what one publisher (its sorted signers) publishes for one
channel and arch. Of each series the current and the previous manifest are kept, and the newest pending one, whose
artifacts are still being fetched. Everything that a kept manifest names is kept, unless the manifest can never
be whole by its signer's fault; `retain` removes the rest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Candidate, Manifest, Statement
from p2pboot.errors import Malformed, StoreError
from p2pboot.store.blobs import BlobStore
from p2pboot.store.database import Database

_ROWS: Final = (
    "SELECT channel, arch, signers, manifest_version, manifests.digest, length(raw), created_at, expires_at, role,"
    " fault, parked_at FROM manifests"
)


class StoredManifest(NamedTuple):
    """A manifest's bytes as they were signed, and the text of its detached signature, if there is one."""

    raw: bytes
    detached: str | None


@dataclass(frozen=True, slots=True)
class HeadRow:
    """What is known of a manifest; times in unix seconds, `size` of its bytes.

    The role is "pending", "current" or "previous"; `fault` is why it can never be whole, None for all but a few;
    `parked_at` is since when it is kept although its signers lost their say (`store.parking`), None for most.
    """

    channel: str
    arch: str
    signers: tuple[str, ...]
    manifest_version: int
    digest: str
    size: int
    created_at: int
    expires_at: int
    role: str = "current"
    fault: str | None = None
    parked_at: int | None = None

    @property
    def is_parked(self) -> bool:
        """Whether its signers lost their say, and it is kept in case it counts again or is signed anew."""
        return self.parked_at is not None

    @property
    def pair(self) -> tuple[str, str]:
        """The channel and arch."""
        return self.channel, self.arch


class Manifests:
    """Durable; any number of threads and processes.

    All methods raise StoreError (damaged database) or MachineError.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def put(self, manifest: Manifest, detached: str | None) -> None:
        """Keep a verified manifest and, from now on, what it names. It is pending until `set_head`.

        Of one that is there already only a detached signature that was missing is taken.
        """
        with self._database.transaction() as sql:
            if self.row(manifest.digest) is None:
                _insert(sql, manifest, detached)
            elif detached is not None:
                self.add_detached(manifest.digest, detached)

    def get(self, digest: str) -> StoredManifest | None:
        """The manifest with this digest, whatever its role."""
        row = self._database.row("SELECT raw, detached FROM manifests WHERE digest = ?", digest)
        return None if row is None else StoredManifest(*row)

    def claims(self, digest: str) -> Statement | None:
        """What the manifest with this digest says, unchecked; None where it is not here or the disk damaged it."""
        stored = self.get(digest)
        try:
            return None if stored is None else Candidate.decode(stored.raw).claims
        except Malformed:
            return None

    def row(self, digest: str) -> HeadRow | None:
        """What is known of the manifest with this digest."""
        return next(iter(self._rows("WHERE digest = ?", digest)), None)

    def named_by(self, digest: str) -> set[tuple[str, str]]:
        """The SHA-256 of every artifact that a manifest is said to name, with the digest of its piece table."""
        return set(
            self._database.rows(
                "SELECT sha256, table_digest FROM manifest_artifacts WHERE digest = ?", digest
            )
        )

    def drop_detached(self, digest: str) -> None:
        """Forget a detached signature that turned out to be none."""
        with self._database.transaction() as sql:
            sql.execute("UPDATE manifests SET detached = NULL WHERE digest = ?", (digest,))

    def add_detached(self, digest: str, detached: str) -> None:
        """Keep a good detached signature of a manifest that is here and has none."""
        with self._database.transaction() as sql:
            sql.execute(
                "UPDATE manifests SET detached = coalesce(detached, ?) WHERE digest = ?", (detached, digest)
            )

    def set_fault(self, digest: str, fault: str) -> None:
        """Remember why a manifest can never be whole: what only it names is not kept from now on."""
        with self._database.transaction() as sql:
            sql.execute("UPDATE manifests SET fault = ? WHERE digest = ?", (fault, digest))

    def set_head(self, digest: str) -> None:
        """Make a manifest the current one of its series, and what was current the previous one.

        Pending manifests of lower versions are dropped: nobody needs them any more.

        Raises:
            StoreError: the catalogue does not have it, or its version is below the current one's (or the same
                with other content).
        """
        with self._database.transaction() as sql:
            head = self.row(digest)
            if head is None:
                raise StoreError(f"manifest {digest} is not in the catalogue")
            if head.role != "current":
                self._move_head(sql, head)

    def _move_head(self, sql: sqlite3.Connection, head: HeadRow) -> None:
        """Shift previous ← current ← this one, and drop what nobody needs any more."""
        number, signers = head.manifest_version, ",".join(head.signers)
        series = self._rows("WHERE channel = ? AND arch = ? AND signers = ?", *head.pair, signers)
        current = next((row for row in series if row.role == "current"), None)
        if current is not None and number <= current.manifest_version:
            raise StoreError(
                f"{head.channel}/{head.arch}: version {number} can not follow version {current.manifest_version}"
            )
        obsolete = [
            (row.digest,)
            for row in series
            if row != head
            and (row.role == "previous" or (row.role == "pending" and row.manifest_version <= number))
        ]
        sql.executemany("DELETE FROM manifests WHERE digest = ?", obsolete)
        if current is not None:
            sql.execute("UPDATE manifests SET role = 'previous' WHERE digest = ?", (current.digest,))
        sql.execute("UPDATE manifests SET role = 'current' WHERE digest = ?", (head.digest,))

    def heads(self, channel: str | None = None, arch: str | None = None) -> list[HeadRow]:
        """What can be offered: of each series the newest manifest, current or previous, that is wholly held.

        Expired ones are among them: the store knows no clock. What is parked is not.
        """
        rows = self._rows(
            "WHERE role != 'pending' AND fault IS NULL AND parked_at IS NULL AND channel = coalesce(?, channel)"
            " AND arch = coalesce(?, arch) ORDER BY channel, arch, signers, role",  # 'current' comes before 'previous'
            channel,
            arch,
        )
        heads: dict[tuple[str, str, tuple[str, ...]], HeadRow] = {}
        for head in rows:
            series = (head.channel, head.arch, head.signers)
            if series not in heads and self.is_whole(head.digest):
                heads[series] = head
        return list(heads.values())

    def known(self) -> list[HeadRow]:
        """The head of each series, and what is newer than it: whether it is whole, or can ever be, or not."""
        return self._rows(
            "WHERE role = 'current' OR role = 'pending' AND NOT EXISTS ("
            "SELECT 1 FROM manifests AS head WHERE head.role = 'current' AND head.channel = manifests.channel"
            " AND head.arch = manifests.arch AND head.signers = manifests.signers"
            " AND head.manifest_version >= manifests.manifest_version)"
            " ORDER BY channel, arch, signers, manifest_version DESC"
        )

    def current(self) -> list[HeadRow]:
        """What became the head of each series, whether its artifacts are still intact or not."""
        return [row for row in self.known() if row.role == "current"]

    def pending(self) -> list[HeadRow]:
        """Manifests newer than their series' head, whose artifacts are to be fetched; the newest first."""
        return [
            row for row in self.known() if row.role == "pending" and row.fault is None and not row.is_parked
        ]

    def is_whole(self, digest: str) -> bool:
        """Whether the catalogue has the manifest and the store all its artifacts, cut as it says."""
        named = self.named_by(digest)
        return bool(named) and all(self._blobs.holds(sha256, table) for sha256, table in named)

    def all(self) -> list[HeadRow]:
        """Every manifest, in whatever role."""
        return self._rows()

    def of_pair(self, pair: tuple[str, str]) -> list[HeadRow]:
        """Every manifest of a channel and arch, in whatever role."""
        return self._rows("WHERE channel = ? AND arch = ?", *pair)

    def artifacts(self) -> dict[str, set[str]]:
        """The SHA-256 of all that each manifest without a fault names, by the manifest's digest."""
        named: dict[str, set[str]] = {}
        for digest, sha256 in self._database.rows(
            "SELECT digest, sha256 FROM manifest_artifacts NATURAL JOIN manifests WHERE fault IS NULL"
        ):
            named.setdefault(digest, set()).add(sha256)
        return named

    def naming(self, sha256: str) -> list[HeadRow]:
        """Every manifest, in whatever role, that names an artifact."""
        return self._rows(
            "WHERE digest IN (SELECT digest FROM manifest_artifacts WHERE sha256 = ?)"
            " ORDER BY channel, arch, signers, manifest_version DESC",
            sha256,
        )

    def drop(self, unwanted: Callable[[HeadRow], bool]) -> None:
        """Forget manifests in any role, as when their publisher is not trusted any more.

        What only they named goes with the next `retain`.

        Args:
            unwanted: asked of every manifest.
        """
        with self._database.transaction() as sql:
            digests = [(row.digest,) for row in self._rows() if unwanted(row)]
            sql.executemany("DELETE FROM manifests WHERE digest = ?", digests)

    def park(self, digests: Iterable[str], now: int | None) -> None:
        """Keep manifests although nobody takes them now; or, without a time, keep them as all others again.

        Args:
            digests: of the manifests; one that is parked already keeps its time.
            now: unix seconds; None where they count again.
        """
        with self._database.transaction() as sql:
            sql.executemany(
                "UPDATE manifests SET parked_at = CASE WHEN ?2 IS NULL THEN NULL ELSE coalesce(parked_at, ?2) END"
                " WHERE digest = ?1",
                [(digest, now) for digest in digests],
            )

    def drop_superseded(self, manifest: Manifest) -> None:
        """Forget what is pending of the manifest's channel and arch and has a lower number: nobody will want it."""
        with self._database.transaction() as sql:
            sql.execute(
                "DELETE FROM manifests WHERE channel = ? AND arch = ? AND role = 'pending' AND manifest_version < ?"
                " AND parked_at IS NULL",
                (manifest.channel, manifest.arch, manifest.manifest_version),
            )

    def retain(self) -> tuple[str, ...]:
        """Remove every artifact that no manifest without a fault names and nobody is fetching; returns their SHA-256.

        So are the piece tables that none names. Files served in place are not touched. Whoever fetches an artifact has
        `put` its manifest before: as this runs while no other thread or process can `put` or `begin`, nothing that is
        about to be used is removed.
        """
        with self._blobs.standstill(), self._database.transaction() as sql:
            referenced: dict[str, set[str]] = {}
            for sha256, table_digest in sql.execute(
                "SELECT DISTINCT sha256, table_digest FROM manifest_artifacts JOIN manifests USING (digest)"
                " WHERE fault IS NULL"
            ):
                referenced.setdefault(sha256, set()).add(table_digest)
            return self._blobs.keep_only(referenced)

    def _rows(self, which: str = "", *values: object) -> list[HeadRow]:
        return [
            HeadRow(channel, arch, tuple(signers.split(",")), *rest)
            for channel, arch, signers, *rest in self._database.rows(f"{_ROWS} {which}", *values)
        ]


def _insert(sql: sqlite3.Connection, manifest: Manifest, detached: str | None) -> None:
    sql.execute(
        "INSERT INTO manifests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', NULL, NULL)",
        (
            manifest.digest,
            manifest.raw,
            detached,
            ",".join(manifest.signers),
            manifest.channel,
            manifest.arch,
            manifest.manifest_version,
            manifest.created_at,
            manifest.expires_at,
        ),
    )
    sql.executemany(
        "INSERT OR IGNORE INTO manifest_artifacts VALUES (?, ?, ?, ?, ?)",
        [
            (manifest.digest, one.sha256, one.table_digest, one.size, one.piece_length)
            for one in manifest.artifacts.values()
        ],
    )
