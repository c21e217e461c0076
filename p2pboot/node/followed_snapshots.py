"""Snapshots as something that the node follows: what enough trusted signers agree on is brought into the store.

Owns the node's opinion of announcements: what was said, what it comes to, and what is remembered of both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from functools import partial
from typing import Final

import trio
from typing_extensions import override

from p2pboot.config.storage import StoreSettings
from p2pboot.core.events import Event
from p2pboot.core.policy import Publisher
from p2pboot.core.problems import Code, Problem
from p2pboot.core.timetoke.agreement import Agreed, Agreement, AnnouncementStanding, Conflict
from p2pboot.core.timetoke.announcement import Announcement
from p2pboot.core.timetoke.errors import AnnouncedMismatch, AnnouncementConflict, SnapshotError
from p2pboot.errors import P2PBootError
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import NoProgress
from p2pboot.fetch.receiving.swarm import Network
from p2pboot.fetch.snapshots.bring import complete_held, hold_announced, is_signed
from p2pboot.node.mirroring import Followed, Item, check_sizes, patient_network
from p2pboot.protocol.snapshots import SnapshotHead
from p2pboot.store.auditlog import AuditLog, Deed
from p2pboot.store.errors import StoreFull
from p2pboot.store.room import AUTO
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from p2pboot.transport.interface import Transport

log = logging.getLogger(__name__)

SUBJECT: Final = "snapshots"  # one directory, of which one snapshot is the newest

_NEWS: Final = frozenset(
    {AnnouncementStanding.NEW, AnnouncementStanding.CONFLICT, AnnouncementStanding.EQUIVOCATION}
)


_NOBODY: Final = Publisher(("ed25519:" + "0" * 64,))
"""Stands for nobody, of whom nothing is ever taken into account."""


class FollowedSnapshots(Followed[Agreed]):
    """The newest snapshot that is agreed on, with all announcements of it.

    What is heard is taken in one thread; the methods of `Followed` may run in others.

    Args:
        store: where it goes.
        transport: whom it is fetched from.
        trusted: whose announcements count, and how many must agree; None for nobody's.
        changed: told when something else may be wanted, or is here; any thread.
        limits: tells how large one may be, and how much all of them; called in any thread.
        audit: takes down what was accepted, and what contradicts itself.
        poisoned: is told who sent what was not signed, and what it was.
    """

    blamable: tuple[type[P2PBootError], ...] = (SnapshotError, AnnouncedMismatch)

    def __init__(
        self,
        store: DiskSnapshotStore,
        transport: Transport,
        trusted: Publisher | None,
        changed: Callable[[], None],
        limits: Callable[[], StoreSettings],
        *,
        audit: AuditLog | None = None,
        poisoned: Callable[[str, str], None] = lambda _peer_id, _what: None,
    ) -> None:
        self._store = store
        self._transport = transport
        self._trusted = trusted
        self._changed = changed
        self._limits = limits
        self._audit = audit
        self._poisoned = poisoned
        self._agreement = Agreement(trusted or _NOBODY)
        self._agreed: Agreed | None = None
        self._undecided: AnnouncementConflict | None = None
        self._conflicts: tuple[Conflict, ...] = ()
        self._kept: set[Conflict] = set()  # on the disk

    # -- what is announced -------------------------------------------------------------------------------------

    @property
    def follows(self) -> bool:
        """Whether anybody's announcements count."""
        return self._trusted is not None

    def follow(self, trusted: Publisher | None) -> bool:
        """Count other announcements from now on; blocking. Returns whether that changes anything."""
        if trusted == self._trusted:
            return False
        self._trusted, self._agreement = trusted, Agreement(trusted or _NOBODY)
        self.load()
        return True

    def load(self) -> None:
        """Begin with what the store remembers, so that who contradicted itself is not believed again; blocking."""
        self._agreement.not_below(self._store.announcements.reached())
        for one in self._store.announcements.said():
            self._agreement.add(one)
        self._conclude()
        self._kept.update(self._conflicts)

    def trusts(self, signer: str) -> bool:
        """Whether what this key id announces counts."""
        return self._trusted is not None and signer in self._trusted.keys

    @property
    def _threshold(self) -> int:
        return (self._trusted or _NOBODY).threshold

    def take(self, announcement: Announcement) -> AnnouncementStanding:
        """Take an announcement into account, whose signature was checked."""
        if not self.trusts(announcement.signer):
            return AnnouncementStanding.UNTRUSTED
        standing = self._agreement.add(announcement)
        log.debug("announcement of %s by %s: %s", announcement.root, announcement.signer, standing.value)
        if standing in _NEWS:
            self._conclude()
            self._changed()
        return standing

    def wants(self, head: SnapshotHead) -> bool:
        """Whether the announcement of what a peer has is worth asking for."""
        newest = max(self._agreement.newest_sequence() or 0, self._agreement.floor)
        if not self.trusts(head.signer) or head.sequence < newest:
            return False
        known = self._agreement.announcements
        return not any(
            (one.signer, one.root, one.sequence) == (head.signer, head.root, head.sequence) for one in known
        )

    def _conclude(self) -> None:
        self._conflicts = self._agreement.conflicts
        self._agreed = self._undecided = None
        try:
            self._agreed = self._agreement.latest()
        except AnnouncementConflict as error:
            self._undecided = error

    def keep_evidence(self) -> None:
        """Keep both documents of every contradiction; blocking.

        Raises:
            MachineError: they can not be written.
        """
        for conflict in self._conflicts:
            if conflict in self._kept:
                continue
            paths = self._store.keep_evidence(conflict)
            self._kept.add(conflict)
            if self._audit is not None:
                both = (conflict.first, conflict.second)
                self._audit.note(
                    Deed.SNAPSHOT_CONFLICT,
                    sequence=conflict.sequence,
                    snapshots=[one.root for one in both],
                    signers=[one.signer for one in both],
                )
            log.warning(
                "different snapshots are announced under sequence %d, by %s and %s; both documents are kept: %s",
                conflict.sequence,
                conflict.first.signer,
                conflict.second.signer,
                " and ".join(str(path) for path in paths),
                extra=Event.SNAPSHOT_CONFLICT(sequence=conflict.sequence),
            )

    # -- what is brought in ------------------------------------------------------------------------------------

    @override
    def wanted(self) -> list[Item[Agreed]]:
        agreed = self._agreed
        credible = None if agreed is None else self._credible(agreed, self._faults(agreed))
        if credible is None or self._is_here(credible):
            return []
        tables = sorted({one.facts.chunk_table for one in credible.announcements})
        version = " ".join([credible.root, *tables])  # where one table is a lie, another signer's may be had
        return [Item(SUBJECT, version, credible)]

    @override
    def faults(self) -> list[Problem]:
        if self._undecided is not None:
            return [Problem.of(Code.NOT_MIRRORED, SUBJECT, self._undecided)]
        agreed = self._agreed
        faults = {} if agreed is None else self._faults(agreed)
        if agreed is None or self._credible(agreed, faults) is not None:
            return []
        fault = next(iter(faults.values()))
        text = f"snapshot {agreed.root}, sequence {agreed.sequence}, can not be had: {fault}"
        return [Problem(Code.NOT_MIRRORED, SUBJECT, text, "tell its signers; a higher sequence resumes")]

    def _credible(self, agreed: Agreed, faults: Container[str]) -> Agreed | None:
        """What is agreed on, by signers without a fault; None where they are too few.

        Nothing older is taken then either, as where signers contradict each other.
        """
        credible = tuple(one for one in agreed.announcements if one.signer not in faults)
        enough = len({one.signer for one in credible}) >= self._threshold
        return Agreed(credible) if enough else None

    def _faults(self, agreed: Agreed) -> dict[str, str]:
        """What is wrong with announcements, by signer."""
        known = self._store.announcements.faults()
        asked = {one.signer: (one.signer, one.root, one.sequence) for one in agreed.announcements}
        return {signer: known[key] for signer, key in asked.items() if key in known}

    def _is_here(self, agreed: Agreed) -> bool:
        """Whether the snapshot is in the store, signed, and remembered as all of these announce it."""
        if not self._store.has_snapshot(agreed.root) or not is_signed(self._store, agreed.root):
            return False
        known = self._store.announcements.of_root(agreed.root)
        newest = {one.signer for one in known if one.sequence >= agreed.sequence}
        return newest >= {one.signer for one in agreed.announcements}

    @override
    async def bring(self, item: Item[Agreed], stalled: Callable[[str | None], None]) -> None:
        agreed, network = item.content, patient_network(self._transport, stalled, dropped=self._poisoned)
        await trio.to_thread.run_sync(self._check_room, agreed)
        if await hold_announced(agreed, self._threshold, self._store, network):
            if self._audit is not None:
                taken_down = partial(
                    self._audit.note,
                    Deed.SNAPSHOT_ACCEPTED,
                    sequence=agreed.sequence,
                    snapshot=agreed.root,
                    signers=sorted({one.signer for one in agreed.announcements}),
                )
                await trio.to_thread.run_sync(taken_down)
            log.info(
                "snapshot %s: holding sequence %d",
                agreed.root,
                agreed.sequence,
                extra=Event.SNAPSHOT_HELD(snapshot=agreed.root, sequence=agreed.sequence),
            )

    def _check_room(self, agreed: Agreed) -> None:
        """Refuse what is larger than the operator allows, alone or with what was followed before; blocking."""
        limits, root, size = self._limits(), agreed.root, max(facts.size for facts in agreed.variants)
        check_sizes({f"snapshot {root}": size}, limits.max_artifact_bytes)
        quota = limits.quota_bytes
        self._store.blobs.quota_bytes = AUTO if quota == AUTO else None
        if not isinstance(quota, int) or self._store.has_snapshot(root):
            return
        held = {
            one.root: one.facts.size
            for one in self._store.announcements.all()
            if self.trusts(one.signer) and self._store.has_snapshot(one.root)
        }
        used = sum(held.values())
        if used + size > quota:
            raise StoreFull(
                str(self._store.directory),
                needed=size,
                used=used,
                quota=quota,
                remedy="remove snapshots there that nobody needs any more, or raise store.quota (--quota)",
            )

    @override
    def completed(self, item: Item[Agreed]) -> None:
        self._changed()

    @override
    def blame(self, item: Item[Agreed], error: P2PBootError) -> None:
        for one in item.content.announcements:
            if not isinstance(error, AnnouncedMismatch) or one.signer in error.signers:
                self._store.announcements.put(one, error.message)
        self._changed()

    @override
    def tidy(self) -> None:
        self._store.blobs.drop_partials({item.content.root for item in self.wanted()})

    async def complete_signature(self) -> None:
        """What was followed by an older version may have lost its signature's key version: ask for it."""
        agreed = self._agreed
        if agreed is None:
            return
        network = Network(self._transport, Ledger(NoProgress()))
        try:
            if await complete_held(agreed.root, self._store, network):
                log.info(
                    "snapshot %s: its signature has its key version now",
                    agreed.root,
                    extra=Event.SNAPSHOT_HELD(snapshot=agreed.root, sequence=agreed.sequence),
                )
        except P2PBootError as error:
            log.debug("snapshot %s: its signature stays as it is: %s", agreed.root, error)
