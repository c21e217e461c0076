"""One connection: moves bytes between a socket and `wire.connection`, and wakes whoever waits for a stream.

Few turns of the event loop: what is written goes to the socket at once, and a task of its own waits only while the
socket takes no more; SO_RCVLOWAT lets the kernel wake us when a whole Noise message is there.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from p2pboot.core.identity import PublicKey
from p2pboot.errors import ProtocolError, RemoteProtocolError
from p2pboot.transport.interface import StreamReset
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.wire.connection import Connection
from p2pboot.wire.noise.transport import MAX_PLAINTEXT, OVERHEAD
from p2pboot.wire.yamux import events

log = logging.getLogger("p2pboot.transport.tcp")

_RECEIVE_BYTES: Final = 256 * 1024  # a system call's worth: four Noise messages
# To the socket at once. What is in it can no longer be overtaken by a small message.
_SEND_BYTES: Final = 4 * (MAX_PLAINTEXT + OVERHEAD)
_NOT_SENT_LOWAT: Final = (
    MAX_PLAINTEXT + OVERHEAD
)  # what the kernel holds beyond the peer's window: about a frame
_SILENCE_MS: Final = 30_000
_HEARTBEAT_S: Final = 10.0  # grants to slow readers' peers, and every third time a ping
_PINGS_EVERY: Final = 3
_GOODBYE_S: Final = 0.3


class Workspace:
    """Memory that all connections of one event loop share; nothing in it outlives a turn."""

    def __init__(self) -> None:
        self.received = memoryview(bytearray(_RECEIVE_BYTES))
        self.scratch = bytearray(MAX_PLAINTEXT)


class TcpConnection:
    """A connection and its streams.

    Args:
        sock: connected, non-blocking; closed by `run`.
        core: its state machine.
        workspace: of this event loop.
        serve: runs for each stream that the peer opens; it may not raise.
    """

    def __init__(
        self,
        sock: socket.socket,
        core: Connection,
        workspace: Workspace,
        serve: Callable[[MuxedStream], Awaitable[None]],
    ) -> None:
        self._socket = sock
        self._core = core
        self._workspace = workspace
        self._serve = serve
        self._streams: dict[int, MuxedStream] = {}
        self._nursery: trio.Nursery | None = None
        self._unsent = memoryview(b"")
        self._low = 1
        self._stuck = trio.Event()  # the socket takes no more
        self._heard = True
        self.secured = trio.Event()
        """Set when the peer has proved who it is, or the connection is over: then `failure` says why."""
        self.failure: ProtocolError | OSError | None = None
        _prepare(sock)

    @property
    def peer(self) -> PublicKey:
        """Who is at the other end of a secured connection."""
        if self._core.peer is None:
            raise StreamReset("the connection is not secured")
        return self._core.peer

    async def run(self) -> None:
        """Carry bytes until the connection ends; raises nothing but Cancelled. Then every stream is reset."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._send_when_possible)
                nursery.start_soon(self._beat)
                self.flush()
                await self._receive()
                nursery.cancel_scope.cancel()
        finally:
            self._end(None)
            self._socket.close()

    async def _receive(self) -> None:
        buffer = self._workspace.received
        while True:
            await trio.lowlevel.wait_readable(self._socket.fileno())
            try:
                count = self._socket.recv_into(buffer)
                self._heard = True
                if not count:
                    self._core.receive_eof()
                    return
                self._core.receive(buffer[:count])
            except BlockingIOError:
                continue
            except (ProtocolError, OSError) as error:
                log.debug("connection with %s ended: %s", self._core.peer, error)
                self.flush()  # the GO_AWAY that names an error
                self._end(error)
                return
            self.flush()
            self._set_low_water()

    def _set_low_water(self) -> None:
        wanted = self._core.wants_bytes
        if wanted != self._low:
            self._low = wanted
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)

    def _dispatch(self) -> None:
        for event in self._core.events():
            if isinstance(event, events.StreamOpened):
                stream = MuxedStream(event.stream, self)
                self._streams[event.stream.id] = stream
                if self._nursery is not None:
                    self._nursery.start_soon(self._serve, stream)
            elif isinstance(event, events.Readable | events.StreamReset | events.Writable):
                self._wake(event.stream.id)
        if self._core.secured:
            self.secured.set()

    def _wake(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.wake()

    async def _send_when_possible(self) -> None:
        while True:
            await self._stuck.wait()
            self._stuck = trio.Event()
            await trio.lowlevel.wait_writable(self._socket.fileno())
            self.flush()

    def flush(self) -> None:
        """Send what there is to send, as far as the socket takes it now. Never waits, raises nothing."""
        try:
            while self._unsent or self._core.has_data_to_send:
                self._unsent = self._unsent or self._core.data_to_send(_SEND_BYTES)
                if not self._unsent:
                    return
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            self._stuck.set()
        except OSError as error:
            self._end(error)
        self._dispatch()

    def _end(self, error: ProtocolError | OSError | None) -> None:
        self.failure = self.failure or error or RemoteProtocolError("the connection has ended")
        self._core.session.end("the connection has ended")
        for stream in self._streams.values():
            stream.wake()
        self.secured.set()

    def _cut(self) -> None:
        """Have `run` find the end of the connection."""
        with contextlib.suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    async def _beat(self) -> None:
        """Tell the peers of slow readers that they live, and notice a peer that does not."""
        beats = 0
        while True:
            await trio.sleep(_HEARTBEAT_S)
            self._core.session.grant_reads()
            beats += 1
            if beats % _PINGS_EVERY == 0 and self._core.secured:
                if not self._heard:
                    log.debug("peer %s has not answered for %.0f s", self._core.peer, beats * _HEARTBEAT_S)
                    self._cut()
                    return
                self._heard = False
                if not self._core.session.awaits_pong:
                    self._core.session.ping(secrets.randbits(32))
            self.flush()

    def open(self) -> MuxedStream:
        """Open a stream; it can be written to at once.

        Raises:
            StreamReset: the connection is over, or has enough streams.
        """
        try:
            stream = MuxedStream(self._core.session.open(), self)
        except ProtocolError as error:
            raise StreamReset(error.message) from error
        self._streams[stream.id] = stream
        return stream

    def forget(self, stream_id: int) -> None:
        """Drop a stream that its user is done with."""
        self._streams.pop(stream_id, None)

    async def hang_up(self) -> None:
        """End the connection: with a goodbye if the socket takes it soon. Bounded, raises nothing."""
        self._core.session.go_away()
        self.flush()
        with trio.move_on_after(_GOODBYE_S) as scope:
            scope.shield = True
            while self._unsent and self.failure is None:
                await trio.lowlevel.wait_writable(self._socket.fileno())
                self.flush()
        self._end(None)
        self._cut()


def _prepare(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOT_SENT_LOWAT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)
