"""Yamux as py-libp2p has it, with flow control that strangers cannot abuse and slow readers survive.

Spec: https://github.com/hashicorp/yamux/blob/master/spec.md. Stock py-libp2p only logs when a peer sends more
than its window allows, lets windows grow to 16 MiB, resets a stream when its reader pauses for 5 s, sends a
window update for nearly every read, and never notices that a peer has stopped answering.
"""

from __future__ import annotations

import logging
import struct
from typing import Final

import trio
from libp2p.abc import IMuxedConn, ISecureConn
from libp2p.peer.id import ID
from libp2p.security.noise.io import SIZE_NOISE_MESSAGE_LEN, NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamReset
from libp2p.stream_muxer.yamux import yamux
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream
from libp2p.transport.exceptions import MuxerUpgradeFailure
from libp2p.transport.upgrader import TransportUpgrader

from p2pboot.transport.libp2p.hardening import MAX_FRAME
from p2pboot.transport.libp2p.tcp import TcpConnection, TcpStream

log = logging.getLogger("p2pboot.transport.libp2p")

# What one stream may hold unread. 1 MiB keeps a gigabit LAN busy at 8 ms; the stock 16 MiB, times a peer's
# streams, is memory that a stranger spends for us.
RECEIVE_WINDOW: Final = 1024 * 1024
# Read this much, then tell the peer: at first half of the window that every stream begins with, then a quarter of
# ours. Each update costs both sides a system call and a turn of the event loop; three quarters stay open meanwhile.
_FIRST_UPDATE_AFTER: Final = yamux.DEFAULT_WINDOW_SIZE // 2
_UPDATE_AFTER: Final = RECEIVE_WINDOW // 4
_PING_EVERY_S: Final = 15.0
_SILENCE_S: Final = 30.0  # longer than a slow link needs to drain what lies in front of the answer
_ABANDONED_S: Final = 60.0
_HEADER: Final = struct.Struct(yamux.YAMUX_HEADER_FORMAT)
_MAX_DATA: Final = MAX_FRAME - _HEADER.size
# Bytes of one stream that are encrypted and handed to the socket at once. Frame by frame through libp2p's layers
# it was about five turns of the event loop each; a longer batch keeps the connection's other streams waiting.
_BATCH: Final = 4 * _MAX_DATA


class HardenedYamuxStream(YamuxStream):
    """One stream. `send_window`, `recv_window` and `closed` are set by the stock frame reader."""

    conn: HardenedYamux

    def __init__(self, stream_id: int, conn: Yamux, is_initiator: bool) -> None:
        self._send_window = self._recv_window = 0
        self._closed = False
        self._writable = trio.Event()
        self._writing = trio.Lock()  # libp2p's pubsub writes to one stream from several tasks
        self._unreported = 0
        self._update_after = _FIRST_UPDATE_AFTER
        self.abandoned_at: float | None = None  # when we closed without having seen the peer's end
        super().__init__(stream_id, conn, is_initiator)

    @property
    def send_window(self) -> int:
        """Bytes the peer still allows us to send."""
        return self._send_window

    @send_window.setter
    def send_window(self, value: int) -> None:
        self._send_window = value
        self.conn.heard_from_peer()
        self._writable.set()

    @property
    def closed(self) -> bool:
        """Whether both directions ended."""
        return self._closed

    @closed.setter
    def closed(self, value: bool) -> None:
        self._closed = value
        if value:
            self._writable.set()

    @property
    def recv_window(self) -> int:
        """Bytes we still allow the peer to send."""
        return self._recv_window

    @recv_window.setter
    def recv_window(self, value: int) -> None:
        if value < 0:
            # The frame reader ends the connection on this exception and only on this one. Without it a peer
            # fills our memory by ignoring the window.
            raise trio.TooSlowError(f"stream {self.stream_id}: the peer sent more than its window allows")
        self._recv_window = value

    @property
    def ended_in_order(self) -> bool:
        """Whether the peer closed its side and nothing was lost to a reset or the connection's end."""
        return self.recv_closed and not self.reset_received and not self.conn.event_shutting_down.is_set()

    async def write(self, data: bytes | memoryview) -> None:
        """Send all of `data`, waiting for the peer's window as long as it takes."""
        async with self._writing:
            await self._write_all(memoryview(data))

    async def _write_all(self, rest: memoryview) -> None:
        while rest:
            if self.reset_received:
                raise MuxedStreamReset("stream was reset")
            if self._closed or self.send_closed:
                raise MuxedStreamClosed("stream is closed for sending")
            if self._send_window <= 0:
                self._writable = trio.Event()
                await self._writable.wait()
                continue
            batch = rest[: min(self._send_window, _BATCH)]
            self._send_window -= len(batch)
            await self.conn.write_data(self.stream_id, batch)
            rest = rest[len(batch) :]

    async def _auto_tune_and_send_window_update(self, *, bytes_read: int = 0) -> None:
        """Open the window again after a read: rarely, and to a fixed size."""
        self._unreported += bytes_read
        if self._unreported < self._update_after or self.recv_closed:
            return
        buffered = len(self.conn.stream_buffers.get(self.stream_id, b""))
        increment = RECEIVE_WINDOW - self._recv_window - buffered
        self._unreported = 0
        self._update_after = _UPDATE_AFTER
        if increment > 0:
            self._recv_window += increment
            await self.send_window_update(increment)

    def forget(self) -> None:
        """Drop all bookkeeping at once, without a word to the peer. Never waits."""
        self.closed = self.send_closed = self.recv_closed = True
        conn, stream_id = self.conn, self.stream_id
        conn.stream_buffers.pop(stream_id, None)
        conn.streams.pop(stream_id, None)
        event = conn.stream_events.pop(stream_id, None)
        if event is not None:
            event.set()
        if not self._backlog_slot_released:
            self._backlog_slot_released = True
            if self._owns_backlog_slot:
                conn.stream_backlog_semaphore.release()


