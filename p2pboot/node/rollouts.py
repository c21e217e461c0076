"""Roll-outs as the operator sees and steers them, over the control socket; and what of them there is to follow.

What is published is `publishing`'s and `publish.rollouts`'s to know, what a pause is that of whoever signs freshness
statements, and what a yank is that of whoever signs those. Here it is decided what each command needs of them.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Protocol

import trio

from p2pboot.core.freshness import paused_since
from p2pboot.core.manifest import content_digest
from p2pboot.core.manifest.rollout import MAX_DURATION_S
from p2pboot.core.names import check_name, next_channel, normalise_arch
from p2pboot.core.rollouts import Ended, pause_of
from p2pboot.core.timestamps import MAX_TIME, parse_time
from p2pboot.core.trust import Pair
from p2pboot.errors import P2PBootError, UsageError
from p2pboot.node.publishing import DirectoryPublisher
from p2pboot.node.rolledout import described
from p2pboot.publish.rollouts import Plan, Staged
from p2pboot.store.catalogue import Catalogue

DURATION_S: Final = 86_400
_SALT_BYTES: Final = 16
_REASON: Final = "its roll-out was aborted"


class Pauses(Protocol):
    """Who says in freshness statements that a roll-out is paused."""

    async def pause(self, pair: Pair, since: int | None = None) -> int:
        """Say so from now on; UsageError where that can not be."""

    async def resume(self, pair: Pair) -> None:
        """Say so no more."""


Yank = Callable[[Pair, str, str], Awaitable[object]]
"""Yanks the content of a pair by its digest, with a reason."""
Hold = Callable[[Pair, Any], Awaitable[Any]]
"""Publishes the content of a manifest for a pair in place of what its directory holds; returns the manifest."""


def with_next(pairs: Iterable[Pair]) -> set[Pair]:
    """These channels and archs, and those of the roll-outs into them."""
    named = set(pairs)
    following = ((next_channel(channel), arch) for channel, arch in named)
    return named | {(channel, arch) for channel, arch in following if channel is not None}


class RollOutDesk:
    """Answers what is asked about roll-outs.

    Args:
        publisher: of the node's directory; None on a mirror.
        catalogue: what is said of pauses.
        held: describes the roll-outs whose image is held here, at a time in unix seconds; called in threads.
        now: unix seconds.
        pauses: who says that one is paused.
        hold: promotes; None where nobody can.
        yank: aborts; None where nobody can.
    """

    def __init__(
        self,
        publisher: DirectoryPublisher | None,
        catalogue: Catalogue,
        *,
        held: Callable[[int], list[dict[str, Any]]],
        now: Callable[[], int],
        pauses: Pauses,
        hold: Hold | None = None,
        yank: Yank | None = None,
    ) -> None:
        self._publisher = publisher
        self._catalogue = catalogue
        self._held = held
        self._pauses = pauses
        self._hold = hold
        self._yank = yank
        self._now = now

    async def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Do what a request `{"op": "rollout", "action": …, "channel": …}` says.

        Raises:
            P2PBootError: it can not be done; nothing changed then.
        """
        action = message.get("action")
        if action == "show":
            shown = await trio.to_thread.run_sync(self.describe)
            channel = message.get("channel")
            return {"rollouts": [one for one in shown if channel in (None, one["into"])]}
        publisher = self._publisher
        if publisher is None:
            raise UsageError(
                "this node is a mirror: it rolls nothing out",
                remedy="say it to the node that runs `serve`; `p2pboot rollout show` says here what is rolled out",
            )
        try:
            channel = check_name(str(message.get("channel")), "channel")
            arch = None if message.get("arch") is None else normalise_arch(str(message["arch"]))
        except ValueError as error:
            raise UsageError(str(error)) from None
        if action == "start":
            return await self._start(publisher, channel, arch, message)
        steps = {"pause": self._pause, "resume": self._resume, "promote": self._promote, "abort": self._abort}
        step = steps.get(str(action))
        if step is None:
            raise UsageError(f"unknown action {action!r}")
        targets = await trio.to_thread.run_sync(_targets, publisher, channel, arch)
        for staged in targets:
            await step(publisher, staged, message)
        shown = await trio.to_thread.run_sync(self.describe)
        meant = {(one.rollout.into, one.claims.arch) for one in targets}
        return {"rollouts": [one for one in shown if (one["into"], one["arch"]) in meant]}

    async def _start(
        self, publisher: DirectoryPublisher, channel: str, arch: str | None, message: dict[str, Any]
    ) -> dict[str, Any]:
        if next_channel(channel) is None:
            raise UsageError(
                f"there can be no roll-out into {channel}",
                remedy="name the channel itself, of at most 59 characters, without .next",
            )
        plan = _plan(message, self._now())
        begun = {(one.channel, one.arch) for one in await publisher.staging.begin(channel, arch, plan)}
        for pair in begun:
            if await trio.to_thread.run_sync(self._paused_since, pair) is not None:
                with suppress(UsageError):  # the plan says the same; but then nothing can be paused, either
                    await self._pauses.resume(pair)
        shown = await trio.to_thread.run_sync(self.describe)
        return {"rollouts": [one for one in shown if (one["channel"], one["arch"]) in begun]}

    async def _pause(self, _publisher: DirectoryPublisher, staged: Staged, _message: dict[str, Any]) -> None:
        await self._pauses.pause(_pair(staged), self._now())

    async def _resume(self, publisher: DirectoryPublisher, staged: Staged, _message: dict[str, Any]) -> None:
        pair = _pair(staged)
        said = await trio.to_thread.run_sync(self._paused_since, pair)
        since = pause_of(staged.rollout, said)
        if since is None:
            raise UsageError(f"the roll-out into {staged.rollout.into}/{pair[1]} is not paused")
        # Who was in stays in: as much of the plan is left as there was when it was paused.
        resumed, start = max(self._now(), since + 1), staged.rollout.start
        # Before it began nobody was in; a pause since 1970, by a key that was stolen, moves nothing by years.
        moved = replace(
            staged.rollout, start=max(start, start + resumed - max(since, start)), resumed=resumed
        )
        await publisher.staging.move(staged.rollout.into, pair[1], moved)
        await self._pauses.resume(pair)

    async def _promote(self, publisher: DirectoryPublisher, staged: Staged, _message: dict[str, Any]) -> None:
        pair = _pair(staged)
        head = await trio.to_thread.run_sync(publisher.rollouts.head, *pair)
        if head is None:
            raise UsageError(
                f"what is rolled out into {staged.rollout.into}/{pair[1]} is not wholly here",
                remedy=f"put the files back into {pair[0]}/{pair[1]}",
            )
        if self._hold is None:
            raise _can_not("promote")
        await self._hold((staged.rollout.into, pair[1]), head)
        await _look_at_all(publisher)

    async def _abort(self, publisher: DirectoryPublisher, staged: Staged, message: dict[str, Any]) -> None:
        if self._yank is None:
            raise _can_not("abort")
        into, reason = (staged.rollout.into, staged.claims.arch), str(message.get("reason") or _REASON)
        try:
            await self._yank(into, content_digest(staged.claims), reason)
        except P2PBootError:  # it may be yanked, and what the channel has is not wholly here
            left = await trio.to_thread.run_sync(publisher.rollouts.staged, _pair(staged))
            if left is None or left.ended is not Ended.ABORTED:
                raise
        await _look_at_all(publisher)

    def _paused_since(self, pair: Pair) -> int | None:
        return paused_since(self._catalogue.statement(*pair))

    def describe(self) -> list[dict[str, Any]]:
        """What this node rolled out last, and what others do as far as it is held here; plain values, blocking."""
        now, own = self._now(), [] if self._publisher is None else self._publisher.rollouts.all()
        pairs = {_pair(one) for one in own}
        others = [one for one in self._held(now) if (one["channel"], one["arch"]) not in pairs]
        return [described(one, now, self._catalogue.statement(*_pair(one))) for one in own] + others


