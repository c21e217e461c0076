"""Brings in what the node follows: the newest of each subject, from whoever has pieces of it.

One task for each subject, such as a (channel, arch). What is wanted of it is read again whenever something changed, and
something newer takes the place of what is being fetched. Whoever moves its head faster than `_MOVES` allows makes us
skip versions, not fetch more. Of what is wanted, this module knows the name only: what it is, where it goes and what a
signer's fault is, its kind knows (`Followed`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import field
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

import trio
from typing_extensions import override

from p2pboot.core.dataclass import dataclass
from p2pboot.core.events import Event
from p2pboot.core.problems import Code, Problem
from p2pboot.core.token_bucket import TokenBucket
from p2pboot.errors import FetchError, P2PBootError
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import NoProgress, Passing, Progress
from p2pboot.fetch.receiving.swarm import Network
from p2pboot.fetch.receiving.view import FetchView
from p2pboot.transport.interface import Transport

log = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 60.0
MAX_SUBJECTS: Final = 256  # followed at the same time: a trusted key can make up any number of channels
_MOVES_BURST: Final = 8  # versions that may follow each other at once
_MOVES_PER_S: Final = 1 / 60  # and in the long run

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """One thing that is to be brought in.

    Args:
        subject: what it is a version of, for people and problems; of each, one is wanted at a time.
        version: which one; a digest.
        content: what its kind knows of it.
    """

    subject: str
    version: str
    content: T


class Followed(Protocol[T]):
    """A kind of thing that the node follows, such as manifests. All but `bring` block, and are called in threads."""

    blamable: tuple[type[P2PBootError], ...]
    """What `bring` raises when it is the signers' fault: trying again would only fetch it again."""

    def wanted(self) -> Sequence[Item[T]]:
        """Everything that is to be had and is not here; one of each subject."""

    def faults(self) -> Sequence[Problem]:
        """What can not be had any more, by its signers' fault."""

    async def bring(self, item: Item[T], stalled: Callable[[str | None], None]) -> None:
        """Have everything of it here.

        Args:
            item: what to bring.
            stalled: is told why nothing comes in, and with None that it goes on.

        Raises:
            P2PBootError: it can not be had now.
        """

    def completed(self, item: Item[T]) -> None:
        """Everything of it is here: put it into force. It is not wanted any more then."""

    def blame(self, item: Item[T], error: P2PBootError) -> None:
        """It can never be had: remember that, durably. It is not wanted any more then."""

    def tidy(self) -> None:
        """What was begun and is not wanted any more is to go."""


class _Stalls(Passing):
    """Says why nothing comes in to one, how far it is to another, and nothing else: the ledger is looked at."""

    def __init__(self, stalled: Callable[[str | None], None], shown: Progress) -> None:
        super().__init__(shown)
        self._stalled = stalled

    @override
    def note(self, text: str) -> None:
        pass

    @override
    def peer(self, peer_id: str, text: str) -> None:
        pass

    @override
    def stalled(self, why: str | None) -> None:
        self._stalled(why)


def patient_network(
    transport: Transport,
    stalled: Callable[[str | None], None],
    view: FetchView | None = None,
    dropped: Callable[[str, str], None] = lambda _peer_id, _reason: None,
    *,
    shown: Progress | None = None,
    publishers: Set[str] = frozenset(),
) -> Network:
    """What one try needs: it waits for ever, unless whoever is there lied; the next, a second later, asks them again.

    Args:
        transport: connected peers are asked.
        stalled: as `Followed.bring` is given it.
        view: where to see what is on its way.
        dropped: is told at once who lied, and about what.
        shown: told how far it is; None: nobody is.
        publishers: peer ids of those who signed it, or made it.
    """
    ledger = Ledger(_Stalls(stalled, shown or NoProgress()), publishers, told=dropped)

    def only_liars_are_left() -> bool:
        peers = transport.peers()
        return bool(peers) and not any(ledger.usable(peer_id) for peer_id in peers)

    return Network(transport, ledger, hopeless=only_liars_are_left, view=view)


def check_sizes(sizes: Mapping[str, int], max_bytes: int) -> None:
    """Refuse to fetch what is larger than the operator allows.

    Args:
        sizes: of the parts, bytes, by name.
        max_bytes: that one may have.

    Raises:
        FetchError: naming the first that is larger.
    """
    for name, size in sizes.items():
        if size > max_bytes:
            raise FetchError(
                f"{name} has {size} bytes, more than the {max_bytes} that a publisher may make this node fetch",
                remedy="raise store.max_artifact in the configuration",
            )


@dataclass(eq=False, slots=True)
class _Pursuit(Generic[T]):
    """What is wanted of one subject."""

    subject: str
    item: Item[T] | None = None
    changed: trio.Event = field(default_factory=trio.Event)  # `item` is another one
    at_rest: trio.Event = field(default_factory=trio.Event)  # nothing is being fetched

    def set(self, item: Item[T] | None) -> None:
        self.item = item
        self.changed.set()


