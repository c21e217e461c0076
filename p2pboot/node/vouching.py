"""Vouches for what this node publishes: a freshness statement of each pair, renewed while the node runs.

Looks at the catalogue whenever that changes, and at the clock at intervals: of every channel and arch that this node
publishes the manifest in force is vouched for, with a key apart from the one that signs manifests. What a statement
says, and when, is decided in `publish.freshness`; the trust gate judges ours as anybody's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Final

import trio

from p2pboot.core.events import Event
from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest.rollout import Rollout
from p2pboot.core.policy import Publisher
from p2pboot.core.problems import Code, Problem
from p2pboot.core.timestamps import format_time
from p2pboot.core.trust import Pair
from p2pboot.core.trustdocs.freshness import FreshnessBody
from p2pboot.core.verify import clock_problem
from p2pboot.errors import MachineError, NotFoundError, P2PBootError, UsageError
from p2pboot.publish.freshness import (
    Head,
    Intervals,
    Settling,
    body_of,
    is_behind,
    is_due,
    minimum_of,
    sign,
)
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.manifests import HeadRow
from p2pboot.store.store import Store
from p2pboot.store.trustgate import Fate, TrustGate

log = logging.getLogger(__name__)

LOOK_S: Final = 10.0  # how often the clock is looked at: it may be set, and it is not trio's
SOURCE: Final = "freshness"  # of the problems
_PUBLISHER: Final = "this node"  # who brought our own statements to the gate
_TAKEN: Final = (Fate.NEWS, Fate.KNOWN)


class _Series:
    """What is remembered of one pair beside its newest statement."""

    def __init__(self) -> None:
        self.settling = Settling()
        self.rollout: Rollout | None = None  # of the head that was vouched for last
        self.vouched: str | None = None  # its digest
        self.insisted = (
            0  # the highest minimum that was signed here: another machine's later statement may say less
        )


class Voucher:
    """Signs freshness statements; for the event loop, everything that reads or signs is in threads.

    Args:
        store: of the node.
        catalogue: of the same store.
        gate: through which statements get in.
        key: the freshness key; None where the node has none, and vouches for nothing.
        intervals: asked each time, so that reloaded settings count.
        report: told what is wrong.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        gate: TrustGate,
        *,
        key: SecretKey | None,
        intervals: Callable[[], Intervals],
        report: Callable[[Iterable[Problem]], None],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._gate = gate
        self._key = key
        self._intervals = intervals
        self._report = report
        self._series: dict[Pair, _Series] = {}
        self._signing = trio.Lock()  # two statements of one second by one key would be evidence against it

    @property
    def keyid(self) -> str | None:
        """The key id of the freshness key; None where there is none."""
        return None if self._key is None else self._key.public.keyid

    async def run(self) -> None:
        """Look at the clock until cancelled; changes of the catalogue come by `reconcile`."""
        while self._key is not None:
            try:
                await self.reconcile()
            except P2PBootError as error:
                log.error(
                    "nothing can be vouched for: %s",
                    error,
                    extra=Event.TASK_FAILED(task="sign freshness statements"),
                )
            await trio.sleep(LOOK_S)

    async def reconcile(self) -> None:
        """Sign what is due, and say what can not be signed.

        Raises:
            StoreError, MachineError: the state can not be read or written.
        """
        if self._key is not None:
            async with self._signing:
                self._report(await trio.to_thread.run_sync(self._look))

    async def insist(self, pairs: Collection[Pair]) -> None:
        """Have nobody take anything below what is in force now, without waiting until mirrors have it.

        Raises:
            UsageError: there is no freshness key, or nothing can be signed; the message says why.
            StoreError, MachineError: the state.
        """
        for pair in pairs:
            await self._sign_now(pair, insist=True)

    async def pause(self, pair: Pair, since: int | None = None) -> int:
        """Sign at once that the roll-out of a pair (`<channel>.next`, arch) is paused.

        Args:
            pair: its channel and arch.
            since: unix seconds, not in the future; None for now. One that is paused already stays so since when it was.

        Returns:
            Since when it is, unix seconds.

        Raises:
            UsageError: there is no freshness key, or nothing can be signed; the message says why.
            NotFoundError: nothing of the pair is in force here.
            StoreError, MachineError: the state.
        """
        body = await self._sign_now(pair, paused=True, since=since)
        assert body.paused_since is not None  # noqa: S101 - just signed
        return body.paused_since

    async def resume(self, pair: Pair) -> None:
        """Sign at once that a roll-out is not paused any more; raises as `pause`.

        Who moves the plan instead, and publishes it anew, need not call this: what is said of one plan is not said of
        the next, so that no moment lies between the two.
        """
        await self._sign_now(pair, paused=False)

    async def _sign_now(
        self, pair: Pair, *, insist: bool = False, paused: bool | None = None, since: int | None = None
    ) -> FreshnessBody:
        say = partial(self._at_once, pair, insist=insist, paused=paused, since=since)
        async with self._signing:
            return await trio.to_thread.run_sync(say)

    # -- in threads --------------------------------------------------------------------------------------------------

    def _look(self) -> list[Problem]:
        now, problem = self._time()
        if problem is not None:
            return [problem] if self._rows() else []
        problems = []
        for pair, row in self._rows().items():
            try:
                self._renew(pair, row, now)
            except UsageError as error:
                problems.append(_unsigned(pair, error))
        return problems

    def _time(self) -> tuple[int, Problem | None]:
        """The time, and why it can not be believed; None where it can."""
        clock = self._catalogue.clock()
        if clock.trusted:
            return clock.now, None
        known = clock_problem(clock)
        text = "this machine's clock can not be believed" + ("" if known is None else f": {known.text}")
        return clock.now, Problem(
            Code.FRESHNESS_UNSIGNED,
            "clock",
            f"no freshness statement is signed: {text}",
            "set this machine's clock" if known is None else known.remedy,
        )

    def _rows(self) -> dict[Pair, HeadRow]:
        """What this node publishes, and has in force: of every pair the newest manifest, that may be vouched for."""
        trust, now = self._catalogue.trust, self._catalogue.quick_clock().now
        found: dict[Pair, HeadRow] = {}
        for row in self._store.manifests.current():
            if trust.is_own(row) and trust.takes(row) and row.expires_at > now and row.fault is None:
                found[row.pair] = max(found.get(row.pair, row), row, key=lambda one: one.manifest_version)
        return found

    def _renew(self, pair: Pair, row: HeadRow, now: int) -> None:
        head, known = self._head(pair, row), self._known(pair)
        series = self._series.setdefault(pair, _Series())
        series.settling.note(head, known, now)
        if is_behind(head, known):
            return
        intervals = self._intervals()
        settled = max(series.settling.settled(now, intervals.settle_s), series.insisted)
        minimum = minimum_of(head, known, settled)
        paused_since = self._paused(series, row, known)
        if is_due(head, known, minimum, paused_since, now=now, renew_s=intervals.renew_s):
            self._enter(head, known, minimum=minimum, paused_since=paused_since, now=now)
            series.vouched, series.insisted = row.digest, minimum

    def _at_once(self, pair: Pair, *, insist: bool, paused: bool | None, since: int | None) -> FreshnessBody:
        if self._key is None:
            raise no_freshness_key()
        now, problem = self._time()
        if problem is not None:
            raise MachineError(problem.text, remedy=problem.remedy)
        row = self._rows().get(pair)
        if row is None:
            raise NotFoundError(
                f"nothing of {'/'.join(pair)} is published here",
                remedy="`p2pboot status` says what this node publishes",
            )
        head, known = self._head(pair, row), self._known(pair)
        series = self._series.setdefault(pair, _Series())
        series.settling.note(head, known, now)
        settled = head.version if insist else series.settling.settled(now, self._intervals().settle_s)
        minimum = minimum_of(head, known, max(settled, series.insisted))
        paused_since = self._paused(series, row, known)
        if paused is not None:
            paused_since = (paused_since or min(since or now, now)) if paused else None
        says = known is not None and (known.head_digest, known.minimum, known.paused_since) == (
            head.digest,
            minimum,
            paused_since,
        )
        if known is not None and says:
            return known
        body = self._enter(head, known, minimum=minimum, paused_since=paused_since, now=now)
        series.vouched, series.insisted = row.digest, minimum
        return body

    def _head(self, pair: Pair, row: HeadRow) -> Head:
        publisher = self._publisher(pair)
        if publisher.fleet is None:
            raise UsageError(
                "the first version of the root is not known here, so neither is what the fleet is called",
                remedy="wait for it, or give the root's file",
            )
        is_ours = row.signers == (self._catalogue.trust.key,)  # others' may have been signed long ago
        return Head(
            publisher.fleet,
            publisher.root_version,
            pair,
            row.manifest_version,
            row.digest,
            row.created_at if is_ours else None,
        )

    def _publisher(self, pair: Pair) -> Publisher:
        publisher = self._catalogue.trust.publisher_for(*pair)
        assert publisher is not None  # noqa: S101 - what is taken has one
        rule = publisher.freshness
        if rule is None or self.keyid not in rule.keys:
            who = "the root" if publisher.root is not None else f"the trust {publisher.shown!r}"
            raise UsageError(
                f"{who} does not name the freshness key {self.keyid} of this node",
                remedy="have it added to the publish role (p2pboot root add-key freshness), or to freshness in"
                " [[trust]]; or use a key that it names",
            )
        return publisher

    def _known(self, pair: Pair) -> FreshnessBody | None:
        statement = self._catalogue.statement(*pair)
        return None if statement is None else statement.body

    def _paused(self, series: _Series, row: HeadRow, known: FreshnessBody | None) -> int | None:
        """Since when the plan that is in force has been paused: what is said of one plan is not said of the next."""
        if known is None or known.paused_since is None:
            series.rollout = None
            return None
        rollout = self._catalogue.manifest(row.digest).rollout
        if series.vouched is None:  # after a restart
            before = self._store.manifests.row(known.head_digest)
            series.rollout = (
                rollout if before is None else self._catalogue.manifest(known.head_digest).rollout
            )
        elif series.rollout is None:
            series.rollout = rollout
        return known.paused_since if rollout == series.rollout else None

    def _enter(
        self,
        head: Head,
        known: FreshnessBody | None,
        *,
        minimum: int,
        paused_since: int | None,
        now: int,
    ) -> FreshnessBody:
        assert self._key is not None  # noqa: S101 - both callers looked
        body = body_of(
            head,
            known,
            minimum=minimum,
            paused_since=paused_since,
            now=now,
            valid_s=self._intervals().valid_s,
            signers=(self._key.public.keyid,),
        )
        judged = self._gate.take_freshness(sign(body, self._key), pair=head.pair, source=_PUBLISHER)
        if judged.fate not in _TAKEN:
            raise UsageError(
                f"its freshness statement is not taken here: {judged.why or judged.fate.value}",
                remedy="`p2pboot freshness show` says what is known of it",
            )
        log.info(
            "%s/%s: vouched for version %d until %s, and for nothing below %d%s",
            *head.pair,
            head.version,
            format_time(body.valid_until),
            body.minimum,
            "" if body.paused_since is None else f"; paused since {format_time(body.paused_since)}",
            extra=Event.VOUCHED(
                channel=head.pair[0],
                arch=head.pair[1],
                manifest_version=head.version,
                minimum=body.minimum,
                valid_until=format_time(body.valid_until),
            ),
        )
        return body


def no_freshness_key() -> UsageError:
    """The error of what needs a freshness statement, on a node that signs none."""
    return UsageError(
        "this node has no freshness key",
        remedy="make one (p2pboot key generate --key FILE) and name it: freshness_key in [provider], or"
        " --freshness-key FILE",
    )


def _unsigned(pair: Pair, error: P2PBootError) -> Problem:
    return Problem.of(Code.FRESHNESS_UNSIGNED, "/".join(pair), error)
