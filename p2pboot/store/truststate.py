"""What a verifier must not forget: the highest versions accepted, the newest times, and proofs of fraud.

Every change compares and writes in one transaction, so that of two processes that accept at once the higher
version wins whatever their order.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from typing import Final

from p2pboot.core.clock import AcceptedTime
from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Manifest
from p2pboot.core.rollback import AcceptedHead, VersionStanding, judge_version
from p2pboot.store.database import Database

MAX_EQUIVOCATIONS: Final = 16  # per channel and arch; one is proof enough, and a pair takes up to 128 KiB
# That one key may hold, over all channels and co-signers; it pushes out its own oldest only.
MAX_TIMES: Final = 64


@dataclass(frozen=True, slots=True)
class Equivocation:
    """Two manifests that one publisher signed under one number.

    The bytes are the evidence, and portable as they are.
    """

    channel: str
    arch: str
    manifest_version: int
    first: bytes
    second: bytes


@dataclass(frozen=True, slots=True)
class RememberedHead:
    """The highest version accepted for a channel and arch; `created_at` in unix seconds if the manifest is kept."""

    channel: str
    arch: str
    manifest_version: int
    digest: str
    signers: tuple[str, ...]
    created_at: int | None


class TrustState:
    """Durable; any number of threads and processes.

    All methods raise StoreError (damaged database) or MachineError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def head(self, channel: str, arch: str) -> AcceptedHead | None:
        """The highest version accepted for this channel and arch."""
        row = self._database.row(
            "SELECT manifest_version, digest, signers FROM accepted_heads WHERE channel = ? AND arch = ?",
            channel,
            arch,
        )
        return None if row is None else AcceptedHead(row[0], row[1], tuple(row[2].split(",")))

    def heads(self) -> list[RememberedHead]:
        """The highest version accepted for each channel and arch, whoever is trusted now."""
        rows = self._database.rows(
            "SELECT head.channel, head.arch, head.manifest_version, head.digest, head.signers, manifests.created_at"
            " FROM accepted_heads AS head LEFT JOIN manifests ON manifests.digest = head.digest"
            " ORDER BY head.channel, head.arch"
        )
        return [
            RememberedHead(channel, arch, version, digest, tuple(signers.split(",")), created_at)
            for channel, arch, version, digest, signers, created_at in rows
        ]

    def newest_created_at(self, accepts: Callable[[str, str, tuple[str, ...]], bool]) -> AcceptedTime | None:
        """The newest `created_at` of all manifests accepted: the clock can not be earlier.

        Args:
            accepts: whether the trust that counts now takes the manifests of these signers, as (channel, arch,
                key ids). Whose trust ended tells no time any more.
        """
        return max(
            (one for one in self.times() if accepts(one.channel, one.arch, one.signers)),
            key=lambda one: one.created_at,
            default=None,
        )

    def times(self) -> list[AcceptedTime]:
        """The newest `created_at` of each channel, arch and set of signers, whoever is trusted now."""
        rows = self._database.rows(
            "SELECT newest_created_at, channel, arch, signers FROM accepted_times ORDER BY channel, arch, signers"
        )
        state = str(self._database.path.parent)
        return [
            AcceptedTime(at, channel, arch, tuple(keys.split(",")), state) for at, channel, arch, keys in rows
        ]

    def forget_time(self, time: AcceptedTime) -> None:
        """Let a date hold the clock no longer; which versions were accepted stays. A later date stays too."""
        with self._database.transaction() as sql:
            sql.execute(
                "DELETE FROM accepted_times WHERE signers = ? AND channel = ? AND arch = ?"
                " AND newest_created_at = ?",
                (",".join(time.signers), time.channel, time.arch, time.created_at),
            )

    def accept(self, manifest: Manifest, trusted_keys: Collection[str] | None = None) -> bool:
        """Remember a manifest that the trust policy took, unless what is remembered is newer.

        Args:
            manifest: verified and trusted.
            trusted_keys: key ids of the publisher trusted for this channel and arch. When none of them signed
                what is remembered, that was another publisher's and gives way whatever its number. None:
                nothing gives way.

        Returns:
            Whether the manifest is the head now (also when it was before). False: another process or thread
            accepted a newer one, or another one with the same number.
        """
        with self._database.transaction() as sql:
            head = self.head(manifest.channel, manifest.arch)
            keys = head.signers if head is not None and trusted_keys is None else trusted_keys
            standing = judge_version(head, manifest, keys or ())
            if standing is VersionStanding.NEWER:
                sql.execute(
                    "INSERT OR REPLACE INTO accepted_heads VALUES (?, ?, ?, ?, ?)",
                    (*_number(manifest), manifest.digest, ",".join(manifest.signers)),
                )
            if standing in (VersionStanding.NEWER, VersionStanding.SAME):
                sql.execute(
                    "INSERT INTO accepted_times VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
                    " SET newest_created_at = max(newest_created_at, excluded.newest_created_at)",
                    (",".join(manifest.signers), manifest.channel, manifest.arch, manifest.created_at),
                )
                _bound_times(sql, set(manifest.signers).intersection(keys or manifest.signers))
                return True
            return False

    def record_equivocation(self, raw_a: bytes, raw_b: bytes) -> bool:
        """Keep two manifests as evidence against their publisher.

        The first `MAX_EQUIVOCATIONS` pairs of a channel and arch stay: later ones can not push them out.

        Args:
            raw_a: what was accepted first.
            raw_b: what came after, with the same channel, arch and version, and other content.

        Returns:
            Whether the pair was kept; False when it is known already or there are enough.

        Raises:
            Malformed, SignatureError: one of them is not a signed manifest.
            ValueError: they do not contradict each other.
        """
        first, second = Manifest.parse(raw_a), Manifest.parse(raw_b)
        if first.digest == second.digest or _number(first) != _number(second):
            raise ValueError("these manifests do not contradict each other")
        with self._database.transaction() as sql:
            known = sql.execute(
                "SELECT 1 FROM equivocations WHERE (first_digest, second_digest) IN (VALUES (?, ?), (?, ?))",
                (first.digest, second.digest, second.digest, first.digest),
            ).fetchone()
            (count,) = sql.execute(
                "SELECT count(*) FROM equivocations WHERE channel = ? AND arch = ?",
                (first.channel, first.arch),
            ).fetchone()
            if known is not None or count >= MAX_EQUIVOCATIONS:
                return False
            sql.execute(
                "INSERT INTO equivocations VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
                (*_number(first), first.digest, first.raw, second.digest, second.raw),
            )
            return True

    def contradicted(self, channel: str, arch: str) -> frozenset[str]:
        """The digests of all manifests of a channel and arch that are evidence."""
        rows = self._database.rows(
            "SELECT first_digest, second_digest FROM equivocations WHERE channel = ? AND arch = ?",
            channel,
            arch,
        )
        return frozenset(digest for row in rows for digest in row)

    def equivocations(self) -> list[Equivocation]:
        """All evidence kept, the oldest first."""
        rows = self._database.rows(
            "SELECT channel, arch, manifest_version, first_raw, second_raw FROM equivocations ORDER BY id"
        )
        return [Equivocation(*row) for row in rows]


def _number(manifest: Manifest) -> tuple[str, str, int]:
    return manifest.channel, manifest.arch, manifest.manifest_version


def _bound_times(sql: sqlite3.Connection, keys: Collection[str]) -> None:
    """Keep the newest `MAX_TIMES` of each key.

    A key that may sign for every channel can make up any number of them, and any number of co-signers.
    """
    for key in keys:  # all key ids are of one length, so that none is a part of another
        sql.execute(
            "DELETE FROM accepted_times WHERE rowid IN (SELECT rowid FROM accepted_times"
            " WHERE instr(signers, ?) ORDER BY newest_created_at DESC, rowid DESC LIMIT -1 OFFSET ?)",
            (key, MAX_TIMES),
        )