class HardenedYamux(Yamux):
    """One connection's muxer."""

    def __init__(
        self, secured_conn: ISecureConn, peer_id: ID, noise: NoiseTransportReadWriter, tcp: TcpStream
    ) -> None:
        super().__init__(secured_conn, peer_id, is_initiator=secured_conn.is_initiator)
        self.tcp = tcp
        self._noise = noise
        self._heard = 0

    def heard_from_peer(self) -> None:
        """Note a sign of life."""
        self._heard += 1

    async def start(self) -> None:
        """Run until the connection ends. Raises nothing: an error here would end the whole host."""
        try:
            await super().start()
        except Exception:
            log.debug("connection with %s failed", self.peer_id, exc_info=True)
            self.tcp.abort()

    async def send_go_away(self) -> None:
        """Tell the peer that the connection ends in order."""
        await self._write_frame(_HEADER.pack(0, yamux.TYPE_GO_AWAY, 0, 0, yamux.GO_AWAY_NORMAL))

    async def write_data(self, stream_id: int, data: memoryview) -> None:
        """Send bytes of a stream, already taken from its window, in frames that go to the socket together."""
        async with self._write_lock:
            sealed: list[
                bytes
            ] = []  # from here to the socket's queue without a checkpoint: Noise counts messages
            for start in range(0, len(data), _MAX_DATA):
                part = data[start : start + _MAX_DATA]
                frame = _HEADER.pack(0, yamux.TYPE_DATA, 0, stream_id, len(part)) + part
                message = self._noise.encrypt(frame)
                sealed += (len(message).to_bytes(SIZE_NOISE_MESSAGE_LEN), message)
            await self.tcp.write(b"".join(sealed))

    async def _read_data_body(self, length: int) -> bytes:
        self.heard_from_peer()
        return await super()._read_data_body(length)

    async def _measure_rtt_loop(self) -> None:
        """Ping, and give the peer up when nothing at all comes back (it is frozen, or gone)."""
        await trio.sleep(0.5)
        while not self.event_shutting_down.is_set():
            heard = self._heard
            self._ping_event = trio.Event()
            self._ping_id = (self._ping_id + 1) % (1 << 32)
            with trio.move_on_after(_SILENCE_S):
                frame = _HEADER.pack(0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, self._ping_id)
                try:
                    await self._write_frame(frame)
                except Exception:
                    return  # the connection ended; whoever reads from it sees that too
                self._ping_sent_time = trio.current_time()
                await self._ping_event.wait()
            if not self._ping_event.is_set() and self._heard == heard:
                log.debug("peer %s has not answered for %.0f s", self.peer_id, _SILENCE_S)
                self.tcp.abort()
                return
            with trio.move_on_after(_PING_EVERY_S):
                await self.event_shutting_down.wait()

    def _sweep_stale_streams(self, now: float | None = None) -> int:
        """Also forget streams that we closed long ago and that the peer never did."""
        now = trio.current_time() if now is None else now
        reclaimed = super()._sweep_stale_streams(now)
        for stream in list(self.streams.values()):
            since = stream.abandoned_at if isinstance(stream, HardenedYamuxStream) else None
            if isinstance(stream, HardenedYamuxStream) and since is not None and now - since > _ABANDONED_S:
                stream.forget()
                reclaimed += 1
        return reclaimed


class NoiseYamuxUpgrader(TransportUpgrader):
    """Upgrades to our own muxer class, which the stock one would replace by its own for `/yamux/1.0.0`."""

    async def upgrade_connection(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        """Negotiate Yamux.

        Raises:
            MuxerUpgradeFailure: the peer does not speak it.
        """
        try:
            await self.muxer_multistream.select_transport(conn)
        except Exception as error:
            raise MuxerUpgradeFailure("failed to negotiate Yamux") from error
        return HardenedYamux(conn, peer_id, *layers_below(conn))


def layers_below(conn: ISecureConn) -> tuple[NoiseTransportReadWriter, TcpStream]:
    """Find what encrypts a Noise session's messages, and the socket under it."""
    if isinstance(conn, SecureSession) and isinstance(conn.conn, NoiseTransportReadWriter):
        below = conn.conn.read_writer.read_write_closer
        if isinstance(below, TcpConnection):
            return conn.conn, below.tcp
    raise TypeError("not a Noise session over our TCP")


def install_stream_class() -> None:
    """Let the stock muxer make its streams of our class: it finds it by a module's name. Idempotent."""
    setattr(yamux, "YamuxStream", HardenedYamuxStream)  # noqa: B010
