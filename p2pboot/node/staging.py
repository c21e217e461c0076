"""At the publisher: what lies in the directory of a channel's ``.next`` is rolled out when somebody says so.

What a roll-out may be, `publish.rollouts` knows; the ordinary looks at the directory renew what is on. Who begins one
or moves its plan waits until it is published, and is told why it can not be.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio

from p2pboot.core.manifest import Manifest, Rollout
from p2pboot.core.names import NEXT
from p2pboot.errors import P2PBootError
from p2pboot.node.building import Builder
from p2pboot.node.inforce import InForce
from p2pboot.publish.rollouts import Plan, Rollouts, not_there, not_whole, signed_elsewhere
from p2pboot.publish.scan import Scanned, Tree


class Staging:
    """See above.

    Args:
        directory: the artifacts directory.
        builder: of the publisher.
        rollouts: what is being rolled out.
        in_force: what the publisher has in force.
        building: held while the publisher looks.
        scan: what the directory holds, and what is wrong with it; called in threads.
        channel: the one channel that is published; None for all that lie there.
        look_soon: has the publisher look.
    """

    def __init__(
        self,
        directory: Path,
        builder: Builder,
        rollouts: Rollouts,
        in_force: InForce,
        building: trio.Lock,
        *,
        scan: Callable[[], tuple[Scanned, P2PBootError | None]],
        channel: Callable[[], str | None],
        look_soon: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._builder = builder
        self._rollouts = rollouts
        self._in_force = in_force
        self._building = building
        self._scan = scan
        self._channel = channel
        self._look_soon = look_soon

    async def begin(self, into: str, arch: str | None, plan: Plan) -> list[Manifest]:
        """Begin to roll out what lies in the directory of a channel's ``.next``.

        Args:
            into: the channel.
            arch: only this one; None for all that lie there.
            plan: of the operator.

        Raises:
            UsageError, ArtifactError, MachineError, StoreError: one of them can not be; none was begun then.
        """
        async with self._building:
            begun = await trio.to_thread.run_sync(self._prepare, into, arch, plan)
            manifests = []
            for tree, rollout in begun:
                manifest = await trio.to_thread.run_sync(self._builder.publish, tree, rollout)
                self._in_force.note(manifest)
                manifests.append(manifest)
        self._look_soon()
        return manifests

    def _prepare(self, into: str, arch: str | None, plan: Plan) -> list[tuple[Tree, Rollout]]:
        """What is to be rolled out, and how; blocking."""
        scanned, error = self._scan()
        if error is not None:
            raise error
        channel = into + NEXT
        for unfit in scanned.unfit:
            if unfit.channel == channel and arch in (None, unfit.arch):
                raise unfit.error
        trees = [tree for tree in scanned.trees if tree.channel == channel and arch in (None, tree.arch)]
        if not trees:
            raise not_there(into, arch, self._directory, only=self._channel())
        for tree in trees:
            if self._builder.signers_of(tree) != self._builder.signers:
                raise signed_elsewhere(tree.directory)
        return [
            (tree, self._rollouts.begin(into, tree.arch, self._builder.content_of(tree), plan))
            for tree in trees
        ]

    async def move(self, into: str, arch: str, rollout: Rollout) -> Manifest:
        """Publish what is being rolled out with another plan.

        Raises:
            UsageError, ArtifactError, MachineError, StoreError: it can not be; the plan in force stays.
        """
        async with self._building:
            head = await trio.to_thread.run_sync(self._rollouts.head, into + NEXT, arch)
            if head is None:
                raise not_whole(into, arch)
            manifest = await trio.to_thread.run_sync(self._builder.renew, head, rollout)
            self._in_force.note(manifest)
        self._look_soon()
        return manifest
