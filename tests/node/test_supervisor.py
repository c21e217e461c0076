"""What a service manager is told, on a socket of the test's own; that a stuck event loop is not said to go round."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pboot.errors import ConfigError
from p2pboot.node.supervising import FOLLOW_S, follow, status_line
from p2pboot.node.supervisor import MAX_STATUS, Supervisor


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The service manager's socket, and what NOTIFY_SOCKET says of it."""
    named = str(tmp_path / "notify") if request.param == "path" else f"@p2pboot-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + named[1:] if named.startswith("@") else named)
        receiver.settimeout(10)
        yield receiver, named


def said(receiver: socket.socket) -> dict[str, str]:
    """The next datagram's assignments."""
    return dict(line.split("=", 1) for line in receiver.recv(4096).decode().split("\n"))


def nothing_more(receiver: socket.socket) -> bool:
    receiver.setblocking(False)
    try:
        receiver.recv(4096)
    except BlockingIOError:
        return True
    return False


async def test_each_state_is_told_in_systemds_words(manager: tuple[socket.socket, str]) -> None:
    receiver, named = manager
    supervisor = Supervisor(named)
    await supervisor.status("opening the state")
    await supervisor.ready()
    async with supervisor.reloading():
        assert [said(receiver) for _ in range(2)] == [{"STATUS": "opening the state"}, {"READY": "1"}]
        begun = said(receiver)
        assert begun["RELOADING"] == "1"
        assert int(begun["MONOTONIC_USEC"]) > 0
    assert said(receiver) == {"READY": "1"}
    await supervisor.stopping()
    assert said(receiver) == {"STOPPING": "1", "STATUS": "ending"}
    assert nothing_more(receiver)


async def test_a_status_is_told_once_on_one_line_and_not_without_end(
    manager: tuple[socket.socket, str],
) -> None:
    receiver, named = manager
    supervisor = Supervisor(named)
    for text in ("1 peer", "1 peer", "2 peers\nREADY=1", "x" * 100_000):
        await supervisor.status(text)
    expected = [{"STATUS": "1 peer"}, {"STATUS": "2 peers READY=1"}, {"STATUS": "x" * MAX_STATUS}]
    assert [said(receiver) for _ in range(3)] == expected
    assert nothing_more(receiver)


async def test_a_stuck_event_loop_gets_no_beat(manager: tuple[socket.socket, str]) -> None:
    receiver, named = manager
    receiver.setblocking(False)
    supervisor = Supervisor(named, watchdog_s=0.06)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.beat)
        for _ in range(3):
            await trio.lowlevel.wait_readable(receiver.fileno())
            assert said(receiver) == {"WATCHDOG": "1"}
        # Now the loop is stuck here, for many times as long as a beat takes.
        receiver.settimeout(0.6)
        with pytest.raises(TimeoutError):
            receiver.recv(4096)
        receiver.setblocking(False)
        await trio.lowlevel.wait_readable(receiver.fileno())
        assert said(receiver) == {"WATCHDOG": "1"}, "and goes round again"
        nursery.cancel_scope.cancel()


async def test_whoever_waits_for_no_beat_gets_none(manager: tuple[socket.socket, str]) -> None:
    receiver, named = manager
    await Supervisor(named).beat()
    await Supervisor(watchdog_s=0.01).beat()
    assert nothing_more(receiver)


async def test_a_manager_that_is_busy_or_gone_holds_nobody_up(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    await Supervisor(str(tmp_path / "nobody")).ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        supervisor = Supervisor(str(tmp_path / "notify"))
        for number in range(2000):  # more than its queue takes
            await supervisor.status(str(number))
            if trio.current_time() > 0:
                break
        assert 0 < number < 1999, "it waited once, and gave up"


async def test_a_datagram_that_finds_the_queue_full_comes_when_there_is_room(
    manager: tuple[socket.socket, str],
) -> None:
    receiver, named = manager
    filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with filler:
        filler.connect("\0" + named[1:] if named.startswith("@") else named)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filler.send(b"X=1")
                sent += 1
        assert sent > 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Supervisor(named).ready)
        await wait_all_tasks_blocked()
        assert [said(receiver) for _ in range(sent)] == [{"X": "1"}] * sent
    assert said(receiver) == {"READY": "1"}


def test_what_ends_the_process_is_what_is_shown(manager: tuple[socket.socket, str]) -> None:
    receiver, named = manager
    with pytest.raises(ConfigError), Supervisor(named).told_of_failure():
        raise ConfigError("node.toml is wrong", remedy="mend it")
    assert said(receiver) == {"STATUS": "node.toml is wrong; mend it"}


