"""Reads what the store holds over and over, slowly: disks rot, and what nobody asks for is found damaged too late.

At start nothing is read whole. A pass goes through everything that is wholly here, in the order of the digests, a piece
at a time and at a bounded rate, and may begin with something else that is looked at now and then. Where it is, it notes
in the state, so that a node that is restarted every night comes to the end all the same; the note is a hint, and can at
most put off a pass by the time between two. What is damaged is not offered any more and is brought in again, as when it
was served (`node.mending`). Somebody may ask for a pass at once, which is not slowed down.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.events import Event
from p2pboot.core.jsonform import MAX_INTEGER, decode_note
from p2pboot.core.pieces import KIB, MIB
from p2pboot.errors import P2PBootError
from p2pboot.store.durable import write_file
from p2pboot.store.idle import idle_disk
from p2pboot.store.ownership import opened_state
from p2pboot.store.reading import open_regular
from p2pboot.store.scrubbing import PieceRead, Scrubbed, read_all, total_bytes

log = logging.getLogger(__name__)

FIRST_S: Final = 10.0
"""After the start, when there is enough to do."""

PASS_S: Final = 24 * 3600.0
"""The longest time from the beginning of one pass to that of the next, where it does not take longer."""

SHORTEST_PASS_S: Final = 600.0

LONG_RUN_BYTES_PER_S: Final = 128 * KIB
"""Little is read more often: half a gigabyte every hour, from 10 GB on once a day."""

BYTES_PER_S: Final = 8 * MIB
"""10 GB in twenty minutes, a hundredth of what a disk or a processor can do."""

NOTED_BYTES: Final = 256 * MIB
"""A restart costs so much again; of a store that has less nothing is noted."""

_NOTE: Final = "scrubbing.json"
_MAX_NOTE: Final = 4096


@dataclass(frozen=True, slots=True)
class Position:
    """Where a pass is.

    Args:
        begun_at: when it began, unix seconds.
        digest: of the artifact that is read, "" before the first; None at its end.
        index: of the next piece.
        read_bytes: how much it has read.
    """

    begun_at: float
    digest: str | None = ""
    index: int = 0
    read_bytes: int = 0

    @property
    def next_at(self) -> float:
        """When the next pass is to begin."""
        return self.begun_at + min(max(self.read_bytes / LONG_RUN_BYTES_PER_S, SHORTEST_PASS_S), PASS_S)


@dataclass(frozen=True, slots=True)
class Scrubbing:
    """How far a pass is.

    Args:
        running: whether one is under way.
        begun_at: when the last one began, unix seconds; None before the first.
        last_finished_at: when one was last finished, since this process began; None: none was.
        read_bytes: how much the last one has read.
        total_bytes: how much it has to read.
        damaged: how many artifacts or snapshots it found damaged.
    """

    running: bool = False
    begun_at: float | None = None
    last_finished_at: float | None = None
    read_bytes: int = 0
    total_bytes: int = 0
    damaged: int = 0

    @classmethod
    def of_all(cls, passes: Sequence[Scrubbing]) -> Scrubbing:
        """Several, of artifacts and of snapshots, as one."""
        begun = [one.begun_at for one in passes if one.begun_at is not None]
        finished = [one.last_finished_at for one in passes]
        return cls(
            any(one.running for one in passes),
            min(begun, default=None),
            None if None in finished else max((one for one in finished if one is not None), default=None),
            sum(one.read_bytes for one in passes),
            sum(one.total_bytes for one in passes),
            sum(one.damaged for one in passes),
        )


class Scrubber:
    """Looks after what a node holds.

    Args:
        scrubbed: what is read.
        state: the state directory of that.
        wall: the machine's clock, unix seconds.
        first: is called before each pass, in a thread.
    """

    def __init__(
        self,
        scrubbed: Scrubbed,
        state: Path,
        wall: Callable[[], float],
        first: Callable[[], None] = lambda: None,
    ) -> None:
        self._scrubbed = scrubbed
        self._wall = wall
        self._first = first
        self._note = state / _NOTE
        self._asked = trio.Event()  # for a pass that begins now
        self._hurries = False
        self.state = Scrubbing()
        """As it is now; another one takes its place when that changes."""

    def begin(self) -> None:
        """Begin a pass now, from the first piece, and read as fast as the disk is idle; one that hurries goes on."""
        if not self._hurries:
            self._asked.set()

    @property
    def is_asked(self) -> bool:
        """Whether a pass is to begin now, and has not yet."""
        return self._asked.is_set()

    async def run(self) -> None:
        """Read until cancelled."""
        with trio.move_on_after(FIRST_S):
            await self._asked.wait()
        position = await trio.to_thread.run_sync(self._read_note)
        while True:
            if position.digest is None and not self._asked.is_set():
                with trio.move_on_after(min(max(position.next_at - self._wall(), FIRST_S), PASS_S)):
                    await self._asked.wait()
            if position.digest is None or self._asked.is_set():
                position = Position(self._wall())
            self._hurries, self._asked = self._asked.is_set(), trio.Event()
            read_bytes = await self._try(position)
            if self._asked.is_set():
                continue
            position = Position(position.begun_at, None, 0, read_bytes)
            if read_bytes >= NOTED_BYTES:
                await self._take_note(position)

    async def _try(self, position: Position) -> int:
        """Make a pass; returns how much it has read."""
        self.state = replace(
            self.state, running=True, begun_at=position.begun_at, read_bytes=position.read_bytes, damaged=0
        )
        try:
            read_bytes = await self._pass(position)
        except P2PBootError as error:
            log.error(
                "what is held can not be checked: %s",
                error,
                extra=Event.TASK_FAILED(task="check what is held"),
            )
            read_bytes = 0
        else:
            if not self._asked.is_set():
                self.state = replace(self.state, last_finished_at=self._wall())
        finally:
            self._hurries = False
            self.state = replace(self.state, running=False)
        return read_bytes

    async def _pass(self, start: Position) -> int:
        """Read everything from there on, unless a new pass is asked for; returns how much the whole pass has read."""
        await trio.to_thread.run_sync(self._first)
        total = await trio.to_thread.run_sync(total_bytes, self._scrubbed)
        self.state = replace(self.state, total_bytes=total)
        pieces = read_all(self._scrubbed, start.digest or "", start.index)
        read_bytes, noted_bytes = start.read_bytes, start.read_bytes
        while not self._asked.is_set():
            piece = await trio.to_thread.run_sync(_next, pieces)
            if piece is None:
                break
            if not piece.is_intact:
                self.state = replace(self.state, damaged=self.state.damaged + 1)
                log.warning(
                    "%s: piece %d of %d is damaged on the disk",
                    piece.digest,
                    piece.index,
                    piece.count,
                    extra=Event.DAMAGED(content=piece.digest),
                )
                continue
            read_bytes += piece.length
            self.state = replace(self.state, read_bytes=read_bytes)
            if read_bytes - noted_bytes >= NOTED_BYTES:
                await self._take_note(Position(start.begun_at, piece.digest, piece.index + 1, read_bytes))
                noted_bytes = read_bytes
            if not self._hurries:
                with trio.move_on_after(piece.length / BYTES_PER_S):
                    await self._asked.wait()
        return read_bytes

    def _read_note(self) -> Position:
        try:
            with open(open_regular(self._note), "rb") as file:
                said = decode_note(file.read(_MAX_NOTE))
            position = Position(
                float(said["begun_at"]), said["digest"], int(said["index"]), int(said["read_bytes"])
            )
        except (OSError, ValueError, TypeError, KeyError, OverflowError):
            return Position(self._wall())
        counts = (position.index, position.read_bytes)
        is_odd = min(counts) < 0 or max(counts) > MAX_INTEGER or not isinstance(position.digest, str | None)
        return Position(self._wall()) if is_odd or position.begun_at > self._wall() else position

    async def _take_note(self, position: Position) -> None:
        said = {name: getattr(position, name) for name in ("begun_at", "digest", "index", "read_bytes")}
        try:
            await trio.to_thread.run_sync(self._write_note, json.dumps(said).encode())
        except P2PBootError as error:  # as where snapshots can only be read
            log.debug("how far the check of what is held came is not noted: %s", error)

    def _write_note(self, content: bytes) -> None:
        with opened_state(self._note.parent):
            write_file(self._note, content, 0o600)


def _next(pieces: Iterator[PieceRead]) -> PieceRead | None:
    with idle_disk():
        return next(pieces, None)
