"""The control socket `<state>/control.sock`: how `p2pboot publish` and `p2pboot status` talk to a running node.

One JSON object a line each way, at most 64 KiB. The socket is 0600: whoever may connect may already read the state.
`request` is the client's side and imports no trio, so that the commands that use it start in a blink.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pboot.errors import MachineError, NotFoundError, P2PBootError, machine_error

if TYPE_CHECKING:
    import trio

MAX_LINE = 65_536
_MAX_SOCKET_PATH = 107  # sun_path on Linux, without the closing NUL


Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def socket_path(state: Path) -> Path:
    """Where the node with this state directory listens."""
    return state / "control.sock"


def request(state: Path, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Ask a running node.

    Args:
        state: the node's state directory.
        message: `{"op": …}` and the operation's arguments.
        timeout_s: for connecting and for the answer each.

    Returns:
        The node's answer, an object without `ok` and `error`.

    Raises:
        NotFoundError: no node is running with this state.
        P2PBootError: the node refused, with its words.
        MachineError: no permission.
    """
    path = socket_path(state)
    with _in_directory_if_long(path) as name, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(name)
            connection.sendall(json.dumps(message).encode() + b"\n")
            line = _read_line(connection)
        except TimeoutError:
            raise NotFoundError(
                f"the node at {path} does not answer within {timeout_s:g} s",
                remedy="look at its log, or give it more time",
            ) from None
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
                raise NotFoundError(
                    f"no node is running with the state directory {state}",
                    remedy="start one with `p2pboot serve DIR --state …`, or name its state directory with --state",
                ) from None
            raise machine_error(error, f"reach the node at {path}") from error
    try:
        answer = json.loads(line)
    except ValueError:
        raise NotFoundError(f"the node at {path} ended before it answered") from None
    if not answer.pop("ok", False):
        raise P2PBootError(str(answer.get("error", "the node refused")), remedy=answer.get("remedy"))
    return dict(answer)


def _read_line(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n") and len(received) < MAX_LINE * 16:
        chunk = connection.recv(MAX_LINE)
        if not chunk:
            break
        received += chunk
    return bytes(received)


class _in_directory_if_long:  # noqa: N801 - reads as a phrase in a with statement
    """A socket's path may have 107 bytes; a longer one is reached through its directory's descriptor."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= _MAX_SOCKET_PATH:
            return str(self._path)
        try:
            self._descriptor = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            return "/proc/self/fd/-1"  # reported as "no node is running"
        return f"/proc/self/fd/{self._descriptor}/{self._path.name}"

    def __exit__(self, *exc_info: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


async def serve_control(state: Path, answer: Answer, *, task_status: Any) -> None:
    """Listen on the control socket until cancelled; the caller holds the lock on the state directory.

    Args:
        state: the state directory.
        answer: takes a message and returns the reply's fields; a P2PBootError becomes its `error` and `remedy`.
        task_status: started once the socket listens.

    Raises:
        MachineError: the socket can not be made.
    """
    import trio

    path = socket_path(state)
    with _in_directory_if_long(path) as name:
        _remove_stale(path)
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            mask = os.umask(0o177)  # 0600 from its creation
            try:
                plain.bind(name)
            finally:
                os.umask(mask)
            plain.listen(16)
        except OSError as error:
            plain.close()
            raise machine_error(error, f"listen on {path}") from error
        listener = trio.socket.from_stdlib_socket(plain)

        async def handle(stream: trio.SocketStream) -> None:
            async with stream:
                with trio.move_on_after(600):
                    await _converse(stream, answer)

        try:
            await trio.serve_listeners(
                handle, [trio.SocketListener(listener)], task_status=_Quiet(task_status)
            )
        finally:
            path.unlink(missing_ok=True)


class _Quiet:
    """`serve_listeners` reports its listeners; the caller wants to know only that they listen."""

    def __init__(self, task_status: Any) -> None:
        self._task_status = task_status

    def started(self, value: object = None) -> None:
        self._task_status.started()


def _remove_stale(path: Path) -> None:
    """A node that was killed leaves its socket; the state's lock says that nobody listens there any more."""
    try:
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
        else:
            raise MachineError(f"{path} is in the way: not a socket", remedy="move it away")
    except FileNotFoundError:
        return


async def _converse(stream: trio.SocketStream, answer: Answer) -> None:
    import trio

    received = bytearray()
    try:
        while len(received) <= MAX_LINE:
            chunk = await stream.receive_some(MAX_LINE)
            if not chunk:
                return
            received += chunk
            while b"\n" in received:
                line, _, rest = received.partition(b"\n")
                received = bytearray(rest)
                await stream.send_all(json.dumps(await _reply(bytes(line), answer)).encode() + b"\n")
    except trio.BrokenResourceError:
        return  # the asker went away


async def _reply(line: bytes, answer: Answer) -> dict[str, Any]:
    try:
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError
    except ValueError:
        return {"ok": False, "error": "a request is one JSON object on one line"}
    try:
        return {"ok": True, **await answer(message)}
    except P2PBootError as error:
        return {"ok": False, "error": error.message, "remedy": error.remedy}
