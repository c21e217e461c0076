"""Sockets that came with the process: which are taken, which are refused, and that nobody else gets them."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from p2pboot.errors import UsageError
from p2pboot.transport import passed as passed_module
from p2pboot.transport.passed import MAX_PASSED, PassedSocket, PassedSockets

PID = 4711
HIGH = 500  # where nothing else is open, so that two descriptors follow each other


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def copy_of(passed: socket.socket, name: str = "http") -> PassedSocket:
    """Like one that was passed: the descriptor is taken over."""
    return PassedSocket(name, os.dup(passed.fileno()))


def test_those_of_a_name_are_taken_once(listener: socket.socket) -> None:
    passed = PassedSockets([copy_of(listener), copy_of(listener, "admin"), copy_of(listener)])
    taken = passed.take("http")
    assert [one.getsockname() for one in taken] == [listener.getsockname()] * 2
    assert all(one.getblocking() is False for one in taken)
    with pytest.raises(UsageError, match="passed no socket named http, only admin, http"):
        passed.take("http")
    left = passed.take(None)
    assert len(left) == 1
    with pytest.raises(UsageError, match="passed no socket"):
        passed.take(None)
    for one in (*taken, *left):
        one.close()


def test_without_a_service_manager_there_is_none() -> None:
    with pytest.raises(UsageError) as caught:
        PassedSockets().take("http")
    assert caught.value.message == "the service manager passed no socket named http"
    assert caught.value.remedy is not None


@pytest.mark.parametrize("kind", ["datagram", "not listening", "unix", "file"])
def test_what_does_not_listen_for_tcp_is_refused(kind: str) -> None:
    read, write = os.pipe()
    made = {
        "datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(),
        "not listening": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach(),
        "unix": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).detach(),
        "file": lambda: os.dup(read),
    }
    try:
        with pytest.raises(
            UsageError, match=r"descriptor \d+ \(http\), which the service manager passed"
        ) as caught:
            PassedSockets([PassedSocket("http", made[kind]())]).take("http")
        assert caught.value.remedy is not None
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, set()),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, set()),
        ({"LISTEN_PID": str(PID), "LISTEN_FDS": "0"}, set()),
        ({"LISTEN_PID": str(PID), "LISTEN_FDS": "many"}, set()),
        ({"LISTEN_PID": str(PID), "LISTEN_FDS": str(MAX_PASSED + 1)}, set()),
        ({"LISTEN_PID": str(PID), "LISTEN_FDS": "2"}, {"unknown"}),
        ({"LISTEN_PID": str(PID), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "http:admin"}, {"http", "admin"}),
        ({"LISTEN_PID": str(PID), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "http"}, {"http", "unknown"}),
    ],
)
def test_the_environment_says_what_was_passed(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket, environ: dict[str, str], names: set[str]
) -> None:
    first = fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD, HIGH)
    second = fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD, first + 1)
    assert second == first + 1
    monkeypatch.setattr(passed_module, "FIRST_DESCRIPTOR", first)
    left = {**environ, "PATH": "/bin"}
    assert PassedSockets.from_environment(left, PID).names == names
    assert left == {"PATH": "/bin"}
    os.close(first)
    os.close(second)


def test_variables_without_their_descriptors_pass_nothing() -> None:
    script = (
        "import os; from p2pboot.transport.passed import PassedSockets;"
        "said = {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '2'};"
        "print(sorted(PassedSockets.from_environment(said, os.getpid()).names))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, close_fds=True
    )
    assert done.stdout == "[]\n"


def test_a_child_gets_none(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    one = os.dup(listener.fileno())
    os.set_inheritable(one, True)
    monkeypatch.setattr(passed_module, "FIRST_DESCRIPTOR", one)
    PassedSockets.from_environment({"LISTEN_PID": str(PID), "LISTEN_FDS": "1"}, PID)
    assert not os.get_inheritable(one)
    os.close(one)
