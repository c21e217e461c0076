"""What was published here and is gone from the directory: the node offers it no longer, and says who still does.

There is no signed withdrawal: a mirror keeps what it has until that expires. So that the operator knows, a withdrawn
release stands on the list of problems until then. It is found out again at every look, from what was published and what
the directory holds, so it survives a restart and ends when the files are back.

A directory that is missing, or not mounted, withdraws nothing: only where the kernel says that the directory is there
and something in it is not, somebody has taken it away.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import trio

from p2pboot.core.manifest import Candidate, Statement
from p2pboot.core.names import is_next, normalise_arch
from p2pboot.core.problems import Code, Problem
from p2pboot.core.timestamps import format_time
from p2pboot.core.trust import Pair
from p2pboot.errors import Malformed
from p2pboot.node.building import Builder, Description
from p2pboot.node.inforce import InForce
from p2pboot.node.quiet import QUIET_S, SETTLED_S
from p2pboot.publish.layout import is_empty
from p2pboot.publish.rollouts import Rollouts
from p2pboot.publish.scan import Scanned
from p2pboot.store.gate import Gate
from p2pboot.store.publications import Publications
from p2pboot.store.store import Store


def withdrawn_problem(one: Statement) -> Problem:
    """A release that is not offered here any more, and that mirrors keep until it expires."""
    return Problem(
        Code.WITHDRAWN,
        f"{one.channel}/{one.arch}",
        f"version {one.version} (number {one.manifest_version}) is withdrawn: its files are gone and it is no"
        f" longer offered here; mirrors keep it until {format_time(one.expires_at)}",
        f"publish another release for it, which mirrors take at once; or have mirrors end it, too:"
        f" p2pboot yank {one.channel} --arch {one.arch} --leave-none",
    )


class GonePairs:
    """Finds out which pairs are gone from a directory; blocking.

    Args:
        directory: the artifacts directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._filled: tuple[int, int] | None = None  # which directory it was when something lay in it

    def among(self, pairs: Iterable[Pair], scanned: Scanned) -> set[Pair]:
        """Which of these pairs have no files any more.

        Args:
            pairs: what was published.
            scanned: what the directory holds now; nothing where that could not be found out.
        """
        try:
            status = self._directory.stat()
        except OSError:
            return set()
        is_filled = not is_empty(self._directory)
        identity = (status.st_dev, status.st_ino)
        if is_filled:
            self._filled = identity
        elif identity != self._filled:
            return set()  # nothing in it, and it may be what a file system is to be mounted on
        fit = {(tree.channel, tree.arch) for tree in scanned.trees}
        unfit = {(one.channel, one.arch): one.directory for one in scanned.unfit}
        return {
            pair
            for pair in pairs
            if pair not in fit
            and (is_empty(unfit[pair]) if pair in unfit else not _has_leaf(self._directory, *pair))
        }


def _has_leaf(directory: Path, channel: str, arch: str) -> bool:
    """Whether something has the name of the pair's directory, be it usable or not, and is not just empty."""
    try:
        names = os.listdir(directory / channel)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # it can not be told
    return any(_arch_of(name) == arch and not is_empty(directory / channel / name) for name in names)


def _arch_of(name: str) -> str | None:
    try:
        return normalise_arch(name)
    except ValueError:
        return None


def last_published(
    publications: Publications, signers: tuple[str, ...], pair: Pair, now: int
) -> Statement | None:
    """What was published last for a pair, if it has not expired."""
    raw = publications.last(signers, *pair)
    if raw is None:
        return None
    try:
        claims = Candidate.decode(raw).claims
    except Malformed:  # of a newer format
        return None
    return claims if claims.expires_at > now else None


class Withdrawals:
    """What this state's node offered of a directory, and does not any more.

    Args:
        directory: the artifacts directory.
        store: what was published, and accepted heads.
        gate: its catalogue is told; its audit log takes it down.
        builder: of the publisher.
        rollouts: what is being rolled out.
        in_force: what the publisher has in force.
        describe: what the operator says of the directory now.
        look_within: has the publisher look again after so many seconds at the latest.
    """

    def __init__(
        self,
        directory: Path,
        store: Store,
        gate: Gate,
        builder: Builder,
        rollouts: Rollouts,
        *,
        in_force: InForce,
        describe: Callable[[], Description],
        look_within: Callable[[float], None],
    ) -> None:
        self._gone_pairs = GonePairs(directory)
        self._store = store
        self._catalogue = gate.catalogue
        self._audit = gate.audit
        self._builder = builder
        self._rollouts = rollouts
        self._in_force = in_force
        self._describe = describe
        self._look_within = look_within
        self._gone_since: dict[Pair, float] = {}  # trio's clock

    async def withdraw_gone(self, scanned: Scanned, held: set[Pair], *, at_once: bool) -> set[Pair]:
        """Stop offering what is gone from the directory, once it has been for a while; returns all that is.

        Args:
            scanned: what the directory holds.
            held: what is in force without a directory.
            at_once: not only after a while.
        """
        gone = await trio.to_thread.run_sync(self._find_gone, scanned) - held
        now = trio.current_time()
        quiet_s = QUIET_S if self._in_force.pairs() else SETTLED_S
        self._gone_since = {pair: self._gone_since.get(pair, now) for pair in gone}
        for pair, since in self._gone_since.items():
            if not at_once and now - since < quiet_s:  # it may be being replaced
                self._look_within(since + quiet_s - now)
                continue
            in_force = self._in_force.drop(pair)
            signers = {self._builder.signers, self._builder.signers if in_force is None else in_force.signers}
            withdrawn = await trio.to_thread.run_sync(self._catalogue.withdraw, pair, signers)
            if self._audit is not None and withdrawn:
                await trio.to_thread.run_sync(self._audit.withdrawn, withdrawn)
        return gone

    def _find_gone(self, scanned: Scanned) -> set[Pair]:
        asks_for = self._describe().asks_for
        pairs = {*filter(asks_for, self._in_force.pairs()), *self.ever_offered()}
        return self._gone_pairs.among(pairs, scanned)

    async def end_rollouts(self) -> None:
        """Stop offering what is rolled out no more."""
        rows = await trio.to_thread.run_sync(self._store.manifests.current)
        own = self._builder.signers
        pairs = {row.pair for row in rows if is_next(row.channel) and row.signers == own}
        for pair in pairs:
            if await trio.to_thread.run_sync(self._rollouts.is_over, pair):
                self._in_force.drop(pair)
                await trio.to_thread.run_sync(self._catalogue.withdraw, pair, {own})

    def ever_offered(self) -> list[Pair]:
        """What this state's node offered with this key, of what it is to publish now; blocking."""
        own = self._builder.signers
        return [
            pair
            for pair in filter(self._describe().asks_for, self._store.publications.pairs(own))
            if own in {head.signers for head in self._store.trust.heads_of(*pair)}
            and not self._rollouts.is_over(pair)
        ]

    def withdrawn(self, scanned: Scanned, gone: set[Pair], now: int) -> tuple[Statement, ...]:
        """What was offered, is not any more, and has not expired; sorted. Blocking.

        That there is no trace of it in the catalogue is remembered over a restart, and while the directory is away.
        """
        own = self._builder.signers
        seen = scanned.pairs - gone
        kept = {(row.channel, row.arch) for row in self._store.manifests.current() if row.signers == own}
        found = [
            last_published(self._store.publications, own, pair, now)
            for pair in self.ever_offered()
            if pair not in seen | kept
        ]
        return tuple(one for one in found if one is not None and not self._builder.holding.is_yanked(one))
