"""One node: the store, the network and the tasks between them.

Owns how the parts are put together and which tasks run. How a manifest travels: gossip (`announcing`), sync (`syncing`)
or the own directory (`publishing`) bring it, `judging` decides, `mirroring` fetches what it names, and only then the
node's head moves, which `server` and `announcing` show to others.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import AsyncIterable, Sequence
from pathlib import Path
from typing import Any

import trio

from p2pboot.config.settings import NodeSettings
from p2pboot.core.clock import Clock, effective_now
from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.errors import P2PBootError, UsageError
from p2pboot.node.announcing import Announcer
from p2pboot.node.control import serve_control
from p2pboot.node.following import Follower, OwnManifests
from p2pboot.node.judging import Judge, Pair
from p2pboot.node.limits import Limits
from p2pboot.node.metering import MeteredTransport
from p2pboot.node.peering import Peering
from p2pboot.node.publishing import Description, DirectoryPublisher, Published
from p2pboot.node.server import ArtifactServer, SyncServer
from p2pboot.node.serving import Serving
from p2pboot.node.status import Measured, Running, describe_manifest, describe_node
from p2pboot.node.syncing import Syncer
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, SYNC_PROTOCOL
from p2pboot.publish.build import BuildOptions
from p2pboot.store.manifests import HeadRow
from p2pboot.store.store import Store
from p2pboot.transport.interface import Transport

log = logging.getLogger(__name__)

ASK_THE_MESH_S = 5.0  # a key without a counter here: how long to look for versions that it signed elsewhere
DISCOVERY_S = 2.0  # the same where no peer is configured and only the local network can tell
DAMAGE_S = 5.0  # how often what was found damaged while serving is hashed or fetched again


class Node:
    """A provider node over an open store and an open network.

    Args:
        settings: what the operator wants; `apply` takes changed ones.
        store: locked by the caller.
        transport: the network, listening already.
        signing_key: signs what the own directory holds.
        hints: addresses that discovery finds, None without discovery.
        urls: beginnings of the HTTP URLs under which this node's artifacts can be had; they go into its manifests.
    """

    def __init__(
        self,
        settings: NodeSettings,
        *,
        store: Store,
        transport: Transport,
        signing_key: SecretKey,
        hints: AsyncIterable[str] | None = None,
        urls: Sequence[str] = (),
    ) -> None:
        transport = self._meter = MeteredTransport(transport)
        self._settings = settings
        self._store = store
        self._transport = transport
        self._signing_key = signing_key
        self._hints = hints
        self._urls = tuple(urls)
        self._started_at = trio.current_time()
        self._own: dict[Pair, tuple[str, ...]] = {}  # what this node publishes, and who signs it
        self._serving = Serving(_limits(settings))
        self._judge = Judge(store, self._policy(), self.clock)
        self._follower = Follower(
            store,
            transport,
            self._judge,
            own=OwnManifests(self._is_own, self._saw_own),
            whole=self._tell,
            max_artifact_bytes=settings.store.max_artifact_bytes,
            ask_detached=settings.network.sync,
        )
        self._peering = Peering(transport, settings.network.bootstrap)
        self._syncer = Syncer(
            transport,
            wants=self._follower.wants,
            take=self._follower.take,
            interval_s=settings.network.sync_interval_s,
        )
        self._announcer = Announcer(
            transport,
            hear=self._follower.hear,
            heads=self._valid_heads,
            interval_s=settings.network.announce_interval_s,
        )
        self._publisher: DirectoryPublisher | None = None
        if settings.provider.directory is not None:
            self._publisher = DirectoryPublisher(
                settings.provider.directory,
                store=store,
                signing_key=signing_key,
                describe=self._describe,
                now=lambda: self.clock().now,
                published=self._publish,
            )

    def clock(self) -> Clock:
        """The time to judge manifests by."""
        return effective_now(int(time.time()), self._store.trust.newest_created_at())

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Run all tasks until cancelled; started once the protocols and the control socket are served.

        Raises:
            P2PBootError: the node can not begin: its directory or its control socket.
        """
        network = self._settings.network
        self._transport.handle(ARTIFACT_PROTOCOL, ArtifactServer(self._store.blobs, self._serving).handle)
        self._transport.handle(
            SYNC_PROTOCOL,
            SyncServer(
                self._store.manifests, self._transport.peer_records, lambda: self.clock().now, self._serving
            ).handle,
        )
        if self._publisher is not None:
            for tree in await trio.to_thread.run_sync(self._publisher.trees):
                self._own[tree.channel, tree.arch] = (self._signing_key.public.keyid,)
            self._judge.policy = self._policy()
        await self._drop_strangers()
        await self._join_topics()
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, self._settings.store.state, self._answer)
            task_status.started()
            nursery.start_soon(self._peering.run, self._hints)
            nursery.start_soon(self._follower.run)
            nursery.start_soon(self._repair)
            if network.sync:
                nursery.start_soon(self._syncer.run)
            if network.gossip:
                nursery.start_soon(self._announcer.run)
            if self._publisher is not None:
                nursery.start_soon(self._run_publisher, self._publisher)

    async def apply(self, settings: NodeSettings) -> None:
        """Take over what a running node can change: trust, provider and limits."""
        self._settings = settings
        self._judge.policy = self._policy()
        self._serving.reconfigure(_limits(settings))
        self._follower.mirror.max_artifact_bytes = settings.store.max_artifact_bytes
        self._store.blobs.quota_bytes = settings.store.quota_bytes
        self._transport.forget_seen()
        await self._drop_strangers()
        await self._join_topics()
        self._syncer.poke()
        if self._publisher is not None:
            self._publisher.due_in(0.0)

    # -- what we publish ---------------------------------------------------------------------------------------------

    async def _run_publisher(self, publisher: DirectoryPublisher) -> None:
        """A key that never published here may have published elsewhere: ask, before its counter starts at 1."""
        trees = await trio.to_thread.run_sync(publisher.trees)
        network = self._settings.network
        if network.sync and await trio.to_thread.run_sync(publisher.is_new, trees):
            if network.bootstrap:
                with trio.move_on_after(ASK_THE_MESH_S):
                    await self._peering.tried.wait()
                    await self._syncer.all_synced()
            elif self._hints is not None:
                with trio.move_on_after(DISCOVERY_S):
                    await trio.sleep_forever()
        await publisher.run()

    def _describe(self) -> Description:
        provider = self._settings.provider
        options = BuildOptions(
            version=provider.version,
            expires_in_s=provider.expires_in_s,
            name=provider.name,
            cmdline=provider.cmdline,
            urls=self._urls,
            peer_id=self._transport.peer_id,
        )
        return Description(provider.channel, provider.arch, options)

    async def _publish(self, published: Published) -> None:
        manifest = published.manifest
        self._own[manifest.channel, manifest.arch] = manifest.signers
        self._judge.policy = self._policy()
        await self._tell(manifest)

    def _policy(self) -> TrustPolicy:
        """The operator's trust and, where it says nothing of a pair that we publish, whoever signs that."""
        configured = self._settings.policy
        own = tuple(
            Publisher(
                keys=signers, threshold=len(signers), channels=(channel,), archs=(arch,), name="this node"
            )
            for (channel, arch), signers in sorted(self._own.items())
            if configured.publisher_for(channel, arch) is None
        )
        return TrustPolicy(configured.publishers + own)

    def _is_own(self, manifest: Manifest) -> bool:
        return self._own.get((manifest.channel, manifest.arch)) == manifest.signers

    def _saw_own(self, manifest: Manifest) -> None:
        if self._publisher is not None:
            self._publisher.saw_own(manifest)

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
        publisher = self._judge.policy.publisher_for(row.channel, row.arch)
        return publisher is None or len(publisher.trusted_among(row.signers)) < publisher.threshold

    async def _join_topics(self) -> None:
        if self._settings.network.gossip:
            held = {pair for pair, _ in await self._valid_heads()}
            covered = {pair for pair in held if self._judge.policy.publisher_for(*pair) is not None}
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
                log.warning("damaged on disk: %s", ", ".join(f"sha256:{digest}" for digest in damaged))
                if self._publisher is not None:
                    self._publisher.due_in(0.0)
                try:
                    await self._follower.repair()
                except P2PBootError as error:
                    log.error("mending: %s", error)

    # -- what a service shows ------------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The node's store."""
        return self._store

    @property
    def peer_id(self) -> str:
        """The node's identity in the network."""
        return self._transport.peer_id

    def offered(self, channel: str | None = None, arch: str | None = None) -> list[HeadRow]:
        """The manifests that are wholly here, trusted and in date; blocking.

        One at most for each channel and arch: where several streams of a publisher's keys exist, the newest.
        """
        now = self.clock().now
        newest: dict[Pair, HeadRow] = {}
        for row in self._store.manifests.heads(channel, arch):
            pair = (row.channel, row.arch)
            if row.expires_at > now and not self._is_stranger(row):
                newest[pair] = max(newest.get(pair, row), row, key=lambda one: one.manifest_version)
        return list(newest.values())

    def default_pair(self) -> tuple[str | None, str | None]:
        """The channel and arch that the operator named, where there is one."""
        return self._settings.provider.channel, self._settings.provider.arch

    def measured(self) -> Measured:
        """What was counted since the start."""
        return Measured(
            uptime_s=trio.current_time() - self._started_at,
            peers=self._transport.peers(),
            transferred=Counter(self._meter.transferred),
            refused=Counter(self._judge.refused),
            refused_pieces=Counter(self._follower.refused_pieces),
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
        if directory is not None and Path(str(directory)).resolve() != self._publisher.directory.resolve():
            raise UsageError(
                f"this node publishes {self._publisher.directory}, not {directory}",
                remedy="name that directory, or the state directory of the node that publishes the other one",
            )
        return {
            "published": [
                {**describe_manifest(done.manifest), "unchanged": done.unchanged}
                for done in await self._publisher.publish_now()
            ]
        }

    async def _status(self) -> dict[str, Any]:
        problems = {"/".join(pair): text for pair, text in self._follower.mirror.problems.items()}
        if self._publisher is not None and self._publisher.problem is not None:
            problems["directory"] = self._publisher.problem
        running = Running(
            uptime_s=trio.current_time() - self._started_at,
            refused=self._judge.refused,
            dropped_peers=self._follower.dropped,
            problems=problems,
            bytes_sent=self._serving.counters.bytes_sent,
            http=self._urls,
        )
        return await trio.to_thread.run_sync(describe_node, self._store, self._transport, running)


def _limits(settings: NodeSettings) -> Limits:
    return Limits(upload_bytes_per_s=settings.network.max_upload)
