"""One connection's part in a fetch: what is asked there, and what the answers say of the peer.

A session lives as long as its streams. It decides nothing about pieces (`schedule` does); it sends what it is told to,
and hands on what arrives. How pieces are asked for is its kind's: `plain` or `swarming`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

import trio

from p2pboot.core.origins import origin_of
from p2pboot.core.pieces import MIB
from p2pboot.errors import RemoteProtocolError
from p2pboot.fetch.asking.requests import NoAnswer, Truncated
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.receiving.downloads import Download, Downloads
from p2pboot.fetch.receiving.line import Line
from p2pboot.fetch.receiving.missing import Assignment
from p2pboot.protocol.client import PeerBusy, PeerLacks, PeerRefused
from p2pboot.protocol.messages import Status
from p2pboot.transport.interface import Connection, Transport

SILENT_S = 2.0
"""A peer that owes us something and delivers no byte for so long: its pieces go to others."""

GIVE_UP_S = 20.0
"""And after so long its stream is given up. Longer than a server that paces its replies by the piece may
pause."""

MAX_SILENT_BYTES = 32 * MIB
"""Owed by silent peers, all together: they could all wake at once. Beyond it their streams are given up at
once."""

LACK_AGAIN_S = 2.0
BUSY_S = 0.5
"""A peer that is busy is left alone for so long, doubled each time up to LONGEST_BUSY_S."""

LONGEST_BUSY_S = 8.0
TABLE_ASKS = 2
"""Peers that are asked for one table at the same time: a table is up to 2 MiB, and one peer may be mute."""

TABLE_S = 3.0
"""When nobody has given it after so long, twice as many are asked, up to eight times as many; who sends it byte by byte
may go on meanwhile."""

_TABLE_ROUNDS = 4


class Session(ABC):
    """Asks one peer over one connection.

    Args:
        connection: with the peer.
        transport: the network.
        downloads: what is wanted.
        ledger: where what the peer gave, and why it is dropped, is noted.
        sessions: all of the job; this one is in it while it runs.
        near: tells whether nothing that is scarce lies between.
    """

    def __init__(
        self,
        connection: Connection,
        transport: Transport,
        downloads: Downloads,
        ledger: Ledger,
        sessions: list[Session],
        *,
        near: Callable[[], bool],
    ) -> None:
        self.peer_id = connection.peer_id
        self._origin = origin_of(connection.address)
        self.asking_tables: dict[str, float] = {}
        """Since when this peer is being asked for the table of an artifact."""
        self.delivered = False
        self.begun = False
        """Whether its streams could be opened."""
        self._source = connection
        self._transport = transport
        self._downloads = downloads
        self._schedule = downloads.schedule
        self._ledger = ledger
        self._sessions = sessions
        self._near = near
        self._next_ask: dict[str, float] = {}  # when to ask again about an artifact's table or holdings
        self._busy_s = BUSY_S
        self._is_late = False
        self._changed = False  # it said that a file of it changed
        self._over = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._lines: list[Line] = []  # on which silence counts
        self._plain: Line  # for tables, once it runs

    async def run(self) -> None:
        """Ask until cancelled or until the streams or the peer are no good any more; the ledger has the reason.

        Raises:
            MachineError: the disk is full or fails.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._plain = self._line(self._downloads.dialect.protocol)
                try:
                    self.begun = await self._begin()
                    if self.begun:
                        self._sessions.append(self)
                        self._locate()
                        self.pump()
                        await self._over.wait()
                finally:
                    self._nursery = None  # before it closes: others' sessions pump this one until the end
                nursery.cancel_scope.cancel()
        finally:
            if self.begun:
                self._sessions.remove(self)
                self._schedule.remove_peer(self._source)
                pump_all(self._sessions)  # what this peer owed is the others' now

    def _locate(self) -> None:
        """Find out who is near once there are two to choose from: it takes a look at this machine's interfaces."""
        if len(self._sessions) > 1:
            for session in self._sessions:
                self._schedule.place(session._source, near=session._near())

    @abstractmethod
    async def _begin(self) -> bool:
        """Open the first stream and enter the peer into the schedule; where that fails, note why and return False."""

    @abstractmethod
    def _ask_for_pieces(self, nursery: trio.Nursery, now: float) -> None:
        """Send what the schedule says."""

    @abstractmethod
    def _ask_about(self, download: Download, nursery: trio.Nursery) -> None:
        """Find out which pieces of an artifact the peer has, now or from now on."""

    def _line(self, protocol: str) -> Line:
        assert self._nursery is not None  # noqa: S101 - it runs
        line = Line(self._transport, self._source, protocol, self._nursery)
        self._lines.append(line)
        return line

    @property
    def silent(self) -> bool:
        """Whether the peer owes us something and has not sent a byte for too long, or so little that others wait."""
        return self._is_late or self._silence_s() > SILENT_S

    @property
    def delivering(self) -> bool:
        """Whether pieces are on their way from the peer."""
        return not self.silent and self._schedule.asked_bytes(self._source) > 0

    def _silence_s(self) -> float:
        return max((line.silence_s() for line in self._lines), default=0.0)

    def watch(self) -> None:
        """To be called a few times a second: notices silence and its end."""
        late = self._schedule.is_late(self._source, trio.current_time())
        self._is_late = late and (self._is_late or self._schedule.is_missed(self._source))
        if not self.silent:
            self._schedule.wake(self._source)
            return
        self._schedule.silence(self._source)
        if self._silence_s() > GIVE_UP_S or self._schedule.silent_bytes > MAX_SILENT_BYTES:
            self._end(NoAnswer(f"sent nothing for {GIVE_UP_S:g} s"))

    def pump(self) -> None:
        """Ask for all that can be asked for now."""
        nursery = self._nursery
        if nursery is None or self._over.is_set() or self.silent:
            return
        if not self._ledger.usable(self.peer_id):  # it lied on another connection
            self._over.set()
            return
        now = trio.current_time()
        for download in self._downloads.open.values():
            if now >= self._next_ask.get(download.blob, -math.inf):
                if download.table is None:
                    self._ask_for_table(download, nursery)
                elif download.partial is not None and not download.complete.is_set():
                    self._next_ask[download.blob] = math.inf
                    self._ask_about(download, nursery)
        self._ask_for_pieces(nursery, now)

    def _ask_for_table(self, download: Download, nursery: trio.Nursery) -> None:
        now = trio.current_time()
        waits_s = [
            wait_s
            for other in self._sessions
            if not other.silent
            and (wait_s := now - other.asking_tables.get(download.blob, -math.inf)) < _TABLE_ROUNDS * TABLE_S
        ]
        if len(waits_s) < TABLE_ASKS << int(max(waits_s, default=0) / TABLE_S):
            self._next_ask[download.blob] = math.inf
            self.asking_tables[download.blob] = now
            nursery.start_soon(self._ask, self._ask_table, download)

    async def _ask(self, ask: Callable[[Download], Awaitable[None]], download: Download) -> None:
        try:
            await ask(download)
        except PeerRefused as error:
            self._note(error)
            self._ask_again(download, self._pause_s(error))
        except RemoteProtocolError as error:
            self._end(error)
        pump_all(self._sessions)

    async def _ask_table(self, download: Download) -> None:
        try:
            requests = await self._plain.open()
            download.take_table(await self._downloads.dialect.table(requests, download.wanted))
            self._ask_again(download, 0)
        finally:
            del self.asking_tables[download.blob]

    async def _take(self, assignment: Assignment, data: bytearray) -> None:
        """Have what came checked and written."""
        self.delivered = True
        self._busy_s = BUSY_S
        self._ledger.note_arrival(self.peer_id, len(data), self._near)
        download = self._downloads.open.get(assignment.blob)
        if download is not None:
            download.note_given(self.peer_id, len(data))
        try:
            bad = await self._downloads.store(assignment, data)
        finally:
            self._downloads.buffers.give_back(data)
        if bad is not None and download is not None:
            self._schedule.drop(self._source)
            piece = f"{self._downloads.dialect.piece} {bad} of {download.wanted.key}"
            self._end(RemoteProtocolError(f"{piece} is not what was signed"))

    def _note(self, error: PeerRefused) -> None:
        """Remember why the peer does not give what it was asked for, in its own words where it has any."""
        if error.status is Status.GONE:
            self._changed = True
            said, usual = "does not have these pieces any more", "its file changed"
        elif isinstance(error, PeerBusy):
            said, usual = "is busy", ""
        elif isinstance(error, PeerLacks):
            if self._changed:  # whoever lost it lacks it: the cause says more than that
                return
            said, usual = "does not have these pieces" + (" any more" if self.delivered else ""), ""
        else:
            said, usual = f"answers {error.status.value}", ""
        why = error.reason or usual
        self._ledger.note_failure(self.peer_id, f"{said} ({why})" if why else said)

    def _ask_again(self, download: Download, after_s: float) -> None:
        self._next_ask[download.blob] = trio.current_time() + after_s

    def _pause_s(self, error: PeerRefused) -> float:
        if not isinstance(error, PeerBusy):
            return LACK_AGAIN_S if isinstance(error, PeerLacks) else GIVE_UP_S
        pause_s, self._busy_s = self._busy_s, min(self._busy_s * 2, LONGEST_BUSY_S)
        return pause_s

    def _end(self, failure: RemoteProtocolError) -> None:
        """Stop using the connection and note why; the first failure counts."""
        if self._over.is_set():
            return
        self._over.set()
        if isinstance(failure, Truncated):  # also what a peer that is being ended does
            self._ledger.note_stop(self.peer_id, failure.message)
        else:
            self._ledger.note_error(self.peer_id, failure)


def pump_all(sessions: list[Session]) -> None:
    """Something became free: everybody may ask for more."""
    for session in tuple(sessions):
        session.pump()
