"""One connection's part in a fetch: an artifact stream on which tables, holdings and pieces are asked for.

A session lives as long as its stream. It decides nothing about pieces (`schedule` does); it sends what it
is told to, hands on what arrives, and reports what that says of the peer.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio

from p2pboot.core.pieces import MIB
from p2pboot.errors import RemoteProtocolError
from p2pboot.fetch.asking.requests import NoAnswer, RequestStream, Truncated
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.receiving.downloads import Download, Downloads
from p2pboot.fetch.receiving.missing import Assignment
from p2pboot.protocol.client import PeerBusy, PeerLacks, PeerRefused
from p2pboot.protocol.messages import Status

SILENT_S = 2.0
"""A peer that owes us something and delivers no byte for so long: its pieces go to others."""

GIVE_UP_S = 20.0
"""And after so long its stream is given up. Longer than a server that paces its replies by the piece may
pause."""

MAX_SILENT_BYTES = 32 * MIB
"""Owed by silent peers, all together: they could all wake at once. Beyond it their streams are given up at
once."""

HAVE_AGAIN_S = 1.0
"""A peer that lacked what is wanted is asked again: while it fetches itself, it has more every second."""

HAVE_AGAIN_USEFUL_S = 3.0
"""One that has enough for now less often."""

LACK_AGAIN_S = 2.0
BUSY_S = 0.5
"""A peer that is busy is left alone for so long, doubled each time up to LONGEST_BUSY_S."""

LONGEST_BUSY_S = 8.0
TABLE_ASKS = 2
"""Peers that are asked for one table at the same time: a table is up to 2 MiB, and one peer may be mute."""


class Session:
    """Asks one peer.

    Args:
        requests: an open stream to the peer.
        downloads: what is wanted.
        ledger: where what the peer gave, and why it is dropped, is noted.
        sessions: all of the job; this one is in it while it runs.
    """

    def __init__(
        self, requests: RequestStream, downloads: Downloads, ledger: Ledger, sessions: list[Session]
    ) -> None:
        self.peer_id = requests.peer_id
        self._source = requests.connection
        self.asking_tables: set[str] = set()
        """Artifacts whose table this peer is being asked for."""
        self.delivered = False
        self._requests = requests
        self._downloads = downloads
        self._ledger = ledger
        self._sessions = sessions
        self._next_ask: dict[str, float] = {}  # when to ask again about an artifact's table or holdings
        self._busy_s = BUSY_S
        self._changed = False  # it said that a file of it changed
        self._over = trio.Event()
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Ask until cancelled or until the stream or the peer is no good any more; the ledger has the reason.

        Raises:
            MachineError: the disk is full or fails.
        """
        schedule = self._downloads.schedule
        schedule.add_peer(self._source, trio.current_time())
        self._sessions.append(self)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    self.pump()
                    await self._over.wait()
                finally:
                    self._nursery = None  # before it closes: others' sessions pump this one until the end
                nursery.cancel_scope.cancel()
        finally:
            self._sessions.remove(self)
            schedule.remove_peer(self._source)
            pump_all(self._sessions)  # what this peer owed is the others' now

    @property
    def silent(self) -> bool:
        """Whether the peer owes us something and has not sent a byte for too long."""
        return self._silence_s() > SILENT_S

    @property
    def delivering(self) -> bool:
        """Whether pieces are on their way from the peer."""
        return not self.silent and self._downloads.schedule.asked_bytes(self._source) > 0

    def _silence_s(self) -> float:
        waiting = self._requests.outstanding > 0
        return trio.current_time() - self._requests.last_progress if waiting else 0.0

    def watch(self) -> None:
        """To be called a few times a second: notices silence and its end."""
        schedule = self._downloads.schedule
        if not self.silent:
            schedule.wake(self._source)
            return
        schedule.silence(self._source)
        if self._silence_s() > GIVE_UP_S or schedule.silent_bytes > MAX_SILENT_BYTES:
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
                self._ask_about(download, nursery)
        for assignment in self._downloads.schedule.assign(self._source, now):
            nursery.start_soon(self._read, assignment)

    def _ask_about(self, download: Download, nursery: trio.Nursery) -> None:
        if download.table is None:
            asked = sum(download.blob in other.asking_tables and not other.silent for other in self._sessions)
            if asked < TABLE_ASKS:
                self._next_ask[download.blob] = math.inf
                self.asking_tables.add(download.blob)
                nursery.start_soon(self._ask, self._ask_table, download)
        elif download.partial is not None and not download.complete.is_set():
            self._next_ask[download.blob] = math.inf
            nursery.start_soon(self._ask, self._ask_holdings, download)

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
            download.take_table(await self._downloads.dialect.table(self._requests, download.wanted))
            self._ask_again(download, 0)
        finally:
            self.asking_tables.discard(download.blob)

    async def _ask_holdings(self, download: Download) -> None:
        schedule = self._downloads.schedule
        held = await self._downloads.dialect.holdings(self._requests, download.wanted)
        schedule.set_holdings(self._source, download.blob, held)
        if not held.complete:
            useful = schedule.useful(self._source, download.blob)
            if not useful and not self._changed:
                self._ledger.note_failure(self.peer_id, "has none of the missing pieces")
            self._ask_again(download, HAVE_AGAIN_USEFUL_S if useful else HAVE_AGAIN_S)

    async def _read(self, assignment: Assignment) -> None:
        schedule = self._downloads.schedule
        try:
            data = await self._downloads.dialect.read(
                self._requests, assignment, self._downloads.buffers.take
            )
        except PeerBusy as error:
            self._note(error)
            schedule.failed(assignment)
            schedule.pause(self._source, trio.current_time() + self._pause_s(error))
        except PeerRefused as error:
            self._note(error)
            schedule.lacks(
                assignment
            )  # also "range" and "bad_request": it does not give it, whatever the reason
            self._next_ask[assignment.blob] = trio.current_time() + LACK_AGAIN_S
        except RemoteProtocolError as error:
            self._end(error)
        else:
            await self._take(assignment, data)
        pump_all(self._sessions)

    async def _take(self, assignment: Assignment, data: bytearray) -> None:
        self.delivered = True
        self._busy_s = BUSY_S
        self._ledger.received[self.peer_id] += len(data)
        download = self._downloads.open.get(assignment.blob)
        try:
            bad = await self._downloads.store(assignment, data)
        finally:
            self._downloads.buffers.give_back(data)
        if bad is not None and download is not None:
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
        """Stop using the stream and note why; the first failure counts."""
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
