"""Sockets that the service manager opened before it started us: systemd's protocol, sd_listen_fds(3).

So a gateway listens on port 80 without root. The variables LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES are taken out of
the environment and the descriptors are closed in children: they are for this process alone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping, Sequence
from typing import Final, Self

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import UsageError

FIRST_DESCRIPTOR: Final = 3  # SD_LISTEN_FDS_START
MAX_PASSED: Final = 64
HTTP: Final = "http"
"""The name of a socket that the gateway takes without being told to."""
_UNNAMED: Final = "unknown"  # what systemd calls a socket that has no name
_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_REMEDY: Final = "enable the service's socket unit, and give it that FileDescriptorName="


@dataclass(frozen=True, slots=True)
class PassedSocket:
    """One of them.

    Args:
        name: FileDescriptorName= of its unit; several may have the same.
        descriptor: as it was passed.
    """

    name: str
    descriptor: int


class PassedSockets:
    """What was passed, until whoever listens takes it.

    Args:
        passed: in their order; MAX_PASSED at most are of interest.
    """

    def __init__(self, passed: Sequence[PassedSocket] = ()) -> None:
        self._left = list(passed)
        self.names = frozenset(one.name for one in passed)
        """What they are called, taken or not."""

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], pid: int) -> Self:
        """Find out what was passed, once: the variables are gone afterwards.

        Args:
            environ: of the process.
            pid: of the process. What is meant for another one is left alone.
        """
        said = {name: environ.pop(name, "") for name in _VARIABLES}
        count = _number(said["LISTEN_FDS"])
        if _number(said["LISTEN_PID"]) != pid or not 0 < count <= MAX_PASSED:
            return cls()
        names = said["LISTEN_FDNAMES"].split(":") if said["LISTEN_FDNAMES"] else []
        names += [_UNNAMED] * (count - len(names))
        passed = [PassedSocket(names[index], FIRST_DESCRIPTOR + index) for index in range(count)]
        for one in passed:
            try:
                os.set_inheritable(one.descriptor, False)
            except OSError:
                return cls()  # somebody's variables, without their descriptors
        return cls(passed)

    def take(self, name: str | None) -> tuple[socket.socket, ...]:
        """Take the sockets of a name; from now on they are the caller's, non-blocking.

        Args:
            name: of the sockets; None: all that nobody took.

        Raises:
            UsageError: there is none, or one that is no listening TCP socket.
        """
        meant = [one for one in self._left if name is None or one.name == name]
        if not meant:
            what = "passed no socket" if name is None else f"passed no socket named {name}"
            others = ", ".join(sorted(self.names))
            raise UsageError(
                f"the service manager {what}{f', only {others}' if others else ''}", remedy=_REMEDY
            )
        self._left = [one for one in self._left if one not in meant]
        taken: list[socket.socket] = []
        try:
            for one in meant:
                taken.append(_listening(one))
        except UsageError:
            for listener in taken:
                listener.close()
            raise
        return tuple(taken)

    def close(self) -> list[str]:
        """Close what nobody took; the names of these."""
        left, self._left = self._left, []
        for one in left:
            os.close(one.descriptor)
        return [one.name for one in left]


def _number(text: str) -> int:
    """A number as systemd writes it; -1 for none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1


def _listening(passed: PassedSocket) -> socket.socket:
    where = f"descriptor {passed.descriptor} ({passed.name}), which the service manager passed,"
    try:
        listener = socket.socket(fileno=passed.descriptor)
    except OSError as error:
        raise UsageError(f"{where} is no socket: {error.strerror}", remedy=_REMEDY) from None
    is_tcp = listener.family in (socket.AF_INET, socket.AF_INET6) and listener.type == socket.SOCK_STREAM
    if not is_tcp or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.close()
        raise UsageError(
            f"{where} does not listen for TCP connections",
            remedy="its unit needs ListenStream= with a port or an address, and Accept=no",
        )
    listener.setblocking(False)
    return listener
