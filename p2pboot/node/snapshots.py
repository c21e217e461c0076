"""Snapshots on a node: serves a store, announces what is in it, and follows signers that it trusts.

Owns the node's opinion of announcements. They come by gossip, and by asking every connected peer at intervals;
what enough trusted signers agree on is fetched into the same store, and from then on served and announced.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import trio

from p2pboot.config.settings import NodeSettings
from p2pboot.core.policy import Publisher
from p2pboot.core.timetoke.agreement import Agreed, Agreement, AnnouncementStanding, Conflict
from p2pboot.core.timetoke.announcement import Announcement, claim
from p2pboot.core.timetoke.errors import SnapshotError, SnapshotSignatureError
from p2pboot.errors import Malformed, P2PBootError, SignatureError
from p2pboot.fetch.asking.dialling import for_each_peer
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import NoProgress
from p2pboot.fetch.receiving.swarm import Network
from p2pboot.fetch.snapshots.bring import complete_held, hold_announced
from p2pboot.fetch.snapshots.hearing import hear_peer
from p2pboot.node.announcing import Announcer
from p2pboot.node.problems import Problems
from p2pboot.node.snapshot_problems import SnapshotProblems
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL, SNAPSHOT_TOPIC, SnapshotHead
from p2pboot.serving.accounts import Serving
from p2pboot.serving.snapshots import SnapshotServer
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from p2pboot.transport.interface import Forwarding, Transport

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
"""How often the store is looked at for what another process published: one directory listing."""

FIRST_RETRY_S: Final = 2.0
LONGEST_RETRY_S: Final = 60.0

# REJECT only what no honest node sends; another trust is no offence.
_VERDICTS: Final = {
    AnnouncementStanding.NEW: Forwarding.ACCEPT,
    AnnouncementStanding.KNOWN: Forwarding.ACCEPT,  # else re-announcements die at the first hop
    AnnouncementStanding.CONFLICT: Forwarding.ACCEPT,  # or the first liar would keep honest signers from being heard
    AnnouncementStanding.EQUIVOCATION: Forwarding.IGNORE,
    AnnouncementStanding.OLDER: Forwarding.IGNORE,
    AnnouncementStanding.UNTRUSTED: Forwarding.IGNORE,
}


async def run_snapshots(
    settings: NodeSettings,
    transport: Transport,
    serving: Serving,
    problems: Problems,
    *,
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    """Open the store that the settings name, and run a `SnapshotNode` over it until cancelled.

    What is wrong with the store goes on the list of problems.

    Raises:
        MachineError: the directory can not be made or read.
    """
    snapshots, network = settings.snapshots, settings.network
    assert snapshots.directory is not None  # noqa: S101 - the caller asked
    required = snapshots.require_signatures
    opened = partial(
        DiskSnapshotStore, snapshots.directory, require_signatures=required, warn=_said_by_the_list
    )
    node = SnapshotNode(
        await trio.to_thread.run_sync(opened),
        transport,
        serving,
        trusted=snapshots.trusted,
        problems=SnapshotProblems(problems, snapshots.directory, require_signatures=required),
        announce_interval_s=network.announce_interval_s,
        sync_interval_s=network.sync_interval_s,
        gossip=network.gossip,
    )
    await node.run(task_status=task_status)


def _said_by_the_list(_text: str) -> None:
    """What is unsigned is a problem, and the list of problems logs it."""


class SnapshotNode:
    """The part of a node that has to do with snapshots.

    Args:
        store: is served, and gets what is followed.
        transport: the node's network.
        serving: limits and accounts, shared with the node's other servers.
        trusted: whose snapshots are followed; None follows nobody.
        problems: told what is wrong with the store; None: it is only logged.
        announce_interval_s: seconds between two announcements of one snapshot.
        sync_interval_s: seconds between two questions to one peer.
        gossip: whether to announce and to hear announcements by gossip.
    """

    def __init__(
        self,
        store: DiskSnapshotStore,
        transport: Transport,
        serving: Serving,
        *,
        trusted: Publisher | None,
        problems: SnapshotProblems | None = None,
        announce_interval_s: float,
        sync_interval_s: float,
        gossip: bool = True,
    ) -> None:
        self._store = store
        self._transport = transport
        self._trusted = trusted
        self._problems = problems
        self._agreement = None if trusted is None else Agreement(trusted)
        self._sync_interval_s = sync_interval_s
        self._gossip = gossip
        self._server = SnapshotServer(store, serving)
        self._announcer: Announcer[str] = Announcer(
            transport,
            topic=lambda topic: topic,
            hear=self._hear,
            heads=self._held,
            topics=lambda _held: [SNAPSHOT_TOPIC],
            interval_s=announce_interval_s,
        )
        self._news = trio.Event()
        self._evidence: set[Conflict] = set()  # what is on the disk

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Serve, announce and follow until cancelled; started once the protocol is served."""
        self._transport.handle(SNAPSHOT_PROTOCOL, self._server.handle)
        known = await trio.to_thread.run_sync(self._store.announcements.all)
        if self._agreement is not None:
            for announcement in known:
                self._agreement.add(announcement)
        async with trio.open_nursery() as nursery:
            if self._gossip:
                await self._announcer.reconcile()
            task_status.started()
            if self._gossip:
                nursery.start_soon(self._announcer.run)
            nursery.start_soon(self._watch_store)
            if self._agreement is not None and self._trusted is not None:
                nursery.start_soon(for_each_peer, self._transport, self._ask)
                nursery.start_soon(self._follow, self._agreement, self._trusted)

    # -- what is here ------------------------------------------------------------------------------------------

    def _held(self) -> Iterable[tuple[str, bytes]]:
        """The newest announcement of each signer that is wholly here."""
        newest: dict[str, Announcement] = {}
        for one in self._store.announcements.all():
            if one.signer not in newest and self._store.has_snapshot(one.root):
                newest[one.signer] = one
        return [(SNAPSHOT_TOPIC, one.raw) for one in newest.values()]

    async def _watch_store(self) -> None:
        """Announce soon what `snapshot publish`, or our own following, has put there, and say what is wrong there."""
        while True:
            try:
                survey = await trio.to_thread.run_sync(self._store.survey)
                if self._gossip:
                    await self._announcer.reconcile()
            except P2PBootError as error:
                if self._problems is None:
                    log.warning("looking for snapshots: %s", error)
                else:
                    self._problems.report_failure(error)
            else:
                if self._problems is not None:
                    self._problems.report(survey)
            await trio.sleep(LOOK_S)

    # -- what others announce ----------------------------------------------------------------------------------

    async def _hear(self, _topic: str, peer_id: str, payload: bytes) -> Forwarding:
        try:
            claimed = claim(payload)
            if self._trusted is None or claimed.signer not in self._trusted.keys:  # before the dear check
                return Forwarding.IGNORE
            return _VERDICTS[await self._take(peer_id, claimed.confirm())]
        except (Malformed, SignatureError) as error:
            log.debug("announcement from %s: %s", peer_id, error)
            return Forwarding.REJECT

    async def _take(self, peer_id: str, announcement: Announcement) -> AnnouncementStanding:
        if self._agreement is None:
            return AnnouncementStanding.UNTRUSTED
        standing = self._agreement.add(announcement)
        log.debug("announcement of %s from %s: %s", announcement.root, peer_id, standing.value)
        if standing in (
            AnnouncementStanding.NEW,
            AnnouncementStanding.CONFLICT,
            AnnouncementStanding.EQUIVOCATION,
        ):
            self._news.set()
        return standing

    async def _ask(self, peer_id: str) -> None:
        """Ask one peer at intervals; gossip forgets, and who joins late heard nothing."""
        await self._complete_held()
        while True:
            heard: list[Announcement] = []
            await hear_peer(
                self._transport, peer_id, Ledger(NoProgress()), wants=self._wants, take=heard.append
            )
            for announcement in heard:
                await self._take(peer_id, announcement)
            await trio.sleep(self._sync_interval_s)

    async def _complete_held(self) -> None:
        """With every new peer: what was followed by an older version may have lost its signature's key version."""
        agreed = None if self._agreement is None else self._agreement.latest()
        if agreed is None:
            return
        network = Network(self._transport, Ledger(NoProgress()))
        try:
            if await complete_held(agreed.root, self._store, network):
                log.info("snapshot %s: its signature has its key version now", agreed.root)
        except P2PBootError as error:
            log.debug("snapshot %s: its signature stays as it is: %s", agreed.root, error)

    def _wants(self, head: SnapshotHead) -> bool:
        if self._trusted is None or self._agreement is None or head.signer not in self._trusted.keys:
            return False
        newest = self._agreement.newest_sequence()
        if newest is not None and head.sequence < newest:
            return False
        known = self._agreement.announcements
        return not any(
            (one.signer, one.root, one.sequence) == (head.signer, head.root, head.sequence) for one in known
        )

    async def _follow(self, agreement: Agreement, trusted: Publisher) -> None:
        delay_s = FIRST_RETRY_S
        while True:
            self._news = trio.Event()
            try:
                await trio.to_thread.run_sync(self._keep_evidence, agreement)
                agreed = agreement.latest()
                if agreed is not None:
                    await self._bring_unless_superseded(agreed, agreement, trusted)
                delay_s = FIRST_RETRY_S
                await self._news.wait()
            except (SnapshotError, SnapshotSignatureError) as error:
                log.warning("following snapshots: %s", error)
                await self._news.wait()  # the signers' fault: trying again would only download it again
            except P2PBootError as error:
                log.info("following snapshots: %s", error)
                with trio.move_on_after(delay_s):
                    await self._news.wait()
                delay_s = min(delay_s * 2, LONGEST_RETRY_S)

    async def _bring_unless_superseded(
        self, agreed: Agreed, agreement: Agreement, trusted: Publisher
    ) -> None:
        failure: P2PBootError | None = None
        fetched, before = False, (tuple(agreement.announcements), agreement.conflicts)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_superseded, agreed, agreement, nursery.cancel_scope)
            network = Network(self._transport, Ledger(NoProgress()))
            try:
                fetched = await hold_announced(agreed, trusted.threshold, self._store, network)
            except P2PBootError as error:
                failure = error  # raised outside: the nursery would wrap it in a group
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if fetched:
            log.info("snapshot %s: holding sequence %d", agreed.root, agreed.sequence)
        if (tuple(agreement.announcements), agreement.conflicts) != before:
            self._news.set()  # what came meanwhile may add signers, or be evidence

    async def _cancel_when_superseded(
        self, agreed: Agreed, agreement: Agreement, scope: trio.CancelScope
    ) -> None:
        while (agreement.newest_sequence() or 0) <= agreed.sequence:
            await self._news.wait()
            self._news = trio.Event()
        self._news.set()
        scope.cancel()

    def _keep_evidence(self, agreement: Agreement) -> None:
        for conflict in agreement.conflicts:
            if conflict in self._evidence:
                continue
            self._evidence.add(conflict)
            paths = self._store.keep_evidence(conflict)
            log.warning(
                "different snapshots are announced under sequence %d, by %s and %s; both documents are kept: %s",
                conflict.sequence,
                conflict.first.signer,
                conflict.second.signer,
                " and ".join(str(path) for path in paths),
            )
