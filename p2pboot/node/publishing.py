"""Publishes the artifacts directory: at the start, when it changed and is quiet again, on demand, and before expiry.

Owns when to publish what; `building` does it, `watching` notices changes, `withdrawal` what is gone, and `adoption`
answers other nodes that use the key. Each (channel, arch) stands alone: what can be published is, and what can not is
a problem that is looked at again and again. What was published of it before goes on being offered, and renewed, while
its files last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import trio

from p2pboot import RELEASE_DATE
from p2pboot.core.dataclass import dataclass
from p2pboot.core.events import Event
from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest, Rollout, Statement, content_digest
from p2pboot.core.names import is_next
from p2pboot.core.problems import Code, Problem
from p2pboot.core.timestamps import MAX_TIME
from p2pboot.core.trust import Pair
from p2pboot.errors import ArtifactError, P2PBootError
from p2pboot.node.adoption import OUTBID_S, SharedKey
from p2pboot.node.building import Builder, Description
from p2pboot.node.holding import DirectoryNotInForce
from p2pboot.node.instead import Instead
from p2pboot.node.staging import Staging
from p2pboot.node.watching import touched_within, watch_directory
from p2pboot.node.withdrawal import GonePairs, last_published, withdrawn_problem
from p2pboot.publish.numbering import Series, renewal_at, valid_too_long, went_back
from p2pboot.publish.rollouts import Rollouts, changed_while_on
from p2pboot.publish.scan import Scanned, Tree, Unfit, recently_changed, scan_each
from p2pboot.store.errors import PublisherRevoked
from p2pboot.store.gate import Gate
from p2pboot.store.hashing import ChangedWhileHashing
from p2pboot.store.store import Store

log = logging.getLogger(__name__)

SETTLED_S: Final = 2.0  # at the start, a file younger than this may still be being written
QUIET_S: Final = 10.0  # later, nothing must have changed for so long, whoever or whatever asks for a build
CHECK_S: Final = 300.0  # a safety net where nothing tells of a change; stats only
_NAMED_FAULTS: Final = 8  # what one line can say of strange directories

SOURCE: Final = "publisher"  # of the problems of directory and pairs


def publishing_time(wall: int) -> int:
    """The date for what is published now: the clock's, and never before this program was made.

    What this node published before is no evidence of the time: it bears this very clock's readings.
    """
    return min(max(wall, RELEASE_DATE), MAX_TIME)


@dataclass(frozen=True, slots=True)
class Published:
    """What one build put into force."""

    manifest: Manifest
    unchanged: bool


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


class _HeldBack(NamedTuple):
    """What is not published now, and why; what was published of it before goes on."""

    code: Code
    of: Tree | Unfit
    error: P2PBootError


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
        self._catalogue = gate.catalogue
        self._audit = gate.audit
        self._describe = describe
        self._wall = wall
        self._report = report
        self._shared = SharedKey(
            store.publications,
            (signing_key.public.keyid,),
            options=lambda: describe().options,
            peer_id=signing_key.public.peer_id,
            due_within=self.due_within,
            report=lambda problems: report("shared key", problems),
        )
        self._builder = Builder(
            store, gate, signing_key, describe=describe, now=self._now, floor=self._shared.floor
        )
        self.rollouts = Rollouts(store.publications, gate.catalogue, self._builder.signers)
        self._gone_pairs = GonePairs(directory)
        self._gone_since: dict[Pair, float] = {}  # trio's clock
        self._settling: set[Pair] | None = None  # what was there at the start and has not been quiet yet
        self._building = trio.Lock()
        self._due_at = 0.0  # trio's clock
        self._due_moved = trio.Event()
        self._in_force: dict[Pair, Manifest] = {}
        self.trees: tuple[Tree, ...] = ()  # as they were seen last
        self.instead = Instead(
            directory,
            self._builder,
            self._in_force,
            self._building,
            trees=lambda: self.trees,
            note=lambda manifest: self._note_in_force(manifest),  # noqa: PLW0108 - it may be another one later
            look_soon=lambda: self.due_within(0.0),
        )
        self.staging = Staging(
            directory,
            self._builder,
            self.rollouts,
            self._building,
            scan=self._scan,
            channel=lambda: describe().channel,
            note=lambda manifest: self._note_in_force(manifest),  # noqa: PLW0108 - it may be another one later
            look_soon=lambda: self.due_within(0.0),
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
            for pair in self._ever_offered()
            if last_published(self._store.publications, own, pair, now)
        }
        scanned, _ = self._scan()
        trees = {(tree.channel, tree.arch): tree for tree in scanned.trees}
        signers.update(
            {
                pair: self._builder.signers_of(tree)
                for pair, tree in trees.items()
                if not self.rollouts.is_over(pair)
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
            counter(self._builder.signers, *pair) == 0 for pair in _pairs(scanned) if not is_next(pair[0])
        )

    async def saw_own(self, manifest: Manifest, *, usable: bool = True) -> None:
        """A manifest of the keys that sign here came from the mesh.

        Args:
            manifest: verified.
            usable: whether it is in date.
        """
        pair = (manifest.channel, manifest.arch)
        in_force = self._in_force.get(pair)
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

    def in_force(self, pair: Pair) -> Manifest | None:
        """What this node publishes of a channel and arch now."""
        return self._in_force.get(pair)

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
            if self._settling is None:
                self._settling = _pairs(scanned)
            held = await trio.to_thread.run_sync(self._builder.holding.pairs)
            gone = await self._withdraw_gone(scanned, held, at_once=at_once)
            looked = [await self._look_at(tree, at_once=at_once) for tree in scanned.trees]
            published = tuple(one for one in looked if isinstance(one, Published))
            held_back = [one for one in looked if isinstance(one, _HeldBack)]
            for unfit in scanned.unfit:
                pair = (unfit.channel, unfit.arch)
                if pair not in gone and not await trio.to_thread.run_sync(self.rollouts.is_over, pair):
                    busy = not at_once and await self._is_busy(unfit)
                    code = Code.STILL_CHANGING if busy else Code.UNPUBLISHABLE
                    held_back.append(_HeldBack(code, unfit, unfit.error))
            if error is None:
                held_back += self._unreachable(scanned, gone | held)
            gone_and_held = {*filter(self._is_asked, held - _pairs(scanned))}
            held_back += [
                _HeldBack(Code.DIRECTORY_REPLACED, unfit, unfit.error)
                for unfit in self.instead.without_directory(gone_and_held)
            ]
            for pair, directory in {(of.channel, of.arch): of.directory for _, of, _ in held_back}.items():
                await self._keep(pair, directory)
            replaced = [
                Published(self._in_force[of.channel, of.arch], unchanged=True)
                for code, of, _ in held_back
                if code is Code.DIRECTORY_REPLACED and (of.channel, of.arch) in self._in_force
            ]
            await self._end_rollouts()
            withdrawn = await trio.to_thread.run_sync(self._withdrawn, scanned, gone, now)
            self._report(
                SOURCE,
                [
                    *(Problem.of(code, f"{of.channel}/{of.arch}", error) for code, of, error in held_back),
                    *map(withdrawn_problem, withdrawn),
                    *self._directory_problems(scanned, error),
                ],
            )
            self._report("dates", await trio.to_thread.run_sync(self._wrong_dates, now))
            self.due_within(await trio.to_thread.run_sync(self._renewal_s, now))
        return Outcome((*published, *replaced), withdrawn, _refusal(held_back, None if gone else error))

    def _directory_problems(self, scanned: Scanned, error: P2PBootError | None) -> Iterator[Problem]:
        if error is not None:
            yield Problem.of(Code.DIRECTORY, str(self.directory), error)
        if faults := scanned.faults:
            text = "; ".join(fault.message for fault in faults[:_NAMED_FAULTS])
            more = f"; and {len(faults) - _NAMED_FAULTS} more" if len(faults) > _NAMED_FAULTS else ""
            yield Problem(Code.UNKNOWN_DIRECTORY, str(self.directory), text + more, faults[0].remedy)

    async def _look_at(self, tree: Tree, *, at_once: bool) -> Published | _HeldBack | None:
        """Publish a tree; of what is to be rolled out only what was begun, and nothing else than what it began with."""
        pair = (tree.channel, tree.arch)
        if not is_next(tree.channel):
            return await self._publish_if_quiet(tree, at_once=at_once)
        is_busy = not at_once and await self._is_busy(tree)
        staged = await trio.to_thread.run_sync(self.rollouts.staged, pair)
        is_on = staged is not None and staged.ended is None
        if is_busy and not is_on:
            return None
        try:
            content = await trio.to_thread.run_sync(
                self._builder.content_of, tree
            )  # so that a start is quick
        except P2PBootError as error:
            self.due_within(QUIET_S)
            return _HeldBack(Code.UNPUBLISHABLE, tree, error) if is_on else None
        if staged is None or not is_on:
            return None
        if content != content_digest(staged.claims):
            return _HeldBack(Code.UNPUBLISHABLE, tree, changed_while_on(staged, tree.directory))
        return await self._publish_if_quiet(tree, at_once=at_once, rollout=staged.rollout)

    async def _end_rollouts(self) -> None:
        """Stop offering what is rolled out no more."""
        rows = await trio.to_thread.run_sync(self._store.manifests.current)
        own = self._builder.signers
        pairs = {row.pair for row in rows if is_next(row.channel) and row.signers == own}
        for pair in pairs:
            if await trio.to_thread.run_sync(self.rollouts.is_over, pair):
                self._in_force.pop(pair, None)
                await trio.to_thread.run_sync(self._catalogue.withdraw, pair, {own})

    async def _publish_if_quiet(
        self, tree: Tree, *, at_once: bool, rollout: Rollout | None = None
    ) -> Published | _HeldBack:
        if not at_once and await self._is_busy(tree):
            in_force = self._in_force.get((tree.channel, tree.arch))
            if await trio.to_thread.run_sync(self._builder.is_news, tree, in_force):
                error = ArtifactError(
                    f"something in {tree.directory} changed a moment ago",
                    remedy="wait, or say `p2pboot publish` when it is complete",
                )
                return _HeldBack(Code.STILL_CHANGING, tree, error)
        try:
            manifest = await trio.to_thread.run_sync(self._builder.publish, tree, rollout)
        except ChangedWhileHashing as error:
            self.due_within(QUIET_S)
            return _HeldBack(Code.STILL_CHANGING, tree, error)
        except PublisherRevoked as error:  # a newer root may say otherwise, which has this look again
            return _HeldBack(Code.PUBLISHER_REVOKED, tree, error)
        except DirectoryNotInForce as error:
            return _HeldBack(error.code, tree, error)
        except P2PBootError as error:
            return _HeldBack(Code.UNPUBLISHABLE, tree, error)
        return self._note_in_force(manifest)

    def _unreachable(self, scanned: Scanned, accounted: set[Pair]) -> Iterator[_HeldBack]:
        """What is in force, and whose directory is neither gone nor usable: a link to nothing, no permission."""
        for channel, arch in filter(self._is_asked, self._in_force.keys() - _pairs(scanned) - accounted):
            directory = self.directory / channel / arch
            error = ArtifactError(
                f"{directory} can not be reached any more",
                remedy="check its links and permissions, or remove it to withdraw what was published of it",
            )
            yield _HeldBack(Code.UNPUBLISHABLE, Unfit(channel, arch, directory, error), error)

    async def _is_busy(self, of: Tree | Unfit) -> bool:
        """Whether a pair is being written to; one that was there at the start is waited for less."""
        pair = (of.channel, of.arch)
        settling = self._settling if self._settling is not None else set()
        quiet_s = SETTLED_S if pair in settling else QUIET_S
        if pair not in settling and await trio.to_thread.run_sync(self._is_from_elsewhere, pair):
            quiet_s += OUTBID_S  # who shares the directory and the key is to publish the change
        if await trio.to_thread.run_sync(self._changed_within, of, quiet_s):
            self.due_within(quiet_s / 4)
            return True
        settling.discard(pair)
        return False

    def _changed_within(self, of: Tree | Unfit, quiet_s: float) -> bool:
        now_ns = int(self._wall() * 1e9)
        if isinstance(of, Tree):
            return recently_changed(of, now_ns, quiet_s)
        return touched_within(of.directory, now_ns, quiet_s)

    def _is_from_elsewhere(self, pair: Pair) -> bool:
        manifest = self._in_force.get(pair)
        return manifest is not None and self._store.publications.is_from_elsewhere(manifest.digest)

    async def _keep(self, pair: Pair, directory: Path) -> None:
        """What was published before goes on, as long as its files do."""
        in_force = self._in_force.get(pair)
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
            self._note_in_force(manifest)
        else:
            await self.instead.end_yanked(pair)

    def _note_in_force(self, manifest: Manifest) -> Published:
        pair = (manifest.channel, manifest.arch)
        done = Published(manifest, unchanged=self._in_force.get(pair) == manifest)
        if not done.unchanged:
            self._in_force[pair] = manifest
            log.info(
                "%s/%s: publishing version %s (manifest_version %d, digest %s)",
                *pair,
                manifest.version,
                manifest.manifest_version,
                manifest.digest,
                extra=Event.PUBLISHED(
                    channel=pair[0],
                    arch=pair[1],
                    version=manifest.version,
                    manifest_version=manifest.manifest_version,
                    digest=manifest.digest,
                ),
            )
        return done

    # -- what is gone ------------------------------------------------------------------------------------------------

    async def _withdraw_gone(self, scanned: Scanned, held: set[Pair], *, at_once: bool) -> set[Pair]:
        """Stop offering what is gone from the directory, once it has been for a while; returns all that is.

        What is held is in force without a directory.
        """
        gone = await trio.to_thread.run_sync(self._find_gone, scanned) - held
        now = trio.current_time()
        quiet_s = QUIET_S if self._in_force else SETTLED_S
        self._gone_since = {pair: self._gone_since.get(pair, now) for pair in gone}
        for pair, since in self._gone_since.items():
            if not at_once and now - since < quiet_s:  # it may be being replaced
                self.due_within(since + quiet_s - now)
                continue
            in_force = self._in_force.pop(pair, None)
            signers = {self._builder.signers, self._builder.signers if in_force is None else in_force.signers}
            withdrawn = await trio.to_thread.run_sync(self._catalogue.withdraw, pair, signers)
            if self._audit is not None and withdrawn:
                await trio.to_thread.run_sync(self._audit.withdrawn, withdrawn)
        return gone

    def _find_gone(self, scanned: Scanned) -> set[Pair]:
        pairs = {*filter(self._is_asked, self._in_force), *self._ever_offered()}
        return self._gone_pairs.among(pairs, scanned)

    def _is_asked(self, pair: Pair) -> bool:
        """Whether the operator wants it published now."""
        description = self._describe()
        return description.channel in (None, pair[0]) and description.arch in (None, pair[1])

    def _ever_offered(self) -> list[Pair]:
        """What this state's node offered with this key, of what it is to publish now."""
        own = self._builder.signers
        return [
            pair
            for pair in filter(self._is_asked, self._store.publications.pairs(own))
            if own in {head.signers for head in self._store.trust.heads_of(*pair)}
            and not self.rollouts.is_over(pair)
        ]

    def _withdrawn(self, scanned: Scanned, gone: set[Pair], now: int) -> tuple[Statement, ...]:
        """What was offered, is not any more, and has not expired; sorted.

        That there is no trace of it in the catalogue is remembered over a restart, and while the directory is away.
        """
        own = self._builder.signers
        seen = _pairs(scanned) - gone
        kept = {(row.channel, row.arch) for row in self._store.manifests.current() if row.signers == own}
        found = [
            last_published(self._store.publications, own, pair, now)
            for pair in self._ever_offered()
            if pair not in seen | kept
        ]
        return tuple(one for one in found if one is not None and not self._builder.holding.is_yanked(one))

    # -- dates -------------------------------------------------------------------------------------------------------

    def _wrong_dates(self, now: int) -> list[Problem]:
        streams = (Series(self._builder.signers, *pair) for pair in self._in_force)
        found = (went_back(self._store.publications, stream, now) for stream in streams)
        too_long = (valid_too_long(manifest) for manifest in self._in_force.values())
        return [problem for problem in (*found, *too_long) if problem is not None]

    def _renewal_s(self, now: int) -> float:
        """Seconds until the first of what is in force is to be renewed."""
        due = [
            renewal_at(one, elsewhere=self._store.publications.is_from_elsewhere(one.digest))
            for one in self._in_force.values()
            if one.signers == self._builder.signers
        ]
        # What is overdue could not be renewed just now.
        return min((at - now for at in due if at > now), default=CHECK_S)


def _pairs(scanned: Scanned) -> set[Pair]:
    """What lies in a directory, fit or not."""
    fit = {(tree.channel, tree.arch) for tree in scanned.trees}
    return fit | {(unfit.channel, unfit.arch) for unfit in scanned.unfit}


def _refusal(held_back: Sequence[_HeldBack], error: P2PBootError | None) -> P2PBootError | None:
    """The one error to speak of: a file that is still being written mends itself, any other does not."""
    errors = [one.error for one in held_back]
    lasting = (one for one in errors if not isinstance(one, ChangedWhileHashing))
    return next(lasting, errors[0] if errors else error)
