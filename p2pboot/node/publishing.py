"""Publishes the artifacts directory: at the start, when it changed and is quiet again, on demand, and before expiry.

Owns when to build; what a build is, is `publish.build`'s, and to notice changes is `watching`'s. A directory that can
not be published (the kernel is missing while it is being replaced) keeps the last published version in force and is
tried again when something changes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest, sign_detached
from p2pboot.errors import ArtifactError, P2PBootError
from p2pboot.node.trust import Pair
from p2pboot.node.watching import watch_directory
from p2pboot.publish.build import BuildOptions, build
from p2pboot.publish.hashing import ChangedWhileHashing, HashedPath
from p2pboot.publish.presigned import signers_beside, take_presigned
from p2pboot.publish.scan import Tree, recently_changed, scan
from p2pboot.store.store import Store

log = logging.getLogger(__name__)

SETTLED_S: Final = 2.0  # at the start, a file younger than this may still be being written
QUIET_S: Final = 10.0  # later, nothing must have changed for so long, whoever or whatever asks for a build
CHECK_S: Final = 300.0  # a safety net where the kernel tells of no changes (network file systems); stats only
OUTBID_S: Final = (
    10.0  # between two builds for the mesh's sake, doubled each time up to CHECK_S: two nodes that sign
)
# with one key would outbid each other as fast as messages travel

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
        trusted: the key ids of the one publisher for a (channel, arch), the own one among them.
        now: the time that goes into a manifest, unix seconds; called in threads.
        published: called with every manifest that came into force.
    """

    def __init__(
        self,
        directory: Path,
        *,
        store: Store,
        signing_key: SecretKey,
        describe: Callable[[], Description],
        trusted: Callable[[Pair], tuple[str, ...]],
        now: Callable[[], int],
        published: Callable[[Published], Awaitable[None]],
    ) -> None:
        self.directory = directory
        self._store = store
        self._key = signing_key
        self._describe = describe
        self._trusted = trusted
        self._now = now
        self._published = published
        self._building = trio.Lock()
        self._due_at = 0.0  # trio's clock
        self._due_moved = trio.Event()
        self._floors: dict[Pair, int] = {}  # numbers that our key gave to what we do not know
        self._outbid_s = 0.0
        self._in_force: dict[Pair, Manifest] = {}
        self.problem: str | None = None

    def trees(self) -> list[Tree]:
        """What the directory holds now; blocking. Raises ArtifactError."""
        description = self._describe()
        return scan(self.directory, description.channel, description.arch)

    def signers(self, tree: Tree) -> tuple[str, ...]:
        """Who signs what is published of a tree, as far as can be told before it is built; blocking."""
        return signers_beside(tree) or self._own_signers

    def is_new(self, trees: list[Tree]) -> bool:
        """Whether some pair was never published with this state: a new key, or a known key on a new machine."""
        counter = self._store.publications.counter
        return any(counter(self._own_signers, tree.channel, tree.arch) == 0 for tree in trees)

    @property
    def _own_signers(self) -> tuple[str, ...]:
        return (self._key.public.keyid,)

    async def saw_own(self, manifest: Manifest) -> None:
        """A manifest of the keys that sign here came from the mesh: if it is another one, ours must be above it."""
        pair = (manifest.channel, manifest.arch)
        if manifest == self._in_force.get(pair) or manifest.manifest_version <= self._floors.get(pair, 0):
            return
        if manifest.signers != self._own_signers:
            log.error(
                "%s/%s: the mesh knows version %d, signed by the keys of the manifest beside the artifacts: put that"
                " manifest and its artifacts here, or have a higher one signed",
                *pair,
                manifest.manifest_version,
            )
            return
        try:
            if await trio.to_thread.run_sync(self._note_number, manifest):
                return  # it is ours, and came back
        except P2PBootError as error:
            log.error("%s/%s: a number in use can not be noted: %s", *pair, error)
        self._floors[pair] = manifest.manifest_version
        if pair in self._in_force:
            log.warning(
                "the mesh knows version %d of %s/%s, signed with this key and not by this node: publishing a higher one"
                " in %.0f s",
                manifest.manifest_version,
                *pair,
                self._outbid_s,
            )
            self.due_within(self._outbid_s)
            self._outbid_s = min(max(OUTBID_S, self._outbid_s * 2), CHECK_S)

    def _note_number(self, manifest: Manifest) -> bool:
        """Never use a number again that was seen in use; returns whether the manifest is our own last one."""
        stream = (manifest.signers, manifest.channel, manifest.arch)
        if self._store.publications.last(*stream) == manifest.raw:
            return True
        self._store.publications.raise_counter(*stream, manifest.manifest_version)
        return False

    def due_in(self, delay_s: float) -> None:
        """Build after this many seconds, and not before."""
        self._due_at = trio.current_time() + delay_s
        self._due_moved.set()

    def due_within(self, delay_s: float) -> None:
        """Build after this many seconds at the latest, or when the directory is quiet."""
        self._due_at = min(self._due_at, trio.current_time() + delay_s)
        self._due_moved.set()

    async def run(self) -> None:
        """Publish until cancelled. The first build is at once, or when the directory has settled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_directory, self.directory, lambda: self.due_in(QUIET_S))
            quiet_s = SETTLED_S
            while True:
                self.due_in(CHECK_S)  # first: what changes during a build makes the next one due earlier
                if await self._publish_if_quiet(quiet_s):
                    quiet_s = QUIET_S
                await self._wait_until_due()

    async def publish_now(self) -> list[Published]:
        """Build every tree of the directory and put it into force, whether it is quiet or not.

        Raises:
            ArtifactError, MachineError: the directory can not be published; what is in force stays.
        """
        try:
            async with self._building:
                done = await self._publish_trees()
        except P2PBootError as error:
            self._note_problem(error)
            raise
        self.problem = None
        return done

    async def _publish_if_quiet(self, quiet_s: float) -> bool:
        """Build unless something changed within `quiet_s`; returns whether it was quiet."""
        try:
            if await trio.to_thread.run_sync(self._changed_within, quiet_s):
                self.due_in(quiet_s / 4)
                return False
            done = await self.publish_now()
        except ChangedWhileHashing:
            self.due_in(QUIET_S)
        except P2PBootError as error:
            self._note_problem(error)
        else:
            self.due_within(await self._renewal_s(done))
        return True

    def _changed_within(self, quiet_s: float) -> bool:
        return any(recently_changed(tree, time.time_ns(), quiet_s) for tree in self.trees())

    def _note_problem(self, error: P2PBootError) -> None:
        if self.problem != error.message:  # the hundredth time it is no news
            level = logging.INFO if isinstance(error, ChangedWhileHashing) else logging.ERROR
            log.log(level, "not published: %s%s", error, f" ({error.remedy})" if error.remedy else "")
        self.problem = error.message

    async def _renewal_s(self, published: list[Published]) -> float:
        """Seconds until the first of these is to be renewed, which is when a third of its validity is left."""
        own = [done.manifest for done in published if done.manifest.signers == self._own_signers]
        if not own:
            return CHECK_S
        now = await trio.to_thread.run_sync(self._now)
        due = min(one.expires_at - (one.expires_at - one.created_at) // 3 for one in own)
        return max(1.0, due - now)

    async def _wait_until_due(self) -> None:
        while (left_s := self._due_at - trio.current_time()) > 0:
            self._due_moved = trio.Event()
            with trio.move_on_after(left_s):
                await self._due_moved.wait()

    async def _publish_trees(self) -> list[Published]:
        done: list[Published] = []
        errors: list[P2PBootError] = []
        for tree in await trio.to_thread.run_sync(self.trees):
            try:
                done.append(await self._publish(tree))
            except P2PBootError as error:  # no reason to keep the other trees back
                errors.append(error)
        if errors:  # a file that is still being written mends itself: any other error is the one to speak of
            raise next((error for error in errors if not isinstance(error, ChangedWhileHashing)), errors[0])
        return done

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
        keys = {*self._trusted((tree.channel, tree.arch)), *manifest.signers}
        if not self._store.trust.accept(manifest, keys):
            raise ArtifactError(
                f"{tree.directory}: version {manifest.manifest_version} of {tree.channel}/{tree.arch} is not newer than"
                " what is known of its signers, who would contradict themselves",
                remedy="publish a manifest with a higher manifest_version",
            )
        self._store.manifests.set_head(manifest.digest)
        self._store.manifests.retain()
        return manifest

    def _presigned(self, tree: Tree) -> Signed | None:
        found = take_presigned(
            tree,
            own_keyid=self._key.public.keyid,
            store=self._store,
            now=self._now(),
            progress=_stop_when_cancelled,
        )
        return None if found is None else (found.manifest, found.detached, found.files)

    def _floor(self, tree: Tree) -> int:
        """The highest number that others are known to have used; a new key of the same publisher counts on from it."""
        pair = (tree.channel, tree.arch)
        head = self._store.trust.head(*pair)
        is_first = self._store.publications.counter(self._own_signers, *pair) == 0
        known = (
            head.manifest_version if is_first and head is not None and head.binds(self._trusted(pair)) else 0
        )
        return max(known, self._floors.get(pair, 0))

    def _build(self, tree: Tree) -> Signed:
        built = build(
            tree,
            self._describe().options,
            keys=(self._key,),
            store=self._store,
            now=self._now(),
            progress=_stop_when_cancelled,
            floor=self._floor(tree),
        )
        return built.manifest, sign_detached(built.raw, self._key), built.files


def _stop_when_cancelled(_done: int, _total: int) -> None:
    """A node that is told to end does not hash a gigabyte to its end first."""
    trio.from_thread.check_cancelled()
