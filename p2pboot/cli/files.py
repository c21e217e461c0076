"""Reading and writing what the command line names: files, devices, standard streams; each failure is one clear line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

from p2pboot.errors import Malformed, SignatureError, UsageError, machine_error

STANDARD_INPUT = Path("-")


def read_input(path: Path, max_bytes: int, *, what: str) -> bytes:
    """All bytes of a file, or of standard input for "-".

    Args:
        path: the file.
        max_bytes: the most that such a file may have.
        what: what it should be, for messages: "key file".

    Raises:
        UsageError: there is no such file, it is a directory, or it is larger.
        MachineError: it can not be read.
    """
    data = read_start(path, max_bytes + 1, what=what)
    if len(data) > max_bytes:
        raise UsageError(
            f"{path} is larger than {max_bytes} bytes, so it is no {what}", remedy="check the path"
        )
    return data


def read_start(path: Path, max_bytes: int, *, what: str) -> bytes:
    """The first bytes of a file or, for "-", of standard input: all of them, up to `max_bytes`.

    For documents whose own reader refuses too long ones. Raises as `read_input`.
    """
    with open_input(path, what=what) as file:
        try:
            return file.read(max_bytes)
        except OSError as error:
            shown = "standard input" if path == STANDARD_INPUT else path
            raise machine_error(error, f"read {shown}") from error


@contextmanager
def open_input(path: Path, *, what: str) -> Iterator[IO[bytes]]:
    """Open a file or, for "-", standard input, which stays open afterwards.

    A pipe that was named is read as well; where nobody writes to it that is a UsageError. Else raises as `read_input`.
    """
    if path == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    from p2pboot.store.inputs import open_named

    try:
        file = open_named(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"there is no {what} {path}", remedy="check the path") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a directory, not a {what}", remedy="name the file in it") from None
    except OSError as error:
        raise machine_error(error, f"read {path}") from error
    with file:
        yield file


def write_output(path: Path | None, data: bytes) -> None:
    """Write what a command made to the file that its user named, whole or not at all.

    A device or pipe (/dev/null, /dev/stdout, a FIFO) is written to and never replaced by a file of its name.

    Args:
        path: None or "-" stands for standard output.
        data: all of it.

    Raises:
        UsageError: it is a pipe that nobody reads.
        MachineError: it can not be written.
    """
    from p2pboot.store.durable import write_file
    from p2pboot.store.inputs import write_stream

    if path is None or path == STANDARD_INPUT:
        sys.stdout.buffer.write(data)
        return
    try:
        if _is_stream(path):
            write_stream(path, data)
            return
    except OSError as error:
        raise machine_error(error, f"write {path}") from error
    write_file(path, data)


@contextmanager
def naming(path: Path, *, what: str | None = None, remedy: str) -> Iterator[None]:
    """What turns out to be wrong with a signed document is said with the name of its file.

    Args:
        path: of the file; "-" for standard input.
        what: it is not, where it is malformed: "root"; None where the error says that itself.
        remedy: where the error has none.
    """
    shown = "standard input" if path == STANDARD_INPUT else path
    try:
        yield
    except Malformed as error:
        is_none = "" if what is None else f" is no {what}"
        raise Malformed(f"{shown}{is_none}: {error.message}", remedy=error.remedy or remedy) from None
    except SignatureError as error:
        raise SignatureError(f"{shown}: {error.message}", remedy=error.remedy or remedy) from None


def naming_manifest(path: Path) -> AbstractContextManager[None]:
    """The same of a manifest."""
    return naming(path, remedy="get it again, unchanged, from whoever built it")


def detached_path(manifest: Path) -> Path:
    """Where the detached signature of a manifest lies: beside it, with `.sig` after its name."""
    return manifest.with_name(manifest.name + ".sig")


def _is_stream(path: Path) -> bool:
    """Whether something has that name that is neither a file nor a directory, such as a device."""
    return path.exists() and not path.is_file() and not path.is_dir()
