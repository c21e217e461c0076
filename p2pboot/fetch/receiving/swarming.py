"""A session with a peer of the swarm: it tells what it has as that changes, deals what it chooses, and can be asked.

Each of these has a stream of its own, for a reply waits behind those before it: what changed (a long poll, one stream
for each artifact), deals, particular pieces. A second copy of a piece that is late elsewhere has one as well, which is
reset when the other copy comes first.
"""

from __future__ import annotations

from typing import Final

import trio
from typing_extensions import override

from p2pboot.core.changes import Change, Form
from p2pboot.errors import RemoteProtocolError
from p2pboot.fetch.asking.requests import NoAnswer, NoStream, RequestStream, open_stream
from p2pboot.fetch.receiving.downloads import Download
from p2pboot.fetch.receiving.line import Line
from p2pboot.fetch.receiving.missing import Assignment, Order
from p2pboot.fetch.receiving.session import LACK_AGAIN_S, Session, pump_all
from p2pboot.protocol.client import PeerBusy, PeerLacks, PeerRefused
from p2pboot.protocol.messages import Status
from p2pboot.protocol.swarm import MAX_WAIT_MS, SWARM_PROTOCOL
from p2pboot.protocol.swarm_client import Changes, ask_changes, ask_deal, ask_some_pieces

LEAST_BUSY_S: Final = 0.1
"""Who says that he is busy is left alone for so long at least, whatever he says: others have their turn, and an answer
costs both ends as much as a piece."""

MOST_REFUSED: Final = 20
"""Who does not have what he said is left alone as well, from the second time on and longer each time, so often."""

SOONEST_S: Final = 0.05
SOONEST_PER_CHANGE_S: Final = 0.0001
"""After so long, and for each change in the answer, what changed is asked again at the soonest: a peer that waits for
changes as it should takes longer by itself."""

LONGEST_REST_S: Final = 0.5
"""And after so long at the latest, if there is enough else to ask the peer for: an answer costs both ends 0.5 ms."""

_PATIENCE_S = MAX_WAIT_MS / 1000 + 10  # for changes
_LACKS_S = 1.0  # at least between two questions what changed, of a peer that knows nothing


