"""One channel and arch at one look of the publisher: published, kept as it was, or held back and why.

`publishing` knows when to look and says what is wrong; `building` does what is decided here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import trio

from p2pboot.core.events import Event
from p2pboot.core.manifest import Rollout, content_digest
from p2pboot.core.names import is_next
from p2pboot.core.problems import Code
from p2pboot.core.trust import Pair
from p2pboot.errors import ArtifactError, P2PBootError
from p2pboot.node.building import Builder
from p2pboot.node.holding import DirectoryNotInForce
from p2pboot.node.inforce import InForce, Published
from p2pboot.node.instead import Instead
from p2pboot.node.quiet import QUIET_S, Quiet
from p2pboot.publish.rollouts import Rollouts, changed_while_on
from p2pboot.publish.scan import Tree, Unfit
from p2pboot.store.errors import PublisherRevoked
from p2pboot.store.hashing import ChangedWhileHashing

log = logging.getLogger(__name__)


class HeldBack(NamedTuple):
    """What is not published now, and why; what was published of it before goes on."""

    code: Code
    of: Tree | Unfit
    error: P2PBootError


class PairPublisher:
    """See above.

    Args:
        builder: of the publisher.
        in_force: what the publisher has in force.
        quiet: knows what is being written to.
        rollouts: what is being rolled out.
        instead: what is in force instead of what the directory holds.
        look_within: has the publisher look again after so many seconds at the latest.
    """

    def __init__(
        self,
        builder: Builder,
        in_force: InForce,
        quiet: Quiet,
        rollouts: Rollouts,
        instead: Instead,
        *,
        look_within: Callable[[float], None],
    ) -> None:
        self._builder = builder
        self._in_force = in_force
        self._quiet = quiet
        self._rollouts = rollouts
        self._instead = instead
        self._look_within = look_within

    async def look_at(self, tree: Tree, *, at_once: bool) -> Published | HeldBack | None:
        """Publish a tree; of what is to be rolled out only what was begun, and nothing else than what it began with.

        Args:
            tree: what lies there.
            at_once: whether it is quiet or not.

        Returns:
            What came of it; None where it waits for somebody to begin its roll-out.
        """
        pair = (tree.channel, tree.arch)
        if not is_next(tree.channel):
            return await self._publish_if_quiet(tree, at_once=at_once)
        is_busy = not at_once and await self._quiet.is_busy(tree)
        staged = await trio.to_thread.run_sync(self._rollouts.staged, pair)
        is_on = staged is not None and staged.ended is None
        if is_busy and not is_on:
            return None
        try:
            content = await trio.to_thread.run_sync(
                self._builder.content_of, tree
            )  # so that a start is quick
        except P2PBootError as error:
            self._look_within(QUIET_S)
            return HeldBack(Code.UNPUBLISHABLE, tree, error) if is_on else None
        if staged is None or not is_on:
            return None
        if content != content_digest(staged.claims):
            return HeldBack(Code.UNPUBLISHABLE, tree, changed_while_on(staged, tree.directory))
        return await self._publish_if_quiet(tree, at_once=at_once, rollout=staged.rollout)

    async def _publish_if_quiet(
        self, tree: Tree, *, at_once: bool, rollout: Rollout | None = None
    ) -> Published | HeldBack:
        if not at_once and await self._quiet.is_busy(tree):
            in_force = self._in_force.of((tree.channel, tree.arch))
            if await trio.to_thread.run_sync(self._builder.is_news, tree, in_force):
                error = ArtifactError(
                    f"something in {tree.directory} changed a moment ago",
                    remedy="wait, or say `p2pboot publish` when it is complete",
                )
                return HeldBack(Code.STILL_CHANGING, tree, error)
        try:
            manifest = await trio.to_thread.run_sync(self._builder.publish, tree, rollout)
        except ChangedWhileHashing as error:
            self._look_within(QUIET_S)
            return HeldBack(Code.STILL_CHANGING, tree, error)
        except PublisherRevoked as error:  # a newer root may say otherwise, which has this look again
            return HeldBack(Code.PUBLISHER_REVOKED, tree, error)
        except DirectoryNotInForce as error:
            return HeldBack(error.code, tree, error)
        except P2PBootError as error:
            return HeldBack(Code.UNPUBLISHABLE, tree, error)
        return self._in_force.note(manifest)

    async def look_at_unfit(self, unfit: Unfit, *, at_once: bool) -> HeldBack | None:
        """Why what lies there is not published; None of what is rolled out no more."""
        if await trio.to_thread.run_sync(self._rollouts.is_over, (unfit.channel, unfit.arch)):
            return None
        busy = not at_once and await self._quiet.is_busy(unfit)
        return HeldBack(Code.STILL_CHANGING if busy else Code.UNPUBLISHABLE, unfit, unfit.error)

    async def keep(self, pair: Pair, directory: Path) -> None:
        """What was published before goes on, as long as its files do."""
        in_force = self._in_force.of(pair)
        try:
            manifest = await trio.to_thread.run_sync(self._builder.keep, pair, directory, in_force)
        except P2PBootError as error:
            log.error(
                "%s/%s: what is in force can not be kept: %s",
                *pair,
                error,
                extra=Event.TASK_FAILED(task="keep what is published", channel=pair[0], arch=pair[1]),
            )
            return
        if manifest is not None:
            self._in_force.note(manifest)
        else:
            await self._instead.end_yanked(pair)


def refusal(held_back: Sequence[HeldBack], error: P2PBootError | None) -> P2PBootError | None:
    """The one error to speak of: a file that is still being written mends itself, any other does not.

    Args:
        held_back: what is not published.
        error: what is wrong with the directory as a whole.
    """
    errors = [one.error for one in held_back]
    lasting = (one for one in errors if not isinstance(one, ChangedWhileHashing))
    return next(lasting, errors[0] if errors else error)
