"""The control socket `<state>/control.sock`: how `p2pboot publish`, `status` and `doctor` talk to a running node.

Where a service manager names a directory for sockets (RUNTIME_DIRECTORY), it is there, and what is in the state
directory is a link to it: who asks needs the state directory alone, either way.
One JSON object a line each way; a request has at most 64 KiB. What the node may not be able to open itself, the asker
opens and sends its descriptor along. The socket is 0600: whoever may connect may already read the state. `request` is
the client's side and imports no trio, so that the commands that use it start in a blink.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from p2pboot.core.events import Event
from p2pboot.errors import (
    ConfigError,
    ExitStatus,
    MachineError,
    NotFoundError,
    P2PBootError,
    UsageError,
    machine_error,
)

if TYPE_CHECKING:
    import trio

log = logging.getLogger(__name__)

MAX_LINE: Final = 65_536
MAX_ANSWER: Final = 16 * 1024 * 1024
IDLE_S: Final = 60.0  # for a request to arrive; how long its answer takes, only the asker limits
_SEND_S: Final = 10.0
_MAX_DESCRIPTORS: Final = 1  # that a request may bring
_CREDENTIALS: Final = struct.Struct("3i")  # process, user and group: struct ucred
_MAX_SOCKET_PATH: Final = 107  # sun_path on Linux, without the closing NUL

# A refusal keeps its exit status on the way through the socket.
_REFUSALS: Final[dict[object, type[P2PBootError]]] = {
    kind.exit_status: kind for kind in (UsageError, NotFoundError, MachineError)
}


class Request(dict[str, Any]):
    """What a node is asked: the members of the JSON object.

    `descriptor` is of a file or directory that was sent along, else None. It is closed with the answer, unless whoever
    answers takes it over and puts None there.
    """

    descriptor: int | None = None


Answer = Callable[[Request], Awaitable[dict[str, Any]]]


def socket_path(state: Path) -> Path:
    """Where the node with this state directory is reached: its socket, or a link to it."""
    return state / "control.sock"


def request(
    state: Path, message: dict[str, Any], timeout_s: float | None, *, descriptor: int | None = None
) -> dict[str, Any]:
    """Ask a running node.

    Args:
        state: the node's state directory.
        message: `{"op": …}` and the operation's arguments.
        timeout_s: for connecting and for the answer each; None waits for ever.
        descriptor: of a file or directory that the node is to use; stays the caller's.

    Returns:
        The node's answer, an object without `ok` and `error`.

    Raises:
        NotFoundError: no node is running with this state.
        P2PBootError: the node refused, with its words.
        MachineError: no permission.
    """
    path = socket_path(state)
    try:
        with (
            _in_directory_if_long(path) as name,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
        ):
            connection.settimeout(timeout_s)
            connection.connect(name)
            if descriptor is not None:  # with a byte of white space: descriptors do not travel alone
                socket.send_fds(connection, [b" "], [descriptor])
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
                remedy=f"start one with `p2pboot serve DIR --state …`, or name its state directory {_installed(state)}",
            ) from None
        raise machine_error(error, f"reach the node at {path}") from error
    try:
        answer = dict(json.loads(line))
    except (ValueError, TypeError, RecursionError):
        raise NotFoundError(f"the node at {path} ended before it answered") from None
    if not answer.pop("ok", False):
        kind = _REFUSALS.get(answer.get("exit_status"), P2PBootError)
        raise kind(str(answer.get("error", "the node refused")), remedy=answer.get("remedy"))
    return answer


def running(state: Path) -> int | None:
    """The process id of the node that runs with this state directory; None where none does, or it is not to be told."""
    try:
        with (
            _in_directory_if_long(socket_path(state)) as name,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
        ):
            connection.settimeout(_SEND_S)
            connection.connect(name)
            said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    return int(_CREDENTIALS.unpack(said)[0])


def _installed(asked: Path) -> str:
    """How to name a node that runs where `p2pboot init` and the units put it, and was not the one that was asked."""
    from p2pboot.config.locations import Locations  # only who found nothing needs it

    places = [Locations.of_system()]
    with contextlib.suppress(ConfigError):
        places.append(Locations.of_user(os.environ))
    found = []
    for state in (one.state_directory / role for one in places for role in Locations.ROLES):
        with contextlib.suppress(OSError):  # which this user may not see
            if state != asked and socket_path(state).exists():
                found.append(f"--state {state}")
    return " or ".join(found) or "with --state"


def _read_line(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n") and len(received) < MAX_ANSWER:
        chunk = connection.recv(MAX_LINE)
        if not chunk:
            break
        received += chunk
    return bytes(received)


@contextlib.contextmanager
def _in_directory_if_long(path: Path) -> Iterator[str]:
    """A socket's path may have 107 bytes; a longer one is reached through its directory's descriptor."""
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


async def serve_control(
    state: Path, answer: Answer, runtime: Path | None = None, *, task_status: Any
) -> None:
    """Listen on the control socket until cancelled; the caller holds the lock on the state directory.

    Args:
        state: the state directory.
        answer: takes a message and returns the reply's fields; a P2PBootError becomes its `error` and `remedy`.
        runtime: the directory that the socket itself is made in; None: the state directory.
        task_status: started once the socket listens.

    Raises:
        MachineError: the socket can not be made.
    """
    import trio

    shown = socket_path(state)
    path = shown if runtime is None else socket_path(runtime)
    try:
        listening = _listen(path)
        if path != shown:
            _remove_stale(shown)
            shown.symlink_to(path)
    except OSError as error:
        raise machine_error(error, f"listen on {path}") from error

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            await _converse(stream, answer)

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    try:
        await trio.serve_listeners(handle, [listener], task_status=task_status)
    finally:
        for name in {shown, path}:
            with contextlib.suppress(OSError):  # the next node removes it
                name.unlink()


def _listen(path: Path) -> socket.socket:
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The file takes over the socket's own mode, so it is 0600 from its creation. A umask would do it, too, but to
        # whatever other threads create at that moment as well.
        os.fchmod(listening.fileno(), 0o600)
        with _in_directory_if_long(path) as name:
            listening.bind(name)
        listening.listen(16)
    except BaseException:
        listening.close()
        raise
    return listening


def _remove_stale(path: Path) -> None:
    """A node that was killed leaves its socket; the state's lock says that nobody listens there any more."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISSOCK(mode) or stat.S_ISLNK(mode):
            path.unlink()
        else:
            raise MachineError(f"{path} is in the way: not a socket", remedy="move it away")
    except FileNotFoundError:
        return


