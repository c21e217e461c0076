"""At the publisher: what is in force instead of what a directory holds is brought into force, and what was yanked ends.

What may be, `holding` knows; the ordinary looks at the directory do the same as here, later. Who calls for it (a yank,
a promoted roll-out) waits for it, and is told why it can not be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import trio

from p2pboot.core.manifest import Manifest, content_digest
from p2pboot.core.names import NEXT, base_channel
from p2pboot.core.trust import Pair
from p2pboot.errors import ArtifactError
from p2pboot.node.building import Builder
from p2pboot.node.inforce import InForce
from p2pboot.publish.scan import Tree, Unfit


class Instead:
    """See above.

    Args:
        directory: the artifacts directory.
        builder: of the publisher.
        in_force: what the publisher has in force.
        building: held while the publisher looks.
        trees: the publisher's trees as they were seen last.
        look_soon: has the publisher look.
    """

    def __init__(
        self,
        directory: Path,
        builder: Builder,
        in_force: InForce,
        building: trio.Lock,
        *,
        trees: Callable[[], Sequence[Tree]],
        look_soon: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._builder = builder
        self._in_force = in_force
        self._building = building
        self._trees = trees
        self._look_soon = look_soon

    async def hold(self, pair: Pair, manifest: Manifest) -> Manifest:
        """Publish the content of a manifest in a channel and arch, in place of the directory's, and go on with that.

        That ends when the directory holds something that is neither yanked nor what is in force now.

        Args:
            pair: the channel and arch.
            manifest: of the channel, or of its roll-out; its artifacts are here.

        Returns:
            The manifest that is in force now, under the next number.

        Raises:
            ArtifactError: an artifact is not here.
            StoreError, MachineError: the disk.
        """
        async with self._building:
            now_in_force = self._in_force.of(pair)
            instead_of = "" if now_in_force is None else content_digest(now_in_force)
            await trio.to_thread.run_sync(self._check_here, pair, manifest)
            await trio.to_thread.run_sync(self._builder.holding.hold, pair, manifest, instead_of)
            return await self._bring(pair)

    async def go_on(self, pair: Pair) -> Manifest | None:
        """Look at one channel and arch again after what counts for it was changed; what is in force then.

        Raises:
            ArtifactError, StoreError, MachineError: what is meant to be in force can not be published now.
        """
        async with self._building:
            base = base_channel(pair[0])
            for channel in (base, base + NEXT):  # what was yanked of the one was yanked of the other
                await self.end_yanked((channel, pair[1]))
            held = await trio.to_thread.run_sync(self._builder.holding.of, pair)
            if held is not None and held.manifest is not None:
                return await self._bring(pair)
            self._look_soon()
            return self._in_force.of(pair)

    async def end_yanked(self, pair: Pair) -> None:
        """What is in force of a channel and arch is not any more, if it was yanked."""
        in_force = self._in_force.of(pair)
        if in_force is not None and await trio.to_thread.run_sync(self._builder.holding.is_yanked, in_force):
            self._in_force.drop(pair)

    def directories(self, pair: Pair, manifest: Manifest) -> set[Path]:
        """Where the files of a manifest may lie that is, or was, published for a channel and arch."""
        return {self._directory_of(one) for one in (pair, (manifest.channel, manifest.arch))}

    def without_directory(self, pairs: set[Pair]) -> Iterator[Unfit]:
        """Say of what is in force without a directory how it is."""
        for channel, arch in sorted(pairs):
            directory = self._directory_of((channel, arch))
            error = ArtifactError(
                f"{directory} holds nothing; what is in force of it comes from this node's store",
                remedy=f"put a release there; or withdraw it: p2pboot yank {channel} --arch {arch} --leave-none",
            )
            yield Unfit(channel, arch, directory, error)

    def _directory_of(self, pair: Pair) -> Path:
        seen = {(tree.channel, tree.arch): tree.directory for tree in self._trees()}
        return seen.get(pair, self._directory.joinpath(*pair))

    def _check_here(self, pair: Pair, manifest: Manifest) -> None:
        for directory in self.directories(pair, manifest):
            self._builder.find_again(directory, manifest)
        if lacking := self._builder.lacking(manifest):
            raise ArtifactError(
                f"{'/'.join(pair)}: {', '.join(one.key for one in lacking)} of version {manifest.version} can not be"
                " published: it is not here",
                remedy="put the files back, or have mirrors connected that hold them",
            )

    async def _bring(self, pair: Pair) -> Manifest:
        in_force, directory = self._in_force.of(pair), self._directory_of(pair)
        manifest = await trio.to_thread.run_sync(self._builder.keep, pair, directory, in_force)
        self._look_soon()
        if manifest is None:
            raise ArtifactError(
                f"{'/'.join(pair)}: what is to be in force is not wholly here any more",
                remedy="connect mirrors that hold it; it is published as soon as it is",
            )
        self._in_force.note(manifest)
        return manifest
