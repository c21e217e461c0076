"""What the kernel is asked about a socket."""

from __future__ import annotations

import contextlib
import socket

from p2pboot.transport.tcp.sockets import has_run_dry


def test_a_socket_has_run_dry_when_all_that_it_was_given_has_left() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as one,
        listener.accept()[0],
    ):
        one.setblocking(False)
        assert has_run_dry(one)
        with contextlib.suppress(BlockingIOError):
            while True:
                one.send(bytes(65_536))  # nobody reads
        assert not has_run_dry(one)


def test_of_what_is_no_tcp_socket_that_is_not_known() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert not has_run_dry(one)
