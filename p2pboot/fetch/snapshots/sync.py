"""A state-sync consumer's whole job: find what trusted signers agree on, bring it, verify it, keep it.

What the output directory already holds counts as heard: a later run never goes back behind it, and sees when a
signer contradicts what it said before.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Any

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import PublicKey
from p2pboot.core.policy import Publisher
from p2pboot.core.timetoke.agreement import Agreed, Agreement, Conflict
from p2pboot.core.timetoke.announcement import Announcement, SnapshotFacts
from p2pboot.core.timetoke.errors import AnnouncementConflict, RootMismatch, SignaturesTooFew
from p2pboot.errors import FetchError, NotFoundError, first_error
from p2pboot.fetch.ahead import Ahead
from p2pboot.fetch.asking.acquainting import Acquainting
from p2pboot.fetch.asking.dialling import Dialler
from p2pboot.fetch.asking.reasons import MAX_NAMED
from p2pboot.fetch.asking.rounds import Rounds
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import Progress
from p2pboot.fetch.receiving.swarm import Network
from p2pboot.fetch.snapshots.bring import complete_held, fetch_snapshot, hold_announced
from p2pboot.fetch.snapshots.by_root import bring_by_root
from p2pboot.fetch.snapshots.chunks import SnapshotDialect, wanted_snapshot
from p2pboot.fetch.snapshots.hearing import hear_peer
from p2pboot.protocol.snapshots import SnapshotHead
from p2pboot.store.durable import make_directory
from p2pboot.store.ownership import OUTPUT, opened_directory
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from p2pboot.transport.interface import Connection, Transport
from p2pboot.transport.nearness import Nearness

MAX_STRANGERS = 4
"""Signers that are named where no trusted one announced anything: a person compares them with --trust."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOrder:
    """What a consumer is told.

    Args:
        root: of the snapshot; None for the latest.
        trusted: whose announcements count, and how many must agree.
        directory: where it goes.
        timeout_s: to find it, and then the longest time without any progress.
        bootstrap: multiaddrs to dial.
        require_signatures: refuse a snapshot that not enough trusted keys signed; only one that is named by its
            root can be without.
    """

    root: str | None
    trusted: Publisher
    directory: Path
    timeout_s: float = 60.0
    bootstrap: tuple[str, ...] = ()
    require_signatures: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """A job that succeeded.

    Args:
        root: of the snapshot.
        path: of the payload; the signature is beside it, if there is one.
        announcements: of trusted signers that agree on it; none where it was fetched by its root alone.
        signed: whether it has a signature by a trusted key.
        unchanged: it was there already.
        conflicts: contradictions between trusted signers, with both documents of each.
        ledger: who delivered, lied, or stopped.
        transfer_s: seconds from the choice until all was verified and in place.
    """

    root: str
    path: Path
    announcements: tuple[Announcement, ...]
    signed: bool
    unchanged: bool
    conflicts: tuple[Conflict, ...]
    ledger: Ledger
    transfer_s: float

    @property
    def sequence(self) -> int | None:
        """The sequence that was agreed on; None where nobody announced it."""
        return self.announcements[0].sequence if self.announcements else None

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values for a JSON document."""
        return {
            "root": self.root,
            "path": str(self.path),
            "sequence": self.sequence,
            "signers": [one.signer for one in self.announcements],
            "signed": self.signed,
            "unchanged": self.unchanged,
            "conflicts": [
                {
                    "sequence": conflict.sequence,
                    "documents": [conflict.first.raw.decode(), conflict.second.raw.decode()],
                }
                for conflict in self.conflicts
            ],
            **self.ledger.to_json(),
            "stopped_peers": dict(sorted(self.ledger.stopped.items())),
            "transfer_s": round(self.transfer_s, 3),
        }


def open_output(order: SyncOrder) -> DiskSnapshotStore:
    """The output directory as the store that it is, made when there is none; blocking.

    Raises:
        MachineError: it can not be made or read, or belongs to others.
    """
    keys = tuple(PublicKey.from_keyid(key) for key in order.trusted.keys)
    make_directory(order.directory, 0o755)
    with opened_directory(order.directory, OUTPUT, follow=True):
        return DiskSnapshotStore(order.directory, keys=keys, warn=_said_in_the_result)


async def sync_snapshot(
    order: SyncOrder,
    store: DiskSnapshotStore,
    *,
    transport: Transport,
    progress: Progress,
    hints: AsyncIterable[str] | None = None,
    nearness: Nearness | None = None,
) -> SyncResult:
    """Bring a snapshot and its signature into the output directory, byte for byte as they were published.

    Args:
        order: what to do.
        store: of its output directory, as `open_output` gives it.
        transport: an open network, dialled with the order's addresses here.
        progress: told how it goes.
        hints: addresses of further peers as discovery finds them; None without discovery.
        nearness: who is near; the caller notes in it what those say who ask here.

    Raises:
        NotFoundError: no peer was found, or none has such a snapshot.
        AnnouncementConflict: trusted signers contradict each other, and nothing decides.
        FetchError: peers there are, but together they do not deliver it intact.
        SnapshotError, SnapshotSignatureError: the signers contradict themselves.
        MachineError: disk full, no permission, another sync into the same directory is running.
    """
    job = _Sync(order, store, transport, progress)
    try:
        return await job.run(hints, nearness or Nearness())
    except BaseExceptionGroup as group:
        raise first_error(group) from None


def _said_in_the_result(_text: str) -> None:
    """Whether the snapshot in question is signed is part of the result; others in the directory are not asked for."""


class _Sync:
    def __init__(
        self, order: SyncOrder, store: DiskSnapshotStore, transport: Transport, progress: Progress
    ) -> None:
        self._order = order
        self._store = store
        self._transport = transport
        self._ledger = Ledger(progress)
        self._agreement = Agreement(order.trusted)
        self._ahead = Ahead(self._fetch_ahead)
        self._begun: dict[
            str, dict[str, str]
        ] = {}  # by root, what peers say of the signature; maybe in part here
        self._rounds = Rounds(transport, self._ledger, self._ask, will_do_at=self._will_do_at)
        self._rechecked: set[str] = set()  # roots of which what was here before is known to be right, or gone
        self._answered: set[str] = set()
        self._strangers: set[str] = set()  # untrusted signers that peers list

    async def run(self, hints: AsyncIterable[str] | None, nearness: Nearness) -> SyncResult:
        self._near = nearness.near
        dialler = Dialler(
            self._transport,
            self._order.bootstrap,
            self._ledger,
            hints,
            has_room=lambda: self._acquainting.has_room,
        )
        self._acquainting = Acquainting(
            self._transport, nearness, usable=self._ledger.usable, keeps=dialler.names
        )
        if self._order.root is not None:
            self._acquainting.look_for(self._order.root)
        self._agreement.not_below(await trio.to_thread.run_sync(self._store.announcements.reached))
        for known in await trio.to_thread.run_sync(self._store.announcements.all):
            self._agreement.add(known)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dialler.run)
            nursery.start_soon(self._acquainting.run)
            nursery.start_soon(self._acquainting.look_around)
            nursery.start_soon(self._ahead.run)
            await self._rounds.run(self._order.timeout_s, dialler.settle)
            result = await self._choose_and_bring(dialler)
            nursery.cancel_scope.cancel()
        return result

    def _will_do_at(self) -> float:
        """What is named by its root can be had without an announcement, from somebody."""
        is_known = self._order.root is not None or self._agreement.newest_sequence() is not None
        return -math.inf if is_known and self._transport.peers() else math.inf

    async def _ask(self, connection: Connection) -> None:
        if await hear_peer(self._transport, connection, self._ledger, wants=self._wants, take=self._take):
            self._answered.add(connection.peer_id)

    def _wants(self, head: SnapshotHead) -> bool:
        if self._order.root not in (None, head.root):
            return False
        is_trusted = head.signer in self._order.trusted.keys
        if not is_trusted and len(self._strangers) < MAX_STRANGERS:
            self._strangers.add(head.signer)
        return is_trusted

    def _take(self, announcement: Announcement) -> None:
        self._agreement.add(announcement)
        named = self._order.root is not None
        usable = self._agreed_on_root() if named else self._agreement.newest_sequence()
        if usable is not None:
            self._rounds.note_usable()
            candidate = self._candidate()
            self._ahead.suggest(candidate)
            if candidate is not None:
                self._acquainting.look_for(candidate.root)

    def _candidate(self) -> SnapshotFacts | None:
        """What would be brought if this were all that is announced."""
        try:
            agreed = self._choose()
        except AnnouncementConflict:
            return None
        return None if agreed is None else agreed.variants[0]

    def _choose(self) -> Agreed | None:
        """What counts of what was announced; raises AnnouncementConflict where nothing decides."""
        return self._agreed_on_root() if self._order.root is not None else self._agreement.latest()

    async def _fetch_ahead(self, facts: SnapshotFacts) -> None:
        """Bring a payload to where nobody sees it, while others may still announce something else."""
        await self._recheck(facts.root)
        if not await trio.to_thread.run_sync(self._store.has_snapshot, facts.root):
            dialect = SnapshotDialect(wanted_snapshot(facts))
            self._begun[facts.root] = dialect.signature_texts
            network = Network(self._transport, self._ledger, self._order.timeout_s, near=self._near)
            await fetch_snapshot(dialect, self._store, network)

    async def _recheck(self, root: str) -> None:
        if root not in self._rechecked:
            await trio.to_thread.run_sync(self._store.recheck, root)
            self._rechecked.add(root)

    async def _end_ahead(self, agreed: Agreed | None) -> None:
        """Have what was begun, where it is what is wanted; forget it where it is not."""
        if agreed is None:
            await self._ahead.stop()
        else:
            try:
                await self._ahead.finish(agreed.variants[0])
            except (FetchError, RootMismatch):
                if len(agreed.variants) == 1:  # the table of another signer may be right
                    raise
        for root in self._begun.keys() - ({agreed.root} if agreed else set()):
            await trio.to_thread.run_sync(self._store.blobs.remove, root)

    async def _choose_and_bring(self, dialler: Dialler) -> SyncResult:
        await self._keep_evidence()
        began = trio.current_time()
        try:
            agreed = self._choose()
        except AnnouncementConflict:
            await self._end_ahead(None)
            raise
        await self._end_ahead(agreed)
        root = self._order.root if agreed is None else agreed.root
        if root is None:
            raise self._nothing(dialler)
        await self._recheck(root)
        network = Network(
            self._transport,
            self._ledger,
            self._order.timeout_s,
            lambda: dialler.hopeless,
            self._near,
        )
        if agreed is not None:
            threshold, heard = self._order.trusted.threshold, self._begun.get(root, {})
            unchanged = not await hold_announced(agreed, threshold, self._store, network, heard)
        else:
            unchanged = await self._is_held(root, network)
            if not unchanged:
                await self._bring(root, network, dialler)
        return SyncResult(
            root=root,
            path=await trio.to_thread.run_sync(self._store.path, root),
            announcements=() if agreed is None else agreed.announcements,
            signed=await trio.to_thread.run_sync(self._store.signature, root) is not None,
            unchanged=unchanged,
            conflicts=self._agreement.conflicts,
            ledger=self._ledger,
            transfer_s=trio.current_time() - began,
        )

    async def _bring(self, root: str, network: Network, dialler: Dialler) -> None:
        threshold, required = self._order.trusted.threshold, self._order.require_signatures
        if not self._transport.peers():
            raise self._nothing(dialler)
        if required and threshold > 1:  # a file holds one signature
            raise SignaturesTooFew(root, threshold)
        keys = tuple(PublicKey.from_keyid(key) for key in self._order.trusted.keys)
        await bring_by_root(root, keys, self._store, network, require_signature=required)

    def _agreed_on_root(self) -> Agreed | None:
        """The announcements of the root that was asked for, if enough trusted signers made one."""
        by_signer = {one.signer: one for one in self._agreement.announcements if one.root == self._order.root}
        subjects = {one.subject for one in by_signer.values()}
        enough = len(by_signer) >= self._order.trusted.threshold and len(subjects) == 1
        return Agreed(tuple(by_signer[signer] for signer in sorted(by_signer))) if enough else None

    async def _is_held(self, root: str, network: Network) -> bool:
        """Whether the payload is there, signed as it must be where nobody announced it; adds a lost key version."""
        if not await trio.to_thread.run_sync(self._store.has_snapshot, root):
            return False
        is_signed = await trio.to_thread.run_sync(self._store.signature, root) is not None
        await complete_held(root, self._store, network)
        return not self._order.require_signatures or (is_signed and self._order.trusted.threshold == 1)

    async def _keep_evidence(self) -> None:
        for conflict in self._agreement.conflicts:
            paths = await trio.to_thread.run_sync(self._store.keep_evidence, conflict)
            where = " and ".join(str(path) for path in paths)
            self._ledger.progress.note(
                f"different snapshots are announced under sequence {conflict.sequence}, by"
                f" {conflict.first.signer} and {conflict.second.signer}; both documents are kept: {where}"
            )

    def _nothing(self, dialler: Dialler) -> NotFoundError:
        reasons = [
            *dialler.failures.values(),
            *(f"peer {peer}: {why}" for peer, why in self._ledger.dropped.items()),
        ]
        detail = f" ({'; '.join(reasons[:MAX_NAMED])})" if reasons else ""
        if not self._answered:
            return NotFoundError(
                f"no peer answered in time, so there is no snapshot{detail}",
                remedy="check the --bootstrap addresses and that the provider runs with --snapshots",
            )
        threshold = self._order.trusted.threshold
        who = "a trusted signer" if threshold == 1 else f"{threshold} trusted signers"
        others = f"; others did: {', '.join(sorted(self._strangers))}" if self._strangers else ""
        remedy = "check --trust and --threshold, or ask other peers"
        if not others and not tuple(self._agreement.announcements):
            remedy = (
                "have its publisher announce one (p2pboot snapshot publish), name the snapshot by its ROOT, or ask"
                " other peers"
            )
        return NotFoundError(
            f"none of {len(self._answered)} peers has a snapshot that {who} announced{others}{detail}",
            remedy=remedy,
        )
