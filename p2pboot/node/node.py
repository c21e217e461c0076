"""One node: the store, the network and the tasks between them.

Owns how the parts are put together and which tasks run. A manifest comes by gossip or sync (`exchange`) to the
`intake`, or from the own directory (`ownreleases`), and through the gate into the catalogue (`store`). Everything keeps
up with the catalogue: `mirroring` brings in what it wants, the `exchange` says what it holds, and `protocols` give it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import trio

from p2pboot.config.reload import live_part
from p2pboot.config.settings import NodeSettings
from p2pboot.core.events import Event
from p2pboot.core.identity import SecretKey
from p2pboot.core.policy import TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.errors import UsageError
from p2pboot.node.answering import publish, take_roots, yank
from p2pboot.node.awaiting import Awaited
from p2pboot.node.bringing import Watch
from p2pboot.node.control import Request, serve_control
from p2pboot.node.enforcing import Enforcing, MissingRoots, misused_keys, snapshot_signers
from p2pboot.node.examining import Examining
from p2pboot.node.exchange import Exchange
from p2pboot.node.images import Images
from p2pboot.node.intake import Intake
from p2pboot.node.interests import Interests
from p2pboot.node.lag import Lag
from p2pboot.node.mending import Mending
from p2pboot.node.mirroring import Mirror
from p2pboot.node.neighbourhood import Neighbourhood
from p2pboot.node.observing import Observer
from p2pboot.node.ownreleases import OwnReleases
from p2pboot.node.poisoners import Poisoners
from p2pboot.node.problems import Problems
from p2pboot.node.protocols import answer_peers
from p2pboot.node.reconciling import Changes
from p2pboot.node.refusals import Refusals
from p2pboot.node.scrubbing import Scrubber
from p2pboot.node.snapshots import run_snapshots
from p2pboot.node.statements import StatementDesk
from p2pboot.node.status import RunningNode, SnapshotsFacts, describe_node
from p2pboot.node.status.boots import Boots
from p2pboot.node.status.collecting import Collector
from p2pboot.node.status.known import Known
from p2pboot.node.storekeeping import StoreKeeping
from p2pboot.node.trusting.handed_in import RootDesk
from p2pboot.node.trusting.offered import OfferedDocuments
from p2pboot.serving.accounts import Serving
from p2pboot.serving.contents import Contents
from p2pboot.store.audit import audit
from p2pboot.store.auditlog import AuditLog
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.gate import Gate
from p2pboot.store.store import Store
from p2pboot.store.trustgate import TrustGate
from p2pboot.transport.bandwidth import Bandwidth
from p2pboot.transport.interface import Gossip
from p2pboot.transport.traffic import HTTP

log = logging.getLogger(__name__)


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

    def __init__(  # noqa: PLR0913 - the parts of a node
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
        self.store = store
        self._transport = transport
        self.bandwidth = bandwidth
        self.peer_id = transport.peer_id
        self.admin: str | None = None
        """The URL of its status page, while there is one; whoever serves that sets it."""
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
        self._interests = Interests(settings, self.catalogue)
        network = settings.network
        self._neighbourhood = Neighbourhood(
            network,
            transport,
            self.catalogue,
            self._interests,
            book=store.peers_of(transport.mesh),
            wall=wall,
            hints=hints,
            urls=urls,
        )
        nearness = self._neighbourhood.nearness
        self._known = Known(store, self.catalogue)
        self._collector = Collector(transport, bandwidth.traffic, nearness, self._known, wall)
        self._serving = Serving(
            is_trusted=self._neighbourhood.is_preferred,
            given=self._collector.given,
            whole=self._collector.whole,
        )
        self._audit_log = None if (path := settings.audit_path) is None else AuditLog(path, wall)
        gate = Gate(store, self.catalogue, self._audit_log)
        self.trust_gate = TrustGate(store, self.catalogue, self._audit_log)
        self.documents = OfferedDocuments(store, self.catalogue, self._interests.followed)
        self.own = OwnReleases(
            self._interests,
            store,
            gate,
            self.trust_gate,
            transport,
            problems=self.problems,
            signing_key=signing_key,
            freshness_key=freshness_key,
            wall=wall,
            urls=urls,
        )
        self._poisoners = Poisoners()
        self._refusals = Refusals(
            follows=self._interests.follows,
            counts=self._neighbourhood.counts,
            report=partial(self.problems.report, "refusals"),
        )
        self._intake = Intake(
            gate,
            refusals=self._refusals,
            own=self.own.publisher,
            syncs=network.sync,
            is_named=self._interests.names,
            offered=self._neighbourhood.contact.offered,
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
        self._exchange = Exchange(
            network,
            transport,
            catalogue=self.catalogue,
            trust_gate=self.trust_gate,
            documents=self.documents,
            interests=self._interests,
            intake=self._intake,
            poisoners=self._poisoners,
            collector=self._collector,
        )
        self._snapshots: SnapshotsFacts | None = None
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
            contact=self._neighbourhood.contact,
            poisoners=self._poisoners,
            publish_soon=self.publish_soon,
            tick=self._tick,
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
        settings, publisher = self._interests.settings, self.own.publisher
        await trio.to_thread.run_sync(self.catalogue.clock)
        # Rows are hints, and nothing is served by them before they were read against what was signed.
        await trio.to_thread.run_sync(self._audit)
        if self._audit_log is not None:
            key, trusted = self.catalogue.trust.key, self.catalogue.trust.configured.publishers
            await trio.to_thread.run_sync(self._audit_log.started, self.peer_id, key, trusted)
        answer_peers(
            self._transport,
            self._serving,
            catalogue=self.catalogue,
            blobs=self.store.blobs,
            documents=self.documents,
            problems=self.problems,
            contents=self._contents,
            note_site=self._neighbourhood.nearness.note,
        )
        own = {} if publisher is None else await trio.to_thread.run_sync(publisher.signers)
        await trio.to_thread.run_sync(self.catalogue.change_trust, replace(self.catalogue.trust, own=own))
        await self._exchange.reconcile()
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, settings.store.state, self._answer, runtime)
            if settings.snapshots.directory is not None:
                run = partial(
                    run_snapshots,
                    trusted=lambda: snapshot_signers(
                        self.catalogue.trust.configured, self._interests.settings.snapshots
                    ),
                    changes=self._changes,
                    limits=lambda: self._interests.settings.store,
                    told=self._note_snapshots,
                    audit=self._audit_log,
                    poisoned=self._poisoners.note,
                    scrubbers=self._storekeeping.scrubbers,
                )
                await nursery.start(
                    run, settings, self._transport, self._serving, self.problems, self._contents
                )
            task_status.started()
            nursery.start_soon(self._neighbourhood.run, self._changes)
            nursery.start_soon(self._mirror.run)
            nursery.start_soon(self._changes.follow, self._mirror.reconcile, "nothing is mirrored")
            nursery.start_soon(
                self._changes.follow, self._enforcing.reconcile, "another trust is not in force everywhere"
            )
            nursery.start_soon(self._retry_on_connect)
            nursery.start_soon(self._collector.run)
            nursery.start_soon(
                self._changes.follow, self._known.reconcile, "peers are shown without their names"
            )
            nursery.start_soon(self._observer.run)
            nursery.start_soon(self._lag.run)
            nursery.start_soon(self._scrubber.run)
            nursery.start_soon(self._mending.run)
            nursery.start_soon(self._exchange.run, self._changes)
            ask = partial(self._exchange.ask_everybody, self._neighbourhood)
            nursery.start_soon(self.own.run, self._changes, ask if settings.network.sync else None)

    async def apply(self, settings: NodeSettings) -> None:
        """Take over what a running node can change: trust, provider and limits.

        When this returns, nothing of what is not trusted any more is here, on its way, or listened for.

        Raises:
            ConfigError: the settings and a root that is known name two publishers of one channel and architecture;
                nothing has changed.
        """
        await trio.to_thread.run_sync(self.catalogue.resolved, settings.policy)
        self._interests.settings = settings = live_part(self._interests.settings, settings)
        self.bandwidth.reconfigure(settings.network.rates)
        self._images.max_artifact_bytes = settings.store.max_artifact_bytes
        self.store.blobs.quota_bytes = settings.store.quota_bytes
        self.catalogue.keep = settings.store.keep
        await self._enforcing.change(settings.policy)

    async def _enforce(self, policy: TrustPolicy) -> None:
        """Have every part of the node live by the policy in force."""
        self._neighbourhood.peering.prefer(policy.publishers)
        self._transport.forget_seen()
        await self._mirror.reconcile()
        self._mirror.retry()
        await self._exchange.reconcile()
        self._exchange.syncer.poke()
        self.publish_soon()

    async def _tick(self) -> None:
        self._refusals.tick(self._transport.peers())
        self.problems.report("roots at hand", self._missing_roots.look())
        self.problems.report("root keys", misused_keys(self.catalogue, self.peer_id))
        look = partial(self._exchange.following.gaps.look, self.store.documents, trio.current_time())
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
        self.own.look_soon()

    def urls_changed(self) -> None:
        """Say the new URLs wherever this node says URLs."""
        self.publish_soon()
        self._changes.tell()

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
                return await publish(self.own.publisher, self.problems, message, self.own.voucher)
            case "yank":
                return await yank(self.own.yanking, message, self.own.voucher)
            case "status":
                await self._collector.settle()
                return await self.status()
            case "rollout":
                return await self.own.rollouts.answer(message)
            case "doctor":
                return await self._examining.answer(self._interests.settings, message)
            case "freshness":
                statements = StatementDesk(self.store, self.catalogue, self.trust_gate)
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
        return self._interests.default_pair()

    def awaited(self) -> list[Awaited]:
        """What the operator wants to have here, there already or not: what is followed, and what is to be published."""
        return self._interests.awaited(self.problems.all())

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

    def running(self) -> RunningNode:
        """What was counted since the start, and what is so now."""
        transport, images, traffic = self._transport, self._images, self.bandwidth.traffic
        peers, shown = self._collector.peers()
        hash_table, publisher = self._neighbourhood.hash_table, self.own.publisher
        return RunningNode(
            peer_id=self.peer_id,
            addresses=transport.addresses(),
            name=self._interests.settings.provider.name,
            role=self._interests.role(),
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
            dht=None if hash_table is None else hash_table.counts(),
            http=tuple(self._urls()),
            trees=() if publisher is None else publisher.trees,
            lag=self._lag,
            watchdog=self.watchdog(),
            tries=self._mirror.tries.copy(),
            begun=self._collector.boots.begun.copy(),
            scrub=self.scrubbing(),
        )

    def scrubbing(self) -> dict[str, Any]:
        """How far the reading of all that is held is, and what it found."""
        return self._storekeeping.describe()
