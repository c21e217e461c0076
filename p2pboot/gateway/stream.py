"""One TCP connection as the gateway needs it: it tells how much the client took, and when there is room for more.

trio's own stream hides both, and they are what keeps the memory of slow readers bounded: the next bytes of an
artifact are read from the disk only when the kernel's buffer has room, and only as many as it takes at once.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Final

import trio

from p2pboot.core.origins import Party
from p2pboot.gateway.request import Ends
from p2pboot.gateway.slots import Progress, Slot
from p2pboot.transport.bandwidth import Meter

RECEIVE_BYTES: Final = 16 * 1024
_LINGER_BYTES: Final = 256 * 1024
_LINGER_S: Final = 1.0

# Of Linux' struct tcp_info: bytes acknowledged; microseconds busy, and of these limited by the receiver's window.
_ACKED: Final = struct.Struct("@Q")
_ACKED_AT: Final = 120
_TIMES: Final = struct.Struct("@QQ")
_TIMES_AT: Final = 168
_INFO_BYTES: Final = _TIMES_AT + _TIMES.size


class ClientStream:
    """A connection that was accepted.

    Whoever waits on it gets trio.BrokenResourceError when the client goes, trio.ClosedResourceError when it is cut.

    Args:
        connection: non-blocking; closed with the stream.
        party: whose it is.
        meter: told of every byte, headers included; what is sent waits for its limits.
    """

    def __init__(self, connection: socket.socket, party: Party, meter: Meter) -> None:
        self._socket = connection
        with suppress(OSError):  # it may be gone already
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.party = party
        self.slot = Slot(party, self.cut, self._progress, trio.current_time())
        self._meter = meter

    def ends(self) -> Ends:
        """The addresses of both sides."""
        try:
            client, own = self._socket.getpeername(), self._socket.getsockname()
        except OSError as error:  # the client went between being accepted and being asked who it is
            raise self._gone() from error
        return Ends(client[0], own[:2], self.party)

    async def send_all(self, data: bytes) -> None:
        """Send everything; waits for the limits and for the client as long as it takes."""
        rest = memoryview(data)
        await trio.lowlevel.checkpoint()
        while rest:
            allowed = await self._meter.pay(len(rest))
            size = self.send_some(rest[:allowed])
            rest = rest[size:]
            if not size:
                await self.wait_for_room()

    async def wait_to_send(self, max_bytes: int) -> int:
        """Wait until the client takes more, and the limits allow it; returns how many bytes, 1 to `max_bytes`.

        Whoever reads what it sends only now holds nothing while it waits.
        """
        await self.wait_for_room()
        return await self._meter.pay(max_bytes)

    def send_some(self, data: bytes | memoryview) -> int:
        """Send what may be sent without waiting; returns how many bytes that were, perhaps none.

        Args:
            data: no more than was allowed.
        """
        try:
            size = self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._gone() from error
        self._meter.sent(size)
        return size

    async def wait_for_room(self) -> None:
        """Wait until the kernel's buffer has room: on Linux, for a third of its size."""
        await trio.lowlevel.wait_writable(self._fileno())

    async def receive_some(self) -> bytes:
        """The next bytes from the client, at most `RECEIVE_BYTES`; b"" when it will send no more."""
        await trio.lowlevel.checkpoint()
        max_bytes = await self._meter.may_receive(RECEIVE_BYTES)
        while True:
            try:
                data = self._socket.recv(max_bytes)
                self._meter.received(len(data))
                return data
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._fileno())
            except OSError as error:
                raise self._gone() from error

    def refuse(self, reply: bytes) -> None:
        """Send what is to be said before the end, as far as that can be done at once."""
        with suppress(OSError):
            self._socket.send(reply)

    async def linger(self) -> None:
        """After a reply to what was not read to its end: a moment for the client to stop sending and see it."""
        left = _LINGER_BYTES
        with trio.move_on_after(_LINGER_S), suppress(OSError, trio.BrokenResourceError):
            self._socket.shutdown(socket.SHUT_WR)
            while left > 0 and (data := await self.receive_some()):
                left -= len(data)

    def finish(self) -> None:
        """Close after the last reply. What has arrived is read first: unread bytes would make the kernel reset the
        connection, and the client might never see the reply that it was refused with.
        """  # noqa: D205 - one sentence belongs to the other
        left = _LINGER_BYTES
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            while left > 0 and (data := self._socket.recv(65536)):
                left -= len(data)
        self.cut()

    def cut(self) -> None:
        """Close now. Idempotent."""
        self._meter.close()
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket.fileno())
            self._socket.close()

    def _progress(self) -> Progress:
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        except OSError:  # gone
            return Progress()
        if len(info) < _INFO_BYTES:  # not a socket of TCP
            return Progress()
        (acked,) = _ACKED.unpack_from(info, _ACKED_AT)
        busy_us, closed_us = _TIMES.unpack_from(info, _TIMES_AT)
        return Progress(acked, busy_us / 1e6, closed_us / 1e6)

    def _fileno(self) -> int:
        number = self._socket.fileno()
        if number < 0:
            raise trio.ClosedResourceError
        return number

    def _gone(self) -> trio.ClosedResourceError | trio.BrokenResourceError:
        if self._socket.fileno() < 0:
            return trio.ClosedResourceError()
        return trio.BrokenResourceError()
