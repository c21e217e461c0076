"""Files made ready under temporary names, which then get their final names at one stroke.

All that can fail for want of room or permission happens while nothing has changed for whoever looks; what is left are
renames.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from p2pboot.errors import MachineError, machine_error
from p2pboot.store.durable import fsync_directory, staged, write_temporary


class Staging:
    """A context manager; what was made ready and not placed is gone at its end."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._ready: list[tuple[Path, Path]] = []

    @property
    def finals(self) -> tuple[Path, ...]:
        """The names that are to be given."""
        return tuple(final for _, final in self._ready)

    def link(self, source: Path, final: Path) -> None:
        """Make the content of `source` ready: a hard link where that can be, else a copy.

        Raises:
            MachineError: disk full, no permission, a directory has the final name.
        """
        _require_no_directory(final)
        try:
            temporary, fd = self._stack.enter_context(staged(source, final))
            os.fsync(fd)
        except OSError as error:
            raise machine_error(error, f"place {source} as {final}") from error
        self._ready.append((temporary, final))

    def write(self, final: Path, content: bytes) -> None:
        """Make a file with this content ready.

        Raises:
            MachineError: as `link`.
        """
        _require_no_directory(final)
        try:
            temporary = write_temporary(final, content)
        except OSError as error:
            raise machine_error(error, f"write {final}") from error
        self._stack.callback(temporary.unlink, missing_ok=True)
        self._ready.append((temporary, final))

    def place(self) -> None:
        """Give everything its final name, durably.

        Raises:
            MachineError: the disk failed.
        """
        try:
            for temporary, final in self._ready:
                temporary.replace(final)
            for directory in {final.parent for final in self.finals}:
                fsync_directory(directory)
        except OSError as error:
            raise machine_error(error, "give files their final names") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()


def _require_no_directory(final: Path) -> None:
    if final.is_dir() and not final.is_symlink():
        raise MachineError(
            f"cannot place a file as {final}: there is a directory of that name", remedy="remove or rename it"
        )
