"""The trust documents of a state: chains of roots, the newest freshness statements, yanks, and what contradicts itself.

Only bytes that passed `store.trustgate` get in; who reads them back judges them again, since the disk may have changed
them, and since the trust may have.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, NamedTuple

from p2pboot.core.policy import TrustPolicy
from p2pboot.core.trustdocs.chain import (
    MAX_CHAIN,
    Anchor,
    Chain,
    TwoRoots,
    begin,
    claims_version,
    follow,
    without_gaps,
)
from p2pboot.core.trustdocs.envelope import Document
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.trustdocs.root import Root, check_signers
from p2pboot.core.trustdocs.yank import MAX_YANKS, Yank
from p2pboot.errors import Malformed, SignatureError
from p2pboot.store.database import Database

MAX_EVIDENCE: Final = 64
"""Of each kind and subject; one is proof enough, and a pair takes up to 128 KiB."""


class EvidenceRow(NamedTuple):
    """Two signed documents that can not both be honest; `found_at` in unix seconds, `source` by whose word."""

    kind: str
    subject: str
    first_digest: str
    first: bytes
    second_digest: str
    second: bytes
    source: str
    found_at: int

    @classmethod
    def of(
        cls, kind: str, subject: str, first: Document, second: Document, *, source: str, found_at: int
    ) -> EvidenceRow:
        """Of two documents, by what they say: the same with other signatures is no news."""
        return cls(kind, subject, first.digest, first.raw, second.digest, second.raw, source, found_at)


class TrustDocuments:
    """Durable; any number of threads and processes.

    All methods raise StoreError (damaged database) or MachineError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- roots -------------------------------------------------------------------------------------------------------

    def roots_of(self, anchor: Anchor) -> list[bytes]:
        """The documents of the chain in which an anchor lies, ascending, from the first that is here; else none."""
        row = self._database.row("SELECT fleet FROM roots WHERE digest = ?", anchor.digest)
        return [] if row is None else self.roots(row[0])

    def leading_to(self, root: Root) -> list[bytes]:
        """The documents of the chain here that a root goes on from, and it itself, ascending; none where none does.

        A root need not say of which fleet it is. What is here was believed once, and is no stranger's history.
        """
        fleets = self._database.rows(
            "SELECT fleet FROM roots WHERE version = ? ORDER BY fleet", root.version - 1
        )
        for (fleet,) in fleets:
            before = [raw for raw in self.roots(fleet) if (claims_version(raw) or 0) < root.version]
            if root.fleet in (None, fleet) and before and _follows(root, before[-1]):
                return [*before, root.raw]
        return []

    def roots(self, fleet: str, after: int = 0, max_bytes: int | None = None) -> list[bytes]:
        """The documents of a fleet's chain above a version, ascending.

        Args:
            fleet: the digest of version 1; or of any other version that is here.
            after: the version.
            max_bytes: no more than these of them, at least one; None for all.
        """
        found: list[bytes] = []
        names = self._database.rows("SELECT fleet FROM roots WHERE digest = ?1 OR fleet = ?1 LIMIT 1", fleet)
        size = 0
        while names and len(found) < MAX_CHAIN:
            row = self._database.row(
                "SELECT version, raw FROM roots WHERE fleet = ? AND version > ? ORDER BY version LIMIT 1",
                names[0][0],
                after,
            )
            size += 0 if row is None else len(row[1])
            if row is None or (found and max_bytes is not None and size > max_bytes):
                break
            after = row[0]
            found.append(row[1])
        return found

    def missing(self, fleet: str) -> int | None:
        """The lowest version of a fleet's root that is not here, of those between two that are; None where none is.

        Args:
            fleet: as for `roots`.
        """
        row = self._database.row(
            "SELECT min(version) + 1 FROM roots AS one WHERE fleet ="
            " (SELECT fleet FROM roots WHERE digest = ?1 OR fleet = ?1 LIMIT 1)"
            " AND version < (SELECT max(version) FROM roots WHERE fleet = one.fleet) AND NOT EXISTS"
            " (SELECT 1 FROM roots AS next WHERE next.fleet = one.fleet AND next.version = one.version + 1)",
            fleet,
        )
        return None if row is None else row[0]

    def root(self, version: int | None = None) -> list[bytes]:
        """The root of a version of each fleet that is known here; of the newest where none is named."""
        rows = self._database.rows(
            "SELECT raw FROM roots AS one WHERE version = coalesce(?,"
            " (SELECT max(version) FROM roots WHERE fleet = one.fleet)) ORDER BY fleet",
            version,
        )
        return [raw for (raw,) in rows]

    def put_chain(self, anchor: Anchor, chain: Chain) -> bool:
        """Keep a chain, in place of all that is known of its fleet and contradicts it.

        What is newer and belongs to it stays: another process may have heard of that meanwhile, and nobody goes back.

        Returns:
            Whether that changed anything.
        """
        fleet = chain.fleet or anchor.digest
        kept = {root.version: root for root in chain.roots}
        with self._database.transaction() as sql:
            known = dict(
                sql.execute("SELECT version, digest FROM roots WHERE fleet = ?", (fleet,)).fetchall()
            )
            differs = any(known.get(version, root.digest) != root.digest for version, root in kept.items())
            obsolete = [version for version in known if version not in kept and differs]
            news = [root for version, root in kept.items() if known.get(version) != root.digest]
            remembered = _remember(sql, anchor, fleet, chain, lowers=differs)
            if not news and not obsolete and not remembered:
                return False
            self._database.record_change()
            # What was kept by the anchor's digest, before anybody said what the fleet is called.
            sql.execute("DELETE FROM roots WHERE fleet = ? AND fleet <> ?", (anchor.digest, fleet))
            sql.executemany(
                "DELETE FROM roots WHERE fleet = ? AND version = ?",
                [(fleet, version) for version in obsolete],
            )
            sql.executemany(
                "INSERT OR REPLACE INTO roots VALUES (?, ?, ?, ?)",
                [(fleet, root.version, root.digest, root.raw) for root in news],
            )
        return True

    def remembered(self) -> tuple[tuple[str, int, str], ...]:
        """The highest version of each root that was in force here: fleet, version, digest; sorted by fleet."""
        return tuple(self._database.rows("SELECT fleet, version, digest FROM root_memory ORDER BY fleet"))

    def admits(self, anchor: Anchor, chain: Chain) -> bool:
        """Whether a chain may be in force: it does not end before, or contradict, what was in force here once.

        That is remembered apart from the documents, and so when they are lost. Where the operator names a root of the
        version that is remembered, or of a later one, his word counts.
        """
        row = self._database.row(
            "SELECT version, digest FROM root_memory WHERE fleet IN (?, ?) ORDER BY version DESC",
            anchor.digest,
            chain.fleet or anchor.digest,
        )
        if row is None:
            return True
        version, digest = row
        known = chain.at(version)
        if chain.newest.version < version:
            return False
        said = next((root.version for root in chain.roots if root.digest == anchor.digest), 0)
        return known is None or known.digest == digest or said >= version

    # -- freshness ---------------------------------------------------------------------------------------------------

    def statement(self, fleet: str, channel: str, arch: str) -> bytes | None:
        """The newest statement of a channel and arch, as it came."""
        row = self._database.row(
            "SELECT raw FROM statements WHERE fleet = ? AND channel = ? AND arch = ?", fleet, channel, arch
        )
        return None if row is None else row[0]

    def statements(self, *, newest_first: bool = False) -> list[bytes]:
        """The newest statement of every fleet, channel and arch; in that order, unless the newest is to come first."""
        rows = self._database.rows("SELECT raw, created_at FROM statements ORDER BY fleet, channel, arch")
        if newest_first:
            rows.sort(key=lambda row: int(row[1]), reverse=True)
        return [raw for raw, _ in rows]

    def put_statement(self, statement: Freshness) -> None:
        """Keep a statement in place of the one before."""
        body = statement.body
        with self._database.transaction() as sql:
            sql.execute(
                "INSERT OR REPLACE INTO statements VALUES (?, ?, ?, ?, ?, ?)",
                (body.fleet, body.channel, body.arch, body.created_at, statement.digest, statement.raw),
            )

    def drop_statement(self, fleet: str, channel: str, arch: str) -> None:
        """Forget the statement of a channel and arch: its signers have no say any more."""
        with self._database.transaction() as sql:
            sql.execute(
                "DELETE FROM statements WHERE fleet = ? AND channel = ? AND arch = ?", (fleet, channel, arch)
            )

    # -- yanks -------------------------------------------------------------------------------------------------------

    def yanks(self, fleet: str, channel: str, arch: str) -> list[bytes]:
        """The yanks of a channel and arch, the newest first."""
        rows = self._database.rows(
            "SELECT raw FROM yanks WHERE fleet = ? AND channel = ? AND arch = ? ORDER BY created_at DESC, content",
            fleet,
            channel,
            arch,
        )
        return [raw for (raw,) in rows]

    def yank(self, fleet: str, channel: str, arch: str, content: str) -> bytes | None:
        """The yank of one content, as it came."""
        row = self._database.row(
            "SELECT raw FROM yanks WHERE (fleet, channel, arch, content) = (?, ?, ?, ?)",
            fleet,
            channel,
            arch,
            content,
        )
        return None if row is None else row[0]

    def has_yanks(self, fleet: str, channel: str, arch: str) -> bool:
        """Whether any yank of a channel and arch is here, whether it counts or not."""
        found = self._database.row(
            "SELECT 1 FROM yanks WHERE (fleet, channel, arch) = (?, ?, ?) LIMIT 1", fleet, channel, arch
        )
        return found is not None

    def all_yanks(self) -> list[bytes]:
        """Every yank that is here."""
        return [
            raw
            for (raw,) in self._database.rows(
                "SELECT raw FROM yanks ORDER BY fleet, channel, arch, created_at DESC"
            )
        ]

    def put_yank(self, yank: Yank, counts: Callable[[bytes], bool] = lambda _raw: True) -> bool:
        """Keep a yank; the first that was made of a content stays.

        Args:
            yank: it.
            counts: whether a yank that is kept still counts. One that does not gives way: what a thief took back ends
                with his key, and must not be in the way of who takes it back after him.

        Returns:
            Whether it is news. False also where there are as many as one channel and arch may have.
        """
        body = yank.body
        with self._database.transaction() as sql:
            kept = sql.execute(
                "SELECT content, raw FROM yanks WHERE fleet = ? AND channel = ? AND arch = ?",
                (body.fleet, body.channel, body.arch),
            ).fetchall()
            is_full = len(kept) >= MAX_YANKS
            over = [
                (content,)
                for content, raw in kept
                if (is_full or content == body.content) and not counts(raw)
            ]
            sql.executemany(
                "DELETE FROM yanks WHERE content = ? AND (fleet, channel, arch) = (?, ?, ?)",
                [(*one, body.fleet, body.channel, body.arch) for one in over],
            )
            if len(kept) - len(over) >= MAX_YANKS:
                return False
            done = sql.execute(
                "INSERT OR IGNORE INTO yanks VALUES (?, ?, ?, ?, ?, ?)",
                (body.fleet, body.channel, body.arch, body.content, body.created_at, yank.raw),
            )
            return bool(done.rowcount)

    # -- evidence ----------------------------------------------------------------------------------------------------

    def record_evidence(self, row: EvidenceRow) -> bool:
        """Keep two documents that can not both be honest; the first `MAX_EVIDENCE` of a kind and subject stay.

        Returns:
            Whether it was kept; False when it is known already or there are enough.
        """
        with self._database.transaction() as sql:
            known = sql.execute(
                "SELECT 1 FROM evidence WHERE (first_digest, second_digest) IN (VALUES (?, ?), (?, ?))",
                (row.first_digest, row.second_digest, row.second_digest, row.first_digest),
            ).fetchone()
            (count,) = sql.execute(
                "SELECT count(*) FROM evidence WHERE kind = ? AND subject = ?", (row.kind, row.subject)
            ).fetchone()
            if known is not None or count >= MAX_EVIDENCE:
                return False
            sql.execute("INSERT INTO evidence VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", tuple(row))
            return True

    def evidence(self) -> list[EvidenceRow]:
        """All that is kept, the oldest first."""
        rows = self._database.rows(
            "SELECT kind, subject, first_digest, first, second_digest, second, source, found_at FROM evidence"
            " ORDER BY id"
        )
        return [EvidenceRow(*row) for row in rows]


