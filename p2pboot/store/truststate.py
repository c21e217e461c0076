"""What a verifier must not forget: the highest versions accepted, the newest times, and proofs of fraud.

Every change compares and writes in one transaction, so that of two processes that accept at once the higher
version wins whatever their order.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable
from typing import Final

from p2pboot.core.clock import AcceptedTime
from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import Publisher
from p2pboot.core.rollback import AcceptedHead, VersionStanding, binding, judge_version
from p2pboot.errors import StoreError
from p2pboot.store.database import Database

MAX_EQUIVOCATIONS: Final = 16  # per channel and arch; one is proof enough, and a pair takes up to 128 KiB
# That one key may hold, over all channels and co-signers; it pushes out its own oldest only.
MAX_TIMES: Final = 64
MAX_COSIGNERS: Final = 16
"""Rows of one channel and arch that the same trusted keys may hold with different co-signers, whom they can make up."""
MAX_HEADS: Final = 4096
"""Rows that name one key: far more than a fleet has channels. Beyond, another channel is refused: none is forgotten."""


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
    """The highest version that certain signers reached; `created_at` in unix seconds if the manifest is kept."""

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

    def heads_of(self, channel: str, arch: str) -> tuple[AcceptedHead, ...]:
        """The highest version accepted of each set of signers of a channel and arch, whoever is trusted now.

        Which of them bind is `core.rollback.binding`'s to say.
        """
        rows = self._database.rows(
            "SELECT manifest_version, digest, signers FROM accepted_heads WHERE channel = ? AND arch = ?"
            " ORDER BY signers",
            channel,
            arch,
        )
        return tuple(
            AcceptedHead(version, digest, tuple(signers.split(","))) for version, digest, signers in rows
        )

    def heads(self) -> list[RememberedHead]:
        """All that is remembered, by channel, arch and signers, whoever is trusted now."""
        rows = self._database.rows(
            "SELECT head.channel, head.arch, head.manifest_version, head.digest, head.signers, manifests.created_at"
            " FROM accepted_heads AS head LEFT JOIN manifests ON manifests.digest = head.digest"
            " ORDER BY head.channel, head.arch, head.signers"
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

    def accept(self, manifest: Manifest, publisher: Publisher | None = None) -> bool:
        """Remember a manifest that the trust policy took, unless what binds is newer.

        Args:
            manifest: verified and trusted.
            publisher: trusted for this channel and arch; what signers who do not meet its threshold reached stays
                as it is and binds nobody now. None: each of the manifest's own signers alone would do.

        Returns:
            Whether the manifest is the head now (also when it was before). False: another process or thread
            accepted a newer one, or another one with the same number.

        Raises:
            StoreError: one of the signers has made up more channels and co-signers than are remembered.
        """
        publisher = publisher or Publisher(manifest.signers)
        with self._database.transaction() as sql:
            heads = self.heads_of(manifest.channel, manifest.arch)
            standing = judge_version(binding(heads, publisher), manifest)
            if standing not in (VersionStanding.NEWER, VersionStanding.SAME):
                return False
            trusted = publisher.trusted_among(manifest.signers) or manifest.signers
            if standing is VersionStanding.NEWER:
                self._move_head(sql, manifest, heads, publisher, trusted)
            sql.execute(
                "INSERT INTO accepted_times VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET newest_created_at = max(newest_created_at, excluded.newest_created_at)",
                (*_series(manifest), manifest.created_at),
            )
            _bound_times(sql, trusted)
            return True

    def _move_head(
        self,
        sql: sqlite3.Connection,
        manifest: Manifest,
        heads: Iterable[AcceptedHead],
        publisher: Publisher,
        trusted: tuple[str, ...],
    ) -> None:
        self._database.record_change()
        others = [head for head in heads if head.signers != manifest.signers]
        # Whoever believes a set of signers believes a larger one that has all of them, and that stands higher now.
        obsolete = [
            head for head in others if set(head.signers) < set(manifest.signers) and _below(head, manifest)
        ]
        alike = [
            head
            for head in others
            if publisher.trusted_among(head.signers) == trusted and head not in obsolete
        ]
        alike.sort(key=lambda head: head.manifest_version, reverse=True)
        sql.executemany(
            "DELETE FROM accepted_heads WHERE signers = ? AND channel = ? AND arch = ?",
            [
                (",".join(head.signers), manifest.channel, manifest.arch)
                for head in (*obsolete, *alike[MAX_COSIGNERS - 1 :])
            ],
        )
        sql.execute(
            "INSERT INTO accepted_heads VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET manifest_version = excluded.manifest_version, digest = excluded.digest"
            " WHERE excluded.manifest_version > manifest_version",
            (*_series(manifest), manifest.manifest_version, manifest.digest),
        )
        for key in trusted:
            (count,) = sql.execute(
                "SELECT count(*) FROM accepted_heads WHERE instr(signers, ?)", (key,)
            ).fetchone()
            if count > MAX_HEADS:
                raise StoreError(
                    f"{key} publishes for more than {MAX_HEADS} channels and archs: no more are remembered",
                    remedy="name the channels and archs that it may publish for in the trust policy",
                )

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


def _series(manifest: Manifest) -> tuple[str, str, str]:
    return ",".join(manifest.signers), manifest.channel, manifest.arch


def _below(head: AcceptedHead, manifest: Manifest) -> bool:
    return head.manifest_version < manifest.manifest_version


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
