"""One TCP connection as the gateway needs it: it tells how much the client took, and when there is room for more.

trio's own stream hides both, and they are what keeps the memory of slow readers bounded: the next bytes of an
artifact are read from the disk only when the kernel's buffer has room, and only as many as it takes at once.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final

import trio

from p2pboot.gateway.counters import GatewayCounters
from p2pboot.gateway.slots import Slot

_LINGER_BYTES: Final = 256 * 1024


class ClientStream(trio.abc.HalfCloseableStream):
    """A connection that was accepted.

    Args:
        connection: non-blocking; closed with the stream.
        counters: told of every byte sent, headers included.
    """

    def __init__(self, connection: socket.socket, counters: GatewayCounters) -> None:
        self.socket = connection  # hypercorn asks it for its addresses
        self.slot = Slot(self.cut, trio.current_time())
        self._counters = counters
        self.at_once = 0
        """How many bytes of the last `send_all` the kernel took without waiting for the client."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything; waits for the client as long as it takes."""
        rest = memoryview(data)
        waited = False
        self.at_once = 0
        await trio.lowlevel.checkpoint()
        while rest:
            try:
                size = self.socket.send(rest)
            except BlockingIOError:
                waited = True
                await self.wait_send_all_might_not_block()
                continue
            except OSError as error:
                raise self._gone() from error
            rest = rest[size:]
            self._counters.bytes_sent += size
            self.slot.moved(size, trio.current_time())
            if not waited:
                self.at_once += size

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel's buffer has room: on Linux, for a third of its size."""
        await trio.lowlevel.wait_writable(self._fileno())

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes from the client; b"" when it will send no more."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.socket.recv(max_bytes or 65536)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._fileno())
            except OSError as error:
                raise self._gone() from error

    async def send_eof(self) -> None:
        """Tell the client that nothing more comes; one that is gone need not know."""
        await trio.lowlevel.checkpoint()
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """Close. What has arrived is read first: unread bytes would make the kernel reset the connection, and
        the client might never see the reply that it was refused with.
        """  # noqa: D205 - one sentence belongs to the other
        left = _LINGER_BYTES
        with suppress(OSError):
            while left > 0 and (data := self.socket.recv(65536)):
                left -= len(data)
        self.cut()
        await trio.lowlevel.checkpoint()

    def cut(self) -> None:
        """Close now; whoever waits on the stream gets ClosedResourceError. Idempotent."""
        if self.socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self.socket.fileno())
            self.socket.close()

    def _fileno(self) -> int:
        number = self.socket.fileno()
        if number < 0:
            raise trio.ClosedResourceError
        return number

    def _gone(self) -> trio.ClosedResourceError | trio.BrokenResourceError:
        if self.socket.fileno() < 0:
            return trio.ClosedResourceError()
        return trio.BrokenResourceError()
