"""Publishes the artifacts directory: at the start, when it changed and is quiet again, on demand, and before expiry.

Owns when to look, and what is said of a look; `pairs` decides what becomes of one channel and arch, `building` does it,
`inforce` is what came of it. `watching` notices changes, `quiet` that they are over, `withdrawal` what is gone, and
`adoption` answers other nodes that use the key. Each (channel, arch) stands alone: what can be published is, and what
can not is a problem that is looked at again and again. What was published of it before goes on being offered, and
renewed, while its files last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.events import Event
from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest, Statement, content_digest
from p2pboot.core.names import base_channel, is_next
from p2pboot.core.problems import Code, Problem
from p2pboot.core.trust import Pair
from p2pboot.errors import ArtifactError, P2PBootError
from p2pboot.node.adoption import SharedKey
from p2pboot.node.building import Builder, Description
from p2pboot.node.inforce import InForce, Published
from p2pboot.node.instead import Instead
from p2pboot.node.pairs import HeldBack, PairPublisher, refusal
from p2pboot.node.quiet import QUIET_S, Quiet
from p2pboot.node.staging import Staging
from p2pboot.node.watching import watch_directory
from p2pboot.node.withdrawal import Withdrawals, last_published, withdrawn_problem
from p2pboot.publish.numbering import publishing_time
from p2pboot.publish.rollouts import Rollouts
from p2pboot.publish.scan import Scanned, Tree, Unfit, scan_each
from p2pboot.store.gate import Gate
from p2pboot.store.store import Store

log = logging.getLogger(__name__)

CHECK_S: Final = 300.0  # a safety net where nothing tells of a change; stats only
_NAMED_FAULTS: Final = 8  # what one line can say of strange directories

SOURCE: Final = "publisher"  # of the problems of directory and pairs


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one look at the directory led to.

    Args:
        published: of every pair that could be published, what is in force now.
        withdrawn: releases that are not offered here any more.
        refusal: why the first pair that could not be published was not; None when all could.
    """

    published: tuple[Published, ...]
    withdrawn: tuple[Statement, ...]
    refusal: P2PBootError | None


