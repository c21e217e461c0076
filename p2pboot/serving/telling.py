"""Tells peers what changes here, as it happens: the requests for changes that wait, and when they are answered.

A request that waits takes no turn, no thread and no memory but its own. All that wait for one table are answered
together, a moment after something changed, so that what happens in quick succession is told at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import trio
from cachetools import LRUCache

from p2pboot.core.changes import MAX_CHANGES, Change, ChangeRing, Form
from p2pboot.core.origins import Party, party_of
from p2pboot.core.pieces import PieceSet
from p2pboot.core.token_bucket import TokenBucket
from p2pboot.protocol.messages import Reply, Status
from p2pboot.protocol.swarm import MAX_SERIAL, ChangesRequest, encode_changes
from p2pboot.serving.contents import Content, Contents
from p2pboot.transport.interface import Connection

GATHER_S: Final = 0.1
"""For so long after a change others are waited for, to be told together. To ask and to answer takes both ends 0.5 ms,
whatever is said: of two cores, on which sixteen machines follow each other, that is half, and at 0.05 s all."""

AT_ONCE_PER_S: Final = 200.0
AT_ONCE: Final = 400
"""Answers to one address that were hardly waited for, and as many at the beginning: whoever asks as it is meant waits,
but for the first answer. Who asks from anywhere, with many ids, and waits for nothing, has no more than a rack."""

WHOLE: Final = MAX_SERIAL
"""Serial of who has everything: nothing changes there. No ring comes so far."""

LATELY_S: Final = 60.0
"""So long a rack that boots together is taken for one: whoever was part of it has nothing to deal to the others."""

LOOK_S: Final = 2.0
"""How often a table is looked for that somebody waits for, in case it did not begin to arrive but was there at once."""

_TOLD: Final = 32  # answers that are kept, of one pulse: those who keep up ask for the same few
_PULSES: Final = 64
_ORIGINS: Final = 1024
_LOOSE: Final = 4096  # pieces that are put in order, to be told in fewer runs


Find = Callable[[str, Party], Awaitable[Content | None]]


class Telling:
    """Answers `changes`.

    Args:
        contents: what is here.
        find: looks for what is cut by a table, for somebody.
        gather_s: how long changes are gathered, seconds.
    """

    def __init__(self, contents: Contents, find: Find, gather_s: float = GATHER_S) -> None:
        self._contents = contents
        self._find = find
        self._gather_s = gather_s
        self._at_once: LRUCache[str, TokenBucket] = LRUCache(_ORIGINS)  # by origin
        self._waiting: dict[tuple[str, Connection], _Waiting] = {}  # by table too
        self._pulses: LRUCache[str, _Pulse] = LRUCache(_PULSES)  # by table

    def note_asked(self, table: str) -> None:
        """Somebody is given pieces of what is coming here: those who fetch it are more than one."""
        pulse = self._pulses.get(table)
        if pulse is not None:
            pulse.is_shared = True

    def came_with_others(self, table: str) -> bool:
        """Whether others had pieces of this from here while it came, not long ago."""
        pulse = self._pulses.get(table)
        return pulse is not None and pulse.is_shared and trio.current_time() - pulse.changed_at < LATELY_S

    async def answer(self, connection: Connection, request: ChangesRequest) -> Reply:
        """What changed, as soon as something did, or after as long as the request may wait.

        Args:
            connection: over which it is asked. One request at a time waits for a table: another one has the former
                answered at once. By peer, two connections of one would keep answering each other.
            request: what is asked.
        """
        party = party_of(connection.address, connection.peer_id)
        key = (request.table, connection)
        if key in self._waiting:
            self._waiting[key].end()
        began = trio.current_time()
        waiting = self._waiting[key] = _Waiting(began + request.wait_ms / 1000)
        try:
            while True:
                content = await self._find(request.table, party)
                reply = self._reply(content, request.after, waiting)
                if reply is not None:
                    if trio.current_time() - began < self._gather_s / 2:
                        await self._pace(party.origin)
                    return reply
                if content is None:
                    with self._contents.awaiting(request.table, waiting.hasten):
                        await waiting.wait(trio.current_time() + LOOK_S)
                elif content.partial is None:
                    await waiting.wait()
                else:
                    await self._pulse_of(request.table, content.partial.changes).wait(request.after, waiting)
        finally:
            if self._waiting.get(key) is waiting:
                del self._waiting[key]

    async def _pace(self, origin: str) -> None:
        now = trio.current_time()
        bucket = self._at_once.get(origin)
        if bucket is None:
            bucket = self._at_once[origin] = TokenBucket(AT_ONCE_PER_S, AT_ONCE, now)
        wait_s = bucket.take(1, now)
        if wait_s:
            await trio.sleep(wait_s)

    def _reply(self, content: Content | None, after: int, waiting: _Waiting) -> Reply | None:
        """What is to be said now; None: nothing yet."""
        is_over = waiting.is_over
        if content is None:
            return Reply(Status.NOT_FOUND) if is_over else None
        if content.partial is None:
            if after != WHOLE:
                return _bitmap(WHOLE, PieceSet.full(content.table.count))
            return _runs(WHOLE, ()) if is_over else None
        pulse = self._pulse_of(content.table_digest, content.partial.changes)
        if pulse.ring.since(after) is None:
            at = pulse.ring.at  # before looking: what comes meanwhile is told again
            return _bitmap(at, content.partial.held)
        return pulse.reply(after, content.partial.held) if is_over or pulse.is_due(after) else None

    def _pulse_of(self, table: str, ring: ChangeRing) -> _Pulse:
        pulse = self._pulses.get(table)
        if pulse is None or pulse.ring is not ring:
            pulse = self._pulses[table] = _Pulse(ring, self._gather_s)
        return pulse


class _Waiting:
    """A request that waits, until some time at the latest."""

    def __init__(self, until: float) -> None:
        self._until = until
        self._scope: trio.CancelScope | None = None

    @property
    def is_over(self) -> bool:
        """Whether it is to be answered whatever there is to say."""
        return self._until <= trio.current_time()

    def end(self) -> None:
        """Have it answered now."""
        self._until = -1.0
        self.hasten()

    def hasten(self, at: float = -1.0) -> None:
        """Have it look then, or earlier: now, by default."""
        if self._scope is not None and at < self._scope.deadline:
            self._scope.deadline = at

    async def wait(self, at: float = float("inf")) -> None:
        """Wait until then, or until it is over or hastened."""
        self._scope = trio.CancelScope(deadline=min(at, self._until))
        with self._scope:
            await trio.sleep(float("inf"))
        self._scope = None


class _Pulse:
    """Has all that wait for changes of one ring look at the same time."""

    def __init__(self, ring: ChangeRing, gather_s: float) -> None:
        self.ring = ring
        self._gather_s = gather_s
        self._due = 0.0  # when the latest changes are told
        self._waiting: dict[_Waiting, None] = {}
        self._told: LRUCache[int, Reply] = LRUCache(_TOLD)  # by `after`: many ask for the same
        self._told_at = ring.at
        self.changed_at = trio.current_time()
        self.is_shared = False
        ring.listen(self._note)

    def is_due(self, after: int) -> bool:
        """Whether there is something to tell who knows everything up to a serial, and nothing more to wait for."""
        return self.ring.at != after and self._due <= trio.current_time()

    def reply(self, after: int, held: PieceSet) -> Reply:
        """What changed since."""
        if self._told_at != self.ring.at:
            self._told.clear()
            self._told_at = self.ring.at
        reply = self._told.get(after)
        if reply is None:
            runs = joined(self.ring.since(after) or ())
            reply = _bitmap(self.ring.at, held) if len(runs) > MAX_CHANGES else _runs(self.ring.at, runs)
            self._told[after] = reply
        return reply

    async def wait(self, after: int, waiting: _Waiting) -> None:
        """Wait until it is worth while to look."""
        self._waiting[waiting] = None
        try:
            await waiting.wait(self._due if self.ring.at != after else float("inf"))
        finally:
            del self._waiting[waiting]

    def _note(self) -> None:
        now = self.changed_at = trio.current_time()
        if self._due <= now:
            self._due = now + self._gather_s
            for waiting in self._waiting:
                waiting.hasten(self._due)


def joined(changes: Iterable[Change]) -> list[Change]:
    """Say the same in few runs: of each piece what became of it last, neighbours together."""
    changes = list(changes)
    if sum(len(pieces) for _, pieces in changes) > _LOOSE:
        return changes
    last: dict[int, Form] = {}
    for form, pieces in changes:
        for index in pieces:
            last[index] = form
    runs: list[Change] = []
    for form, index in sorted((form, index) for index, form in last.items()):
        if runs and runs[-1].form == form and runs[-1].pieces.stop == index:
            runs[-1] = Change(form, range(runs[-1].pieces.start, index + 1))
        else:
            runs.append(Change(form, range(index, index + 1)))
    return runs


def _bitmap(at: int, held: PieceSet) -> Reply:
    return Reply(Status.OK, held.to_bytes(), {"at": at, "form": "bitmap"})


def _runs(at: int, runs: Iterable[Change]) -> Reply:
    return Reply(Status.OK, encode_changes(runs), {"at": at, "form": "runs"})
