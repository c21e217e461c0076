"""A stranger's end of a connection: Noise and Yamux as they must be, and above them whatever an attack wants.

It shares the pure parts with the node (`p2pboot.wire`), but none of its manners: windows are granted only where an
attack wants that, frames may be anything, and nothing is ever closed in order.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from p2pboot.core.identity import SecretKey
from p2pboot.errors import RemoteProtocolError
from p2pboot.wire.connection import NOISE_PROTOCOL
from p2pboot.wire.multistream import GREETING, Dialler, NoCommonProtocol, encode_line
from p2pboot.wire.noise.handshake import Handshake
from p2pboot.wire.noise.payload import encode_payload
from p2pboot.wire.noise.transport import LENGTH_BYTES, MAX_PLAINTEXT, OVERHEAD, Framer, Opener, Sealer
from p2pboot.wire.yamux.frames import (
    ACK,
    DATA,
    HEADER,
    HEADER_BYTES,
    INITIAL_WINDOW,
    PING,
    RST,
    SESSION,
    SYN,
    WINDOW_UPDATE,
    header,
)
from p2pboot.wire.yamux.session import YAMUX_PROTOCOL
from siege.answers import Answer, Answering

LOST = (OSError, EOFError, trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError)
"""What an attack meets when the node has had enough of it."""
_READ = 64 * 1024
_BODY = 60_000

Listener = Callable[[bytes], None]


@dataclass(eq=False)
class Stream:
    """One of our streams.

    Args:
        id: its number.
        heard: is called with all that comes on it.
        room: bytes that the node still lets us send.
        over: the node has reset or ended it.
    """

    id: int
    heard: Listener | None = None
    room: int = INITIAL_WINDOW
    over: bool = False
    changed: trio.Event = field(default_factory=trio.Event)

    async def ended(self) -> None:
        """Wait until the node has reset it."""
        while not self.over:
            await self.changed.wait()

    def change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class Peer:
    """A connection that is secured; `listen` has to run for anything to be heard, pings to be answered.

    Args:
        sock: behind the handshake.
        sealer, opener: of both directions.
        framer: with what came behind the handshake.
        grants: whether what is read may be sent again at once.
    """

    def __init__(
        self, sock: trio.SocketStream, sealer: Sealer, opener: Opener, framer: Framer, *, grants: bool
    ) -> None:
        self.sock = sock
        self.grants = grants
        self.received = 0
        self.streams: dict[int, Stream] = {}
        self.answers: Mapping[str, Answer] = {}
        """What the node may ask here."""
        self._sealer, self._opener, self._framer = sealer, opener, framer
        self._sending = trio.Lock()
        self._next_id = 1
        self._owed = bytearray()
        self._inner = bytearray()
        self._body, self._body_of = 0, 0

    # What we say.

    async def send(self, frames: bytes) -> None:
        """Send these bytes as the muxer's, whatever they are."""
        async with self._sending:
            await self._send(frames)

    async def _send(self, frames: bytes) -> None:
        for start in range(0, len(frames), MAX_PLAINTEXT):
            part = frames[start : start + MAX_PLAINTEXT]
            sealed = bytearray(len(part) + OVERHEAD)
            self._sealer.seal_into(part, memoryview(sealed))
            await self.sock.send_all(memoryview(sealed))

    async def open(self, protocol: str, first: bytes = b"", heard: Listener | None = None) -> Stream:
        """Open a stream, speak of a protocol without waiting for the answer, and send the first bytes behind it."""
        stream = self.reserve(heard)
        said = encode_line(GREETING) + encode_line(protocol) + first
        stream.room -= len(said)
        await self.send(header(DATA, SYN, stream.id, len(said)) + said)
        return stream

    def reserve(self, heard: Listener | None = None) -> Stream:
        """Make a stream that the node has not heard of."""
        stream = Stream(self._next_id, heard)
        self._next_id += 2
        self.streams[stream.id] = stream
        return stream

    async def write(self, stream: Stream, data: bytes) -> None:
        """Send on a stream as its window allows.

        Raises:
            EOFError: the node ended it.
        """
        view = memoryview(data)
        while view:
            while not stream.room and not stream.over:
                await stream.changed.wait()
            if stream.over:
                raise EOFError("the node ended a stream")
            count = min(len(view), stream.room, _BODY)
            stream.room -= count
            await self.send(header(DATA, 0, stream.id, count) + bytes(view[:count]))
            view = view[count:]

    async def reset(self, stream: Stream) -> None:
        """End a stream at once."""
        self.streams.pop(stream.id, None)
        await self.send(header(WINDOW_UPDATE, RST, stream.id, 0))

    # What we hear.

    async def listen(self, bytes_per_s: float | None = None) -> None:
        """Read until the node hangs up.

        Args:
            bytes_per_s: not faster than this.

        Raises:
            EOFError: it did.
        """
        size = _READ if bytes_per_s is None else max(1024, min(_READ, int(bytes_per_s / 4)))
        due = trio.current_time()
        while data := await self.sock.receive_some(size):
            self.received += len(data)
            for message in self._messages(data):
                self._inner += message
            self._take()
            if self._owed:
                owed, self._owed = bytes(self._owed), bytearray()
                await self.send(owed)
            if bytes_per_s is not None:
                due = max(due, trio.current_time() - 1) + len(data) / bytes_per_s
                await trio.sleep_until(due)
        raise EOFError("the node hung up")

    def _messages(self, data: bytes) -> list[bytes]:
        self._framer.receive(data)
        return [bytes(self._opener.open(message)) for message in self._framer.messages()]

    def _take(self) -> None:
        at, said = 0, self._inner
        while at < len(said):
            if self._body:
                count = min(self._body, len(said) - at)
                self._hear(bytes(said[at : at + count]))
                at += count
            elif len(said) - at >= HEADER_BYTES:
                _, kind, flags, stream_id, length = HEADER.unpack_from(said, at)
                at += HEADER_BYTES
                self._take_header(kind, flags, stream_id, length)
            else:
                break
        del said[:at]

    def _take_header(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        if flags & SYN and stream_id and not stream_id % 2:
            self._accept(stream_id)
        stream = self.streams.get(stream_id)
        if kind == PING and flags & SYN:
            self._owed += header(PING, ACK, SESSION, length)
        elif kind == DATA:
            self._body, self._body_of = length, stream_id
        elif kind == WINDOW_UPDATE and stream is not None:
            stream.room += length
            stream.change()
        if flags & RST and stream is not None:
            stream.over = True
            stream.change()
            del self.streams[stream_id]

    def _accept(self, stream_id: int) -> None:
        """Answer on a stream that the node opens, or reset it: where an attack has no answers, and for identify."""
        answering = Answering(self.answers)

        def hear(data: bytes) -> None:
            try:
                said = answering.receive(data)
            except NoCommonProtocol:
                self.streams.pop(stream_id, None)
                self._owed += header(WINDOW_UPDATE, RST, stream_id, 0)
                return
            for start in range(0, len(said), _BODY):
                part = said[start : start + _BODY]
                self._owed += header(DATA, 0, stream_id, len(part)) + part

        if self.answers:
            self.streams[stream_id] = Stream(stream_id, hear)
            self._owed += header(WINDOW_UPDATE, ACK, stream_id, 0)
        else:
            self._owed += header(WINDOW_UPDATE, RST, stream_id, 0)

    def _hear(self, data: bytes) -> None:
        self._body -= len(data)
        stream = self.streams.get(self._body_of)
        if stream is None:
            return
        if self.grants:
            self._owed += header(WINDOW_UPDATE, 0, stream.id, len(data))
        if stream.heard is not None:
            stream.heard(data)
            stream.change()


@asynccontextmanager
async def connected(
    host: str, port: int, source: str, *, receive_buffer: int | None = None
) -> AsyncIterator[trio.SocketStream]:
    """Connect from an address of our own choice.

    Args:
        host, port: of the node.
        source: IP address to come from.
        receive_buffer: of the kernel, bytes: what a slow link has on its way.
    """
    sock = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with sock:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await sock.bind((source, 0))
        with trio.fail_after(30):
            await sock.connect((host, port))
        yield trio.SocketStream(sock)


async def secure(sock: trio.SocketStream, key: SecretKey | None = None, *, grants: bool = True) -> Peer:
    """Go through the handshake, as somebody new unless a key is given.

    Raises:
        EOFError, RemoteProtocolError: the node did not want that.
    """
    own = SecretKey(secrets.token_bytes(32)) if key is None else key
    negotiation = Dialler((NOISE_PROTOCOL,))
    handshake = Handshake(initiator=True, static=secrets.token_bytes(32), ephemeral=secrets.token_bytes(32))
    await sock.send_all(negotiation.data_to_send() + framed(handshake.write()))
    while negotiation.selected is None:
        negotiation.receive(await _some(sock))
    framer, rest = Framer(), negotiation.trailing_data
    while (message := _first_message(framer, rest)) is None:
        rest = await _some(sock)
    handshake.read(message)
    payload = encode_payload(own, handshake.static_public, (YAMUX_PROTOCOL,))
    await sock.send_all(framed(handshake.write(payload)))
    sending, receiving = handshake.split()
    return Peer(sock, Sealer(sending), Opener(receiving, bytearray(MAX_PLAINTEXT)), framer, grants=grants)


def first_flight() -> bytes:
    """What a dialler sends before it has heard anything: greeting, proposal, first handshake message."""
    handshake = Handshake(initiator=True, static=secrets.token_bytes(32), ephemeral=secrets.token_bytes(32))
    return Dialler((NOISE_PROTOCOL,)).data_to_send() + framed(handshake.write())


def framed(message: bytes) -> bytes:
    """A Noise message with its length."""
    return len(message).to_bytes(LENGTH_BYTES, "big") + message


async def _some(sock: trio.SocketStream) -> bytes:
    with trio.fail_after(30):
        data = await sock.receive_some(_READ)
    if not data:
        raise EOFError("the node hung up within the handshake")
    return bytes(data)


def _first_message(framer: Framer, data: bytes) -> bytes | None:
    # The node says nothing behind its handshake message before it has heard ours.
    framer.receive(data)
    return next((bytes(message) for message in framer.messages()), None)