async def _look_at_all(publisher: DirectoryPublisher) -> None:
    """See what follows from what was done; what is wrong beside it is the list of problems' to say."""
    with suppress(P2PBootError):
        await publisher.publish_now()


def _can_not(action: str) -> UsageError:
    return UsageError(f"this node can not {action} a roll-out")


def _targets(publisher: DirectoryPublisher, channel: str, arch: str | None) -> list[Staged]:
    """The roll-outs into a channel that are on; blocking."""
    found = [
        one
        for one in publisher.rollouts.all()
        if one.rollout.into == channel and arch in (None, one.claims.arch)
    ]
    on = [one for one in found if one.ended is None]
    if on:
        return on
    shown = channel if arch is None else f"{channel}/{arch}"
    over = f" any more: it is {found[0].ended}" if found else ""
    raise UsageError(
        f"no roll-out into {shown} is on{over}", remedy=f"`p2pboot rollout start {channel}` begins one"
    )


def _pair(staged: Staged) -> Pair:
    return staged.claims.channel, staged.claims.arch


def _plan(message: dict[str, Any], now: int) -> Plan:
    duration_s, percent = message.get("duration_s", DURATION_S), message.get("percent", 100)
    if type(duration_s) is not int or not 0 <= duration_s <= MAX_DURATION_S:
        raise UsageError(
            f"a roll-out takes from 0 s to {MAX_DURATION_S // 86_400} days", remedy="leave it out for one day"
        )
    if type(percent) is not int or not 0 <= percent <= 100:
        raise UsageError("a percentage is from 0 to 100", remedy="leave it out for all machines")
    start = now
    if message.get("start") is not None:
        try:
            start = parse_time(str(message["start"]))
        except ValueError as error:
            raise UsageError(f"--start: {error}", remedy="write it as 2026-01-31T08:00:00Z") from None
    if start + duration_s > MAX_TIME:
        raise UsageError("a roll-out ends before the year 10000", remedy="let it begin sooner")
    return Plan(start, duration_s, percent, secrets.token_hex(_SALT_BYTES))
