"""TCP below libp2p: the byte stream that Noise runs on, over a socket of `transport.tcp.sockets`.

Replaces libp2p's own TCP transport, which binds with SO_REUSEPORT (two programs then share a port without an
error), takes a port in use for no error, owns system tasks, and loses bytes when a write is cancelled.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Final

import trio
from libp2p.connection_types import ConnectionType
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError, IOException
from libp2p.network.connection.raw_connection import RawConnection
from multiaddr import Multiaddr

from p2pboot.transport.addresses import Address
from p2pboot.transport.interface import DialError
from p2pboot.transport.tcp import sockets

_RECEIVE_BYTES: Final = 256 * 1024  # a system call's worth; four Noise messages
# Nothing above asks for more at once than a Noise message (65,535 bytes) or a negotiation line. A longer wish
# can only come from a length that a stranger wrote: refused before memory is spent on it.
_MAX_READ: Final = 128 * 1024
# A peer whose machine vanished (or stopped reading) is given up after this long without an acknowledgement.
_SILENCE_MS: Final = 30_000


class TcpStream(ReadWriteCloser):
    """One TCP connection as libp2p wants it, with writes that survive being cancelled.

    A Noise session breaks for good when half a message goes out, and a cancelled `send_all` does not say how
    much did. Here every `write` first queues all its bytes, without a checkpoint, and then sends what is
    queued; cancelled, it leaves the rest for the next write.
    """

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._socket = sock
        self._unsent: deque[memoryview] = deque()
        self._sending = trio.Lock()
        self._received = memoryview(b"")
        peer = sock.getpeername()
        self._remote = (str(peer[0]), int(peer[1]))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENCE_MS // 2000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)

    def get_remote_address(self) -> tuple[str, int]:
        """IP address and port of the peer."""
        return self._remote

    async def read(self, n: int | None = None) -> bytes:
        """Return exactly `n` bytes, or fewer at the end of the stream; without `n`, what there is.

        Raises:
            ConnectionClosedError: the connection broke.
            IOException: more was asked for than any message has.
        """
        if n is not None and n > _MAX_READ:
            raise IOException(f"refusing to read {n} bytes at once")
        if n is not None and n <= len(self._received):
            return self._take(n)
        parts = [self._take(len(self._received))]
        wanted = None if n is None else n - len(parts[0])
        while wanted is None or wanted > 0:
            if not await self._receive():
                break
            parts.append(self._take(len(self._received) if wanted is None else wanted))
            if wanted is None:
                break
            wanted -= len(parts[-1])
        return b"".join(parts)

    def _take(self, n: int) -> bytes:
        taken, self._received = bytes(self._received[:n]), self._received[n:]
        return taken

    async def _receive(self) -> bool:
        try:
            self._received = memoryview(await self._socket.recv(_RECEIVE_BYTES))
        except (OSError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError(f"connection lost: {error}", transport="tcp") from error
        return len(self._received) > 0

    async def write(self, data: bytes) -> None:
        """Send `data`, after whatever a cancelled write left behind.

        Raises:
            ConnectionClosedError: the connection broke or was closed here.
        """
        self._unsent.append(memoryview(data))
        try:
            async with self._sending:
                await self._send_queued()
        except (OSError, trio.ClosedResourceError) as error:
            self._unsent.clear()
            raise ConnectionClosedError(f"connection lost: {error}", transport="tcp") from error

    async def _send_queued(self) -> None:
        while self._unsent:
            sent = await self._socket.send(self._unsent[0])
            if sent < len(self._unsent[0]):
                self._unsent[0] = self._unsent[0][sent:]
            else:
                self._unsent.popleft()

    async def close(self) -> None:
        """Close the socket; whoever waits on it is woken with ConnectionClosedError."""
        self.abort()
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        """Close the socket at once. Never waits."""
        self._socket.close()


class TcpConnection(RawConnection):
    """libp2p's raw connection over a `TcpStream`."""

    def __init__(self, stream: TcpStream, *, initiator: bool) -> None:
        host, port = stream.get_remote_address()
        kind = "ip6" if ":" in host else "ip4"
        address = Multiaddr(f"/{kind}/{host.partition('%')[0]}/tcp/{port}")
        super().__init__(stream, initiator, ConnectionType.DIRECT, [address])
        self.tcp = stream


async def dial_tcp(address: Address) -> TcpConnection:
    """Connect to an address.

    Raises:
        DialError: nobody answers there, with the system's reason.
    """
    sock = trio.socket.from_stdlib_socket(await sockets.dial_tcp(address))
    try:
        return TcpConnection(TcpStream(sock), initiator=True)
    except OSError as error:  # it hung up at once
        sock.close()
        raise DialError(f"cannot reach {address}: {error.strerror}") from error
