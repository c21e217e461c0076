"""Snapshots on a node: serves a store, announces what is in it, and follows signers that it trusts.

Owns how the parts are put together. Announcements come by gossip, and by asking every connected peer at intervals; what
enough trusted signers agree on (`followed_snapshots`) is mirrored into the same store, and from then on served and
announced. What is new, what the last run left, and what somebody took away from the directory are the same path.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import trio

from p2pboot.config.settings import NodeSettings
from p2pboot.config.storage import StoreSettings
from p2pboot.core.policy import Publisher
from p2pboot.core.timetoke.agreement import Agreed, AnnouncementStanding
from p2pboot.core.timetoke.announcement import Announcement, claim
from p2pboot.errors import Malformed, P2PBootError, SignatureError
from p2pboot.fetch.asking.connecting import for_each_connection
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import NoProgress
from p2pboot.fetch.snapshots.hearing import hear_peer
from p2pboot.node.announcing import Announcer
from p2pboot.node.followed_snapshots import FollowedSnapshots
from p2pboot.node.mirroring import Mirror
from p2pboot.node.problems import Problems
from p2pboot.node.reconciling import Changes
from p2pboot.node.scrubbing import Scrubber
from p2pboot.node.snapshot_problems import SnapshotProblems
from p2pboot.node.status.running import SnapshotsFacts
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL, SNAPSHOT_TOPIC
from p2pboot.serving.accounts import Serving
from p2pboot.serving.contents import Contents
from p2pboot.serving.snapshots import SnapshotServer
from p2pboot.store.auditlog import AuditLog
from p2pboot.store.ownership import PRIVATE
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from p2pboot.store.snapshots.scrubbed import ScrubbedSnapshots
from p2pboot.store.snapshots.survey import Survey
from p2pboot.transport.interface import Connection, Forwarding, Gossip

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
"""How often the store is looked at for what another process published: one directory listing."""

# REJECT only what no honest node sends; another trust is no offence.
_VERDICTS: Final = {
    AnnouncementStanding.NEW: Forwarding.ACCEPT,
    AnnouncementStanding.KNOWN: Forwarding.ACCEPT,  # else re-announcements die at the first hop
    AnnouncementStanding.CONFLICT: Forwarding.ACCEPT,  # or the first liar would keep honest signers from being heard
    AnnouncementStanding.EQUIVOCATION: Forwarding.IGNORE,
    AnnouncementStanding.OLDER: Forwarding.IGNORE,
    AnnouncementStanding.UNTRUSTED: Forwarding.IGNORE,
}


async def run_snapshots(  # noqa: PLR0913 - what a node shares with this part of it
    settings: NodeSettings,
    transport: Gossip,
    serving: Serving,
    problems: Problems,
    contents: Contents,
    *,
    trusted: Callable[[], Publisher | None],
    changes: Changes,
    limits: Callable[[], StoreSettings],
    told: Callable[[SnapshotsFacts], None],
    audit: AuditLog | None = None,
    poisoned: Callable[[str, str], None],
    scrubbers: list[Scrubber],
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    """Open the store that the settings name, and run a `SnapshotNode` over it until cancelled.

    Whose snapshots are followed, `trusted` says now and after each of the `changes`. What is wrong with the store goes
    on the list of problems, `told` is told again and again what is there, and `poisoned` who sent what was not signed.
    What reads the snapshots over and over is added to `scrubbers`.

    Raises:
        MachineError: the directory can not be made or read.
    """
    snapshots, network = settings.snapshots, settings.network
    assert snapshots.directory is not None  # noqa: S101 - the caller asked
    opened = partial(
        DiskSnapshotStore,
        snapshots.directory,
        require_signatures=snapshots.require_signatures,
        warn=_said_by_the_list,
    )
    node = SnapshotNode(
        await trio.to_thread.run_sync(opened),
        transport,
        serving,
        trusted=trusted(),
        may_follow=not settings.trusts_nobody,
        problems=problems,
        contents=contents,
        announce_interval_s=network.announce_interval_s,
        sync_interval_s=network.sync_interval_s,
        gossip=network.gossip,
        limits=limits,
        told=told,
        audit=audit,
        poisoned=poisoned,
    )
    scrubbers.append(node.scrubber)

    async def retrust() -> None:
        await node.change_trust(trusted())

    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        nursery.start_soon(changes.follow, retrust, "others sign the snapshots that are followed")
        task_status.started()


def _said_by_the_list(_text: str) -> None:
    """What is unsigned is a problem, and the list of problems logs it."""


class SnapshotNode:
    """The part of a node that has to do with snapshots.

    Args:
        store: is served, and gets what is followed.
        transport: the node's network.
        serving: limits and accounts, shared with the node's other servers.
        trusted: whose snapshots are followed; None follows nobody.
        problems: told what is wrong with the store, and what can not be had.
        contents: what the node gives by its tables; what is in the store is added to it.
        announce_interval_s: seconds between two announcements of one snapshot.
        sync_interval_s: seconds between two questions to one peer.
        gossip: whether to announce and to hear announcements by gossip.
        may_follow: whether somebody may be followed later, where nobody is now.
        limits: tells what may be fetched now; called in any thread.
        told: what there is, every few seconds.
        poisoned: is told who sent what was not signed, and what it was.
    """

    def __init__(  # noqa: PLR0913 - what a node shares with this part of it
        self,
        store: DiskSnapshotStore,
        transport: Gossip,
        serving: Serving,
        *,
        trusted: Publisher | None,
        problems: Problems,
        contents: Contents,
        announce_interval_s: float,
        sync_interval_s: float,
        gossip: bool = True,
        may_follow: bool = False,
        limits: Callable[[], StoreSettings] = StoreSettings,
        told: Callable[[SnapshotsFacts], None] = lambda _facts: None,
        audit: AuditLog | None = None,
        poisoned: Callable[[str, str], None] = lambda _peer_id, _what: None,
    ) -> None:
        self._store = store
        self._told = told
        self.scrubber = Scrubber(ScrubbedSnapshots(store), store.directory / PRIVATE, time.time)
        """Reads the snapshots over and over."""
        self._poisoned = poisoned
        self._transport = transport
        self._problems = SnapshotProblems(
            problems, store.directory, require_signatures=store.require_signatures
        )
        self._sync_interval_s = sync_interval_s
        self._gossip = gossip
        self._server = SnapshotServer(store, serving)
        contents.add(store.blobs, store.check_signature)
        self._changes = Changes()
        self._announcer: Announcer[str] = Announcer(
            transport,
            topic=lambda topic: topic,
            hear=self._hear,
            heads=self._held,
            topics=lambda _held: [SNAPSHOT_TOPIC],
            interval_s=announce_interval_s,
        )
        self._followed: FollowedSnapshots | None = None
        if trusted is not None or may_follow:
            self._followed = FollowedSnapshots(
                store, transport, trusted, self._changes.tell, limits, audit=audit, poisoned=poisoned
            )
            self._mirror: Mirror[Agreed] = Mirror(
                self._followed, partial(problems.report, "followed snapshots")
            )

    async def change_trust(self, trusted: Publisher | None) -> None:
        """Follow others from now on; None follows nobody."""
        if self._followed is not None and await trio.to_thread.run_sync(self._followed.follow, trusted):
            self._changes.tell()

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Serve, announce and follow until cancelled; started once the protocol is served."""
        self._transport.handle(SNAPSHOT_PROTOCOL, self._server.handle)
        if self._followed is not None:
            await trio.to_thread.run_sync(self._followed.load)
        async with trio.open_nursery() as nursery:
            if self._gossip:
                await self._announcer.reconcile()
            task_status.started()
            nursery.start_soon(self._watch_store)
            nursery.start_soon(self.scrubber.run)
            if self._gossip:
                nursery.start_soon(self._announcer.run)
                nursery.start_soon(
                    self._changes.follow, self._announcer.reconcile, "no snapshot is announced"
                )
            if self._followed is not None:
                keep_evidence = partial(trio.to_thread.run_sync, self._followed.keep_evidence)
                nursery.start_soon(self._changes.follow, keep_evidence, "evidence is not kept")
                nursery.start_soon(self._mirror.run)
                nursery.start_soon(self._changes.follow, self._mirror.reconcile, "no snapshot is followed")
                nursery.start_soon(for_each_connection, self._transport, partial(self._ask, self._followed))

    # -- what is here ------------------------------------------------------------------------------------------

    def _held(self) -> Iterable[tuple[str, bytes]]:
        """The newest announcement of each signer that is wholly here."""
        newest: dict[str, Announcement] = {}
        for one in self._store.announcements.all():
            if one.signer not in newest and self._store.has_snapshot(one.root):
                newest[one.signer] = one
        return [(SNAPSHOT_TOPIC, one.raw) for one in newest.values()]

    async def _watch_store(self) -> None:
        """Say what is wrong in the directory; look again at what somebody, or our own following, changed there."""
        while True:
            try:
                survey, sizes = await trio.to_thread.run_sync(self._survey)
            except P2PBootError as error:
                self._problems.report_failure(error)
            else:
                self._problems.report(survey)
                self._told(
                    SnapshotsFacts(
                        held=len(sizes),
                        size_bytes=sum(sizes.values()),
                        follows=self._followed is not None and self._followed.follows,
                    )
                )
                self._changes.tell()
            await trio.sleep(LOOK_S)

    def _survey(self) -> tuple[Survey, dict[str, int]]:
        return self._store.survey(), self._store.sizes()

    # -- what others announce ----------------------------------------------------------------------------------

    async def _hear(self, _topic: str, peer_id: str, payload: bytes) -> Forwarding:
        try:
            claimed = claim(payload)
            if self._followed is None or not self._followed.trusts(claimed.signer):
                return Forwarding.IGNORE  # before the expensive check
            return _VERDICTS[self._followed.take(claimed.confirm())]
        except (Malformed, SignatureError) as error:
            log.debug("announcement from %s: %s", peer_id, error)
            self._poisoned(peer_id, f"an announcement of a snapshot: {error.message}")
            return Forwarding.REJECT

    async def _ask(self, followed: FollowedSnapshots, connection: Connection) -> None:
        """Ask one peer at intervals; gossip forgets, and who joins late heard nothing."""
        self._mirror.retry()
        await followed.complete_signature()
        while True:
            ledger = Ledger(NoProgress())
            await hear_peer(self._transport, connection, ledger, wants=followed.wants, take=followed.take)
            await trio.sleep(self._sync_interval_s)
