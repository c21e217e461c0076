"""One node: the store, the network and the tasks between them.

Owns how the parts are put together and which tasks run. A manifest comes by gossip (`announcing`) or sync (`syncing`)
to the `intake`, or from the own directory (`publishing`), and through the gate into the catalogue (`store`). Mirror and
announcer keep up with the catalogue: `mirroring` brings in what it wants, and `announcing` says what it holds.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from p2pboot.config.reload import live_part
from p2pboot.config.settings import NodeSettings
from p2pboot.core.events import Event
from p2pboot.core.identity import SecretKey
from p2pboot.core.names import is_next
from p2pboot.core.policy import TrustPolicy
from p2pboot.core.trust import Pair, Trust
from p2pboot.core.withheld import Withheld
from p2pboot.dht.addresses import AddressPolicy
from p2pboot.errors import UsageError
from p2pboot.fetch.asking.acquainting import Acquainting
from p2pboot.fetch.asking.remembering import Remembering
from p2pboot.node.announcing import Announcer
from p2pboot.node.answering import publish, take_roots, yank
from p2pboot.node.awaiting import Awaited, awaited
from p2pboot.node.bringing import Watch
from p2pboot.node.building import Description
from p2pboot.node.contact import Contact
from p2pboot.node.control import Request, serve_control
from p2pboot.node.enforcing import Enforcing, MissingRoots, misused_keys, snapshot_signers
from p2pboot.node.examining import Examining
from p2pboot.node.hashtable import HashTable
from p2pboot.node.images import Images
from p2pboot.node.intake import Intake
from p2pboot.node.lag import Lag
from p2pboot.node.mending import Mending
from p2pboot.node.mirroring import Mirror
from p2pboot.node.observing import Observer, unheld
from p2pboot.node.peering import Peering
from p2pboot.node.poisoners import Poisoners
from p2pboot.node.problems import Problems
from p2pboot.node.publishing import DirectoryPublisher
from p2pboot.node.reconciling import Changes
from p2pboot.node.refusals import Refusals
from p2pboot.node.retrieving import SOURCE as RETRIEVING
from p2pboot.node.retrieving import Retrieving
from p2pboot.node.rollouts import RollOutDesk, with_next
from p2pboot.node.scrubbing import Scrubber
from p2pboot.node.snapshots import run_snapshots
from p2pboot.node.statements import Statements
from p2pboot.node.status import RunningNode, SnapshotsFacts, describe_node
from p2pboot.node.status.boots import Boots
from p2pboot.node.status.collecting import Collector
from p2pboot.node.status.known import Known
from p2pboot.node.storekeeping import StoreKeeping
from p2pboot.node.syncing import Syncer
from p2pboot.node.trusting.carrying import Carrying
from p2pboot.node.trusting.following import Following
from p2pboot.node.trusting.handed_in import RootDesk
from p2pboot.node.trusting.offered import OfferedDocuments
from p2pboot.node.vouching import Voucher
from p2pboot.node.yanking import Yanking
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, SYNC_PROTOCOL, manifest_topic
from p2pboot.protocol.swarm import SWARM_PROTOCOL
from p2pboot.publish.build import BuildOptions
from p2pboot.publish.freshness import Intervals
from p2pboot.publish.numbering import publishing_time
from p2pboot.serving.accounts import Serving
from p2pboot.serving.artifacts import ArtifactServer
from p2pboot.serving.contents import Contents
from p2pboot.serving.heads import SyncServer
from p2pboot.serving.swarm import SwarmServer
from p2pboot.store.audit import audit
from p2pboot.store.auditlog import AuditLog
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.gate import Gate
from p2pboot.store.store import Store
from p2pboot.store.trustgate import TrustGate
from p2pboot.transport.bandwidth import Bandwidth
from p2pboot.transport.interface import Gossip
from p2pboot.transport.nearness import Nearness
from p2pboot.transport.traffic import HTTP

log = logging.getLogger(__name__)

# A key without a counter here: how long to look for versions that it signed elsewhere.
ASK_THE_MESH_S: Final = 5.0
DISCOVERY_S: Final = 2.0  # the same where no peer is configured and only the local network can tell


class Node:
    """A provider node over an open store and an open network.

    Args:
        settings: what the operator wants; `apply` takes changed ones.
        store: locked by the caller.
        transport: the network, listening already.
        bandwidth: that it uses, with the limits of `settings`.
        signing_key: signs what the own directory holds.
        freshness_key: signs that it is the newest, of what this node publishes; None: nobody here says so.
        wall: the machine's clock, unix seconds. Called from any thread.
        hints: addresses that discovery finds, None without discovery.
        urls: tells the beginnings of the HTTP URLs under which this node's artifacts can be had now; they go into its
            manifests. Called from any thread.
    """

    def __init__(  # noqa: PLR0913, PLR0915 - the parts of a node
        self,
        settings: NodeSettings,
        *,
        store: Store,
        transport: Gossip,
        bandwidth: Bandwidth,
        signing_key: SecretKey,
        freshness_key: SecretKey | None = None,
        wall: Callable[[], float],
        hints: AsyncIterable[str] | None = None,
        urls: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._settings = settings
        self.store = store
        self._transport = transport
        self.bandwidth = bandwidth
        self.peer_id = transport.peer_id
        self.admin: str | None = None
        """The URL of its status page, while there is one; whoever serves that sets it."""
        self._hints = hints
        self._urls = urls
        self._started_at = trio.current_time()
        self._contents = Contents()
        self.problems = Problems(lambda: int(wall()))
        self._changes = Changes()
        self.catalogue = Catalogue(
            store,
            Trust(
                settings.policy,
                key=signing_key.public.keyid,
                vouching=() if freshness_key is None else (freshness_key.public.keyid,),
            ),
            wall,
            keep=settings.store.keep,
        )
        self.catalogue.listen(self._changes.tell)
        self._nearness = Nearness(settings.network.site)
        self._known = Known(store, self.catalogue)
        self._collector = Collector(transport, bandwidth.traffic, self._nearness, self._known, wall)
        self._serving = Serving(
            is_trusted=lambda peer_id: peer_id in self._peering.preferred,
            given=self._collector.given,
            whole=self._collector.whole,
        )
        self._audit_log = None if (path := settings.audit_path) is None else AuditLog(path, wall)
        gate = Gate(store, self.catalogue, self._audit_log)
        self._publisher = self._publishing(gate, signing_key, wall)
        self.trust_gate = TrustGate(store, self.catalogue, self._audit_log)
        self.documents = OfferedDocuments(store, self.catalogue, self._followed)
        self._voucher = Voucher(
            store,
            self.catalogue,
            self.trust_gate,
            key=freshness_key,
            intervals=lambda: Intervals(
                self._settings.provider.freshness_valid_s, self._settings.provider.settle_s
            ),
            report=partial(self.problems.report, "freshness"),
        )
        self.yanking = self._taking_back(signing_key, wall)
        network = settings.network
        self._peering = Peering(transport, network.bootstrap)
        self._peering.prefer(self.catalogue.trust.configured.publishers)
        self._remembering = Remembering(
            transport, store.peers_of(transport.mesh), wall, usable=network.allowed.heeds
        )
        self._contact = Contact(
            transport,
            expects_peers=self._expects_peers,
            addressed=lambda: self._peering.addressed,
            syncs=network.sync,
            followed=self._followed,
            wall=wall,
        )
        self._poisoners = Poisoners()
        self._refusals = Refusals(
            follows=self._follows, counts=self._counts, report=partial(self.problems.report, "refusals")
        )
        self._intake = Intake(
            gate,
            refusals=self._refusals,
            own=self._publisher,
            syncs=network.sync,
            is_named=lambda pair: pair in with_next(self._followed()),
            offered=self._contact.offered,
            poisoned=self._poisoners.note,
        )
        self._images = Images(
            store,
            self.catalogue,
            transport,
            syncs=network.sync,
            max_artifact_bytes=settings.store.max_artifact_bytes,
            poisoned=self._poisoners.note,
        )
        self._mirror = Mirror(self._images, partial(self.problems.report, "mirror"))
        self._following = Following(
            transport,
            self.trust_gate,
            self.catalogue,
            self.documents,
            poisoned=self._poisoners.note,
            again=lambda: self._syncer.poke(),  # noqa: PLW0108 - it is made next
        )
        self._syncer = Syncer(
            transport,
            choose=self._intake.choose,
            take=self._intake.take,
            interval_s=network.sync_interval_s,
            heeds=network.allowed.heeds,
            told=self._collector.acquaintance.note_heads,
            trust=self._following,
        )
        self._snapshots: SnapshotsFacts | None = None
        self._acquainting = Acquainting(transport, self._nearness, usable=network.allowed.heeds)
        self._acquainting.look_for(None)
        self._hash_table: HashTable | None = None
        if network.dht != "off":
            self._hash_table = HashTable(
                transport,
                self.catalogue,
                self._urls,
                serves=network.dht == "server",
                policy=AddressPolicy(public=network.dht_public, allowed=network.allowed),
                is_trusted=lambda peer_id: peer_id in self._peering.preferred,
                follows=lambda: self._topics(set()),
            )
        self._announcer: Announcer[Pair] = Announcer(
            transport,
            topic=lambda pair: manifest_topic(*pair),
            hear=self._intake.hear,
            heads=self.catalogue.in_date,
            topics=self._topics,
            interval_s=network.announce_interval_s,
        )
        self._carrying = Carrying(
            transport,
            self.trust_gate,
            self.catalogue,
            self.documents,
            self._following,
            interval_s=network.announce_interval_s if network.gossip else None,
        )
        self._missing_roots = MissingRoots(self.catalogue)
        self._enforcing = Enforcing(self.catalogue, self.trust_gate, self._audit_log, self._enforce)
        self._examining = Examining(transport, store, wall)
        self._lag = Lag()
        self.watchdog: Callable[[], tuple[float, int] | None] = lambda: None
        """How often a service manager wants to hear of the loop, and how often it did; who runs the node sets it."""
        self._scrubber = Scrubber(store.blobs, store.path, wall, self._audit)
        self._mending = Mending(
            store, self.catalogue, self._images.given, partial(self.problems.report, "damage")
        )
        self._storekeeping = StoreKeeping(
            store, gate, self._images, self._mirror, self._scrubber, self._mending, self.trust_gate
        )
        self._observer = Observer(
            store,
            self.catalogue,
            self.problems,
            contact=self._contact,
            poisoners=self._poisoners,
            publish_soon=self.publish_soon,
            tick=self._tick,
            wall=wall,
        )

    def _publishing(self, gate: Gate, key: SecretKey, wall: Callable[[], float]) -> DirectoryPublisher | None:
        """What publishes this node's directory, if it has one."""
        directory = self._settings.provider.directory
        if directory is None:
            return None
        return DirectoryPublisher(
            directory,
            store=self.store,
            gate=gate,
            signing_key=key,
            describe=self._describe,
            wall=wall,
            report=self.problems.report,
        )

    def _taking_back(self, key: SecretKey, wall: Callable[[], float]) -> Yanking | None:
        """What takes back releases of this node's publisher, if it has one."""
        if self._publisher is None:
            return None
        return Yanking(
            self.store,
            self.catalogue,
            self.trust_gate,
            key=key,
            publisher=self._publisher,
            retrieving=Retrieving(self.store, self.catalogue, self._transport, self._publisher),
            wall=wall,
        )

    async def run(self, runtime: Path | None = None, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Run all tasks until cancelled; started once the protocols and the control socket are served.

        Args:
            runtime: the directory that the control socket belongs in; None: the state directory.
            task_status: started then.

        Raises:
            P2PBootError: the node can not begin: its directory or its control socket.
        """
        network = self._settings.network
        await trio.to_thread.run_sync(self.catalogue.clock)
        # Rows are hints, and nothing is served by them before they were read against what was signed.
        await trio.to_thread.run_sync(self._audit)
        if self._audit_log is not None:
            key, trusted = self.catalogue.trust.key, self.catalogue.trust.configured.publishers
            await trio.to_thread.run_sync(self._audit_log.started, self.peer_id, key, trusted)
        self._serve()
        own = {} if self._publisher is None else await trio.to_thread.run_sync(self._publisher.signers)
        await trio.to_thread.run_sync(self.catalogue.change_trust, replace(self.catalogue.trust, own=own))
        await self._carrying.reconcile()
        if network.gossip:
            await self._announcer.reconcile()
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, self._settings.store.state, self._answer, runtime)
            if self._settings.snapshots.directory is not None:
                run = partial(
                    run_snapshots,
                    trusted=lambda: snapshot_signers(
                        self.catalogue.trust.configured, self._settings.snapshots
                    ),
                    changes=self._changes,
                    limits=lambda: self._settings.store,
                    told=self._note_snapshots,
                    audit=self._audit_log,
                    poisoned=self._poisoners.note,
                    scrubbers=self._storekeeping.scrubbers,
                )
                await nursery.start(
                    run, self._settings, self._transport, self._serving, self.problems, self._contents
                )
            task_status.started()
            nursery.start_soon(self._peering.run, self._hints)
            nursery.start_soon(self._remembering.run)
            nursery.start_soon(self._mirror.run)
            nursery.start_soon(self._changes.follow, self._mirror.reconcile, "nothing is mirrored")
            nursery.start_soon(
                self._changes.follow, self._enforcing.reconcile, "another trust is not in force everywhere"
            )
            nursery.start_soon(self._retry_on_connect)
            nursery.start_soon(self._contact.run)
            nursery.start_soon(self._collector.run)
            nursery.start_soon(
                self._changes.follow, self._known.reconcile, "peers are shown without their names"
            )
            nursery.start_soon(self._observer.run)
            nursery.start_soon(self._lag.run)
            nursery.start_soon(self._scrubber.run)
            nursery.start_soon(self._mending.run)
            if self._hash_table is not None:
                nursery.start_soon(self._hash_table.run)
                nursery.start_soon(
                    self._changes.follow, self._hash_table.reconcile, "the hash table is not told"
                )
            if network.sync:
                nursery.start_soon(self._syncer.run)
                nursery.start_soon(self._acquainting.run)
            if network.gossip:
                nursery.start_soon(self._announcer.run)
                nursery.start_soon(self._changes.follow, self._announcer.reconcile, "nothing is announced")
            nursery.start_soon(self._carrying.run, self._changes)
            if self._publisher is not None:
                nursery.start_soon(self._run_publisher, self._publisher)
            nursery.start_soon(self._voucher.run)
            nursery.start_soon(self._changes.follow, self._voucher.reconcile, "nothing is vouched for")
            if self.yanking is not None:
                nursery.start_soon(self.yanking.retrieving.run, partial(self.problems.report, RETRIEVING))

    def _serve(self) -> None:
        now = lambda: self.catalogue.quick_clock().now  # noqa: E731 - in the event loop: it never waits for the disk
        sync = SyncServer(
            self.catalogue.offering,
            self._transport.peer_records,
            now,
            self._serving,
            self._withheld,
            documents=self.documents,
            read_record=self._transport.read_peer_record,
            note_site=self._nearness.note,
        )
        offering = self.catalogue.offering
        artifacts = ArtifactServer(self.store.blobs, self._serving, offering)
        self._transport.handle(ARTIFACT_PROTOCOL, artifacts.handle)
        self._transport.handle(SYNC_PROTOCOL, sync.handle)
        self._contents.add(self.store.blobs, may_give=offering.allows)
        swarm = SwarmServer(self._transport, self._serving, self._contents)
        self._transport.handle(SWARM_PROTOCOL, swarm.handle)

    async def apply(self, settings: NodeSettings) -> None:
        """Take over what a running node can change: trust, provider and limits.

        When this returns, nothing of what is not trusted any more is here, on its way, or listened for.

        Raises:
            ConfigError: the settings and a root that is known name two publishers of one channel and architecture;
                nothing has changed.
        """
        await trio.to_thread.run_sync(self.catalogue.resolved, settings.policy)
        self._settings = settings = live_part(self._settings, settings)
        self.bandwidth.reconfigure(settings.network.rates)
        self._images.max_artifact_bytes = settings.store.max_artifact_bytes
        self.store.blobs.quota_bytes = settings.store.quota_bytes
        self.catalogue.keep = settings.store.keep
        await self._enforcing.change(settings.policy)

    async def _enforce(self, policy: TrustPolicy) -> None:
        """Have every part of the node live by the policy in force."""
        self._peering.prefer(policy.publishers)
        self._transport.forget_seen()
        await self._mirror.reconcile()
        self._mirror.retry()
        await self._carrying.reconcile()
        if self._settings.network.gossip:
            await self._announcer.reconcile()
        self._syncer.poke()
        self.publish_soon()

    async def _tick(self) -> None:
        self._refusals.tick(self._transport.peers())
        self.problems.report("roots at hand", self._missing_roots.look())
        self.problems.report("root keys", misused_keys(self.catalogue, self.peer_id))
        look = partial(self._following.gaps.look, self.store.documents, trio.current_time())
        self.problems.report("root gaps", await trio.to_thread.run_sync(look))
        if self._audit_log is not None:
            if self._audit_log.trouble is not None:
                await trio.to_thread.run_sync(self._audit_log.retry)
            self.problems.report("audit log", [*self._audit_log.problems()])

    def _audit(self) -> None:
        """Put right what the database says; blocking."""
        found = audit(self.store)
        for one in found:
            log.warning("%s: it was removed", one, extra=Event.REPAIRED(what=str(one)))
        if found:
            self.catalogue.tell()

    # -- what we publish ---------------------------------------------------------------------------------------------

    def publish_soon(self) -> None:
        """Look at once whether what is published is still right: other URLs, or other settings."""
        if self._publisher is not None:
            self._publisher.due_within(0.0)

    def urls_changed(self) -> None:
        """Say the new URLs wherever this node says URLs."""
        self.publish_soon()
        self._changes.tell()

    async def _run_publisher(self, publisher: DirectoryPublisher) -> None:
        """A key that never published here may have published elsewhere: ask, before its counter starts at 1."""
        if self._settings.network.sync and await trio.to_thread.run_sync(publisher.is_new):
            with trio.move_on_after(ASK_THE_MESH_S):
                if not self._settings.network.bootstrap:
                    await trio.sleep(DISCOVERY_S if self._hints is not None else 0)
                await self._peering.tried.wait()
                if self._transport.peers() or self._settings.network.bootstrap:
                    await self._syncer.all_synced()
        await publisher.run()

    @property
    def rollouts(self) -> RollOutDesk:
        """What it rolls out, and whoever steers that."""
        now = lambda: publishing_time(self.catalogue.quick_clock().now)  # noqa: E731
        hold = None if self._publisher is None else self._publisher.instead.hold
        yank = None if self.yanking is None else self.yanking.yank_content
        return RollOutDesk(
            self._publisher, self.catalogue, now=now, pauses=self._voucher, hold=hold, yank=yank
        )

    def _describe(self) -> Description:
        provider = self._settings.provider
        options = BuildOptions(
            version=provider.version,
            expires_in_s=provider.expires_in_s,
            name=provider.name,
            cmdline=provider.cmdline,
            urls=tuple(self._urls()),
            peer_id=self.peer_id,
            piece_length=provider.piece_length,
        )
        return Description(provider.channel, provider.arch, options)

    # -- what we follow ----------------------------------------------------------------------------------------------

    def _follows(self, pair: Pair) -> bool:
        trust = self.catalogue.trust
        return pair not in trust.own and trust.publisher_for(*pair) is not None

    def _counts(self, pair: Pair, peer_id: str) -> bool:
        """Whether the operator wants to know what a peer offers that no trusted key has signed.

        Where no peer is configured, whoever is on the local network may have been meant.
        """
        if self._settings.network.bootstrap:
            return peer_id in self._peering.configured
        return pair in self._followed()

    def _expects_peers(self) -> bool:
        """Whether the node is to be connected with somebody: a publisher may be the first of its network."""
        settings = self._settings
        return bool(settings.network.bootstrap or not settings.trusts_nobody or settings.snapshots.trust)

    def _topics(self, held: set[Pair]) -> set[Pair]:
        trust = self.catalogue.trust
        covered = {pair for pair in held if trust.publisher_for(*pair) is not None}
        return covered | set(trust.own) | with_next(self._followed())

    def _in_force(self) -> NodeSettings:
        """The settings, with the roots in force in place of those that the operator named."""
        return replace(self._settings, roots=self.catalogue.trust.roots)

    def _followed(self) -> tuple[Pair, ...]:
        """The pairs that the operator wants: what settings name, and what the roots in force name."""
        return self._in_force().followed()

    async def _retry_on_connect(self) -> None:
        with self._transport.connection_events() as events:
            async for event in events:
                if event.connected:
                    self._mirror.retry()

    # -- what is asked -----------------------------------------------------------------------------------------------

    async def _answer(self, message: Request) -> dict[str, Any]:  # noqa: PLR0911 - one for each operation
        """Do what a request on the control socket says, and say how it went."""
        match message.get("op"):
            case "publish":
                return await publish(self._publisher, self.problems, message, self._voucher)
            case "yank":
                return await yank(self.yanking, message, self._voucher)
            case "status":
                await self._collector.settle()
                return await self.status()
            case "rollout":
                return await self.rollouts.answer(message)
            case "doctor":
                return await self._examining.answer(self._settings, message)
            case "freshness":
                statements = Statements(self.store, self.catalogue, self.trust_gate)
                return await trio.to_thread.run_sync(statements.answer, message, self.problems.all())
            case "store":
                return await self._storekeeping.answer(message)
            case "root":
                desk = RootDesk(self.store, self.catalogue, self.trust_gate)
                return await take_roots(desk, message, self._enforcing.reconcile)
        raise UsageError(f"unknown operation {message.get('op')!r}")

    # -- what is shown -----------------------------------------------------------------------------------------------

    def default_pair(self) -> tuple[str | None, str | None]:
        """The channel and arch that the operator named, where there is one."""
        return self._settings.provider.channel, self._settings.provider.arch

    def awaited(self) -> list[Awaited]:
        """What the operator wants to have here, there already or not: what is followed, and what is to be published."""
        own = (pair for pair in self.catalogue.trust.own if not is_next(pair[0]))
        return awaited((*self._in_force().wanted(), *own), self.problems.all())

    @property
    def boots(self) -> Boots:
        """Told which HTTP client took what."""
        return self._collector.boots

    @property
    def snapshots(self) -> SnapshotsFacts | None:
        """What it has of snapshots, as of the last look; None: it has no part in them."""
        return self._snapshots

    def show_bringing(self, watch: Watch) -> None:
        """Have somebody else than the log be shown how each release gets here, from now on."""
        self._images.watch = watch

    async def status(self, *, watched: bool = True) -> dict[str, Any]:
        """The status document, as ``docs/status.md`` has it; who shows it to many asks once for all.

        Args:
            watched: whether somebody is shown the peers in it: only then they are asked what is not known of them.

        Raises:
            StoreError, MachineError: the store can not be read.
        """
        if watched:
            self._collector.somebody_looks()
        return await trio.to_thread.run_sync(describe_node, self.running(), self.store, self.catalogue)

    def _note_snapshots(self, facts: SnapshotsFacts) -> None:
        self._snapshots = facts

    def _role(self) -> str:
        if self._publisher is not None:
            return "publisher"
        settings = self._settings
        return "mirror" if not settings.trusts_nobody or settings.snapshots.directory is None else "snapshots"

    def running(self) -> RunningNode:
        """What was counted since the start, and what is so now."""
        transport, images, traffic = self._transport, self._images, self.bandwidth.traffic
        peers, shown = self._collector.peers()
        return RunningNode(
            peer_id=self.peer_id,
            addresses=transport.addresses(),
            name=self._settings.provider.name,
            role=self._role(),
            admin=self.admin,
            peers=peers,
            shown=shown,
            flows=self._collector.flows(),
            on_their_way=images.on_their_way(trio.current_time()),
            boots=self._collector.booted(),
            snapshots=self._snapshots,
            uptime_s=trio.current_time() - self._started_at,
            transferred={key: size for key, size in traffic.items() if key[0] != HTTP},
            traffic=traffic.by_peer(),
            bytes_sent=self._serving.counters.bytes_sent.copy(),
            refused=self._intake.refused.copy(),
            refused_pieces=images.refused_pieces.copy(),
            poisonings=self._poisoners.times,
            poisoners=len(self._poisoners),
            dropped_peers=dict(images.dropped),
            problems=self.problems.all(),
            mesh=transport.mesh,
            dht=None if self._hash_table is None else self._hash_table.counts(),
            http=tuple(self._urls()),
            trees=() if self._publisher is None else self._publisher.trees,
            lag=self._lag,
            watchdog=self.watchdog(),
            tries=self._mirror.tries.copy(),
            begun=self._collector.boots.begun.copy(),
            scrub=self.scrubbing(),
        )

    def scrubbing(self) -> dict[str, Any]:
        """How far the reading of all that is held is, and what it found."""
        return self._storekeeping.describe()

    def _withheld(self, channel: str | None, arch: str | None) -> list[Withheld]:
        """What a peer is told of that is not offered to it; called in threads."""
        withheld = self.catalogue.withheld(channel, arch)
        offered = {row.pair for row in self.catalogue.offered(channel, arch)}
        pairs = offered | {(one.channel, one.arch) for one in withheld}
        return [*withheld, *unheld(self.problems.all(), pairs, channel, arch)]
