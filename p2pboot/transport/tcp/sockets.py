"""Sockets: dialled, listened on, accepted; what the system said when that failed; what is set on them.

Listeners are bound without SO_REUSEPORT: with it two programs share a port without an error.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import sys
from collections.abc import Sequence
from typing import Final

import trio

from p2pboot.errors import MachineError, machine_error
from p2pboot.transport.addresses import Address, can_be_zone
from p2pboot.transport.interface import DialError, DialFailure

_BACKLOG: Final = 128
# A peer whose machine vanished (or stopped reading) is given up after this long without an acknowledgement.
_SILENCE_MS: Final = 30_000
_SIOCOUTQNSD: Final = 0x894B  # linux/sockios.h
# By name, as not every system has them; without one a dead peer is noticed later, and more waits in the kernel.
_OPTIONS: Final = (
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", _SILENCE_MS),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", _SILENCE_MS // 2000),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
)
_FAILURES: Final = {
    errno.ECONNREFUSED: DialFailure.REFUSED,
    errno.ETIMEDOUT: DialFailure.TIMEOUT,
    errno.EHOSTUNREACH: DialFailure.UNREACHABLE,
    errno.ENETUNREACH: DialFailure.UNREACHABLE,
    errno.EADDRNOTAVAIL: DialFailure.UNREACHABLE,
    errno.EINVAL: DialFailure.UNREACHABLE,  # a route that is a black hole
    errno.EAFNOSUPPORT: DialFailure.UNREACHABLE,
    socket.EAI_NONAME: DialFailure.UNREACHABLE,  # the interface that an address names is not there
    errno.EPERM: DialFailure.NOT_PERMITTED,
    errno.EACCES: DialFailure.NOT_PERMITTED,
}


async def dial_tcp(address: Address) -> socket.socket:
    """Connect to an IP address.

    Args:
        address: whose host is one; an IPv6 one may have a zone.

    Returns:
        A socket that does not block, prepared.

    Raises:
        DialError: nobody answers there, with the system's reason.
    """
    try:
        # Bytes need no tables of international names.
        stream = await trio.open_tcp_stream(address.host.encode(), address.port)
    except OSError as error:
        raise DialError(
            f"cannot reach {address}: {_reason(error)}",
            remedy="check the address, and that a node runs there and its port is open",
            failure=_FAILURES.get(_root(error).errno or 0, DialFailure.OTHER),
        ) from error
    sock = release(stream)
    try:
        prepare(sock)
    except OSError as error:  # it hung up at once
        sock.close()
        raise DialError(f"cannot reach {address}: {_reason(error)}", failure=DialFailure.HUNG_UP) from error
    return sock


def _reason(error: OSError) -> str:
    """The system's own words, where they say what is wrong."""
    root = _root(error)
    if isinstance(root, socket.gaierror):  # what is looked up of an address is its zone
        return "this machine has no such interface"
    return root.strerror or str(root)


def _root(error: OSError) -> OSError:
    """Find the system's own error under trio's "all attempts to connect failed"."""
    root: BaseException = error
    while isinstance(root.__cause__, (OSError, BaseExceptionGroup)):
        root = root.__cause__
    while isinstance(root, BaseExceptionGroup):
        root = root.exceptions[0]
    return root if isinstance(root, OSError) else error


def release(stream: trio.SocketStream) -> socket.socket:
    """Take the socket out of trio's hands, as one that does not block; the stream is over."""
    sock = socket.socket(fileno=stream.socket.detach())
    sock.setblocking(False)
    return sock


def prepare(sock: socket.socket) -> None:
    """Set what every connection wants.

    Raises:
        OSError: it is not connected any more.
    """
    sock.getpeername()
    for level, name, value in _OPTIONS:
        if hasattr(socket, name):
            sock.setsockopt(level, getattr(socket, name), value)


def remote_of(sock: socket.socket) -> tuple[str, int]:
    """Return IP address and port of the other end, without an IPv6 zone.

    Raises:
        OSError: it is not connected any more.
    """
    host, port = sock.getpeername()[:2]
    return str(host).partition("%")[0], int(port)


def remote_address_of(sock: socket.socket) -> Address:
    """The other end, without its peer id; a link-local one names the link that leads there. OSError as above."""
    host, port, *rest = sock.getpeername()
    host = str(host).partition("%")[0]
    if rest and rest[1]:
        host += f"%{_link_name(rest[1])}"
    return Address("ip6" if ":" in host else "ip4", host, int(port))


def _link_name(index: int) -> str:
    """What a link is called in an address: the interface's name, or its number where that can not stand there."""
    with contextlib.suppress(OSError):
        name = socket.if_indextoname(index)
        if can_be_zone(name):
            return name
    return str(index)


def local_host_of(sock: socket.socket) -> str:
    """Return the IP address of this end, without an IPv6 zone."""
    return str(sock.getsockname()[0]).partition("%")[0]


def set_receive_low_water(sock: socket.socket, count: int) -> None:
    """Have the kernel call the socket readable once `count` bytes are there, or its buffer is full, or it ended."""
    with contextlib.suppress(OSError):  # not everywhere; then there are more wake-ups
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)


def has_run_dry(sock: socket.socket) -> bool:
    """Whether the kernel has sent all that it was given; not everywhere can that be told."""
    try:
        return not int.from_bytes(fcntl.ioctl(sock.fileno(), _SIOCOUTQNSD, bytes(4)), sys.byteorder)
    except OSError:
        return False


def set_unsent_low_water(sock: socket.socket, count: int) -> None:
    """Have the kernel take no more than about `count` bytes beyond what the peer's window and the network take."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, count)


def open_listeners(addresses: Sequence[Address]) -> list[trio.SocketListener]:
    """Bind and listen on every address, exclusively.

    Raises:
        MachineError: a port is taken, an address is not this machine's, or binding is not permitted. Nothing
            stays open then.
    """
    listeners: list[trio.SocketListener] = []
    try:
        for address in addresses:
            listeners.append(_open_listener(address))
    except BaseException:
        for listener in listeners:
            listener.socket.close()
        raise
    return listeners


def _open_listener(address: Address) -> trio.SocketListener:
    family = socket.AF_INET6 if address.kind == "ip6" else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise machine_error(error, f"listen on {address}") from error
    try:
        # On Linux this does not let two programs listen on one port; it spares a restart the TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address.host, address.port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        return trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    except OSError as error:
        sock.close()
        raise _listen_error(error, address) from error


def _listen_error(error: OSError, address: Address) -> MachineError:
    if error.errno == errno.EADDRINUSE:
        return MachineError(
            f"cannot listen on {address}: port {address.port} is in use by another program",
            remedy="end that program, choose another port, or use /tcp/0 for any free one",
        )
    return machine_error(error, f"listen on {address}")


def bound_address(listener: trio.SocketListener) -> Address:
    """Return where a listener listens, with its real port."""
    host, port = listener.socket.getsockname()[:2]
    return Address("ip6" if ":" in host else "ip4", host, port)
