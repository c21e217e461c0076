"""Reads what the store holds over and over, slowly: disks rot, and what nobody asks for is found damaged too late.

At start nothing is read whole. A pass goes through everything that is wholly here, in the order of the digests, a piece
at a time and at a bounded rate, and begins with an audit of the database. Where it is, it notes in the state, so that
a node that is restarted every night comes to the end all the same; the note is a hint, and can at most put off a pass
by the time between two. What is damaged is not offered any more and is brought in again, as when it was served.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import KIB, MIB
from p2pboot.errors import P2PBootError
from p2pboot.store.audit import audit
from p2pboot.store.durable import write_file
from p2pboot.store.reading import open_regular
from p2pboot.store.store import Store

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


class Scrubber:
    """Looks after what a node holds.

    Args:
        store: what is read; locked by the caller.
        found: called when something was put right in the database: what is wanted may be other than before.
        wall: the machine's clock, unix seconds.
    """

    def __init__(self, store: Store, found: Callable[[], None], wall: Callable[[], float]) -> None:
        self._store = store
        self._found = found
        self._wall = wall
        self._note = store.path / _NOTE

    async def run(self) -> None:
        """Read until cancelled."""
        await trio.sleep(FIRST_S)
        position = await trio.to_thread.run_sync(self._read_note)
        while True:
            if position.digest is None:
                await trio.sleep(min(max(position.next_at - self._wall(), FIRST_S), PASS_S))
                position = Position(self._wall())
            read_bytes = 0
            try:
                read_bytes = await self._pass(position)
            except P2PBootError as error:
                log.error("what is held can not be checked: %s", error)
            position = Position(position.begun_at, None, 0, read_bytes)
            if read_bytes >= NOTED_BYTES:
                await self._take_note(position)

    async def _pass(self, start: Position) -> int:
        """Read everything from there on; returns how much the whole pass has read."""
        if await trio.to_thread.run_sync(self.audit):
            self._found()
        read_bytes, noted_bytes = start.read_bytes, start.read_bytes
        for digest in await trio.to_thread.run_sync(self._store.blobs.whole):
            if start.digest is not None and digest < start.digest:
                continue
            table = await trio.to_thread.run_sync(self._store.blobs.table, digest)
            if table is None:
                continue
            for index in range(start.index if digest == start.digest else 0, table.count):
                if read_bytes - noted_bytes >= NOTED_BYTES:
                    await self._take_note(Position(start.begun_at, digest, index, read_bytes))
                    noted_bytes = read_bytes
                if not await trio.to_thread.run_sync(self._store.blobs.scrub, digest, index):
                    log.warning("sha256:%s is damaged on the disk", digest)
                    break
                length = table.span(index)[1]
                read_bytes += length
                await trio.sleep(length / BYTES_PER_S)
        return read_bytes

    def audit(self) -> bool:
        """Put the database right; blocking. Returns whether anything was wrong.

        Raises:
            StoreError, MachineError: as :func:`p2pboot.store.audit.audit`.
        """
        found = audit(self._store)
        for one in found:
            log.warning("%s: it was removed", one)
        return bool(found)

    def _read_note(self) -> Position:
        try:
            with open(open_regular(self._note), "rb") as file:
                said = json.loads(file.read(_MAX_NOTE))
            position = Position(
                float(said["begun_at"]), said["digest"], int(said["index"]), int(said["read_bytes"])
            )
        except (OSError, ValueError, TypeError, KeyError):
            return Position(self._wall())
        is_odd = min(position.index, position.read_bytes) < 0 or not isinstance(position.digest, str | None)
        return Position(self._wall()) if is_odd or position.begun_at > self._wall() else position

    async def _take_note(self, position: Position) -> None:
        said = {name: getattr(position, name) for name in ("begun_at", "digest", "index", "read_bytes")}
        try:
            await trio.to_thread.run_sync(write_file, self._note, json.dumps(said).encode(), 0o600)
        except P2PBootError as error:
            log.warning("how far the check of what is held came is not noted: %s", error)
