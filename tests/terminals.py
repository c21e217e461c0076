"""A pseudo terminal with a program on it, as a person sits at one: what is shown is waited for, answers are typed."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from p2pboot.testing.processes import environment
from p2pboot.testing.waiting import HANG_S, wait_until


class Terminal:
    """One terminal and the process that runs on it.

    Args:
        command: started with standard input and standard error on the terminal, which is its own.
        directory: in which it is started.
        out: takes its standard output; None: the terminal too.
        columns: of the terminal.
        variables: of its environment, beside the usual.
        is_its_own: whether it is the process's own terminal: Ctrl-C is a signal then, and so is its end.
    """

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        *,
        out: Path | None = None,
        columns: int = 80,
        variables: Mapping[str, str] | None = None,
        is_its_own: bool = True,
    ) -> None:
        self._ours, self._theirs = pty.openpty()
        self.resize(columns)
        self._unread = ""
        self.shown = ""
        """Everything, as it came."""
        with open(out or os.devnull, "wb") as file:
            self.process = subprocess.Popen(
                ["setsid", "--ctty", *command] if is_its_own else command,
                cwd=directory,
                env={**_without_size(environment()), "TERM": "xterm-256color", **(variables or {})},
                stdin=self._theirs,
                stdout=self._theirs if out is None else file,
                stderr=self._theirs,
                start_new_session=not is_its_own,
            )
        os.set_blocking(self._ours, False)

    def resize(self, columns: int) -> None:
        """Have another width."""
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def wait_for(self, pattern: str, what: str = "") -> None:
        """Wait until something is shown that was not yet asked for."""
        compiled = re.compile(pattern)

        def is_shown() -> bool:
            self._read()
            found = compiled.search(self._unread)
            if found is not None:
                self._unread = self._unread[found.end() :]
            return found is not None

        wait_until(is_shown, what or f"{pattern!r} on the terminal", within_s=HANG_S)

    def type(self, text: str) -> None:
        """Type, with the Enter key where there is a newline."""
        os.write(self._ours, text.encode())

    def close(self) -> None:
        """Have it go away, like a window that is closed."""
        os.close(self._ours)
        os.close(self._theirs)
        self._ours = -1

    def wait(self) -> int:
        """Wait for the end; the exit status."""
        status = self.process.wait(HANG_S)
        if self._ours >= 0:
            self._read()
        return status

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._ours, 1 << 16).decode(errors="replace"):
                self.shown += data
                self._unread += data


def _without_size(variables: Mapping[str, str]) -> dict[str, str]:
    """Where the tests' own environment has a width, as in pytest's workers, programs believe it, not the terminal."""
    return {name: value for name, value in variables.items() if name not in ("COLUMNS", "LINES")}


@contextmanager
def terminal_with(
    command: Sequence[str],
    directory: Path,
    *,
    out: Path | None = None,
    columns: int = 80,
    variables: Mapping[str, str] | None = None,
    is_its_own: bool = True,
) -> Iterator[Terminal]:
    """A program on a terminal, which has ended afterwards; arguments as those of `Terminal`."""
    terminal = Terminal(
        command, directory, out=out, columns=columns, variables=variables, is_its_own=is_its_own
    )
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait()
        if terminal._ours >= 0:
            terminal.close()