class DirectoryPublisher:
    """Keeps the manifests of one artifacts directory in force.

    Args:
        directory: the artifacts directory.
        store: for counters and caches; the files themselves are served where they lie.
        gate: through which manifests come into force.
        signing_key: signs manifests and detached signatures.
        describe: asked at every build, so that reloaded settings count.
        wall: the machine's clock, unix seconds; called in threads.
        report: is told, by source, of all that is wrong.
    """

    def __init__(
        self,
        directory: Path,
        *,
        store: Store,
        gate: Gate,
        signing_key: SecretKey,
        describe: Callable[[], Description],
        wall: Callable[[], float],
        report: Callable[[str, Iterable[Problem]], None],
    ) -> None:
        self.directory = directory
        self._store = store
        self._describe = describe
        self._wall = wall
        self._report = report
        self._shared = SharedKey(
            store.publications,
            (signing_key.public.keyid,),
            options=lambda: describe().options,
            peer_id=signing_key.public.peer_id,
            goes_on_with=self._goes_on_with,
            due_within=self.due_within,
            report=lambda problems: report("shared key", problems),
        )
        self._builder = Builder(
            store, gate, signing_key, describe=describe, now=self._now, floor=self._shared.floor
        )
        self.rollouts = Rollouts(store.publications, gate.catalogue, self._builder.signers)
        self._in_force = InForce(store.publications, self._builder.signers)
        self._quiet = Quiet(self._in_force, wall, self.due_within)
        self._withdrawals = Withdrawals(
            directory,
            store,
            gate,
            self._builder,
            self.rollouts,
            in_force=self._in_force,
            describe=describe,
            look_within=self.due_within,
        )
        self._building = trio.Lock()
        self._due_at = 0.0  # trio's clock
        self._due_moved = trio.Event()
        self.trees: tuple[Tree, ...] = ()  # as they were seen last
        self.instead = Instead(
            directory,
            self._builder,
            self._in_force,
            self._building,
            trees=lambda: self.trees,
            look_soon=lambda: self.due_within(0.0),
        )
        self.staging = Staging(
            directory,
            self._builder,
            self.rollouts,
            self._in_force,
            self._building,
            scan=self._scan,
            channel=lambda: describe().channel,
            look_soon=lambda: self.due_within(0.0),
        )
        self._pairs = PairPublisher(
            self._builder,
            self._in_force,
            self._quiet,
            self.rollouts,
            self.instead,
            look_within=self.due_within,
        )

    def _now(self) -> int:
        return publishing_time(int(self._wall()))

    # -- what others ask ---------------------------------------------------------------------------------------------

    def signers(self) -> dict[Pair, tuple[str, ...]]:
        """Who signs what this directory holds, and what was published of it and may still be about; blocking."""
        now = self._now()
        own = self._builder.signers
        signers: dict[Pair, tuple[str, ...]] = {
            pair: own
            for pair in self._withdrawals.ever_offered()
            if last_published(self._store.publications, own, pair, now)
        }
        scanned, _ = self._scan()
        trees = {(tree.channel, tree.arch): tree for tree in scanned.trees}
        signers.update(
            {
                pair: self._builder.signers_of(tree)
                for pair, tree in trees.items()
                # One that nobody began here may be on: the mesh knows of it what a lost state does not.
                if not self.rollouts.is_over(pair) or self.rollouts.staged(pair) is None
            }
        )
        return signers

    def is_new(self) -> bool:
        """Whether some pair was never published with this state: a new key, or a known key on a new machine.

        Blocking.
        """
        counter = self._store.publications.counter
        scanned, error = self._scan()
        return error is not None or any(
            counter(self._builder.signers, *pair) == 0 for pair in scanned.pairs if not is_next(pair[0])
        )

    async def saw_own(self, manifest: Manifest, *, usable: bool = True) -> None:
        """A manifest of the keys that sign here came from the mesh.

        Args:
            manifest: verified.
            usable: whether it is in date.
        """
        pair = (manifest.channel, manifest.arch)
        in_force = self._in_force.of(pair)
        if manifest.signers == self._builder.signers:
            await self._shared.saw(manifest, in_force, usable=usable)
        elif manifest != in_force:
            log.error(
                "%s/%s: the mesh knows version %d, signed by the keys of the manifest beside the artifacts: put that"
                " manifest and its artifacts here, or have a higher one signed",
                *pair,
                manifest.manifest_version,
                extra=Event.KNOWN_ELSEWHERE(
                    channel=pair[0], arch=pair[1], manifest_version=manifest.manifest_version
                ),
            )

    def _goes_on_with(self, pair: Pair) -> bool:
        """Have what was promoted elsewhere in force here, instead of what it took the place of; blocking.

        The directory does not tell: what is promoted may stay beside it. Where it holds a third thing, that is
        published.
        """
        into = (base_channel(pair[0]), pair[1])
        promoted, in_force = self.rollouts.promoted(*into), self._in_force.of(into)
        if promoted is None or promoted.rollout is None:
            return False
        over = promoted.rollout.over
        if in_force is not None and content_digest(in_force) != over:
            return False  # it is in force already, or something else is that machines have to be told of
        self._builder.holding.hold(into, promoted, over)
        return True

    def in_force(self, pair: Pair) -> Manifest | None:
        """What this node publishes of a channel and arch now."""
        return self._in_force.of(pair)

    @property
    def builder(self) -> Builder:
        """What brings things into force here."""
        return self._builder

    def due_within(self, delay_s: float) -> None:
        """Look after this many seconds at the latest."""
        self._due_at = min(self._due_at, trio.current_time() + delay_s)
        self._due_moved.set()

    async def run(self) -> None:
        """Publish until cancelled. The first look is at once."""
        await trio.to_thread.run_sync(self._shared.restore)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                watch_directory,
                self.directory,
                lambda: self.due_within(QUIET_S),
                lambda problems: self._report("watching", problems),
            )
            while True:
                self._due_at = trio.current_time() + CHECK_S  # what happens during the look makes it sooner
                try:
                    await self._look(at_once=False)
                except P2PBootError as error:  # what is in force is served on, and it is tried again soon
                    self._report("state", [Problem.of(Code.STATE, str(self._store.path), error)])
                    self.due_within(QUIET_S)
                else:
                    self._report("state", [])
                await self._wait_until_due()

    async def publish_now(self) -> Outcome:
        """Publish what can be, whether it is quiet or not.

        Raises:
            ArtifactError, UsageError, MachineError, StoreError: nothing can be; what is in force stays.
        """
        outcome = await self._look(at_once=True)
        if outcome.refusal is not None and not outcome.published:
            raise outcome.refusal
        return outcome

    async def _wait_until_due(self) -> None:
        while (left_s := self._due_at - trio.current_time()) > 0:
            self._due_moved = trio.Event()
            with trio.move_on_after(left_s):
                await self._due_moved.wait()

    # -- one look ----------------------------------------------------------------------------------------------------

    def _scan(self) -> tuple[Scanned, P2PBootError | None]:
        """What the directory holds; blocking. When it can not be read, nothing, and why."""
        description = self._describe()
        try:
            return scan_each(self.directory, description.channel, description.arch), None
        except P2PBootError as error:
            return Scanned(()), error

    async def _look(self, *, at_once: bool) -> Outcome:
        async with self._building:
            now = await trio.to_thread.run_sync(self._now)
            self._shared.tick(now)
            scanned, error = await trio.to_thread.run_sync(self._scan)
            self.trees = scanned.trees
            self._quiet.begin(scanned.pairs)
            held = await trio.to_thread.run_sync(self._builder.holding.pairs)
            gone = await self._withdrawals.withdraw_gone(scanned, held, at_once=at_once)
            looked = [await self._pairs.look_at(tree, at_once=at_once) for tree in scanned.trees]
            published = [one for one in looked if isinstance(one, Published)]
            held_back = [one for one in looked if isinstance(one, HeldBack)]
            for unfit in scanned.unfit:
                if (unfit.channel, unfit.arch) not in gone:
                    found = await self._pairs.look_at_unfit(unfit, at_once=at_once)
                    held_back += [] if found is None else [found]
            if error is None:
                held_back += self._unreachable(scanned, gone | held)
            held_back += self._without_directory(scanned, held)
            for pair, directory in {(of.channel, of.arch): of.directory for _, of, _ in held_back}.items():
                await self._pairs.keep(pair, directory)
            published += self._replaced(held_back)
            await self._withdrawals.end_rollouts()
            withdrawn = await trio.to_thread.run_sync(self._withdrawals.withdrawn, scanned, gone, now)
            self._report(
                SOURCE,
                [
                    *(Problem.of(code, f"{of.channel}/{of.arch}", error) for code, of, error in held_back),
                    *map(withdrawn_problem, withdrawn),
                    *self._directory_problems(scanned, error),
                ],
            )
            self._report("dates", await trio.to_thread.run_sync(self._in_force.wrong_dates, now))
            renewal_s = await trio.to_thread.run_sync(self._in_force.renewal_s, now)
            self.due_within(CHECK_S if renewal_s is None else renewal_s)
        return Outcome(tuple(published), withdrawn, refusal(held_back, None if gone else error))

    def _without_directory(self, scanned: Scanned, held: set[Pair]) -> Iterator[HeldBack]:
        """What is in force from the store alone."""
        pairs = {*filter(self._describe().asks_for, held - scanned.pairs)}
        for unfit in self.instead.without_directory(pairs):
            yield HeldBack(Code.DIRECTORY_REPLACED, unfit, unfit.error)

    def _replaced(self, held_back: Iterable[HeldBack]) -> Iterator[Published]:
        """What is in force instead of what the directory holds."""
        for code, of, _ in held_back:
            in_force = self._in_force.of((of.channel, of.arch))
            if code is Code.DIRECTORY_REPLACED and in_force is not None:
                yield Published(in_force, unchanged=True)

    def _directory_problems(self, scanned: Scanned, error: P2PBootError | None) -> Iterator[Problem]:
        if error is not None:
            yield Problem.of(Code.DIRECTORY, str(self.directory), error)
        if faults := scanned.faults:
            text = "; ".join(fault.message for fault in faults[:_NAMED_FAULTS])
            more = f"; and {len(faults) - _NAMED_FAULTS} more" if len(faults) > _NAMED_FAULTS else ""
            yield Problem(Code.UNKNOWN_DIRECTORY, str(self.directory), text + more, faults[0].remedy)

    def _unreachable(self, scanned: Scanned, accounted: set[Pair]) -> Iterator[HeldBack]:
        """What is in force, and whose directory is neither gone nor usable: a link to nothing, no permission."""
        unaccounted = self._in_force.pairs() - scanned.pairs - accounted
        for channel, arch in filter(self._describe().asks_for, unaccounted):
            directory = self.directory / channel / arch
            error = ArtifactError(
                f"{directory} can not be reached any more",
                remedy="check its links and permissions, or remove it to withdraw what was published of it",
            )
            yield HeldBack(Code.UNPUBLISHABLE, Unfit(channel, arch, directory, error), error)
