"""One node: the store, the network and the tasks between them.

Owns how the parts are put together and which tasks run. How a manifest travels: gossip (`announcing`), sync (`syncing`)
or the own directory (`publishing`) bring it, `judging` decides, `mirroring` fetches what it names, and only then the
node's head moves, which `server` and `announcing` show to others.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import AsyncIterable, Callable, Sequence
from pathlib import Path
from typing import Any

import trio

from p2pboot.config.reload import live_part
from p2pboot.config.settings import NodeSettings
from p2pboot.core.clock import AcceptedTime, Clock, effective_now
from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest
from p2pboot.core.problems import Code
from p2pboot.core.verify import clock_problem
from p2pboot.errors import P2PBootError, UsageError
from p2pboot.node.announcing import Announcer
from p2pboot.node.building import Description, check_cancelled
from p2pboot.node.control import serve_control
from p2pboot.node.following import Follower, OwnManifests
from p2pboot.node.judging import Judge
from p2pboot.node.observing import equivocation_problems, expired_problems, pair_of, publishing_time, unheld
from p2pboot.node.offering import Awaited, Offering
from p2pboot.node.peering import Peering
from p2pboot.node.problems import Problems
from p2pboot.node.publishing import SOURCE as PUBLISHER
from p2pboot.node.publishing import DirectoryPublisher, Published
from p2pboot.node.refusals import Refusals
from p2pboot.node.snapshots import run_snapshots
from p2pboot.node.status import Measured, Running, describe_ignored, describe_manifest, describe_node
from p2pboot.node.syncing import Syncer
from p2pboot.node.trust import Offered, Pair, Trust
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, SYNC_PROTOCOL, manifest_topic
from p2pboot.publish.build import BuildOptions
from p2pboot.serving.accounts import Serving
from p2pboot.serving.artifacts import ArtifactServer
from p2pboot.serving.heads import SyncServer
from p2pboot.serving.limits import Limits
from p2pboot.serving.withheld import Withheld
from p2pboot.store.manifests import HeadRow
from p2pboot.store.store import Store
from p2pboot.transport.interface import Transport

log = logging.getLogger(__name__)

ASK_THE_MESH_S = 5.0  # a key without a counter here: how long to look for versions that it signed elsewhere
DISCOVERY_S = 2.0  # the same where no peer is configured and only the local network can tell
# Problems of the files of one channel and arch.
_OF_PAIRS = (Code.UNPUBLISHABLE, Code.STILL_CHANGING, Code.WITHDRAWN)
DAMAGE_S = 5.0  # how often what was found damaged while serving is hashed or fetched again
OBSERVE_S = 10.0  # how often the node looks at what can go wrong by itself
CLOCK_JUMP_S = 60.0  # how far the clock moves, beside the time that passes, before dates are looked at again


class Node:
    """A provider node over an open store and an open network.

    Args:
        settings: what the operator wants; `apply` takes changed ones.
        store: locked by the caller.
        transport: the network, listening already.
        signing_key: signs what the own directory holds.
        hints: addresses that discovery finds, None without discovery.
        urls: tells the beginnings of the HTTP URLs under which this node's artifacts can be had now; they go into its
            manifests. Called from any thread.
    """

    def __init__(
        self,
        settings: NodeSettings,
        *,
        store: Store,
        transport: Transport,
        signing_key: SecretKey,
        hints: AsyncIterable[str] | None = None,
        urls: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._settings = settings
        self._store = store
        self._transport = transport
        self._signing_key = signing_key
        self._hints = hints
        self._urls = urls
        self._started_at = trio.current_time()
        self._own: dict[Pair, tuple[str, ...]] = {}  # what this node publishes, and who signs it
        self._serving = Serving(_limits(settings))
        self._newest_created_at: AcceptedTime | None = None  # as `clock` saw it last
        self._joining = trio.Lock()
        self.problems = Problems(lambda: int(time.time()))
        self._judge = Judge(store, self._trust(), self.clock)
        self._peering = Peering(transport, settings.network.bootstrap)
        self._refusals = Refusals(
            follows=self._follows,
            counts=self._counts,
            report=lambda problems: self.problems.report("refusals", problems),
        )
        self._follower = Follower(
            store,
            transport,
            self._judge,
            own=OwnManifests(self._is_own, self._saw_own),
            whole=self._tell,
            max_artifact_bytes=settings.store.max_artifact_bytes,
            syncs=settings.network.sync,
            refusals=self._refusals,
            report=lambda problems: self.problems.report("mirror", problems),
        )
        self._syncer = Syncer(
            transport,
            choose=self._follower.choose,
            take=self._follower.take,
            interval_s=settings.network.sync_interval_s,
            acquaintances=self._peering,
        )
        self._announcer: Announcer[Pair] = Announcer(
            transport,
            topic=lambda pair: manifest_topic(*pair),
            hear=self._follower.hear,
            heads=self._valid_heads,
            interval_s=settings.network.announce_interval_s,
        )
        self._offering = Offering(store, lambda: self.clock().now, lambda row: not self._is_stranger(row))
        self._publisher: DirectoryPublisher | None = None
        if settings.provider.directory is not None:
            self._publisher = DirectoryPublisher(
                settings.provider.directory,
                store=store,
                signing_key=signing_key,
                describe=self._describe,
                trusted=self._trusted_for,
                now=lambda: publishing_time(int(time.time())),
                published=self._publish,
                report=self.problems.report,
            )

    def clock(self) -> Clock:
        """The time to judge manifests by; blocking, as it reads the store."""
        self._newest_created_at = self._store.trust.newest_created_at(self._is_evidence_of_time)
        return self._quick_clock()

    def _is_evidence_of_time(self, channel: str, arch: str, signers: tuple[str, ...]) -> bool:
        """Whether a manifest's date says something: what our own key signed bears this very clock's reading."""
        return self._signing_key.public.keyid not in signers and self._judge.trust.tells_time(
            channel, arch, signers
        )

    def _withheld(self, channel: str | None, arch: str | None) -> list[Withheld]:
        """What a peer is told of that is not offered to it; called in threads."""
        withheld = self._offering.withheld(channel, arch)
        offered = {(row.channel, row.arch) for row in self._offering.offered(channel, arch)}
        pairs = offered | {(one.channel, one.arch) for one in withheld}
        return [*withheld, *unheld(self.problems.all(), pairs, channel, arch)]

    def _quick_clock(self) -> Clock:
        """The same without reading: behind by one manifest at most, and the event loop never waits for the disk."""
        return effective_now(int(time.time()), self._newest_created_at)

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Run all tasks until cancelled; started once the protocols and the control socket are served.

        Raises:
            P2PBootError: the node can not begin: its directory or its control socket.
        """
        network = self._settings.network
        await trio.to_thread.run_sync(self.clock)
        self._transport.handle(ARTIFACT_PROTOCOL, ArtifactServer(self._store.blobs, self._serving).handle)
        self._transport.handle(
            SYNC_PROTOCOL,
            SyncServer(
                self._store.manifests,
                self._transport.peer_records,
                lambda: self._quick_clock().now,
                self._serving,
                self._withheld,
            ).handle,
        )
        if self._publisher is not None:
            self._own.update(await trio.to_thread.run_sync(self._publisher.signers))
            await self._judge.change_trust(self._trust())
        await self._drop_strangers()
        await self._join_topics()
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, self._settings.store.state, self._answer)
            if self._settings.snapshots.directory is not None:
                await nursery.start(
                    run_snapshots, self._settings, self._transport, self._serving, self.problems
                )
            task_status.started()
            nursery.start_soon(self._peering.run, self._hints)
            nursery.start_soon(self._follower.run)
            nursery.start_soon(self._repair)
            nursery.start_soon(self._examine)
            nursery.start_soon(self._observe)
            if network.sync:
                nursery.start_soon(self._syncer.run)
            if network.gossip:
                nursery.start_soon(self._announcer.run)
            if self._publisher is not None:
                nursery.start_soon(self._run_publisher, self._publisher)

    async def apply(self, settings: NodeSettings) -> None:
        """Take over what a running node can change: trust, provider and limits."""
        self._settings = settings = live_part(self._settings, settings)
        await self._judge.change_trust(self._trust())
        self._serving.reconfigure(_limits(settings))
        self._follower.mirror.max_artifact_bytes = settings.store.max_artifact_bytes
        self._store.blobs.quota_bytes = settings.store.quota_bytes
        self._transport.forget_seen()
        await self._follower.trust_changed()
        await self._drop_strangers()
        await self._join_topics()
        self._syncer.poke()
        if self._publisher is not None:
            self._publisher.due_within(0.0)

    def urls_changed(self) -> None:
        """What is published names other URLs from now on."""
        if self._publisher is not None:
            self._publisher.due_within(0.0)

    # -- what we publish ---------------------------------------------------------------------------------------------

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

    def _describe(self) -> Description:
        provider = self._settings.provider
        options = BuildOptions(
            version=provider.version,
            expires_in_s=provider.expires_in_s,
            name=provider.name,
            cmdline=provider.cmdline,
            urls=tuple(self._urls()),
            peer_id=self._transport.peer_id,
        )
        return Description(provider.channel, provider.arch, options)

    async def _publish(self, published: Published) -> None:
        manifest = published.manifest
        pair = (manifest.channel, manifest.arch)
        if self._own.get(pair) != manifest.signers:
            self._own[pair] = manifest.signers
            await self._judge.change_trust(self._trust())
            await self._follower.trust_changed()
            await self._drop_strangers()
        await self._tell(manifest)

    def _trust(self) -> Trust:
        return Trust(self._settings.policy, dict(self._own))

    def _trusted_for(self, pair: Pair) -> tuple[str, ...]:
        publisher = self._judge.trust.publisher_for(*pair)
        return () if publisher is None else publisher.keys

    def _is_own(self, offered: Offered) -> bool:
        return self._judge.trust.is_own(offered)

    async def _saw_own(self, manifest: Manifest, usable: bool) -> None:
        if self._publisher is not None:
            await self._publisher.saw_own(manifest, usable=usable)

    # -- what we follow ----------------------------------------------------------------------------------------------

    def _follows(self, pair: Pair) -> bool:
        return pair not in self._own and self._judge.trust.publisher_for(*pair) is not None

    def _counts(self, pair: Pair, peer_id: str) -> bool:
        """Whether the operator wants to know what a peer offers that no trusted key has signed.

        Where no peer is configured, whoever is on the local network may have been meant.
        """
        if self._settings.network.bootstrap:
            return peer_id in self._peering.configured
        return pair in self._settings.followed()

    # -- what we hold ------------------------------------------------------------------------------------------------

    async def _tell(self, manifest: Manifest) -> None:
        """A head moved: let the others know."""
        await self._join_topics()
        if self._settings.network.gossip:
            await self._announcer.announce((manifest.channel, manifest.arch), manifest.raw)

    async def _drop_strangers(self) -> None:
        """What was kept for publishers that are not trusted any more only takes up room."""

        def drop() -> None:
            self._store.manifests.drop(self._is_stranger)
            self._store.manifests.retain()

        await trio.to_thread.run_sync(drop)

    def _is_stranger(self, row: HeadRow) -> bool:
        return not self._judge.trust.takes(row)

    async def _join_topics(self) -> None:
        if not self._settings.network.gossip:
            return
        async with self._joining:  # or what was held a moment ago would undo what was joined meanwhile
            held = {pair for pair, _ in await self._valid_heads()}
            covered = {pair for pair in held if self._judge.trust.publisher_for(*pair) is not None}
            await self._announcer.join(covered | set(self._own) | set(self._settings.followed()))

    async def _valid_heads(self) -> list[tuple[Pair, bytes]]:
        """The heads that are wholly here and still valid; an expired one is no longer offered as current."""
        return await trio.to_thread.run_sync(self._read_valid_heads)

    def _read_valid_heads(self) -> list[tuple[Pair, bytes]]:
        now = self.clock().now
        rows = [row for row in self._store.manifests.heads() if row.expires_at > now]
        found = [((row.channel, row.arch), self._store.manifests.get(row.digest)) for row in rows]
        return [(pair, stored.raw) for pair, stored in found if stored is not None]

    async def _repair(self) -> None:
        """What turned out to be damaged while it was served is hashed or fetched again."""
        while True:
            await trio.sleep(DAMAGE_S)
            damaged = self._store.blobs.take_damaged()
            if damaged:
                log.warning(
                    "gone or damaged on disk: %s", ", ".join(f"sha256:{digest}" for digest in damaged)
                )
                if self._publisher is not None:
                    self._publisher.due_within(0.0)
                try:
                    await self._follower.repair()
                except P2PBootError as error:
                    log.error("mending: %s", error)

    async def _examine(self) -> None:
        """Own files that were touched are read again, and served meanwhile."""
        while True:
            await trio.sleep(DAMAGE_S)
            try:
                await trio.to_thread.run_sync(self._store.blobs.examine_in_place, check_cancelled)
            except P2PBootError as error:
                log.error("files that were touched can not be examined: %s", error)

    async def _observe(self) -> None:
        """Report what is wrong without anything having happened, and see whether the clock was set."""
        offset_s = time.time() - trio.current_time()
        while True:
            try:
                await self._report_what_stands()
            except P2PBootError as error:
                log.error("what is wrong can not be found out: %s", error)
            before_s, offset_s = offset_s, time.time() - trio.current_time()
            if self._publisher is not None and abs(offset_s - before_s) > CLOCK_JUMP_S:
                self._publisher.due_within(0.0)
            await trio.sleep(OBSERVE_S)

    async def _report_what_stands(self) -> None:
        self._refusals.tick(self._transport.peers())
        clock = await trio.to_thread.run_sync(self.clock)
        wrong = clock_problem(clock)
        self.problems.report("clock", [] if wrong is None else [wrong])
        withheld = await trio.to_thread.run_sync(self._offering.withheld)
        self.problems.report("expiry", expired_problems(withheld))
        trust, takes = self._store.trust, self._judge.trust.takes
        found = await trio.to_thread.run_sync(equivocation_problems, trust, takes)
        self.problems.report("equivocations", found)

    # -- what a service shows ------------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The node's store."""
        return self._store

    @property
    def peer_id(self) -> str:
        """The node's identity in the network."""
        return self._transport.peer_id

    @property
    def offering(self) -> Offering:
        """What is offered now, and what is known and not offered."""
        return self._offering

    def default_pair(self) -> tuple[str | None, str | None]:
        """The channel and arch that the operator named, where there is one."""
        return self._settings.provider.channel, self._settings.provider.arch

    def awaited(self) -> list[Awaited]:
        """What the operator wants to have here, there already or not: what is followed, and what is to be published."""
        problems = {
            pair: one.code
            for one in self.problems.all()
            if one.code in _OF_PAIRS and (pair := pair_of(one.subject)) is not None
        }
        withdrawn = {
            pair for pair, code in problems.items() if code is Code.WITHDRAWN
        }  # taken back: wanted no more
        wanted = {*self._settings.wanted(), *self._own, *problems} - withdrawn
        return [
            _awaited(channel, arch, problems.get((channel, arch or "")))
            for channel, arch in sorted(wanted, key=lambda pair: (pair[0], pair[1] or ""))
        ]

    def measured(self) -> Measured:
        """What was counted since the start, and what is wrong now."""
        return Measured(
            uptime_s=trio.current_time() - self._started_at,
            peers=self._transport.peers(),
            transferred=Counter(self._transport.traffic),
            refused=Counter(self._judge.refused),
            refused_pieces=Counter(self._follower.refused_pieces),
            problems=self.problems.all(),
        )

    # -- control -----------------------------------------------------------------------------------------------------

    async def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        match message.get("op"):
            case "publish":
                return await self._publish_on_demand(message.get("directory"))
            case "status":
                return await self._status()
        raise UsageError(f"unknown operation {message.get('op')!r}")

    async def _publish_on_demand(self, directory: object) -> dict[str, Any]:
        if self._publisher is None:
            raise UsageError(
                "this node is a mirror: it publishes nothing", remedy="ask a node that runs `serve`"
            )
        if directory is not None and not await trio.to_thread.run_sync(
            _is_same, Path(str(directory)), self._publisher.directory
        ):
            raise UsageError(
                f"this node publishes {self._publisher.directory}, not {directory}",
                remedy="name that directory, or the state directory of the node that publishes the other one",
            )
        outcome = await self._publisher.publish_now()
        return {
            "published": [
                {**describe_manifest(done.manifest), "unchanged": done.unchanged}
                for done in outcome.published
            ],
            "withdrawn": [one.to_json() for one in outcome.withdrawn],
            "problems": [problem.to_json() for problem in self.problems.of(PUBLISHER)],
        }

    async def _status(self) -> dict[str, Any]:
        trees = () if self._publisher is None else self._publisher.trees
        running = Running(
            peer_id=self._transport.peer_id,
            addresses=self._transport.addresses(),
            peers={peer_id: self._transport.peer_addresses(peer_id) for peer_id in self._transport.peers()},
            now=self._quick_clock().now,
            uptime_s=trio.current_time() - self._started_at,
            refused=self._judge.refused.copy(),
            dropped_peers=dict(self._follower.dropped),
            problems=self.problems.all(),
            withheld=await trio.to_thread.run_sync(self._offering.withheld),
            bytes_sent=self._serving.counters.bytes_sent.copy(),
            http=tuple(self._urls()),
            ignored=describe_ignored(trees),
        )
        return await trio.to_thread.run_sync(describe_node, self._store, running)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve()
    except (OSError, ValueError, RuntimeError):  # a NUL in it, or links in a circle
        return False


def _awaited(channel: str, arch: str | None, problem: Code | None) -> Awaited:
    name = channel if arch is None else f"{channel}/{arch}"
    if problem is Code.UNPUBLISHABLE:
        return Awaited(channel, arch, f"{name} can not be published as it is", retry_after_s=None)
    return Awaited(channel, arch, f"no manifest of {name} is complete here yet")


def _limits(settings: NodeSettings) -> Limits:
    return Limits(upload_bytes_per_s=settings.network.max_upload)
