"""One connection: moves bytes between a socket and `wire.connection`, and wakes whoever waits for a stream.

Few turns of the event loop: what is written goes to the socket at once, and a task of its own waits only while the
socket takes no more; SO_RCVLOWAT lets the kernel wake us when a whole Noise message is there.
"""

from __future__ import annotations

import logging
import math
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import Final

import trio

from p2pboot.core.events import Event
from p2pboot.core.identity import PublicKey
from p2pboot.core.origins import Party
from p2pboot.errors import ProtocolError, RemoteProtocolError
from p2pboot.transport.interface import NoRoom, NotAllowed, StreamReset
from p2pboot.transport.tcp.holdings import Holding
from p2pboot.transport.tcp.labour import Labour
from p2pboot.transport.tcp.pace import Pace
from p2pboot.transport.tcp.sockets import (
    has_run_dry,
    local_host_of,
    remote_address_of,
    remote_of,
    set_receive_low_water,
    set_unsent_low_water,
)
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.transport.tcp.workspace import Workspace
from p2pboot.wire.connection import Begun, Connection, OtherSwarmKey, Secured
from p2pboot.wire.noise.transport import MAX_MESSAGE
from p2pboot.wire.yamux import events
from p2pboot.wire.yamux.frames import GATED, NO_ROOM, NORMAL
from p2pboot.wire.yamux.states import Sending
from p2pboot.wire.yamux.stream import Stream

log = logging.getLogger("p2pboot.transport.tcp")

_PING_EVERY_S: Final = 15.0
_SILENCE_S: Final = (
    30.0  # after a ping; longer than a slow link needs to drain what lies in front of the answer
)
_HANGING_S: Final = 30.0  # that a peer may keep a stream's window at zero
_GOODBYE_S: Final = 0.3
_NOTHING: Final = memoryview(b"")
_REFUSALS: Final[Mapping[int, Callable[[], NoRoom]]] = {NO_ROOM: NoRoom, GATED: NotAllowed}
_WAKES: Final[Mapping[type, Callable[[MuxedStream], None]]] = {
    events.Readable: MuxedStream.wake_reader,
    events.Writable: MuxedStream.wake_writer,
    events.StreamReset: MuxedStream.wake,
}


