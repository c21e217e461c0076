"""The control socket: what a careless script may do to it."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pboot.config.locations import Locations
from p2pboot.errors import ExitStatus, MachineError, NotFoundError, P2PBootError, UsageError
from p2pboot.node import control
from p2pboot.node.control import MAX_LINE, Request, request, serve_control, socket_path
from p2pboot.testing.waiting import HANG_S


async def answer(message: Request) -> dict[str, Any]:
    match message.get("op"):
        case "echo":
            return {"said": message.get("said")}
        case "refuse":
            raise UsageError("not like this", remedy="like that")
        case "fail":
            raise RuntimeError("a bug")
        case "odd":
            return {"said": {("not", "JSON"): 1}}
        case "read":
            if message.descriptor is None:
                raise UsageError("nothing was sent along")
            return {"said": os.pread(message.descriptor, 100, 0).decode()}
        case "large":
            return {"said": "x" * 2_000_000}
        case "long":
            await trio.sleep(10 * control.IDLE_S)
            return {"said": "done"}
    raise UsageError("unknown")


@asynccontextmanager
async def serving(state: Path) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, state, answer)
        yield
        nursery.cancel_scope.cancel()


async def ask(state: Path, **message: Any) -> dict[str, Any]:
    return await trio.to_thread.run_sync(request, state, message, HANG_S)


async def exchange(state: Path, sent: bytes) -> list[dict[str, Any]]:
    """Send raw bytes and half-close; the answers until the node closes."""
    async with await trio.open_unix_socket(str(socket_path(state))) as stream:
        received = b""
        try:
            await stream.send_all(sent)
            await stream.send_eof()
        except trio.BrokenResourceError:
            pass  # it hung up before it had read all
        try:
            while data := await stream.receive_some():
                received += data
        except trio.BrokenResourceError:
            pass
    return [json.loads(line) for line in received.splitlines()]


async def test_answers_and_refusals_reach_the_asker(tmp_path: Path) -> None:
    async with serving(tmp_path):
        assert await ask(tmp_path, op="echo", said="ä") == {"said": "ä"}
        with pytest.raises(P2PBootError, match="not like this") as refused:
            await ask(tmp_path, op="refuse")
        assert refused.value.remedy == "like that"
        assert len((await ask(tmp_path, op="large"))["said"]) == 2_000_000


async def test_the_socket_is_the_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with serving(tmp_path):
            assert stat.S_IMODE(socket_path(tmp_path).stat().st_mode) == 0o600
            assert os.umask(0) == 0  # nobody else's files were touched by it
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    "line",
    [b"", b"hello", b"[]", b"null", b"[" * 60_000, b"\xff\xfe", b'{"op":', b"1" * 5000, b"\x00" * 100],
    ids=lambda line: repr(line[:8]),
)
async def test_garbage_is_answered_and_ends_nothing(tmp_path: Path, line: bytes) -> None:
    async with serving(tmp_path):
        (refused, served) = await exchange(tmp_path, line + b'\n{"op":"echo","said":1}\n')
        assert (refused["ok"], served) == (False, {"ok": True, "said": 1})
        assert "one JSON object" in refused["error"]


async def test_a_bug_behind_a_request_ends_neither_node_nor_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path):
        failed, odd, served = await exchange(
            tmp_path, b'{"op":"fail"}\n{"op":"odd"}\n{"op":"echo","said":1}\n'
        )
        assert not failed["ok"]
        assert "RuntimeError" in failed["error"]
        assert "TypeError" in odd["error"]
        assert served["ok"]
        assert "a bug" in caplog.text


async def test_an_oversize_line_is_refused_before_it_is_all_there(tmp_path: Path) -> None:
    async with serving(tmp_path):
        (refused,) = await exchange(tmp_path, b'{"op":"' + b"x" * (3 * MAX_LINE))
        assert str(MAX_LINE) in refused["error"]
        assert await ask(tmp_path, op="echo", said=1) == {"said": 1}


async def test_an_asker_that_goes_away_ends_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path):
        for _ in range(20):
            async with await trio.open_unix_socket(str(socket_path(tmp_path))) as stream:
                await stream.send_all(b'{"op":"large"}\n')
        assert await ask(tmp_path, op="echo", said=1) == {"said": 1}


async def test_a_long_answer_is_waited_for_and_a_silent_asker_is_not(
    tmp_path: Path, autojump_clock: None
) -> None:
    async with serving(tmp_path):
        assert await exchange(tmp_path, b'{"op":"long"}\n') == [{"ok": True, "said": "done"}]
        async with await trio.open_unix_socket(str(socket_path(tmp_path))) as stream:
            began = trio.current_time()
            assert await stream.receive_some() == b""
            assert trio.current_time() - began == pytest.approx(control.IDLE_S)


@pytest.mark.parametrize("depth", [1, 40])
async def test_a_path_longer_than_a_socket_may_have_works(tmp_path: Path, depth: int) -> None:
    state = tmp_path.joinpath(*(["directory"] * depth))
    state.mkdir(parents=True)
    async with serving(state):
        assert await ask(state, op="echo", said=1) == {"said": 1}
        assert stat.S_ISSOCK(socket_path(state).stat().st_mode)
    assert not socket_path(state).exists()
    with pytest.raises(NotFoundError, match="no node is running"):
        await ask(state, op="echo")
    with pytest.raises(NotFoundError, match="no node is running"):
        await ask(state / "not there", op="echo")


async def test_who_finds_no_node_is_told_of_those_that_the_units_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Locations.of_system(tmp_path / "machine")
    monkeypatch.setattr(Locations, "of_system", lambda: machine)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    mirror = tmp_path / ".local/state/p2pboot/mirror"
    mirror.mkdir(parents=True)
    with pytest.raises(NotFoundError) as none:
        await ask(tmp_path, op="echo")
    assert str(none.value.remedy).endswith("name its state directory with --state")
    async with serving(mirror):
        with pytest.raises(NotFoundError) as one:
            await ask(tmp_path, op="echo")
        assert str(one.value.remedy).endswith(f"name its state directory --state {mirror}")


async def test_the_socket_of_a_killed_node_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(socket_path(tmp_path)))
    with pytest.raises(NotFoundError, match="no node is running"):
        await ask(tmp_path, op="echo")
    async with serving(tmp_path):
        assert await ask(tmp_path, op="echo", said=1) == {"said": 1}


async def test_something_else_in_its_place_is_left_alone(tmp_path: Path) -> None:
    socket_path(tmp_path).write_text("mine")
    with pytest.RaisesGroup(pytest.RaisesExc(MachineError, match="not a socket")):
        async with serving(tmp_path):
            pass
    assert socket_path(tmp_path).read_text() == "mine"


async def test_a_directory_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(MachineError, match="listen on")) as caught:
        async with serving(tmp_path / "missing"):
            pass
    (error,) = caught.value.exceptions
    assert isinstance(error, MachineError)
    assert error.exit_status is ExitStatus.MACHINE


def test_no_permission_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: socket.socket, _address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(MachineError, match="Permission denied"):
        request(tmp_path, {"op": "status"}, 1)


@pytest.mark.parametrize("said", [b"", b"[1]\n", b"nonsense\n", b'{"ok":'])
async def test_an_answer_that_is_none_is_said_plainly(tmp_path: Path, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(socket_path(tmp_path)))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(said)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, serve)
            with pytest.raises(NotFoundError, match="ended before it answered"):
                await ask(tmp_path, op="status")


async def test_a_node_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(socket_path(tmp_path)))
        listening.listen()
        with pytest.raises(NotFoundError, match=r"within 0\.01 s"):
            await trio.to_thread.run_sync(request, tmp_path, {}, 0.01)


def descriptors() -> set[str]:
    links = [f"/proc/self/fd/{one}" for one in os.listdir("/proc/self/fd")]
    return {os.readlink(one) for one in links if os.path.lexists(one)}


async def test_what_the_asker_may_open_is_sent_along_and_closed_afterwards(tmp_path: Path) -> None:
    (tmp_path / "stick").write_text("a release")
    fd = os.open(tmp_path / "stick", os.O_RDONLY)
    async with serving(tmp_path):
        ask_with = partial(request, tmp_path, {"op": "read"}, HANG_S)
        for _ in range(3):
            assert await trio.to_thread.run_sync(partial(ask_with, descriptor=fd)) == {"said": "a release"}
        with pytest.raises(UsageError, match="nothing was sent along"):
            await trio.to_thread.run_sync(ask_with)
        # What comes along with nothing that asks for it, and too many at once, is not kept either.
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(socket_path(tmp_path)))
            for _ in range(20):
                socket.send_fds(connection, [b" "], [fd] * 16)
            connection.sendall(b'{"op": "echo"}\n')
            await trio.to_thread.run_sync(connection.recv, 100)
    os.close(fd)
    assert str(tmp_path / "stick") not in descriptors()
