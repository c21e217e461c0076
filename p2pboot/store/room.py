"""Room on the disk: how much a store may take, and what of it is promised to whom.

What is fetched takes room as it comes (see `partials`); before that its room is *promised*, which is an account and no
allocation. A plan is what one job brings: it is promised the room for all of that together when its first part is
begun, so that of two jobs that need the same room one goes on, and the other says so, instead of both being stuck half
done. The account is of a file system and of the whole process, for several stores may lie on one.

A quota in bytes counts sizes, as if there were no holes; what the file system has left counts what will be written.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal, Protocol

from p2pboot.errors import machine_error
from p2pboot.store.durable import disk_full, free_bytes
from p2pboot.store.errors import StoreFull

AUTO: Final = "auto"
"""The quota that leaves one part in `SPARED` of the file system free."""

Quota = int | Literal["auto"] | None
"""Bytes, `AUTO`, or None for no limit."""

SPARED: Final = 10


class Yielding(Protocol):
    """What a plan may take, and what may be given up for it, once somebody showed that it is to be had. All block."""

    def check(self) -> None:
        """Raise what stands against the plan besides room."""

    def bytes(self) -> int:
        """How much room it would give, at most."""

    def give_up(self, needed: int) -> None:
        """Give up so many bytes of it, or more; asked once, whether that is 0 or not."""


class Plan:
    """What one job is to bring; made by `Room.plan`, and ended by `close`.

    Args:
        room: where it goes.
        sizes: bytes, by digest.
        yielding: what may be given up for it.
    """

    def __init__(self, room: Room, sizes: Mapping[str, int], yielding: Yielding | None) -> None:
        self.sizes = dict(sizes)
        self._room = room
        self._yielding = yielding
        self._left = dict(sizes)
        self._shown = False
        self._showing = threading.Lock()  # comes before everything that is taken to give something up

    def left(self) -> int:
        """Bytes that are yet to be written, at most: of what is not begun nobody knows how much of it is zeros."""
        return sum(self._left.values())

    def begin(self, digest: str, content: int) -> None:
        """Begin with one of the parts: from now on the room for all of them is promised.

        Args:
            digest: of the part.
            content: how much of it is yet to be written, bytes.

        Raises:
            StoreFull: the quota does not allow it.
            MachineError: the disk is full, or will be with what others were promised.
        """
        if self._yielding is not None:
            self._yielding.check()
        spare = 0 if self._yielding is None or self._shown else self._yielding.bytes()
        with _ACCOUNTS:
            self._room.check(self, content, spare)
            self._left[digest] = content
            _PROMISED.setdefault(self, next(_TURNS))

    def shown(self) -> None:
        """Somebody had a piece: what was to yield is given up, as far as that is needed; blocking."""
        with self._showing:
            if self._shown:
                return
            if self._yielding is not None:
                with _ACCOUNTS:
                    short = self._room.shortage(self)
                self._yielding.give_up(max(short, 0))
            self._shown = True

    def wrote(self, digest: str, length: int) -> None:
        """So many bytes of a part are written."""
        with _ACCOUNTS:
            self._left[digest] = max(self._left.get(digest, 0) - length, 0)

    def drop(self, digest: str) -> None:
        """A part is whole, or was given up: nothing of it is yet to come. With the last one the plan ends."""
        with _ACCOUNTS:
            self.sizes.pop(digest, None)
            self._left.pop(digest, None)
            if not self._left:
                self.close()

    def close(self) -> None:
        """Nothing is promised any more; idempotent."""
        with _ACCOUNTS:
            _PROMISED.pop(self, None)

    def goes_before(self, other: Plan) -> bool:
        """Whether it was promised its room earlier."""
        mine = _PROMISED.get(self)
        return mine is not None and self is not other and mine < _PROMISED.get(other, mine + 1)

    @property
    def room(self) -> Room:
        """Where it goes."""
        return self._room


_ACCOUNTS: Final = threading.RLock()  # guards what plans and rooms know
_PROMISED: Final[dict[Plan, int]] = {}  # and since which turn
_TURNS: Final = itertools.count()
_UNKNOWN: Final = 1 << 62  # more than any disk has


class Room:
    """What one store may take; any thread.

    Args:
        directory: of the store; exists when something is begun.
        sizes: tells the size of every file in the store by digest, holes included.
        quota: how much the store may hold.
    """

    def __init__(self, directory: Path, sizes: Callable[[], dict[str, int]], quota: Quota) -> None:
        self.directory = directory
        self.quota: Quota = quota
        self._sizes = sizes

    def plan(self, sizes: Mapping[str, int], yielding: Yielding | None = None) -> Plan:
        """Plan to bring all this; what the quota can not hold is said before anything is asked for.

        Args:
            sizes: bytes, by digest; what is here already counts nothing.
            yielding: what may be given up for it.

        Raises:
            StoreFull: the quota does not allow it.
        """
        plan = Plan(self, sizes, yielding)
        if yielding is not None:
            yielding.check()
        spare = 0 if yielding is None else yielding.bytes()
        with _ACCOUNTS:
            self._check_quota(plan, spare)
        return plan

    def promised(self) -> dict[str, int]:
        """The sizes of all that is promised room here, by digest."""
        with _ACCOUNTS:
            return {
                digest: size for plan in _PROMISED if plan.room is self for digest, size in plan.sizes.items()
            }

    def used_bytes(self) -> int:
        """What counts for a quota: the sizes of whole artifacts and partials, as if they had no holes."""
        return sum(self._sizes().values())

    def take_what_is_free(self, directory: Path) -> None:
        """Have a quota by what the disk has left now, less one part in `SPARED`; none where that is not told. Blocking.

        Args:
            directory: that is there, on the same file system; what the store has of its own may come later.

        Raises:
            MachineError: it can not be looked at.
        """
        free = free_bytes(directory) if self._size_of(directory) else None
        self.quota = None if free is None else self.used_bytes() + free - free // SPARED

    def limit_bytes(self) -> int | None:
        """How much the store may hold now; None for no limit."""
        if self.quota != AUTO:
            return self.quota
        if not self._size():
            return None
        return self.used_bytes() + max(self._free() - self._spared(), 0)

    def check(self, plan: Plan, content: int, spare: int) -> None:
        """Check that there is room for a part of a plan.

        Args:
            plan: what it is part of.
            content: bytes of it that are yet to be written.
            spare: bytes that will be given up for the plan.

        Raises:
            StoreFull, MachineError: there is not.
        """
        self._check_quota(plan, spare)
        if content <= 0:
            return
        free = self._free() - self._promised_before(plan)
        if self.quota == AUTO and content > (left := free - self._spared()) + spare:
            used = self.used_bytes()
            raise StoreFull(
                str(self.directory),
                needed=content,
                used=used,
                quota=used + max(left, 0),
                remedy="free some space: a tenth of the disk stays free, unless store.quota (--quota) says what"
                " the store may hold",
            )
        if content > free + spare:
            raise disk_full(content, max(free, 0), self.directory / "partial")

    def shortage(self, plan: Plan) -> int:
        """How many bytes are missing for all of a plan; 0 or less when there is room."""
        short = plan.left() - (self._free() - self._promised_before(plan))
        if self.quota == AUTO:
            short += self._spared()
        elif self.quota is not None:
            short = max(short, self._expected(plan) - self.quota)
        return short

    def _check_quota(self, plan: Plan, spare: int) -> None:
        if not isinstance(self.quota, int):
            return
        held = self._sizes()
        needed = sum(size for digest, size in plan.sizes.items() if digest not in held)
        expected = self._expected(plan)
        if needed > 0 and expected > self.quota + spare:
            raise StoreFull(
                str(self.directory), needed=needed, used=max(expected - needed, 0), quota=self.quota
            )

    def _expected(self, plan: Plan) -> int:
        """What the store will hold with this plan and those that were promised room before."""
        sizes = dict(plan.sizes)
        for other in _PROMISED:
            if other.room is self and other.goes_before(plan):
                sizes.update(other.sizes)
        return sum({**sizes, **self._sizes()}.values())

    def _promised_before(self, plan: Plan) -> int:
        device = self._device()
        return sum(
            other.left() for other in _PROMISED if other.goes_before(plan) and other.room._device() == device
        )

    def _device(self) -> int:
        try:
            return os.stat(self.directory).st_dev
        except OSError as error:
            raise machine_error(error, f"look at {self.directory}") from error

    def _free(self) -> int:
        return free_bytes(self.directory) if self._size() else _UNKNOWN

    def _spared(self) -> int:
        return self._size() // SPARED

    def _size(self) -> int:
        return self._size_of(self.directory)

    def _size_of(self, directory: Path) -> int:
        """Bytes of the file system; 0 where it does not tell (a tmpfs without a limit, some in user space)."""
        try:
            status = os.statvfs(directory)
        except OSError as error:
            raise machine_error(error, f"look at {directory}") from error
        return status.f_blocks * status.f_frsize