class Mirror(Generic[T]):
    """Brings in one kind of thing.

    Args:
        followed: the kind.
        report: is told of all that can not be had.
    """

    def __init__(self, followed: Followed[T], report: Callable[[list[Problem]], None]) -> None:
        self._followed = followed
        self._report = report
        self._pursuits: dict[str, _Pursuit[T]] = {}
        self._reconciling = trio.Lock()
        self._retry = trio.Event()
        self._send_new, self._receive_new = trio.open_memory_channel[_Pursuit[T]](MAX_SUBJECTS)
        self._problems: dict[str, Problem] = {}
        self._faults: list[Problem] = []
        self._left_out: set[str] = set()
        self.tries: Counter[str] = Counter(dict.fromkeys(("completed", "failed", "unusable"), 0))
        """How those came out that ended by themselves, since the start."""
        self._aside: set[str] = set()  # subjects that somebody else brings in

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with trio.open_nursery() as nursery:
            async for pursuit in self._receive_new:
                nursery.start_soon(self._follow, pursuit)

    def retry(self) -> None:
        """Try again soon what is waiting (a peer connected, a limit changed)."""
        self._retry.set()
        self._retry = trio.Event()

    @asynccontextmanager
    async def standing_aside(self, subject: str) -> AsyncIterator[None]:
        """While this lasts somebody else brings a subject in: nothing of it is being fetched.

        Whoever does it has this look again afterwards (`reconcile`).

        Raises:
            P2PBootError: another one does already, or what is wanted can not be read.
        """
        if subject in self._aside:
            raise P2PBootError(f"{subject} is being brought in already", remedy="wait until that is done")
        self._aside.add(subject)
        try:
            await self.reconcile()
            yield
        finally:
            self._aside.discard(subject)

    async def reconcile(self) -> None:
        """Go for what is wanted now; when this returns, nothing else is being fetched any more.

        Raises:
            P2PBootError: what is wanted can not be read.
        """
        async with self._reconciling:
            items, self._faults = await trio.to_thread.run_sync(self._look)
            wanted = {item.subject: item for item in items if item.subject not in self._aside}
            given_up = []
            for subject, pursuit in self._pursuits.items():
                item, before = wanted.pop(subject, None), pursuit.item
                if item is None:
                    self._problems.pop(subject, None)
                if before is not None and (item is None or item.version != before.version):
                    given_up.append(pursuit.at_rest)
                if (item and item.version) != (before and before.version):
                    pursuit.set(item)
            for item in wanted.values():
                self._begin(item)
            self._tell()
            for at_rest in given_up:
                await at_rest.wait()
            if given_up:
                await trio.to_thread.run_sync(self._followed.tidy)

    def _look(self) -> tuple[Sequence[Item[T]], list[Problem]]:
        return self._followed.wanted(), list(self._followed.faults())

    def _begin(self, item: Item[T]) -> None:
        if len(self._pursuits) >= MAX_SUBJECTS:
            if (
                item.subject not in self._left_out and len(self._left_out) < MAX_SUBJECTS
            ):  # else it fills the log
                self._left_out.add(item.subject)
                log.warning(
                    "%s is not followed: %d others are",
                    item.subject,
                    MAX_SUBJECTS,
                    extra=Event.NOT_FOLLOWED(subject=item.subject),
                )
            return
        pursuit = self._pursuits[item.subject] = _Pursuit(item.subject, item)
        pursuit.at_rest.set()
        self._send_new.send_nowait(pursuit)

    async def _follow(self, pursuit: _Pursuit[T]) -> None:
        moves = TokenBucket(rate=_MOVES_PER_S, burst=_MOVES_BURST, now=trio.current_time())
        while True:
            if pursuit.item is not None:
                await self._wait_for_turn(pursuit.subject, moves)
            pursuit.changed = trio.Event()  # from here on what is newer supersedes what is being fetched
            if pursuit.item is None:
                await pursuit.changed.wait()
                continue
            pursuit.at_rest = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_settled, pursuit, pursuit.item)
                await pursuit.changed.wait()
                nursery.cancel_scope.cancel()
            pursuit.at_rest.set()

    async def _wait_for_turn(self, subject: str, moves: TokenBucket) -> None:
        wait_s = moves.take(1, trio.current_time())
        if wait_s > 0:
            log.warning(
                "%s moves its head too often: the next version is taken in %.0f s",
                subject,
                wait_s,
                extra=Event.MOVES_TOO_OFTEN(subject=subject),
            )
            await trio.sleep(wait_s)

    async def _until_settled(self, pursuit: _Pursuit[T], item: Item[T]) -> None:
        delay_s = FIRST_RETRY_S
        while True:
            try:
                await self._attempt(pursuit, item)
            except P2PBootError as error:
                self.tries["failed"] += 1
                self._note(item.subject, Problem.of(Code.NOT_MIRRORED, item.subject, error))
                await trio.sleep(FIRST_RETRY_S)  # however many peers come and go
                with trio.move_on_after(delay_s - FIRST_RETRY_S):
                    await self._retry.wait()
                delay_s = min(delay_s * 2, LONGEST_RETRY_S)
            else:
                self._note(item.subject, None)
                return

    async def _attempt(self, pursuit: _Pursuit[T], item: Item[T]) -> None:
        """Bring it, or learn that it can never be had: either way it is not wanted any more."""
        try:
            await self._followed.bring(item, partial(self._note_stall, item.subject))
        except self._followed.blamable as error:
            log.error("%s: %s", item.subject, error, extra=Event.UNUSABLE(subject=item.subject))
            settle, outcome = partial(self._followed.blame, item, error), "unusable"
        else:
            settle, outcome = partial(self._followed.completed, item), "completed"
        async with self._reconciling:  # or what was read before would be begun again
            await trio.to_thread.run_sync(settle)
            self.tries[outcome] += 1
            pursuit.item = None

    def _note_stall(self, subject: str, why: str | None) -> None:
        self._note(subject, None if why is None else Problem(Code.NOT_MIRRORED, subject, why))

    def _note(self, subject: str, problem: Problem | None) -> None:
        if problem is None:
            self._problems.pop(subject, None)
        else:
            self._problems[subject] = problem
        self._tell()

    def _tell(self) -> None:
        self._report([*self._problems.values(), *self._faults])
