"""A socket that was accepted becomes a connection with a place, or is told that there is none: for both transports."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager

import trio

from p2pboot.core.origins import origin_of
from p2pboot.transport.limits import Admission, Refused
from p2pboot.transport.tcp.connection import TcpConnection
from p2pboot.transport.tcp.endpoint import Endpoint
from p2pboot.transport.tcp.sockets import prepare, remote_of
from p2pboot.transport.tcp.stream import MuxedStream
from p2pboot.wire.yamux.frames import GATED, NO_ROOM


@asynccontextmanager
async def accepted(
    endpoint: Endpoint,
    admission: Admission[TcpConnection],
    sock: socket.socket,
    accept: Callable[[MuxedStream], None],
    nursery: trio.Nursery,
) -> AsyncIterator[TcpConnection]:
    """Secure a connection, and give it a place while the block runs; it has ended afterwards.

    Args:
        endpoint: makes it.
        admission: decides about it.
        sock: as it was accepted; does not block.
        accept: is called with each stream that the peer opens.
        nursery: carries the connection.

    Raises:
        OSError: the peer hung up at once.
        Refused: there is no place for it, or its peer is not let in (both of which that is told), it took too long, or
            it is this node itself.
        ProtocolError: the peer ended it before that.
    """
    with ExitStack() as stack:
        undo = stack.enter_context(ExitStack())
        undo.callback(sock.close)
        prepare(sock)
        began = trio.current_time()
        origin = origin_of(remote_of(sock)[0])
        with admission.handshake(origin):
            await endpoint.turn(origin)
            tcp = endpoint.connection(sock, accept, initiator=False, began=began)
            undo.pop_all()  # from here on the connection closes it
            stack.callback(tcp.abort)
            nursery.start_soon(tcp.run)
            await tcp.secured.wait()
        if tcp.failure is not None:
            raise tcp.failure
        if endpoint.is_self(tcp.peer):
            raise Refused("this is the node itself")
        if not endpoint.allowed.admits(tcp.peer_id):
            endpoint.tell_kept_out(tcp)
            await tcp.hang_up(GATED)
            raise Refused(f"{tcp.peer_id} is not among those who are let in")
        try:
            stack.enter_context(admission.place(tcp))
        except Refused:
            await tcp.hang_up(NO_ROOM)
            raise
        yield tcp