PID = 4711


@pytest.mark.parametrize(
    ("environ", "is_there", "watchdog_s"),
    [
        ({}, False, None),
        ({"NOTIFY_SOCKET": "/run/systemd/notify"}, True, None),
        ({"NOTIFY_SOCKET": "@abstract"}, True, None),
        ({"NOTIFY_SOCKET": "relative"}, False, None),
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, False, None),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3000000"}, True, 3.0),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(PID)}, True, 3.0),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, True, None),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"}, True, None),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, True, None),
    ],
)
def test_the_environment_says_whether_anybody_listens(
    environ: dict[str, str], is_there: bool, watchdog_s: float | None
) -> None:
    left = {**environ, "PATH": "/bin"}
    supervisor = Supervisor.from_environment(left, PID)
    assert (supervisor.is_there, supervisor._watchdog_s) == (is_there, watchdog_s)
    assert left == {"PATH": "/bin"}, "a child does not speak in our name"


@pytest.mark.parametrize(
    ("said", "runtime"),
    [
        ("/run/p2pboot/mirror", Path("/run/p2pboot/mirror")),
        ("/run/a:/run/b", Path("/run/a")),
        ("", None),
        ("a", None),
    ],
)
def test_sockets_belong_where_the_service_manager_says(said: str, runtime: Path | None) -> None:
    assert Supervisor.from_environment({"RUNTIME_DIRECTORY": said}, PID).runtime == runtime


class Node:
    """One whose disk fails after the first time."""

    def __init__(self) -> None:
        self.asked = 0

    async def status(self, *, watched: bool = True) -> dict[str, object]:
        assert not watched, "no peer is asked anything for it"
        self.asked += 1
        if self.asked > 1:
            raise sqlite3.OperationalError("disk I/O error")
        return {"heads": [], "peers_total": 3, "fetching": [], "problems": [], "snapshots": None}


async def test_a_status_that_can_not_be_told_does_not_end_the_node(
    manager: tuple[socket.socket, str], autojump_clock: MockClock
) -> None:
    receiver, named = manager
    with trio.move_on_after(4 * FOLLOW_S):
        await follow(Node(), Supervisor(named))
    assert said(receiver) == {"STATUS": "not ready: nothing is offered, 3 peers, nothing wrong"}
    assert said(receiver) == {"STATUS": "running; its status can not be told: disk I/O error"}
    assert nothing_more(receiver)


async def test_where_nobody_listens_no_status_is_made(autojump_clock: MockClock) -> None:
    node = Node()
    await follow(node, Supervisor())
    assert node.asked == 0


HEAD = {"channel": "stable", "arch": "x86_64", "expired": False, "publisher": "example"}
FETCHED = {"channel": "stable", "arch": "x86_64", "bytes_done": 41, "bytes_total": 100}
PROBLEM = {"subject": "stable/x86_64", "text": "it expires in 2 days", "severity": "warning"}


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({}, "not ready: nothing is offered, 0 peers, nothing wrong"),
        ({"heads": [HEAD], "peers_total": 1}, "working: offers 1 release, 1 peer, nothing wrong"),
        (
            {"heads": [HEAD, HEAD, {**HEAD, "expired": True}, {**HEAD, "publisher": None}]},
            "working: offers 2 releases, 0 peers, nothing wrong",
        ),
        (
            {"heads": [HEAD] * 3, "peers_total": 12, "fetching": [FETCHED]},
            "working: offers 3 releases, fetching stable/x86_64 41 %, 12 peers, nothing wrong",
        ),
        (
            {"fetching": [FETCHED] * 3 + [{**FETCHED, "bytes_total": 0}]},
            "not ready: nothing is offered, fetching stable/x86_64 41 %, stable/x86_64 41 % and 2 more, 0 peers,"
            " nothing wrong",
        ),
        ({"snapshots": {"held": 2}}, "working: offers 2 snapshots, 0 peers, nothing wrong"),
        (
            {"problems": [PROBLEM, PROBLEM]},
            "not ready: nothing is offered, 0 peers, 2 warnings; stable/x86_64: it expires in 2 days",
        ),
    ],
)
def test_the_line_says_what_is_offered_what_comes_and_what_is_wrong(
    changed: dict[str, object], line: str
) -> None:
    document: dict[str, object] = {
        "heads": [],
        "peers_total": 0,
        "fetching": [],
        "problems": [],
        "snapshots": None,
    }
    assert status_line({**document, **changed}) == line
