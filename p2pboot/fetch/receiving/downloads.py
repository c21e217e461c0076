"""The artifacts of one job on their way into the store, as all peers' sessions see them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any, TypeVar

import trio

from p2pboot.core.changes import Change, Form
from p2pboot.core.estimate import RateWindow
from p2pboot.core.pieces import KIB, MIB, PieceSet, PieceTable
from p2pboot.errors import BlobCorrupt, BlobMissing, Contradiction
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.receiving.buffers import Buffers
from p2pboot.fetch.receiving.items import Dialect, Wanted
from p2pboot.fetch.receiving.missing import Assignment
from p2pboot.fetch.receiving.schedule import Schedule
from p2pboot.fetch.receiving.turns import LONGEST_PATIENCE_S, Claim, Turns
from p2pboot.store.blobs import BlobStore
from p2pboot.store.partials import PartialBlob
from p2pboot.store.room import Plan

HASH_BYTES = 8 * MIB
"""Pieces that came out of order are read back and hashed by so much per thread hop, 8 ms with SHA extensions and 25
without; a thread can not be cancelled."""

SYNC_BYTES = 32 * MIB
"""What was written is brought to the disk every so often, so that the end need not wait for all of it: 0.02 s instead
of 0.21 to 0.24 for 512 MiB."""

GATHERED_S = 0.25
"""For so long short pieces are gathered in memory before they are written: a thread for each costs 10 CPU s/GB.
They are held, and given to others, meanwhile; in 50 ms one or two come."""

TAKE_BYTES = 512 * KIB
"""The longest answer whose pieces are taken into memory, if they are short: hashing a thread costs more."""

REMEMBERED_GIVERS = 64
"""Peers of which it is known what they gave of one artifact; of more, those that gave least are forgotten."""

WRITERS = 1
"""Threads that check, write and hash: it takes one core at 900 MB/s, and keeps pieces in order for SHA-256."""


T = TypeVar("T")


class Download:
    """One artifact: first its table is missing, then pieces, then nothing.

    Args:
        wanted: what to bring, as it was signed.
        rank: lower ones go first.
        claim: to have it to oneself.
    """

    def __init__(self, wanted: Wanted, rank: int, claim: Claim) -> None:
        self.wanted = wanted
        self.rank = rank
        self.claim = claim
        self.table: PieceTable | None = None
        self.partial: PartialBlob | None = None
        self.complete = trio.Event()
        self.closed = trio.Event()
        """It is not wanted any more, or whole."""
        self.taken = trio.Event()
        """Something of the partial waits in memory to be written."""
        self.grown = trio.Event()
        """See `expect_growth`."""
        self.done_bytes = 0
        self.stored = RateWindow(trio.current_time())
        """Bytes that were verified and stored, since it was begun."""
        self.given: dict[str, RateWindow] = {}
        """Bytes that came from each peer, useful or not."""
        self._grown_at = 0

    @property
    def blob(self) -> str:
        """The name under which everybody knows it: the digest of the whole."""
        return self.wanted.blob

    def expect_growth(self, size_bytes: int) -> None:
        """Have a new `grown` set when so much more is done."""
        self._grown_at = self.done_bytes + size_bytes
        self.grown = trio.Event()

    def note_growth(self, size_bytes: int) -> None:
        """So much more was stored."""
        self.done_bytes += size_bytes
        self.stored.note(size_bytes, trio.current_time())
        if self.done_bytes >= self._grown_at:
            self.grown.set()

    def note_given(self, peer_id: str, size_bytes: int) -> None:
        """So much came from a peer."""
        now = trio.current_time()
        window = self.given.get(peer_id)
        if window is None:
            if len(self.given) >= REMEMBERED_GIVERS:
                del self.given[min(self.given, key=lambda each: self.given[each].total)]
            window = self.given[peer_id] = RateWindow(now)
        window.note(size_bytes, now)

    def holds(self, pieces: range) -> bool:
        """Whether all these pieces are there."""
        partial = self.partial
        return partial is not None and not PieceSet.of(partial.table.count, pieces) - partial.held

    def tell(self, change: Change) -> None:
        """Have whoever follows what becomes of it learn of a change."""
        if self.partial is not None:
            self.partial.changes.append([change])

    def take_table(self, table: PieceTable) -> None:
        """Take a table that was checked against what was signed; the first one counts."""
        if self.table is None:
            self.table = table
            self.claim.news.set()


class Downloads:
    """What is being fetched now, and how far it is.

    Args:
        blobs: where it goes.
        dialect: how peers are asked.
        plan: the room for all of it.
        ledger: the job's record of peers; its progress is told what is done.
        wanting: called when there is something new to ask peers for.
    """

    def __init__(
        self, blobs: BlobStore, dialect: Dialect, plan: Plan, ledger: Ledger, wanting: Callable[[], None]
    ) -> None:
        self.dialect = dialect
        self.schedule = Schedule(Random(), pieces_at_once=dialect.pieces_at_once)  # noqa: S311 - no secret
        self.open: dict[str, Download] = {}
        """By digest; what is wanted of peers now."""
        self.buffers = Buffers()
        self._blobs = blobs
        self._plan = plan
        self._turns = Turns.of(blobs)
        self._ledger = ledger
        self._wanting = wanting
        self._writers = trio.CapacityLimiter(WRITERS)
        self._last_gain = trio.current_time()
        self._local_work = 0
        self._awaited: dict[Assignment, trio.Event] = {}  # copies under way

    def idle_s(self) -> float:
        """Seconds since a piece was stored or the disk was busy with something that needs no peer."""
        nothing_asked = self._local_work > 0 or not self.open
        return 0.0 if nothing_asked else trio.current_time() - self._last_gain

    async def bring(self, wanted: Wanted, rank: int) -> None:
        """Have something in the store, whole and verified; the sessions do what needs peers.

        Args:
            wanted: what to bring.
            rank: among those that are brought at the same time, the lowest goes first.

        Raises:
            P2PBootError: the pieces are what was signed, the whole is not (see `Dialect.contradiction`).
            Contradiction: it is here, and the pieces are not what was signed.
            MachineError: the disk is full or fails, or the store's quota is used up.
        """
        if await self._locally(self._is_here, wanted):
            self._ledger.progress.artifact(wanted.key, wanted.size, wanted.size)
            return
        with self._turns.claim(wanted.blob, wanted.table_digest) as claim:
            download = self.open[wanted.blob] = Download(wanted, rank, claim)
            try:
                table = await self._find_table(download)
                while table is not None and not await self._take_turn(download, table):
                    pass
            finally:
                del self.open[wanted.blob]
                download.closed.set()

    async def _take_turn(self, download: Download, table: PieceTable) -> bool:
        """Fetch it while nobody else does; False when that is another job's turn again."""
        # Whoever waits for a table that nobody has keeps nobody from it.
        async with self._turn(download.claim):
            partial = await self._locally(self._blobs.begin, download.blob, table, self._plan)
            if partial is None:  # another task of this process was faster
                return True
            download.partial = partial
            try:
                return await self._fill(download, partial)
            finally:
                download.partial = None
                with trio.CancelScope(shield=True):  # waits for writes under way, a request each
                    await trio.to_thread.run_sync(partial.close)

    @asynccontextmanager
    async def _turn(self, claim: Claim) -> AsyncIterator[None]:
        """A partial file belongs to one job at a time; no peer can be blamed for the wait."""
        async with AsyncExitStack() as stack:
            self._local_work += 1
            try:
                await stack.enter_async_context(self._turns.take(claim))
            finally:
                self._local_work -= 1
                self._last_gain = trio.current_time()
            yield

    async def _locally(self, work: Callable[..., T], *args: Any) -> T:
        """Do something long in a thread that no peer can be blamed for."""
        self._local_work += 1
        try:
            return await trio.to_thread.run_sync(work, *args)
        finally:
            self._local_work -= 1
            self._last_gain = trio.current_time()

    def _is_here(self, wanted: Wanted) -> bool:
        """Whether there is nothing to fetch: what is here and was cut otherwise is read once; blocking."""
        try:
            return self._blobs.settle(
                wanted.blob,
                size=wanted.size,
                piece_length=wanted.piece_length,
                table_digest=wanted.table_digest,
                go_on=trio.from_thread.check_cancelled,
            )
        except Contradiction:
            if self.dialect.counts_uncut:
                return True
            raise

    async def _find_table(self, download: Download) -> PieceTable | None:
        """Its table, as far as it is known here or a peer gives it; None once another job has brought all of it."""
        table = await self._locally(self._blobs.known_table, download.blob, download.wanted.table_digest)
        if table is not None:
            download.take_table(table)
        if table is None:
            self._wanting()
        while (table := download.table) is None:
            await download.claim.news.wait()
            download.claim.news = trio.Event()
            if download.table is None and await self._locally(self._is_here, download.wanted):
                return None
        return table

    async def _fill(self, download: Download, partial: PartialBlob) -> bool:
        """Have all of it; False when another job is to try it because nobody gives any of it."""
        held = partial.held
        download.done_bytes = sum(partial.table.span(index)[1] for index in held)
        fetched = held - partial.zeros  # zeros are made here and were never downloaded
        self._ledger.zero_bytes += sum(length for _, length in partial.table.extents(partial.zeros))
        self._ledger.resumed_bytes += sum(partial.table.span(index)[1] for index in fetched)
        self._tell(download)
        self.schedule.add_blob(
            download.blob,
            size=download.wanted.size,
            piece_length=download.wanted.piece_length,
            missing=held.missing(),
            rank=download.rank,
            table=download.wanted.table_digest,
        )
        self._wanting()
        try:
            self._note_completion(download)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write_taken, download, partial)
                nursery.start_soon(self._keep_up, download, partial)
                nursery.start_soon(self._give_way, download, nursery.cancel_scope)
                await download.complete.wait()
                nursery.cancel_scope.cancel()
        finally:
            self.schedule.remove_blob(download.blob)
        if not download.complete.is_set():
            return False
        try:
            await self._locally(partial.finish)
        except BlobCorrupt as error:
            raise self.dialect.contradiction(download.wanted, error) from None
        return True

    async def _give_way(self, download: Download, turn: trio.CancelScope) -> None:
        """End the turn when nothing comes, and another job would fetch the same by another table."""
        claim, before = download.claim, -1
        while before != download.done_bytes or not self._turns.is_awaited(claim):
            before = download.done_bytes
            await trio.sleep(claim.patience_s)
        claim.patience_s = min(2 * claim.patience_s, LONGEST_PATIENCE_S)
        turn.cancel()

    async def store(self, assignment: Assignment, data: bytearray) -> int | None:
        """Check and write what a request brought.

        Returns:
            The first piece that is not what the table says, or None when all are good or not needed any more.

        Raises:
            MachineError: the disk is full or fails.
        """
        claimed = self.schedule.arrived(assignment, trio.current_time())
        stored: list[int] = []
        bad: int | None = None
        download = self.open.get(assignment.blob)
        try:
            if claimed and download is not None and download.partial is not None:
                taken, bad = _take(download.partial, assignment, claimed, data)
                if taken:
                    stored += taken
                    download.taken.set()
                rest = claimed[len(taken) :]
                if rest and bad is None:
                    bad = await trio.to_thread.run_sync(
                        _check_and_write,
                        download.partial,
                        assignment,
                        rest,
                        data,
                        stored,
                        limiter=self._writers,
                    )
        except BlobMissing:
            pass  # it is another job's turn by now
        finally:
            self.schedule.settle(assignment, stored)
        if stored and download is not None and download.partial is not None:
            held = PieceSet.of(download.partial.table.count, stored)
            download.partial.changes.append(Change(Form.HELD, run) for run in held.runs())
            self._gain(download, sum(length for _, length in download.partial.table.extents(held)))
            self._tell_copies(download)
        return bad

    async def stored(self, assignment: Assignment) -> None:
        """Wait until somebody has delivered all that this asks for."""
        self._awaited[assignment] = trio.Event()
        try:
            await self._awaited[assignment].wait()
        finally:
            del self._awaited[assignment]

    def _tell_copies(self, download: Download) -> None:
        for assignment, arrived in self._awaited.items():
            if assignment.blob == download.blob and download.holds(assignment.pieces):
                arrived.set()

    async def _write_taken(self, download: Download, partial: PartialBlob) -> None:
        while True:
            await download.taken.wait()
            await trio.sleep(GATHERED_S)
            download.taken = trio.Event()
            await trio.to_thread.run_sync(partial.write_taken, limiter=self._writers)

    async def _keep_up(self, download: Download, partial: PartialBlob) -> None:
        """Keep the whole file's SHA-256 and the disk up with the pieces, so that little is left to do at the end."""
        synced = download.done_bytes
        while True:
            download.expect_growth(HASH_BYTES)
            # As a writer, for beside one it would read back what that has in memory: 0.1 CPU s/GB.
            while await trio.to_thread.run_sync(partial.hash_on, HASH_BYTES, limiter=self._writers):
                pass
            if download.done_bytes - synced >= SYNC_BYTES:
                synced = download.done_bytes
                await trio.to_thread.run_sync(partial.sync)
            await download.grown.wait()

    def _gain(self, download: Download, size_bytes: int) -> None:
        self._last_gain = trio.current_time()
        self._ledger.stored_bytes += size_bytes
        download.note_growth(size_bytes)
        self._tell(download)
        self._note_completion(download)

    def _note_completion(self, download: Download) -> None:
        if download.blob in self.open and self.schedule.complete(download.blob):
            download.complete.set()

    def _tell(self, download: Download) -> None:
        self._ledger.progress.artifact(download.wanted.key, download.done_bytes, download.wanted.size)


def _take(
    partial: PartialBlob, assignment: Assignment, claimed: tuple[int, ...], data: bytearray
) -> tuple[tuple[int, ...], int | None]:
    """Take what is short into memory: returns the pieces that were taken, the first ones, and one that is bad."""
    if len(data) > TAKE_BYTES:
        return (), None
    view = memoryview(data)
    for number, index in enumerate(claimed):
        offset, length = partial.table.span(index)
        start = offset - assignment.offset
        try:
            if not partial.take(index, view[start : start + length]):
                return claimed[:number], None
        except BlobCorrupt:
            return claimed[:number], index
    return claimed, None


def _check_and_write(
    partial: PartialBlob, assignment: Assignment, claimed: tuple[int, ...], data: bytearray, stored: list[int]
) -> int | None:
    """One thread hop for a whole request. Good pieces end up in `stored`, whatever else happens."""
    view = memoryview(data)
    bad: int | None = None
    for index in claimed:
        offset, length = partial.table.span(index)
        start = offset - assignment.offset
        try:
            partial.write(index, view[start : start + length])
        except BlobCorrupt:
            bad = index if bad is None else bad
        else:
            stored.append(index)
    partial.hash_on(assignment.length)  # what came before its turn
    return bad