async def _converse(stream: trio.SocketStream, answer: Answer) -> None:
    import trio

    received = bytearray()
    descriptors: list[int] = []
    try:
        while True:
            with trio.fail_after(IDLE_S):
                chunk = await _receive(stream, descriptors)
            if not chunk:
                return
            received += chunk
            while b"\n" in received:
                line, _, received = received.partition(b"\n")
                await _send(stream, await _reply(bytes(line), answer, descriptors))
            if len(received) > MAX_LINE:
                await _send(stream, _encoded(_refusal(f"a request has at most {MAX_LINE} bytes")))
                return
    except (trio.BrokenResourceError, trio.TooSlowError, OSError):
        return  # the asker went away, or is asleep
    finally:
        _close(descriptors)


async def _receive(stream: trio.SocketStream, descriptors: list[int]) -> bytes:
    """The next bytes; what descriptors come with them are put there, as many as a request may bring."""
    size = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize)
    chunk, ancillary, _, _ = await stream.socket.recvmsg(MAX_LINE, size, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            came = array.array("i")
            came.frombytes(data[: len(data) - len(data) % came.itemsize])
            _close(descriptors)
            descriptors.extend(came)
    return chunk


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


async def _send(stream: trio.SocketStream, reply: bytes) -> None:
    import trio

    with trio.fail_after(_SEND_S):
        await stream.send_all(reply)


async def _reply(line: bytes, answer: Answer, descriptors: list[int]) -> bytes:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        return _encoded(_refusal("a request is one JSON object on one line"))
    request = Request(message)
    request.descriptor = descriptors.pop() if descriptors else None
    try:
        return _encoded({"ok": True, **await answer(request)})
    except P2PBootError as error:
        return _encoded(_refusal(error.message, error.remedy, error.exit_status))
    except Exception as error:  # one asker's odd request does not end the node
        log.exception(
            "a request on the control socket failed",
            extra=Event.TASK_FAILED(task="answer on the control socket"),
        )
        what = f"internal error: {type(error).__name__}: {error}"[:500]
        return _encoded(_refusal(what, "look at the node's log"))
    finally:
        if request.descriptor is not None:
            os.close(request.descriptor)


def _encoded(reply: dict[str, Any]) -> bytes:
    return json.dumps(reply).encode() + b"\n"


def _refusal(
    error: str, remedy: str | None = None, exit_status: ExitStatus = ExitStatus.REFUSED
) -> dict[str, Any]:
    return {"ok": False, "error": error, "remedy": remedy, "exit_status": exit_status}
