"""What all connections of one node share: memory, and the one clock that looks after them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import trio

from p2pboot.core.token_bucket import TokenBucket
from p2pboot.transport.tcp.holdings import Common
from p2pboot.transport.timeshare import TimeShare
from p2pboot.wire.noise.transport import MAX_PLAINTEXT

if TYPE_CHECKING:
    from p2pboot.transport.tcp.connection import TcpConnection

_RECEIVE_BYTES: Final = 256 * 1024  # a system call's worth: four Noise messages
_BEAT_S: Final = 5.0
# Of a core, for what peers make us do that carry nothing.
_LABOUR: Final = 0.15
_HANDSHAKES: Final = 0.35
_REPORTS_PER_S: Final = 0.1
_REPORTS_AT_ONCE: Final = 8.0
_SWITCH_INTERVAL_S: Final = 0.0005
"""How long a thread may keep the interpreter from the event loop. The loop gives it up at every system call, and
threads that hash and write take it: with Python's 5 ms a fetch of 512 MiB ran at 125, 121, 174 and 174 MB/s, with
this at 156, 168, 181 and 193 (in turns, two cores)."""


class Workspace:
    """Memory and clock of one event loop's connections.

    Whoever has one runs `run` as long as there are connections.
    """

    def __init__(self) -> None:
        # Nothing in these two outlives a turn.
        self.received = memoryview(bytearray(_RECEIVE_BYTES))
        self.scratch = bytearray(MAX_PLAINTEXT)
        self.common = Common()
        self.turns = TimeShare(_LABOUR)
        self.handshakes = TimeShare(_HANDSHAKES)
        self.reports = TokenBucket(_REPORTS_PER_S, _REPORTS_AT_ONCE, trio.current_time())
        """For lines of the log that strangers cause."""
        self._connections: set[TcpConnection] = set()
        self._some = trio.Event()

    async def run(self) -> None:
        """Look after the connections every five seconds, all in one turn; nothing happens while there are none.

        The process's threads give up the interpreter sooner from then on.
        """
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.turns.run)
            nursery.start_soon(self.handshakes.run)
            nursery.start_soon(self._beat)

    async def _beat(self) -> None:
        while True:
            await self._some.wait()
            await trio.sleep(_BEAT_S)
            now = trio.current_time()
            for connection in tuple(self._connections):
                connection.beat(now)

    def add(self, connection: TcpConnection) -> None:
        """Look after a connection."""
        self._connections.add(connection)
        self._some.set()

    def remove(self, connection: TcpConnection) -> None:
        """Look after it no more."""
        self._connections.discard(connection)
        if not self._connections:
            self._some = trio.Event()
