"""The manifests of a state directory and their roles: what is held, what is being brought in, what must stay.

What that means under the present trust, and when it changes, is the catalogue's to know (`store.catalogue`), which is
the only one to move a head and to clear up. A *series* is what one publisher (its sorted signers) publishes for one
channel and arch. Of each series the current and the previous manifest are kept, and the newest pending one, whose
artifacts are still being fetched. Everything that a kept manifest names is kept, unless the manifest can never
be whole by its signer's fault; `retain` removes the rest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from p2pboot.core.manifest import Manifest
from p2pboot.errors import StoreError
from p2pboot.store.blobs import BlobStore
from p2pboot.store.database import Database, Row

Series = tuple[str, str, str]  # channel, arch, signers joined by commas
_ROWS: Final = (
    "SELECT channel, arch, signers, manifest_version, manifests.digest, length(raw), created_at, expires_at, role,"
    " fault FROM manifests"
)


class StoredManifest(NamedTuple):
    """A manifest's bytes as they were signed, and the text of its detached signature, if there is one."""

    raw: bytes
    detached: str | None


@dataclass(frozen=True, slots=True)
class HeadRow:
    """What is known of a manifest; times in unix seconds, `size` of its bytes.

    The role is "pending", "current" or "previous"; `fault` is why it can never be whole, None for all but a few.
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

    @property
    def pair(self) -> tuple[str, str]:
        """The channel and arch."""
        return self.channel, self.arch


@dataclass(frozen=True, slots=True)
class Removed:
    """What `retain` removed: SHA-256 of artifacts."""

    artifacts: tuple[str, ...]


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
            known = sql.execute("SELECT 1 FROM manifests WHERE digest = ?", (manifest.digest,)).fetchone()
            if known is None:
                _insert(sql, manifest, detached)
            elif detached is not None:
                sql.execute(
                    "UPDATE manifests SET detached = coalesce(detached, ?) WHERE digest = ?",
                    (detached, manifest.digest),
                )

    def get(self, digest: str) -> StoredManifest | None:
        """The manifest with this digest, whatever its role."""
        row = self._database.row("SELECT raw, detached FROM manifests WHERE digest = ?", digest)
        return None if row is None else StoredManifest(*row)

    def row(self, digest: str) -> HeadRow | None:
        """What is known of the manifest with this digest."""
        row = self._database.row(f"{_ROWS} WHERE digest = ?", digest)
        return None if row is None else _head_row(row)

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
            row = sql.execute(
                "SELECT channel, arch, signers, manifest_version, role FROM manifests WHERE digest = ?",
                (digest,),
            ).fetchone()
            if row is None:
                raise StoreError(f"manifest {digest} is not in the catalogue")
            channel, arch, signers, version, role = row
            if role != "current":
                _move_head(sql, (channel, arch, signers), digest, version)

    def heads(self, channel: str | None = None, arch: str | None = None) -> list[HeadRow]:
        """What can be offered: of each series the newest manifest, current or previous, that is wholly held.

        Expired ones are among them: the store knows no clock.
        """
        rows = self._database.rows(
            f"{_ROWS} WHERE role != 'pending' AND fault IS NULL AND channel = coalesce(?, channel)"
            " AND arch = coalesce(?, arch) ORDER BY channel, arch, signers, role",  # 'current' comes before 'previous'
            channel,
            arch,
        )
        heads: dict[tuple[str, str, tuple[str, ...]], HeadRow] = {}
        for head in map(_head_row, rows):
            series = (head.channel, head.arch, head.signers)
            if series not in heads and self.is_whole(head.digest):
                heads[series] = head
        return list(heads.values())

    def current(self) -> list[HeadRow]:
        """What became the head of each series, whether its artifacts are still intact or not."""
        rows = self._database.rows(f"{_ROWS} WHERE role = 'current' ORDER BY channel, arch, signers")
        return [_head_row(row) for row in rows]

    def pending(self) -> list[HeadRow]:
        """Manifests newer than their series' head, whose artifacts are to be fetched; the newest first."""
        return [row for row in self._newer() if row.fault is None]

    def faulty(self) -> list[HeadRow]:
        """Manifests not older than their series' head that can never be whole, by their signers' fault."""
        return [row for row in (*self._newer(), *self.current()) if row.fault is not None]

    def _newer(self) -> list[HeadRow]:
        rows = self._database.rows(
            _ROWS + " WHERE role = 'pending' AND NOT EXISTS ("  # noqa: S608 - constants only
            "SELECT 1 FROM manifests AS head WHERE head.role = 'current' AND head.channel = manifests.channel"
            " AND head.arch = manifests.arch AND head.signers = manifests.signers"
            " AND head.manifest_version >= manifests.manifest_version)"
            " ORDER BY channel, arch, signers, manifest_version DESC"
        )
        return [_head_row(row) for row in rows]

    def is_whole(self, digest: str) -> bool:
        """Whether the catalogue has the manifest and the store all its artifacts."""
        rows = self._database.rows("SELECT sha256 FROM manifest_artifacts WHERE digest = ?", digest)
        return bool(rows) and all(self._blobs.holds(sha256) for (sha256,) in rows)

    def naming(self, sha256: str) -> list[HeadRow]:
        """Every manifest, in whatever role, that names an artifact."""
        rows = self._database.rows(
            f"{_ROWS} JOIN manifest_artifacts ON manifest_artifacts.digest = manifests.digest"
            " WHERE sha256 = ? ORDER BY channel, arch, signers, manifest_version DESC",
            sha256,
        )
        return [_head_row(row) for row in rows]

    def drop(self, unwanted: Callable[[HeadRow], bool]) -> None:
        """Forget manifests in any role, as when their publisher is not trusted any more.

        What only they named goes with the next `retain`.

        Args:
            unwanted: asked of every manifest.
        """
        with self._database.transaction() as sql:
            rows = sql.execute(_ROWS).fetchall()
            digests = [(row.digest,) for row in map(_head_row, rows) if unwanted(row)]
            sql.executemany("DELETE FROM manifests WHERE digest = ?", digests)

    def drop_superseded(self, manifest: Manifest) -> None:
        """Forget what is pending of the manifest's channel and arch and has a lower number: nobody will want it."""
        with self._database.transaction() as sql:
            sql.execute(
                "DELETE FROM manifests WHERE channel = ? AND arch = ? AND role = 'pending' AND manifest_version < ?",
                (manifest.channel, manifest.arch, manifest.manifest_version),
            )

    def retain(self) -> Removed:
        """Remove every artifact that no manifest without a fault names and nobody is fetching.

        Files served in place are not touched. Whoever fetches an artifact has `put` its manifest before: as
        this runs while no other thread or process can `put` or `begin`, nothing that is about to be used is
        removed.
        """
        with self._blobs.standstill(), self._database.transaction() as sql:
            referenced = {
                sha256
                for (sha256,) in sql.execute(
                    "SELECT DISTINCT sha256 FROM manifest_artifacts NATURAL JOIN manifests WHERE fault IS NULL"
                )
            }
            return Removed(self._blobs.keep_only(referenced))


