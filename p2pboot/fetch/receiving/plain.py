"""A session with a peer that answers questions about what it has, and requests for ranges, and no more than that."""

from __future__ import annotations

import trio
from typing_extensions import override

from p2pboot.errors import RemoteProtocolError
from p2pboot.fetch.receiving.downloads import Download
from p2pboot.fetch.receiving.missing import Assignment
from p2pboot.fetch.receiving.session import LACK_AGAIN_S, Session, pump_all
from p2pboot.protocol.client import PeerBusy, PeerRefused

HAVE_AGAIN_S = 1.0
"""A peer that lacked what is wanted is asked again: while it fetches itself, it has more every second."""

HAVE_AGAIN_USEFUL_S = 3.0
"""One that has enough for now less often."""


class PlainSession(Session):
    """Asks over the dialect's own protocol."""

    @override
    async def _begin(self) -> bool:
        try:
            await self._plain.open()
        except RemoteProtocolError as error:
            self._ledger.note_error(self.peer_id, error)
            return False
        self._schedule.add_peer(
            self._source, trio.current_time(), swarm=False, peer_id=self.peer_id, origin=self._origin
        )
        return True

    @override
    def _ask_about(self, download: Download, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._ask, self._ask_holdings, download)

    @override
    def _ask_for_pieces(self, nursery: trio.Nursery, now: float) -> None:
        for assignment in self._schedule.assign(self._source, now):
            nursery.start_soon(self._read, assignment)

    async def _ask_holdings(self, download: Download) -> None:
        held = await self._downloads.dialect.holdings(await self._plain.open(), download.wanted)
        self._schedule.set_holdings(self._source, download.blob, held)
        if not held.complete:
            useful = self._schedule.useful(self._source, download.blob)
            if not useful and not self._changed:
                self._ledger.note_failure(self.peer_id, "has none of the missing pieces")
            self._ask_again(download, HAVE_AGAIN_USEFUL_S if useful else HAVE_AGAIN_S)

    async def _read(self, assignment: Assignment) -> None:
        try:
            data = await self._downloads.dialect.read(
                await self._plain.open(), assignment, self._downloads.buffers.take
            )
        except PeerBusy as error:
            self._note(error)
            self._schedule.failed(assignment)
            self._schedule.pause(self._source, trio.current_time() + self._pause_s(error))
        except PeerRefused as error:
            self._note(error)
            self._schedule.lacks(
                assignment
            )  # also "range" and "bad_request": it does not give it, whatever the reason
            self._next_ask[assignment.blob] = trio.current_time() + LACK_AGAIN_S
        except RemoteProtocolError as error:
            self._end(error)
        else:
            await self._take(assignment, data)
        pump_all(self._sessions)
