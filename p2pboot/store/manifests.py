"""The catalogue of manifests: what is offered, what is being brought in, and so which artifacts must stay.

A *stream* is what one publisher (its sorted signers) publishes for one channel and arch. Of each stream the
current and the previous manifest are kept, and a bounded number of pending ones, whose artifacts are still
being fetched. Everything that a kept manifest names is kept; `retain` removes the rest.
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

MAX_PENDING: Final = (
    4  # per stream: a publisher that signs faster than we fetch pushes its own older ones out
)
Stream = tuple[str, str, str]  # channel, arch, signers joined by commas


class StoredManifest(NamedTuple):
    """A manifest's bytes as they were signed, and the text of its detached signature, if there is one."""

    raw: bytes
    detached: str | None


@dataclass(frozen=True, slots=True)
class HeadRow:
    """What the catalogue says of a manifest; times in unix seconds, `size` of its bytes."""

    channel: str
    arch: str
    signers: tuple[str, ...]
    manifest_version: int
    digest: str
    size: int
    created_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Removed:
    """What `retain` removed: SHA-256 of artifacts."""

    artifacts: tuple[str, ...]


class ManifestCatalogue:
    """Durable; any number of threads and processes.

    All methods raise StoreError (damaged database) or MachineError.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def put(self, manifest: Manifest, detached: str | None) -> None:
        """Keep a verified manifest and, from now on, what it names. It is pending until `set_head`.

        A pending manifest beyond `MAX_PENDING` of its stream pushes out the one with the lowest version. Of
        one that is there already only a detached signature that was missing is taken.
        """
        with self._database.transaction() as sql:
            known = sql.execute("SELECT 1 FROM manifests WHERE digest = ?", (manifest.digest,)).fetchone()
            if known is None:
                _insert(sql, manifest, detached)
                _bound_pending(sql, _stream(manifest))
            elif detached is not None:
                sql.execute(
                    "UPDATE manifests SET detached = coalesce(detached, ?) WHERE digest = ?",
                    (detached, manifest.digest),
                )

    def get(self, digest: str) -> StoredManifest | None:
        """The manifest with this digest, whatever its role."""
        row = self._database.row("SELECT raw, detached FROM manifests WHERE digest = ?", digest)
        return None if row is None else StoredManifest(*row)

    def set_head(self, digest: str) -> None:
        """Make a manifest the current one of its stream, and what was current the previous one.

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
        """What can be offered: of each stream the newest manifest, current or previous, that is wholly held.

        Expired ones are among them: the store knows no clock.
        """
        rows = self._database.rows(
            "SELECT channel, arch, signers, manifest_version, digest, length(raw), created_at, expires_at"
            " FROM manifests"
            " WHERE role != 'pending' AND channel = coalesce(?, channel) AND arch = coalesce(?, arch)"
            " ORDER BY channel, arch, signers, role",  # 'current' comes before 'previous'
            channel,
            arch,
        )
        heads: dict[tuple[str, str, tuple[str, ...]], HeadRow] = {}
        for head in map(_head_row, rows):
            stream = (head.channel, head.arch, head.signers)
            if stream not in heads and self.is_whole(head.digest):
                heads[stream] = head
        return list(heads.values())

    def current(self) -> list[HeadRow]:
        """What became the head of each stream, whether its artifacts are still intact or not."""
        rows = self._database.rows(
            "SELECT channel, arch, signers, manifest_version, digest, length(raw), created_at, expires_at"
            " FROM manifests WHERE role = 'current' ORDER BY channel, arch, signers"
        )
        return [_head_row(row) for row in rows]

    def pending(self) -> list[HeadRow]:
        """Manifests newer than their stream's head, whose artifacts are to be fetched; the newest first."""
        rows = self._database.rows(
            "SELECT channel, arch, signers, manifest_version, digest, length(raw), created_at, expires_at"
            " FROM manifests AS pending WHERE role = 'pending' AND NOT EXISTS ("
            "SELECT 1 FROM manifests AS head WHERE head.role = 'current' AND head.channel = pending.channel"
            " AND head.arch = pending.arch AND head.signers = pending.signers"
            " AND head.manifest_version >= pending.manifest_version)"
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
            "SELECT channel, arch, signers, manifest_version, manifests.digest, length(raw), created_at, expires_at"
            " FROM manifests JOIN manifest_artifacts ON manifest_artifacts.digest = manifests.digest"
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
            rows = sql.execute(
                "SELECT channel, arch, signers, manifest_version, digest, length(raw), created_at, expires_at"
                " FROM manifests"
            ).fetchall()
            digests = [(row.digest,) for row in map(_head_row, rows) if unwanted(row)]
            sql.executemany("DELETE FROM manifests WHERE digest = ?", digests)

    def retain(self) -> Removed:
        """Remove every artifact that no manifest of the catalogue names and nobody is fetching.

        Files served in place are not touched. Whoever fetches an artifact has `put` its manifest before: as
        this runs while no other thread or process can `put` or `begin`, nothing that is about to be used is
        removed.
        """
        with self._blobs.standstill(), self._database.transaction() as sql:
            referenced = {
                sha256 for (sha256,) in sql.execute("SELECT DISTINCT sha256 FROM manifest_artifacts")
            }
            return Removed(self._blobs.keep_only(referenced))


def _stream(manifest: Manifest) -> Stream:
    return manifest.channel, manifest.arch, ",".join(manifest.signers)


def _head_row(row: Row) -> HeadRow:
    channel, arch, signers, *rest = row
    return HeadRow(channel, arch, tuple(signers.split(",")), *rest)


def _insert(sql: sqlite3.Connection, manifest: Manifest, detached: str | None) -> None:
    channel, arch, signers = _stream(manifest)
    sql.execute(
        "INSERT INTO manifests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending')",
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


def _bound_pending(sql: sqlite3.Connection, stream: Stream) -> None:
    sql.execute(
        "DELETE FROM manifests WHERE digest IN ("
        "SELECT digest FROM manifests WHERE channel = ? AND arch = ? AND signers = ? AND role = 'pending'"
        " ORDER BY manifest_version DESC, rowid LIMIT -1 OFFSET ?)",
        (*stream, MAX_PENDING),
    )


def _move_head(sql: sqlite3.Connection, stream: Stream, digest: str, version: int) -> None:
    """Shift previous ← current ← this one, and drop what nobody needs any more."""
    roles = sql.execute(
        "SELECT digest, manifest_version, role FROM manifests WHERE channel = ? AND arch = ? AND signers = ?",
        stream,
    ).fetchall()
    current = next(((other, number) for other, number, role in roles if role == "current"), None)
    if current is not None and version <= current[1]:
        raise StoreError(f"{stream[0]}/{stream[1]}: version {version} can not follow version {current[1]}")
    obsolete = [
        (other,)
        for other, number, role in roles
        if other != digest and (role == "previous" or (role == "pending" and number <= version))
    ]
    sql.executemany("DELETE FROM manifests WHERE digest = ?", obsolete)
    if current is not None:
        sql.execute("UPDATE manifests SET role = 'previous' WHERE digest = ?", (current[0],))
    sql.execute("UPDATE manifests SET role = 'current' WHERE digest = ?", (digest,))