class SwarmSession(Session):
    """Asks over `/p2pboot/swarm/1`."""

    _pieces: Line
    _deals: Line

    @override
    async def _begin(self) -> bool:
        self._pieces = self._line(SWARM_PROTOCOL)
        self._deals = self._line(SWARM_PROTOCOL)
        self._refused = 0  # in a row, of what the peer said that it has
        self._hearing: dict[str, trio.CancelScope] = {}  # by artifact, while the peer says what it has
        try:
            await self._pieces.open()
        except NoStream:
            return False  # nothing is wrong with a peer that does not speak it
        except RemoteProtocolError as error:
            self._ledger.note_error(self.peer_id, error)
            return False
        self._schedule.add_peer(
            self._source, trio.current_time(), swarm=True, peer_id=self.peer_id, origin=self._origin
        )
        return True

    # What the peer has

    @override
    def _ask_about(self, download: Download, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._follow, download)

    async def _follow(self, download: Download) -> None:
        """Take what the peer says of its pieces until it has all of them, or they are all here."""
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                await download.closed.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop)
            try:
                while True:
                    with trio.CancelScope() as self._hearing[download.blob]:
                        await self._hear(download)
                        await download.closed.wait()  # nothing changes where all is, until that proves wrong
                    await trio.sleep(LACK_AGAIN_S)
            except RemoteProtocolError as error:
                self._end(error)
            nursery.cancel_scope.cancel()

    def _doubt(self, blob: str) -> None:
        """The peer does not give what it has by its own word: it is to say once more what that is."""
        if blob in self._hearing:
            self._hearing[blob].cancel()

    async def _hear(self, download: Download) -> None:
        stream = await open_stream(self._transport, self._source, SWARM_PROTOCOL)
        wanted = download.wanted
        async with RequestStream(stream) as requests:
            at, is_whole = 0, False
            while not is_whole:
                asked_at = trio.current_time()
                try:
                    with trio.fail_after(_PATIENCE_S):
                        said = await requests.ask(
                            ask_changes(wanted.table_digest, wanted.count, at, MAX_WAIT_MS)
                        )
                except PeerRefused as error:
                    if not isinstance(error, PeerLacks):
                        self._note(error)
                    at = 0
                    await trio.sleep(
                        max(_LACKS_S, self._pause_s(error) if isinstance(error, PeerBusy) else 0)
                    )
                    continue
                except trio.TooSlowError:
                    raise NoAnswer(f"no answer in {_PATIENCE_S:g} s") from None
                at = said.at
                is_whole = said.held is not None and said.held.complete
                self._learn(download.blob, said)
                self.pump()
                soonest = asked_at + SOONEST_S + SOONEST_PER_CHANGE_S * len(said.changes)
                # Whoever has enough to go on with need not hear yet of more.
                rest_s = min(LONGEST_REST_S, self._schedule.supply_s(self._source, download.blob) / 2)
                await trio.sleep_until(max(soonest, trio.current_time() + rest_s))

    def _learn(self, blob: str, said: Changes) -> None:
        if said.held is not None:
            self._schedule.set_holdings(self._source, blob, said.held)
        else:
            held, coming, not_coming = (
                [change.pieces for change in said.changes if change.form is form] for form in Form
            )
            self._schedule.note_changes(self._source, blob, held, coming, not_coming)

    # Pieces

    @override
    def _ask_for_pieces(self, nursery: trio.Nursery, now: float) -> None:
        for order in self._schedule.deals(self._source, now):
            nursery.start_soon(self._deal, order)
        for assignment in self._schedule.assign(self._source, now):
            nursery.start_soon(self._copy if assignment.copy else self._read, assignment)

    async def _deal(self, order: Order) -> None:
        download = self._downloads.open.get(order.blob)
        if download is None:  # it has just become whole
            self._schedule.deal_refused(order, 0, trio.current_time())
            return
        wanted, begun = download.wanted, None

        def begin(first: int, count: int) -> None:
            nonlocal begun
            begun = self._schedule.dealt(order, first, count, trio.current_time())
            if begun is not None:
                download.tell(Change(Form.COMING, begun.pieces))

        query = ask_deal(
            wanted.table_digest,
            tuple((run.start, len(run)) for run in order.want),
            order.max_pieces,
            length_of=wanted.length_of,
            begun=begin,
            memory=self._downloads.buffers.take,
        )
        try:
            data = await self._deals.ask(query)
            if begun is not None:
                await self._take(begun, data)
        except PeerRefused as error:
            self._refuse_deal(order, error)
        except RemoteProtocolError as error:
            self._end(error)
        finally:
            if begun is not None and not download.holds(begun.pieces):
                download.tell(Change(Form.NOT_COMING, begun.pieces))
        self.pump()

    def _refuse_deal(self, order: Order, error: PeerRefused) -> None:
        now = trio.current_time()
        if isinstance(error, PeerBusy):
            self._schedule.deal_refused(order, self._retry_s(error), now)
        else:
            if error.status is not Status.NOT_FOUND:  # which only says that it does not deal
                self._note(error)
            self._schedule.no_deals(self._source)
            self._schedule.deal_refused(order, 0, now)

    def _retry_s(self, error: PeerBusy) -> float:
        return self._pause_s(error) if error.retry_s is None else max(error.retry_s, LEAST_BUSY_S)

    async def _read(self, assignment: Assignment) -> None:
        await self._ask_pieces(self._pieces, assignment)

    async def _copy(self, assignment: Assignment) -> None:
        """Ask for a second copy; when the first one comes before it the stream is reset."""

        async def stop() -> None:
            await self._downloads.stored(assignment)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            await self._ask_pieces(Line(self._transport, self._source, SWARM_PROTOCOL, nursery), assignment)
            nursery.cancel_scope.cancel()
        self._schedule.failed(assignment)

    async def _ask_pieces(self, line: Line, assignment: Assignment) -> None:
        download = self._downloads.open.get(assignment.blob)
        if download is None:  # it has just become whole
            self._schedule.failed(assignment)
            return
        wanted = download.wanted
        run = (assignment.pieces.start, len(assignment.pieces))
        query = ask_some_pieces(wanted.table_digest, (run,), assignment.length, self._downloads.buffers.take)
        try:
            data = await line.ask(query)
        except PeerBusy as error:
            self._note(error)
            self._schedule.failed(assignment)
            self._schedule.pause(self._source, trio.current_time() + self._retry_s(error))
            pump_all(self._sessions)
        except PeerRefused as error:
            self._note(error)
            self._schedule.lacks(assignment)
            self._schedule.pause(self._source, trio.current_time() + self._refused * LEAST_BUSY_S)
            self._refused = min(self._refused + 1, MOST_REFUSED)
            self._doubt(assignment.blob)
            pump_all(self._sessions)
        except RemoteProtocolError as error:
            self._end(error)
        else:
            self._refused = 0
            await self._take(assignment, data)
        self.pump()
