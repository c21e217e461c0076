"""Publishes the artifacts directory: at the start, when it changed and is quiet again, on demand, and before expiry.

Owns the watch on the directory and when to build; what a build is, is `publish.build`'s. A directory that can not be
published (the kernel is missing while it is being replaced) keeps the last published version in force and is tried
again when something changes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import trio
import watchfiles

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest, sign_detached
from p2pboot.errors import P2PBootError
from p2pboot.node.judging import Pair
from p2pboot.publish.build import BuildOptions, build
from p2pboot.publish.hashing import ChangedWhileHashing, HashedPath
from p2pboot.publish.presigned import take_presigned
from p2pboot.publish.scan import Tree, recently_changed, scan
from p2pboot.store.store import Store

log = logging.getLogger(__name__)

SETTLED_S = 2.0  # at the start, a file younger than this may still be being written
QUIET_S = 10.0  # later, the whole directory must have been quiet this long
CHECK_S = 300.0  # a safety net where the kernel tells of no changes (network file systems), and for renewals; stats only

Signed = tuple[
    Manifest, str | None, tuple[HashedPath, ...]
]  # manifest, detached signature, the files it names


@dataclass(frozen=True, slots=True)
class Description:
    """What the operator says of a directory: the pair of a flat one, and what goes into the manifests."""

    channel: str | None
    arch: str | None
    options: BuildOptions


@dataclass(frozen=True, slots=True)
class Published:
    """What one build put into force."""

    manifest: Manifest
    unchanged: bool


class DirectoryPublisher:
    """Keeps the manifests of one artifacts directory in force.

    Args:
        directory: the artifacts directory.
        store: for counters, caches and the catalogue; the files themselves are served where they lie.
        signing_key: signs manifests and detached signatures.
        describe: asked at every build, so that reloaded settings count.
        now: the time that goes into a manifest, unix seconds.
        published: called with every manifest that came into force.
    """

    def __init__(
        self,
        directory: Path,
        *,
        store: Store,
        signing_key: SecretKey,
        describe: Callable[[], Description],
        now: Callable[[], int],
        published: Callable[[Published], Awaitable[None]],
    ) -> None:
        self.directory = directory
        self._store = store
        self._key = signing_key
        self._describe = describe
        self._now = now
        self._published = published
        self._building = trio.Lock()
        self._due_at = 0.0  # trio's clock
        self._due_moved = trio.Event()
        self._floors: dict[Pair, int] = {}
        self._in_force: dict[Pair, Manifest] = {}
        self.problem: str | None = None

    def trees(self) -> list[Tree]:
        """What the directory holds now; blocking. Raises ArtifactError."""
        description = self._describe()
        return scan(self.directory, description.channel, description.arch)

    def is_new(self, trees: list[Tree]) -> bool:
        """Whether some pair was never published with this state: a new key, or a known key on a new machine."""
        signers = (self._key.public.keyid,)
        return any(self._store.publications.counter(signers, tree.channel, tree.arch) == 0 for tree in trees)

    def saw_own(self, manifest: Manifest) -> None:
        """A manifest that our own key signed came from the mesh: ours must be above it."""
        pair = (manifest.channel, manifest.arch)
        if self._store.publications.last(manifest.signers, *pair) == manifest.raw:
            return  # it is ours, and came back
        in_force = self._in_force.get(pair)
        self._floors[pair] = max(manifest.manifest_version, self._floors.get(pair, 0))
        if in_force is not None and in_force.manifest_version <= manifest.manifest_version:
            log.warning(
                "the mesh knows version %d of %s/%s, signed with this key: publishing a higher one",
                manifest.manifest_version,
                *pair,
            )
            self.due_in(0.0)

    def due_in(self, delay_s: float) -> None:
        """Build after this many seconds, and not before."""
        self._due_at = trio.current_time() + delay_s
        self._due_moved.set()

    async def run(self) -> None:
        """Publish until cancelled. The first build is at once, or when the directory has settled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            await self._settle()
            while True:
                await self._publish_and_log()
                await self._wait_until_due()

    async def publish_now(self) -> list[Published]:
        """Build every tree of the directory and put it into force.

        Raises:
            ArtifactError, MachineError: the directory can not be published; what is in force stays.
        """
        async with self._building:
            trees = await trio.to_thread.run_sync(self.trees)
            done: list[Published] = []
            errors: list[P2PBootError] = []
            for tree in trees:  # one that can not be published is no reason to keep the others back
                try:
                    done.append(await self._publish(tree))
                except P2PBootError as error:
                    errors.append(error)
            if errors:
                raise errors[0]
            return done

    async def _settle(self) -> None:
        while True:
            trees = await trio.to_thread.run_sync(self.trees)
            if not any(recently_changed(tree, time.time_ns(), SETTLED_S) for tree in trees):
                return
            await trio.sleep(SETTLED_S / 4)

    async def _publish_and_log(self) -> None:
        self.due_in(CHECK_S)
        try:
            await self.publish_now()
        except ChangedWhileHashing as error:
            log.info("%s: waiting until the directory is quiet", error)
            self.due_in(QUIET_S)
        except P2PBootError as error:
            if self.problem != error.message:
                log.error("not published: %s%s", error, f" ({error.remedy})" if error.remedy else "")
            self.problem = error.message
        else:
            self.problem = None

    async def _wait_until_due(self) -> None:
        while (left_s := self._due_at - trio.current_time()) > 0:
            self._due_moved = trio.Event()
            with trio.move_on_after(left_s):
                await self._due_moved.wait()

    async def _watch(self) -> None:
        while True:
            try:
                # The timeout ends only the library's thread, which a cancelled task would wait for (5 s by default).
                async for _ in watchfiles.awatch(
                    self.directory, watch_filter=None, step=100, debounce=1000, rust_timeout=500
                ):
                    self.due_in(QUIET_S)
            except (
                OSError,
                RuntimeError,
            ) as error:  # the directory itself was replaced, or inotify has no watch left
                log.warning(
                    "cannot watch %s (%s); looking at it every %.0f s", self.directory, error, CHECK_S
                )
            await trio.sleep(CHECK_S)

    async def _publish(self, tree: Tree) -> Published:
        pair = (tree.channel, tree.arch)
        manifest = await trio.to_thread.run_sync(self._bring_into_force, tree)
        done = Published(manifest, unchanged=self._in_force.get(pair) == manifest)
        if not done.unchanged:
            self._in_force[pair] = manifest
            log.info(
                "%s/%s: publishing version %s (manifest_version %d, digest %s)",
                *pair,
                manifest.version,
                manifest.manifest_version,
                manifest.digest,
            )
            await self._published(done)
        return done

    def _bring_into_force(self, tree: Tree) -> Manifest:
        manifest, detached, files = self._presigned(tree) or self._build(tree)
        for hashed in files:
            self._store.blobs.register_in_place(hashed.path, hashed.sha256, hashed.table, hashed.identity)
        self._store.manifests.put(manifest, detached)
        self._store.manifests.set_head(manifest.digest)
        self._store.trust.accept(manifest, manifest.signers)
        self._store.manifests.retain()
        return manifest

    def _presigned(self, tree: Tree) -> Signed | None:
        found = take_presigned(
            tree,
            own_keyid=self._key.public.keyid,
            cache=self._store.hashes,
            now=self._now(),
            progress=_stop_when_cancelled,
        )
        return None if found is None else (found.manifest, found.detached, found.files)

    def _build(self, tree: Tree) -> Signed:
        built = build(
            tree,
            self._describe().options,
            keys=(self._key,),
            store=self._store,
            now=self._now(),
            progress=_stop_when_cancelled,
            floor=self._floors.get((tree.channel, tree.arch), 0),
        )
        return built.manifest, sign_detached(built.raw, self._key), built.files


def _stop_when_cancelled(_done: int, _total: int) -> None:
    """A node that is told to end does not hash a gigabyte to its end first."""
    trio.from_thread.check_cancelled()
