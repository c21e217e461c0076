"""The service manager that started a node, where one did: told how the node is, by systemd's sd_notify(3).

A few datagrams to the socket that NOTIFY_SOCKET names: that the node listens, what it does, that its event loop goes
round, that it reads its settings again, that it ends. Without a service manager nothing happens. The variables are
taken out of the environment, so that nobody speaks in our name who was started by us.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Final, Self

import trio

from p2pboot.errors import P2PBootError

log = logging.getLogger(__name__)

MAX_STATUS: Final = 400  # characters: one line of `systemctl status`
SEND_S: Final = 5.0  # for a service manager that is busy; it restarts whoever seems stuck
_BEATS: Final = 3  # in the time that the service manager waits for one; systemd asks for two at least
_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Supervisor:
    """Whom a node tells how it is.

    Args:
        address: of the service manager's socket, a path, or "@" and an abstract name; None: there is nobody.
        watchdog_s: the event loop must be heard of at least this often; None: nobody waits for that.
        runtime: where sockets of the service belong; None: nowhere in particular.
    """

    def __init__(
        self, address: str | None = None, *, watchdog_s: float | None = None, runtime: Path | None = None
    ) -> None:
        self._address = address
        self._watchdog_s = watchdog_s
        self._status = ""
        self._beats = 0
        self.runtime = runtime

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], pid: int) -> Self:
        """Find out who started this process, once: what is for this process alone is gone from there afterwards.

        Args:
            environ: of the process.
            pid: of the process; a watchdog that waits for another one does not wait for us.
        """
        said = {name: environ.pop(name, "") for name in _VARIABLES}
        address = said["NOTIFY_SOCKET"]
        microseconds = said["WATCHDOG_USEC"]
        is_watched = (
            said["WATCHDOG_PID"] in ("", str(pid)) and microseconds.isascii() and microseconds.isdigit()
        )
        runtime = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        return cls(
            address if address[:1] in ("/", "@") else None,  # others are sockets of virtual machines
            watchdog_s=int(microseconds) / 1e6 if is_watched and int(microseconds) else None,
            runtime=Path(runtime) if runtime.startswith("/") else None,
        )

    @property
    def is_there(self) -> bool:
        """Whether anybody listens."""
        return self._address is not None

    @property
    def watchdog(self) -> tuple[float, int] | None:
        """How often the event loop must be heard of, seconds, and how often it was; None: nobody waits for that."""
        if self._watchdog_s is None or not self.is_there:
            return None
        return self._watchdog_s, self._beats

    async def ready(self) -> None:
        """The node listens, whatever it holds."""
        await self._tell("READY=1")

    async def status(self, text: str) -> None:
        """What it does, for a person; told when it is another text than before.

        Args:
            text: MAX_STATUS characters of one line at most are told.
        """
        line = _line(text)
        if line != self._status:
            self._status = line
            await self._tell(f"STATUS={line}")

    async def stopping(self) -> None:
        """It ends now."""
        await self._tell("STOPPING=1", "STATUS=ending")

    @contextlib.asynccontextmanager
    async def reloading(self) -> AsyncIterator[None]:
        """While this is open the settings are read again."""
        await self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            await self._tell("READY=1")

    @contextlib.contextmanager
    def told_of_failure(self) -> Iterator[None]:
        """What ends the process inside is what the service manager shows."""
        try:
            yield
        except P2PBootError as error:
            remedy = f"; {error.remedy}" if error.remedy else ""
            if self._address is not None:
                with _sender() as sender:
                    _sent(sender, self._address, [f"STATUS={_line(error.message + remedy)}"])
            raise

    async def beat(self) -> None:
        """Say again and again that the event loop goes round, from the loop itself, until cancelled."""
        if self._watchdog_s is None or not self.is_there:
            return
        while True:
            await self._tell("WATCHDOG=1")
            self._beats += 1
            await trio.sleep(self._watchdog_s / _BEATS)

    async def _tell(self, *lines: str) -> None:
        """Send one datagram; where the service manager is busy it waits, and gives up after SEND_S."""
        if self._address is None:
            return
        with trio.CancelScope(shield=True), trio.move_on_after(SEND_S), _sender() as sender:
            while not _sent(sender, self._address, lines):
                await trio.lowlevel.wait_writable(sender.fileno())
        await trio.lowlevel.checkpoint_if_cancelled()


def _line(text: str) -> str:
    return " ".join(text.split())[:MAX_STATUS]


def _sender() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)


def _sent(sender: socket.socket, address: str, lines: Sequence[str]) -> bool:
    """Send one datagram; False where the receiver's queue is full, and `sender` becomes writable when it is not."""
    try:
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.send("\n".join(lines).encode("utf-8", "replace"))
    except BlockingIOError:
        return False
    except OSError as error:  # the node is there for others than who watches it
        log.debug("the service manager can not be told %s: %s", lines[0], error.strerror)
    return True
