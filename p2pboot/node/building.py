"""Brings what lies in a directory into force: built or signed elsewhere, kept in the catalogue, offered as the head.

When to do so is `publishing`'s to know. Everything here blocks, and is called in threads.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Artifact, Candidate, Manifest, Rollout, content_digest, sign_detached
from p2pboot.core.trust import Pair
from p2pboot.errors import (
    ArtifactError,
    Contradiction,
    Malformed,
    P2PBootError,
    SignatureError,
    StoreError,
)
from p2pboot.node.holding import Holding
from p2pboot.publish.archive import kept_archives
from p2pboot.publish.build import BuildOptions, build, describe
from p2pboot.publish.numbering import same_content
from p2pboot.publish.presigned import signers_beside, take_presigned
from p2pboot.publish.renewal import renew, republish
from p2pboot.publish.scan import Tree
from p2pboot.store.blobfiles import file_size
from p2pboot.store.gate import Gate
from p2pboot.store.hashes import FileIdentity
from p2pboot.store.hashing import HashedPath, hash_file
from p2pboot.store.store import Store

_MAX_CANDIDATES: Final = 4096  # files looked at to find those of the release in force again

# And its detached signature, and the files it names.
Signed = tuple[Manifest, str | None, tuple[HashedPath, ...]]


@dataclass(frozen=True, slots=True)
class Description:
    """What the operator says of a directory: the pair of a flat one, and what goes into the manifests."""

    channel: str | None
    arch: str | None
    options: BuildOptions

    def asks_for(self, pair: Pair) -> bool:
        """Whether the operator wants a pair published."""
        return self.channel in (None, pair[0]) and self.arch in (None, pair[1])


class Builder:
    """Makes manifests of one key and brings them into force.

    Args:
        store: for counters and caches; the files themselves are served where they lie.
        gate: through which manifests come into force.
        key: signs manifests and detached signatures.
        describe: asked at every build, so that reloaded settings count.
        now: the time that goes into a manifest, unix seconds.
        floor: the highest number that the key gave elsewhere, as far as it is not on record.
    """

    def __init__(
        self,
        store: Store,
        gate: Gate,
        key: SecretKey,
        *,
        describe: Callable[[], Description],
        now: Callable[[], int],
        floor: Callable[[Pair], int],
    ) -> None:
        self._store = store
        self._gate = gate
        self._key = key
        self._describe = describe
        self._now = now
        self._floor_elsewhere = floor
        self.signers = (key.public.keyid,)
        self.holding = Holding(store, gate.catalogue, self.signers)

    def signers_of(self, tree: Tree) -> tuple[str, ...]:
        """Who signs what is published of a tree, as far as can be told before it is built."""
        return signers_beside(tree) or self.signers

    def is_news(self, tree: Tree, in_force: Manifest | None) -> bool:
        """Whether a tree may hold something else than what is in force; only what was hashed before is known."""
        if in_force is None or tree.cmdline not in (None, in_force.cmdline):
            return True
        found: dict[str, str] = {}
        for key, path in tree.files.items():
            try:
                known = self._store.hashes.get(FileIdentity.of(path.stat()))
            except OSError:
                return True
            if known is None:
                return True
            found[key] = known.digest
        return found != {key: artifact.sha256 for key, artifact in in_force.artifacts.items()}

    def content_of(self, tree: Tree) -> str:
        """The digest of what a manifest of a tree would say is to be booted; its files are hashed.

        Raises:
            ArtifactError, UsageError: it can not be published.
            ChangedWhileHashing: it is being written to.
            StoreError, MachineError: the disk.
        """
        return describe(
            tree,
            self._describe().options,
            signers=(self._key.public,),
            store=self._store,
            progress=_stop_when_cancelled,
        ).content.digest

    def publish(self, tree: Tree, rollout: Rollout | None = None) -> Manifest:
        """Bring a tree into force; what is in force already is not built again.

        Args:
            tree: what lies there.
            rollout: to which machines it is given, and when; of a channel that ends in ``.next``.

        Raises:
            PublisherRevoked: by the root its signers have no say.
            DirectoryNotInForce: it was yanked, or something else is in force instead of it.
            ArtifactError, UsageError: it can not be published.
            ChangedWhileHashing: it is being written to.
            StoreError, MachineError: the disk.
        """
        self._gate.check_say((tree.channel, tree.arch), self.signers_of(tree))
        manifest, detached, files = self._presigned(tree) or self._build(tree, rollout)
        for hashed in files:
            self._store.blobs.register_in_place(hashed.path, hashed.digest, hashed.table, hashed.identity)
        entered = self._enter(manifest, detached, f"{tree.directory}: ")
        self.holding.end((tree.channel, tree.arch))
        self._keep_cuts(entered)
        return entered

    def _keep_cuts(self, manifest: Manifest) -> None:
        """Offer content on as earlier manifests, which are kept, cut it: machines may just be fetching by them."""
        catalogue, blobs = self._gate.catalogue, self._store.blobs
        for row in self._store.manifests.of_pair((manifest.channel, manifest.arch)):
            if row.fault is not None or self._store.manifests.is_whole(row.digest):
                continue
            with contextlib.suppress(StoreError, Malformed, SignatureError, Contradiction):
                for artifact in catalogue.manifest(row.digest).artifacts.values():
                    blobs.settle(
                        artifact.sha256,
                        size=artifact.size,
                        piece_length=artifact.piece_length,
                        table_digest=artifact.table_digest,
                        go_on=trio.from_thread.check_cancelled,
                    )

    def keep(self, pair: Pair, directory: Path, in_force: Manifest | None) -> Manifest | None:
        """Keep in force, and renew, what was published of a pair whose directory can not be published now.

        Args:
            pair: its channel and arch.
            directory: where its files lie.
            in_force: what was published last; None when that was in an earlier run.

        Returns:
            What is in force now; None when nothing is, its files are not all there, it was yanked, or others signed it.

        Raises:
            StoreError, MachineError: the disk.
        """
        is_revoked = self._gate.catalogue.trust.revokes(pair, self.signers)
        held = None if is_revoked else self.holding.of(pair)
        if held is not None and held.manifest is not None:
            return self._keep_held(pair, held.manifest, directory, in_force)
        manifest = self._last_in_force(pair) if in_force is None else in_force
        if manifest is None or is_revoked or held is not None or not self._may_be_kept(manifest):
            return None
        self.find_again(directory, manifest)
        if not self._store.manifests.is_whole(manifest.digest):
            return None
        stored = self._store.publications.last(self.signers, *pair)
        if stored is None or not _says_the_same(stored, manifest):
            return manifest  # something else was published meanwhile: that is not to be gone back behind
        self._store.blobs.examine_in_place(trio.from_thread.check_cancelled)
        digests = {artifact.sha256 for artifact in manifest.artifacts.values()}
        if self._store.blobs.has_suspects(digests) or not self._store.manifests.is_whole(manifest.digest):
            return manifest
        return self.renew(manifest)

    def renew(self, manifest: Manifest, rollout: Rollout | None = None) -> Manifest:
        """Bring the same content into force again, if that is due or it is for other machines.

        Args:
            manifest: in force, of the own key.
            rollout: to which machines it is given from now on; None for the same as before.

        Raises:
            PublisherRevoked: by the root this node's key has no say.
            ArtifactError, UsageError: it can not be published.
            StoreError, MachineError: the disk.
        """
        pair = (manifest.channel, manifest.arch)
        self._gate.check_say(pair, manifest.signers)
        raw = renew(
            manifest,
            self._describe().options,
            key=self._key,
            publications=self._store.publications,
            now=self._now(),
            floor=self._used_up(pair),
            rollout=rollout,
        )
        return self._enter(Manifest.parse(raw), sign_detached(raw, self._key), "")

    def _may_be_kept(self, manifest: Manifest) -> bool:
        return (
            manifest.signers == self.signers
            and manifest.expires_at > self._now()
            and not self.holding.is_yanked(manifest)
        )

    def _keep_held(
        self, pair: Pair, manifest: Manifest, directory: Path, in_force: Manifest | None
    ) -> Manifest | None:
        """Publish, or renew, what is in force instead of what the directory holds."""
        self.find_again(directory, manifest)
        if manifest.channel != pair[0]:  # of a roll-out, whose files lie beside
            self.find_again(directory.parent.parent / manifest.channel / manifest.arch, manifest)
        if self.lacking(manifest):
            return None
        self._store.blobs.examine_in_place(trio.from_thread.check_cancelled)
        if self.lacking(manifest):
            return None
        if in_force is not None and self._store.blobs.has_suspects(
            {one.sha256 for one in manifest.artifacts.values()}
        ):
            return in_force
        self._gate.check_say(pair, self.signers)
        raw = republish(
            manifest,
            pair[0],
            self._describe().options,
            key=self._key,
            publications=self._store.publications,
            now=self._now(),
            floor=self._floor(pair),
        )
        return self._enter(Manifest.parse(raw), sign_detached(raw, self._key), "")

    def lacking(self, manifest: Manifest) -> list[Artifact]:
        """Which artifacts of a manifest are not wholly here."""
        holds = self._store.blobs.holds
        return [one for one in manifest.artifacts.values() if not holds(one.sha256, one.table_digest)]

    def _enter(self, manifest: Manifest, detached: str | None, where: str) -> Manifest:
        if not self._gate.publish(manifest, detached):
            raise ArtifactError(
                f"{where}version {manifest.manifest_version} of {manifest.channel}/{manifest.arch} is not newer than"
                " what is known of its signers, who would contradict themselves",
                remedy="publish a manifest with a higher manifest_version",
            )
        self._store.releases.record(manifest)
        return manifest

    def _presigned(self, tree: Tree) -> Signed | None:
        found = take_presigned(
            tree,
            own_keyid=self._key.public.keyid,
            store=self._store,
            now=self._now(),
            progress=_stop_when_cancelled,
        )
        if found is None:
            return None
        self.holding.admit((tree.channel, tree.arch), content_digest(found.manifest))
        return found.manifest, found.detached, found.files

    def _build(self, tree: Tree, rollout: Rollout | None) -> Signed:
        built = build(
            tree,
            self._describe().options,
            keys=(self._key,),
            store=self._store,
            now=self._now(),
            progress=_stop_when_cancelled,
            admit=lambda content: self.holding.admit((tree.channel, tree.arch), content.digest),
            floor=self._floor((tree.channel, tree.arch)),
            rollout=rollout,
        )
        return built.manifest, sign_detached(built.raw, self._key), built.files

    def _floor(self, pair: Pair) -> int:
        """The highest number that others are known to have used; a new key of the same publisher counts on from it."""
        is_first = self._store.publications.counter(self.signers, *pair) == 0
        accepted = self._gate.catalogue.accepted(*pair) if is_first else ()
        return max([self._used_up(pair), *(head.manifest_version for head in accepted)])

    def _used_up(self, pair: Pair) -> int:
        """The highest number that is not to be given out again: used elsewhere, or just below what the root takes."""
        return max(self._floor_elsewhere(pair), self._gate.catalogue.trust.floor(*pair) - 1)

    def _last_in_force(self, pair: Pair) -> Manifest | None:
        for row in self._store.manifests.current():
            if (row.channel, row.arch) == pair and row.signers == self.signers:
                stored = self._store.manifests.get(row.digest)
                return None if stored is None else Manifest.parse(stored.raw)
        return None

    def find_again(self, directory: Path, manifest: Manifest) -> None:
        """Look which files are a manifest's artifacts; after a restart none is registered, hashes are in the cache."""
        missing = {
            artifact.sha256: artifact
            for artifact in manifest.artifacts.values()
            if not self._store.blobs.holds(artifact.sha256)
        }
        if not missing:
            return
        sizes = {artifact.size for artifact in missing.values()}
        archives = [(path, file_size(path)) for path in kept_archives(directory, self._store.path)]
        for path, size in (*archives, *_regular_files(directory)):
            if size in sizes:
                self._take_if_it_is_one(path, missing)

    def _take_if_it_is_one(self, path: Path, missing: dict[str, Artifact]) -> None:
        length = {artifact.size: artifact.piece_length for artifact in missing.values()}
        try:
            hashed = hash_file(
                path,
                cache=self._store.hashes,
                piece_length=length.get(path.stat().st_size),
                progress=_stop_when_cancelled,
            )
        except (P2PBootError, OSError):  # it is none, or about to be another
            return
        artifact = missing.get(hashed.digest)
        if artifact is not None and artifact.table_digest == hashed.table.digest:
            self._store.blobs.register_in_place(path, hashed.digest, hashed.table, hashed.identity)


def _says_the_same(raw: bytes, manifest: Manifest) -> bool:
    try:
        return same_content(Candidate.decode(raw).claims, manifest)
    except Malformed:
        return False


def _regular_files(directory: Path) -> Iterator[tuple[Path, int]]:
    """The files below a directory, without links out of it, and their sizes."""
    count = 0
    real = os.path.realpath(directory)
    for parent, _, names in os.walk(directory):
        for name in names:
            path = Path(parent, name)
            try:
                status = path.stat()
                inside = os.path.realpath(path).startswith(real + os.sep)
            except OSError:
                continue
            count += 1
            if count > _MAX_CANDIDATES:
                return
            if inside and stat.S_ISREG(status.st_mode):
                yield path, status.st_size


def _stop_when_cancelled(_done: int, _total: int) -> None:
    """A node that is told to end does not read a gigabyte to its end first."""
    trio.from_thread.check_cancelled()