class TcpConnection:
    """A connection and its streams.

    Args:
        sock: connected, prepared (`sockets.prepare`), does not block; closed by `run`.
        core: its state machine.
        workspace: of this event loop.
        accept: is called with each stream that the peer opens. It neither waits nor raises.
        dialled: whether this end did.
        began: when it did, or saw the other's dial, as the clock of the event loop has it.

    Raises:
        OSError: the socket is not connected any more.
    """

    def __init__(
        self,
        sock: socket.socket,
        core: Connection,
        workspace: Workspace,
        accept: Callable[[MuxedStream], None],
        *,
        dialled: bool,
        began: float,
    ) -> None:
        self._socket = sock
        self._core = core
        self._workspace = workspace
        self._accept = accept
        self._streams: dict[Stream, MuxedStream] = {}
        self._scope = trio.CancelScope()
        # What goes out.
        self._pace = Pace()
        self._unsent = _NOTHING
        self._taken = 0  # bytes that the socket ever took
        self._full = trio.Event()  # it is not to be given more before it is writable
        self._drained = trio.Event()  # all that there was to send is in the socket
        # What comes in.
        self._low = 1
        self._heard = True
        # What is noticed at a beat.
        self._heard_at = self._pinged_at = trio.current_time()
        self._hanging: dict[Stream, tuple[int, float]] = {}  # how much it had sent, and since when
        self.remote = remote_of(sock)
        """IP address and port of the other end."""
        self.remote_address = remote_address_of(sock)
        """The same as an address, with the zone of a link-local one."""
        self.local_host = local_host_of(sock)
        """IP address of this end."""
        self._holding = Holding(workspace.common, self.remote[0], core, self._resume, self.flush)
        self._pause: trio.Event | None = None  # while it is not read from: set when it may be again
        self._stuck = (0, 0.0)  # what was unread at the last beat in a pause, and since when
        self._labour = Labour(trio.current_time())
        self._moved, self._moved_at = 0, trio.current_time()
        self.dialled, self.began, self.secured_at = dialled, began, math.inf
        """See `crossing.End`."""
        self.begun = trio.Event()
        """Set when the nonce of a peer in a private mesh has come, or the connection is over."""
        self.secured = trio.Event()
        """Set when the peer has proved who it is, or the connection is over: then `failure` says why."""
        self.closed = trio.Event()
        """Set when `run` is over."""
        self.failure: ProtocolError | OSError | None = None
        """Why the connection is over; None while it is not."""
        self._set_pace()

    @property
    def peer(self) -> PublicKey:
        """Who is at the other end of a secured connection."""
        if self._core.peer is None:
            raise StreamReset("the connection is not secured")
        return self._core.peer

    @property
    def peer_id(self) -> str:
        """Its id."""
        return self.peer.peer_id

    @property
    def instance(self) -> bytes:
        """What no other process of the peer's has."""
        return self._core.peer_static

    @property
    def party(self) -> Party:
        """Whose it is; without a peer id until it is secured."""
        return self._holding.party

    @property
    def quiet_since(self) -> float:
        """When a byte last went over one of its streams, or it began."""
        return self._moved_at

    @property
    def streams(self) -> tuple[MuxedStream, ...]:
        """Those that their users are not done with."""
        return tuple(self._streams.values())

    async def run(self) -> None:
        """Carry bytes until the connection ends; raises nothing but Cancelled. Then every stream is reset."""
        self._workspace.add(self)
        self._holding.begin()
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_when_possible)
                    self.flush()
                    await self._receive()
                    nursery.cancel_scope.cancel()
        finally:
            self._workspace.remove(self)
            self._end(RemoteProtocolError("the connection was given up"))
            self._holding.end()
            self._socket.close()
            self.closed.set()

    async def _receive(self) -> None:
        while True:
            await self._room()
            await trio.lowlevel.wait_readable(self._socket.fileno())
            if self.failure is not None:  # sending found out; what still comes is no fault of the peer's
                return
            buffer = self._workspace.received
            most = self._labour.receives(MAX_MESSAGE if self._holding.is_tight else len(buffer))
            try:
                count = self._socket.recv_into(buffer, most)
                self._heard = True
                if not count:
                    self._core.receive_eof()
                    self._end(RemoteProtocolError("the peer has ended the connection"))
                    return
                self._core.receive(buffer[:count])
            except BlockingIOError:
                continue
            except (ProtocolError, OSError) as error:
                if isinstance(error, OtherSwarmKey) and not self.dialled:
                    await self._fall_silent(error)
                self._fail(error)
                return
            self.flush()
            self._set_low_water()
            session = self._core.session
            cost_s = self._labour.note(session.labour, session.moved, trio.current_time())
            if cost_s:
                await self._workspace.turns.take(self.party, cost_s)

    async def work(self, units: float) -> None:
        """Wait until we may do more for the peer that carries nothing, such as answering a ping.

        Args:
            units: as `labour` counts.
        """
        cost_s = self._labour.charge(units, trio.current_time())
        if cost_s:
            await self._workspace.turns.take(self.party, cost_s)

    async def _room(self) -> None:
        """Wait until there is room for what the peer sends; meanwhile it waits in the peer's own memory."""
        if self._holding.may_receive():
            return
        self._stuck = (self._core.session.unread, trio.current_time())
        while not self._holding.may_receive():
            self._pause = trio.Event()
            await self._pause.wait()
        self._pause = None

    def _resume(self) -> None:
        if self._pause is not None:
            self._pause.set()

    def _set_low_water(self) -> None:
        wanted = self._core.wants_bytes
        if wanted != self._low:
            self._low = wanted
            set_receive_low_water(self._socket, wanted)

    def _fail(self, error: ProtocolError | OSError) -> None:
        """End the connection because of what the peer did."""
        self._report(error)
        self._send()  # the GO_AWAY that names an error
        self._dispatch()
        self._end(error)

    def _report(self, error: ProtocolError | OSError) -> None:
        """Say in the log why the connection ends, in one line, unless it says that much."""
        is_news = self._core.peer is not None and not isinstance(error, OSError)
        may_tell = is_news and self._workspace.reports.try_take(1, trio.current_time())
        level = logging.INFO if may_tell else logging.DEBUG
        who = "a stranger" if self._core.peer is None else self._core.peer.peer_id
        log.log(
            level,
            "connection with %s at %s:%d ended: %s",
            who,
            *self.remote,
            error,
            extra=Event.CONNECTION_ENDED(peer=who, address=self.remote[0]),
        )

    async def _fall_silent(self, error: OtherSwarmKey) -> None:
        """Say nothing and take nothing more, until who counts the handshakes ends this one.

        By when it ended, or what for, an outsider could find out the keystream of a nonce of his, byte by byte.
        """
        if self._workspace.reports.try_take(1, trio.current_time()):
            log.info(
                "kept out who came from %s:%d: %s",
                *self.remote,
                error,
                extra=Event.KEPT_OUT(address=self.remote[0]),
            )
        await trio.sleep_forever()

    def _dispatch(self) -> None:
        for event in self._core.events():
            wake = _WAKES.get(type(event))
            if wake is not None:
                stream = self._streams.get(event.stream)  # type: ignore[union-attr]
                if stream is not None:
                    wake(stream)
            elif isinstance(event, events.StreamOpened):
                stream = self._streams[event.stream] = MuxedStream(event.stream, self)
                self._accept(stream)
            elif isinstance(event, Begun):
                self.begun.set()
            elif isinstance(event, Secured):
                self._holding.name(event.peer.peer_id)
                self.secured_at = trio.current_time()
                self.secured.set()
            elif isinstance(event, events.WentAway) and event.code in _REFUSALS:
                refusal = _REFUSALS[event.code]()
                if isinstance(refusal, NotAllowed):  # that will not pass by itself, as a lack of room does
                    self._report(refusal)
                self._end(refusal)

    # What goes out.

    async def _send_when_possible(self) -> None:
        while True:
            await self._full.wait()
            before, began = self._taken, trio.current_time()
            while self._full.is_set():
                await trio.lowlevel.wait_writable(self._socket.fileno())
                ran_dry = has_run_dry(self._socket)
                self._full = trio.Event()
                self.flush()
                if self._full.is_set():  # so it was all the time: that is what the link drains
                    now = trio.current_time()
                    if self._pace.note(self._taken - before, now - began, ran_dry=ran_dry):
                        self._set_pace()
                    before, began = self._taken, now

    def _set_pace(self) -> None:
        self._core.session.frame_body = self._pace.frame_body
        set_unsent_low_water(self._socket, self._pace.low_water)

    def flush(self) -> None:
        """Send what there is to send, as far as the socket takes it now. Never waits, raises nothing."""
        if not self._full.is_set():
            self._send()
        self._dispatch()
        self._holding.note()
        if self._core.session.moved != self._moved:
            self._moved, self._moved_at = self._core.session.moved, trio.current_time()
        if self._pause is not None and self._holding.may_receive():
            self._pause.set()

    def _send(self) -> None:
        try:
            while self._unsent or self._core.has_data_to_send:
                if not self._unsent:
                    crowded = self._core.session.is_crowded
                    self._unsent = self._core.data_to_send(self._pace.batch_bytes(crowded=crowded))
                if not self._unsent:
                    break
                count = self._socket.send(self._unsent)
                self._taken += count
                self._unsent = self._unsent[count:]
                if self._unsent or (count >= self._pace.turn_body and not self._pace.is_fast):
                    # The kernel would take 64 KiB whatever its low water mark is, as one packet to be cut up later;
                    # but it says that a socket is writable only once half of that mark has left.
                    self._full.set()
                    return
            self._drained.set()
        except BlockingIOError:
            self._full.set()
        except OSError as error:
            self._end(error)

    # The end.

    def _end(self, error: ProtocolError | OSError) -> None:
        """Reset every stream. The first reason is the one that counts."""
        self.failure = self.failure or error
        self._core.session.end("the connection has ended")
        for stream in self._streams.values():
            stream.wake()
        self._drained.set()
        self.begun.set()
        self.secured.set()

    def abort(self) -> None:
        """End the connection at once; `run` is over soon after. Never waits, idempotent."""
        self._end(RemoteProtocolError("the connection was ended here"))
        self._scope.cancel()

    async def hang_up(self, code: int = NORMAL) -> None:
        """End the connection: with a goodbye if the socket takes it soon. Bounded, idempotent, raises nothing.

        Args:
            code: why, as `wire.yamux.frames` has it.
        """
        self._core.session.go_away(code)
        if self._drained.is_set() and self.failure is None:
            self._drained = trio.Event()
        self.flush()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _GOODBYE_S):
            await self._drained.wait()
        self.abort()

    # What is looked after now and then.

    def beat(self, now: float) -> None:
        """Tell the peers of slow readers that they live, and notice a peer that does not. For the workspace."""
        if self.failure is not None or not self._core.secured:
            return
        self._core.session.grant_reads()
        self._reset_forgotten(now)
        if self._pause is None:
            self._ping(now)
        else:
            self._reset_unread(now)
        self.flush()
        if not (self._unsent or self._core.has_data_to_send):
            self._core.data_to_send(0)  # keeps no buffer while nothing is going on

    def _ping(self, now: float) -> None:
        if self._heard:
            self._heard, self._heard_at = False, now
        if not self._core.session.awaits_pong:
            if now - self._pinged_at >= _PING_EVERY_S:
                self._pinged_at = now
                self._core.session.ping(secrets.randbits(32))
        elif now - max(self._pinged_at, self._heard_at) >= _SILENCE_S:
            self._fail(RemoteProtocolError(f"the peer has not answered for {_SILENCE_S:.0f} s"))
            self.abort()

    def _reset_forgotten(self, now: float) -> None:
        """Reset streams that the peer lets hang; who takes a byte now and then is slow and may be.

        Those are streams whose window it keeps at zero, and those that were closed here and not by the peer.
        """
        hanging = [
            stream
            for stream in self._core.session.streams
            if stream.blocked or (stream.sending is Sending.ENDED and stream not in self._streams)
        ]
        known, self._hanging = self._hanging, {}
        for stream in hanging:
            sent, since = known.get(stream, (stream.sent, now))
            if sent == stream.sent and now - since >= _HANGING_S:
                reason = f"the peer has let stream {stream.id} hang for {_HANGING_S:.0f} s"
                self._core.session.reset(stream, reason)
                log.debug("%s: %s", self.peer.peer_id, reason)
            else:
                self._hanging[stream] = (stream.sent, since if sent == stream.sent else now)

    def _reset_unread(self, now: float) -> None:
        """Reset a stream that nobody here reads, where that keeps all others from being read; not the peer's fault."""
        self._heard = True  # its answer to a ping may wait behind all that
        unread, since = self._stuck
        if self._core.session.unread < unread:
            self._stuck = (self._core.session.unread, now)
        elif now - since >= _HANGING_S:
            self._holding.shed_bytes()

    # Streams.

    def open(self) -> MuxedStream:
        """Open a stream; it can be written to at once.

        Raises:
            StreamReset: the connection is over, or has enough streams.
        """
        try:
            core = self._core.session.open()
        except ProtocolError as error:
            raise self.reset_error(error.message) from error
        stream = self._streams[core] = MuxedStream(core, self)
        return stream

    def reset_error(self, message: str) -> StreamReset:
        """Say why a stream is gone: with the peer's reason for the end of the connection, if it gave one."""
        return type(self.failure)() if isinstance(self.failure, NoRoom) else StreamReset(message)

    def forget(self, core: Stream) -> None:
        """Drop a stream that its user is done with."""
        if self._streams.pop(core, None) is not None and not self._core.session.is_ours(core.id):
            self._holding.note_over(core)
