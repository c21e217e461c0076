"""Looks at intervals at what happens by itself: time passes, clocks are set, files are touched, disks rot.

Each function here looks at the present state and returns all the problems of its kind.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Container, Iterable
from functools import partial
from typing import Final

import trio

from p2pboot.core.events import Event
from p2pboot.core.manifest import Candidate
from p2pboot.core.names import ARCHS
from p2pboot.core.problems import Code, Problem
from p2pboot.core.trust import Pair
from p2pboot.core.verify import clock_problem
from p2pboot.core.withheld import Why, Withheld
from p2pboot.errors import Malformed, P2PBootError
from p2pboot.node.contact import Contact
from p2pboot.node.contradictions import contradiction_problems
from p2pboot.node.foreseeing import (
    SPARE_SHARE,
    STANDING_SHARE,
    disk_problems,
    expiring_problems,
    little_room,
)
from p2pboot.node.freezing import FreezeAlarm
from p2pboot.node.lapsing import root_problems, yanked_problems
from p2pboot.node.poisoners import Poisoners
from p2pboot.node.problems import Problems
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.room import AUTO
from p2pboot.store.store import Store
from p2pboot.store.truststate import TrustState

log = logging.getLogger(__name__)

DAMAGE_S: Final = 5.0  # how often what was found damaged while serving is hashed or fetched again
OBSERVE_S: Final = 10.0  # how often it is looked for what can go wrong by itself
# How far the clock moves, beside the time that passes, before dates are looked at again.
CLOCK_JUMP_S: Final = 60.0


class Observer:
    """Looks after a node.

    Args:
        store: whose files may be touched or damaged.
        catalogue: of the same store; is told when something is.
        problems: told what is wrong.
        contact: knows with whom the node was connected.
        poisoners: knows who sent what was not signed.
        publish_soon: called when the directory is to be looked at again.
        tick: called at every look.
        wall: the machine's clock, unix seconds.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        problems: Problems,
        *,
        contact: Contact,
        poisoners: Poisoners,
        publish_soon: Callable[[], None],
        tick: Callable[[], Awaitable[None]],
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._problems = problems
        self._contact = contact
        self._poisoners = poisoners
        self._publish_soon = publish_soon
        self._tick = tick
        self._wall = wall
        self._freeze = FreezeAlarm(store, catalogue, trio.current_time())

    async def run(self) -> None:
        """Look until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_for_damage)
            nursery.start_soon(self._examine)
            nursery.start_soon(self._observe)

    async def _watch_for_damage(self) -> None:
        """What turned out to be damaged while it was served is not held any more: hash or fetch it again."""
        while True:
            await trio.sleep(DAMAGE_S)
            damaged = self._store.blobs.take_damaged()
            if damaged:
                names = ", ".join(f"sha256:{digest}" for digest in damaged)
                log.warning("gone or damaged on disk: %s", names, extra=Event.DAMAGED(content=names))
                self._publish_soon()
                self._catalogue.tell()

    async def _examine(self) -> None:
        """Own files that were touched are read again, and served meanwhile."""
        while True:
            await trio.sleep(DAMAGE_S)
            try:
                check = trio.from_thread.check_cancelled
                await trio.to_thread.run_sync(self._store.blobs.examine_in_place, check)
            except P2PBootError as error:
                log.error(
                    "files that were touched can not be examined: %s",
                    error,
                    extra=Event.TASK_FAILED(task="examine files that were touched"),
                )

    async def _observe(self) -> None:
        """Report what is wrong without anything having happened, and see whether the clock was set."""
        offset_s = self._wall() - trio.current_time()
        said = ""  # of the look before: a disk stays full for days
        while True:
            await self._tick()
            try:
                await self._report_what_stands()
                said = ""
            except P2PBootError as error:
                if str(error) != said:
                    said = str(error)
                    log.error(
                        "what is wrong can not be found out: %s",
                        error,
                        extra=Event.TASK_FAILED(task="find out what is wrong"),
                    )
            before_s, offset_s = offset_s, self._wall() - trio.current_time()
            if abs(offset_s - before_s) > CLOCK_JUMP_S:
                self._publish_soon()
            await trio.sleep(OBSERVE_S)

    async def _report_what_stands(self) -> None:
        # First, since on a full disk the database may answer nothing that follows.
        look = partial(disk_problems, self._store.path, stands=bool(self._problems.of("disk")))
        self._problems.report("disk", await trio.to_thread.run_sync(look))
        wrong = clock_problem(await trio.to_thread.run_sync(self._catalogue.clock))
        self._problems.report("clock", [] if wrong is None else [wrong])
        doubt = await trio.to_thread.run_sync(self._store.doubt)
        state = str(self._store.path)
        self._problems.report("memory", [] if doubt is None else [Problem.of(Code.STATE, state, doubt)])
        withheld = await trio.to_thread.run_sync(self._catalogue.withheld)
        expiring = await trio.to_thread.run_sync(expiring_problems, self._store, self._catalogue)
        self._problems.report("expiry", [*expired_problems(withheld), *expiring])
        standing = {problem.code for problem in self._problems.of("quota")}
        room = await trio.to_thread.run_sync(quota_problems, self._store, self._catalogue, standing)
        self._problems.report("quota", room)
        found = await trio.to_thread.run_sync(equivocation_problems, self._store.trust, self._catalogue)
        found += await trio.to_thread.run_sync(
            contradiction_problems, self._store.documents, self._catalogue.trust, self._wall()
        )
        self._problems.report("equivocations", found)
        frozen = await trio.to_thread.run_sync(self._freeze.problems, trio.current_time())
        self._problems.report("freeze", frozen)
        self._problems.report("root", await trio.to_thread.run_sync(root_problems, self._catalogue))
        yanked = await trio.to_thread.run_sync(yanked_problems, self._store, self._catalogue)
        self._problems.report("yanked", yanked)
        rows = await trio.to_thread.run_sync(self._store.manifests.known)
        self._problems.report("contact", self._contact.problems(rows, self._catalogue.trust))
        self._problems.report("poisoners", self._poisoners.problems())


def expired_problems(withheld: Iterable[Withheld]) -> list[Problem]:
    """What is held and out of date."""
    return [
        Problem(
            Code.EXPIRED,
            f"{one.channel}/{one.arch}",
            f"{one.text}, and is not offered any more",
            "see that its publisher runs, can be reached from here, and renews it; and that this clock is right",
        )
        for one in withheld
        if one.why is Why.EXPIRED
    ]


def quota_problems(store: Store, catalogue: Catalogue, standing: Collection[Code] = ()) -> list[Problem]:
    """What is followed and can not be renewed, because its next version would find no room, or just so; blocking.

    It counts one version of everything and, unless one is kept only, the next one of the largest beside it, as if
    nothing of that stayed the same.

    Args:
        store: whose room it is.
        catalogue: of the same store.
        standing: what was found the last time. A limit by what the disk has left never stays the same, and must not end
            and begin a problem again with every file that somebody writes.
    """
    limit = store.blobs.room.limit_bytes()
    if limit is None:
        return []
    sizes: dict[Pair, dict[str, int]] = {}
    for row in sorted(store.manifests.known(), key=lambda row: row.manifest_version):  # the newest counts
        if row.fault is None and catalogue.trust.takes(row) and not catalogue.trust.is_own(row):
            sizes[row.pair] = catalogue.sizes(row.digest)
    if not sizes:
        return []
    total = sum({sha256: size for each in sizes.values() for sha256, size in each.items()}.values())
    pair, largest = max(((pair, sum(each.values())) for pair, each in sizes.items()), key=lambda one: one[1])
    needed = total if catalogue.keep == 1 else total + largest
    varies = store.blobs.quota_bytes == AUTO
    margin = limit // STANDING_SHARE if varies and standing else 0
    if needed <= limit - limit // SPARE_SHARE - margin:
        return []
    subject = "/".join(pair)
    if needed <= limit - (margin if Code.QUOTA in standing else 0):
        return [little_room(subject, needed, limit, varies=varies)]
    may = f"the store may hold {limit} bytes"
    remedy = f"raise store.quota (--quota) to {needed} bytes or more"
    if varies:
        may = "the store may hold what the disk has left but for a tenth"
        remedy = f"free {max(needed - limit, margin)} bytes on the disk, or more"
    if catalogue.keep > 1:
        remedy += "; or keep one version only (--keep 1, or keep = 1 in [store])"
        what = f"one version of everything and a next one of {subject}, whose last has {largest} bytes, are"
    else:
        what = "one version of everything is"
    return [
        Problem(
            Code.QUOTA,
            subject,
            f"{may}, and {what} {needed} bytes: the next version may not be taken",
            remedy,
        )
    ]


def equivocation_problems(trust: TrustState, catalogue: Catalogue) -> list[Problem]:
    """Trusted keys that signed two manifests of one number, until a higher one is accepted; blocking."""
    found: list[Problem] = []
    for one in trust.equivocations():
        accepted = catalogue.accepted(one.channel, one.arch)
        if not accepted or accepted[0].manifest_version > one.manifest_version:
            continue
        try:
            first, second = Candidate.decode(one.first), Candidate.decode(one.second)
        except Malformed:
            continue
        if catalogue.trust.takes(first):
            problem = Problem(
                Code.EQUIVOCATION,
                f"{one.channel}/{one.arch}",
                f"two manifests with version {one.manifest_version} are signed: sha256:{first.digest} and"
                f" sha256:{second.digest}",
                "find out whether a key is misused or a publisher's state was lost; a higher version resumes",
            )
            found.append(problem)
    return found


_UNHELD: Final = {
    Code.REFUSED: (Why.REFUSED, "what others offer is refused here (`p2pboot status` there says why)"),
    Code.UNPUBLISHABLE: (
        Why.UNPUBLISHABLE,
        "it can not be published as it is (`p2pboot status` there says why)",
    ),
}


def unheld(
    problems: Iterable[Problem], pairs: Container[Pair], channel: str | None, arch: str | None
) -> list[Withheld]:
    """What is not offered because there is nothing that could be, although the node knows why not.

    The problem's own text stays here: it names paths, and whom the operator trusts.

    Args:
        problems: of the node.
        pairs: what is offered, or withheld for another reason.
        channel: only this one.
        arch: only this (canonical) one.
    """
    found: dict[Pair, Withheld] = {}
    for problem in problems:
        pair, known = pair_of(problem.subject), _UNHELD.get(problem.code)
        if known is None or pair is None or pair in pairs:
            continue
        if channel in (None, pair[0]) and arch in (None, pair[1]):
            found[pair] = Withheld(*pair, *known)
    return list(found.values())


def pair_of(subject: str) -> Pair | None:
    """The channel and arch that a problem is about, where it is about one."""
    channel, _, arch = subject.partition("/")
    return (channel, arch) if channel and arch in ARCHS else None