def _series(manifest: Manifest) -> Series:
    return manifest.channel, manifest.arch, ",".join(manifest.signers)


def _head_row(row: Row) -> HeadRow:
    channel, arch, signers, *rest = row
    return HeadRow(channel, arch, tuple(signers.split(",")), *rest)


def _insert(sql: sqlite3.Connection, manifest: Manifest, detached: str | None) -> None:
    channel, arch, signers = _series(manifest)
    sql.execute(
        "INSERT INTO manifests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', NULL)",
        (
            manifest.digest,
            manifest.raw,
            detached,
            signers,
            channel,
            arch,
            manifest.manifest_version,
            manifest.created_at,
            manifest.expires_at,
        ),
    )
    sql.executemany(
        "INSERT OR IGNORE INTO manifest_artifacts VALUES (?, ?)",
        [(manifest.digest, artifact.sha256) for artifact in manifest.artifacts.values()],
    )


def _move_head(sql: sqlite3.Connection, series: Series, digest: str, version: int) -> None:
    """Shift previous ← current ← this one, and drop what nobody needs any more."""
    roles = sql.execute(
        "SELECT digest, manifest_version, role FROM manifests WHERE channel = ? AND arch = ? AND signers = ?",
        series,
    ).fetchall()
    current = next(((other, number) for other, number, role in roles if role == "current"), None)
    if current is not None and version <= current[1]:
        raise StoreError(f"{series[0]}/{series[1]}: version {version} can not follow version {current[1]}")
    obsolete = [
        (other,)
        for other, number, role in roles
        if other != digest and (role == "previous" or (role == "pending" and number <= version))
    ]
    sql.executemany("DELETE FROM manifests WHERE digest = ?", obsolete)
    if current is not None:
        sql.execute("UPDATE manifests SET role = 'previous' WHERE digest = ?", (current[0],))
    sql.execute("UPDATE manifests SET role = 'current' WHERE digest = ?", (digest,))