def resolved(policy: TrustPolicy, documents: TrustDocuments) -> TrustPolicy:
    """A policy with the roots in force that a state remembers; those whose file the operator gave count without.

    Raises:
        ConfigError: two publishers cover the same channel and architecture.
        StoreError, MachineError: the state can not be read.
    """
    roots = []
    for trusted in policy.roots:
        raw = documents.roots_of(trusted.anchor)
        if not raw and trusted.anchor.root is not None:
            raw = documents.leading_to(trusted.anchor.root)
        chain = begin(trusted.anchor)  # all there is where the disk changed the rest: peers have it
        for part in without_gaps(raw):  # a version that was never brought ends no chain that begins behind it
            with suppress(TwoRoots):
                chain = _longer(chain, follow(trusted.anchor, None, part).chain)
        if chain is not None and not documents.admits(trusted.anchor, chain):
            chain = None  # never back: peers have the newer one
        roots.append(replace(trusted, chain=chain))
    return TrustPolicy.of(policy.named, roots)


def _longer(one: Chain | None, other: Chain | None) -> Chain | None:
    """Which of two chains leads further; of two that end alike the one with more history."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda chain: (chain.newest.version, len(chain.roots)))


def _follows(root: Root, before: bytes) -> bool:
    """Whether a root is signed by those who may, after the one before."""
    try:
        check_signers(root, Root.parse(before))
    except (Malformed, SignatureError):
        return False
    return True


def _remember(sql: sqlite3.Connection, anchor: Anchor, fleet: str, chain: Chain, *, lowers: bool) -> bool:
    """Remember the version in force, unless a higher one is remembered; returns whether that is news.

    Args:
        sql: a transaction.
        anchor: of the chain.
        fleet: as documents of it are kept.
        chain: in force.
        lowers: whether a higher one counts no more, since the chain contradicts it.
    """
    row = sql.execute(
        "SELECT fleet, version, digest FROM root_memory WHERE fleet IN (?, ?) ORDER BY version DESC",
        (fleet, anchor.digest),
    ).fetchone()
    newest = (fleet, chain.newest.version, chain.newest.digest)
    if row == newest or (row is not None and row[1] > newest[1] and not lowers):
        return False
    sql.execute("DELETE FROM root_memory WHERE fleet IN (?, ?)", (fleet, anchor.digest))
    sql.execute("INSERT INTO root_memory VALUES (?, ?, ?)", newest)
    return True
