"""Reading an export, from a directory or a tar archive, without believing it: names, kinds, sizes and order.

Whoever reads says which file of which size comes next; anything else is refused, so that nothing an archive claims
(a size, a million members, a link, a device, a name that leads elsewhere, a hole of a terabyte) costs more than one
header. An archive is read once, from its beginning to its end, as from a pipe. A directory is opened once, and its
files relative to it, through no link. What a file contains, its reader judges.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from pathlib import Path
from typing import IO, Final, Protocol

from typing_extensions import override

from p2pboot.errors import Malformed, UsageError, machine_error
from p2pboot.exports.layout import DESCRIPTION, OWN
from p2pboot.store.inputs import open_named

_BLOCK: Final = 512
_SKIPPED_BYTES: Final = 1024 * 1024  # read at once of what nobody needs
_MOST_DIRECTORIES: Final = 8  # entries of directories that an archive may have, as tar(1) makes them
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Content(Protocol):
    """The bytes of one file, from the beginning to the end."""

    def read(self, length: int) -> bytes:
        """The next so many bytes; never less.

        Raises:
            Malformed: there are fewer.
            MachineError: they can not be read, as of a stick that was pulled out.
        """

    def skip(self, length: int) -> None:
        """Go on behind the next so many bytes; raises as `read`."""


class Source(Protocol):
    """An export that is read; closed by `close`.

    Files are opened in the order of the description, each read to its end or skipped.
    """

    shown: str
    """What it is called in messages."""

    def document(self, name: str, *, most: int, size: int | None = None) -> bytes:
        """A whole small file.

        Args:
            name: of the file.
            most: bytes that it may have.
            size: bytes that it has to have; None: any.

        Raises:
            UsageError: there is none of that name.
            Malformed: it is no regular file, or another one, or larger.
            MachineError: it can not be read.
        """

    def open(self, name: str, size: int) -> Content:
        """A file of exactly this size; raises as `document`."""

    def end(self) -> None:
        """There is to be nothing more that counts; raises Malformed."""

    def close(self) -> None:
        """Idempotent."""


def open_source(fd: int, shown: str) -> Source:
    """Take over a descriptor of what somebody named: a directory, or an archive.

    Args:
        fd: is closed with the source, or at once where this fails.
        shown: what it is called in messages.

    Raises:
        Malformed: it is neither.
    """
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            return DirectorySource(fd, shown)
        if stat.S_ISREG(mode):
            return ArchiveSource(open(fd, "rb", buffering=_SKIPPED_BYTES), shown)
        raise Malformed(f"{shown} is neither a directory nor an archive", remedy=_AGAIN)
    except BaseException:
        os.close(fd)
        raise


def open_pipe(stream: IO[bytes], shown: str) -> Source:
    """Read an archive from a pipe."""
    return ArchiveSource(stream, shown)


def open_path(path: Path) -> Source:
    """Open what somebody named: a directory, an archive, or a pipe that one comes through.

    Raises:
        UsageError: there is nothing.
        MachineError: it can not be opened.
        Malformed: it is neither.
    """
    shown = str(path)
    try:
        if path.is_dir():
            return open_source(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), shown)
        stream = open_named(path)
    except FileNotFoundError:
        raise UsageError(f"there is no {shown}", remedy="check the path, and that it is mounted") from None
    except OSError as error:
        raise machine_error(error, f"read {shown}") from error
    return ArchiveSource(stream, shown)


class DirectorySource(Source):
    """An export in a directory; what else lies there does not matter."""

    def __init__(self, fd: int, shown: str) -> None:
        self.shown = shown
        self._fd = fd

    @override
    def document(self, name: str, *, most: int, size: int | None = None) -> bytes:
        content = self._open(name)
        try:
            if size is not None and content.size != size:
                raise _other_size(self.shown, name, content.size, size)
            if content.size > most:
                raise Malformed(
                    f"{self.shown}/{name} has {content.size} bytes, more than {most}", remedy=_AGAIN
                )
            return content.read(content.size)
        finally:
            content.close()

    @override
    def open(self, name: str, size: int) -> Content:
        content = self._open(name)
        if content.size != size:
            content.close()
            raise _other_size(self.shown, name, content.size, size)
        return content

    @override
    def end(self) -> None:
        pass

    @override
    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, name: str) -> _FileContent:
        directory, _, last = name.rpartition("/")
        shown = f"{self.shown}/{name}"
        try:
            parent = os.open(directory, _DIRECTORY, dir_fd=self._fd) if directory else os.dup(self._fd)
            try:
                fd = os.open(last, _FILE, dir_fd=parent)
            finally:
                os.close(parent)
        except (FileNotFoundError, NotADirectoryError):
            raise _missing(self.shown, name) from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Malformed(f"{shown} is a symbolic link", remedy=_AGAIN) from None
            raise machine_error(error, f"read {shown}") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Malformed(f"{shown} is not a regular file", remedy=_AGAIN)
        return _FileContent(fd, shown)


class _FileContent(Content):
    """One file of a directory; closed with its last byte, or when nobody has it any more."""

    def __init__(self, fd: int, shown: str) -> None:
        self._fd = fd
        self._shown = shown
        self._at = 0
        self.size = os.fstat(fd).st_size

    @override
    def read(self, length: int) -> bytes:
        try:
            data = os.pread(self._fd, length, self._at)
            while len(data) < length and (
                more := os.pread(self._fd, length - len(data), self._at + len(data))
            ):
                data += more
        except OSError as error:
            raise machine_error(error, f"read {self._shown}") from error
        if len(data) < length:
            raise Malformed(f"{self._shown} ends too early", remedy=_AGAIN)
        self.skip(length)
        return data

    @override
    def skip(self, length: int) -> None:
        self._at += length
        if self._at >= self.size:
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


class ArchiveSource(Source):
    """An export in a tar archive, as `p2pboot store export` writes it: ustar, sizes above 8 GiB as GNU tar has them."""

    def __init__(self, stream: IO[bytes], shown: str) -> None:
        self.shown = shown
        self._stream = stream
        self._left = 0  # bytes of the present member, padding included
        self._directories = 0

    @override
    def document(self, name: str, *, most: int, size: int | None = None) -> bytes:
        member = self._member(name)
        if size is not None and member.size != size:
            raise _other_size(self.shown, name, member.size, size)
        if member.size > most:
            raise Malformed(
                f"{name} in {self.shown} has {member.size} bytes, more than {most}", remedy=_AGAIN
            )
        return self._begin(member).read(member.size)

    @override
    def open(self, name: str, size: int) -> Content:
        member = self._member(name)
        if member.size != size:
            raise _other_size(self.shown, name, member.size, size)
        return self._begin(member)

    @override
    def end(self) -> None:
        self._pass_over()
        if any(self._read(_BLOCK, at_most=True)):
            raise Malformed(f"{self.shown} has more in it than an export", remedy=_AGAIN)

    @override
    def close(self) -> None:
        self._stream.close()

    def _begin(self, member: tarfile.TarInfo) -> _MemberContent:
        self._left = -(-member.size // _BLOCK) * _BLOCK
        return _MemberContent(self, member.size)

    def _member(self, name: str) -> tarfile.TarInfo:
        """The next member, which has to be this regular file."""
        self._pass_over()
        while True:
            member = self._header(name)
            if not member.isdir():
                break
            self._directories += 1  # `tar cf` of a directory
            if self._directories > _MOST_DIRECTORIES or member.size:
                raise Malformed(f"{self.shown} has directories in it that no export has", remedy=_AGAIN)
        found = member.name.removeprefix("./")
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise Malformed(
                f"{self.shown} has {found[:80]!r} in it, which is not a regular file", remedy=_AS_WRITTEN
            )
        if found != name:
            raise Malformed(
                f"{self.shown} has {found[:80]!r} in it where {name} belongs",
                remedy=_AS_WRITTEN,
            )
        return member

    def _header(self, name: str) -> tarfile.TarInfo:
        block = self._read(_BLOCK, at_most=True)
        if not any(block):
            raise _missing(self.shown, name)
        if len(block) < _BLOCK:
            raise _cut_short(self.shown)
        try:
            member = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, ValueError, OverflowError):
            raise Malformed(f"{self.shown} is no tar archive, or a damaged one", remedy=_AS_WRITTEN) from None
        if member.size < 0:
            raise Malformed(f"{self.shown} has a file of {member.size} bytes in it", remedy=_AGAIN)
        return member

    def read(self, length: int) -> bytes:
        """The next bytes of the present member, of which there are so many."""
        self._left -= length
        return self._read(length)

    def skip(self, length: int) -> None:
        """Go on behind them."""
        while length > 0:
            length -= len(self.read(min(length, _SKIPPED_BYTES)))

    def _pass_over(self) -> None:
        self.skip(self._left)

    def _read(self, length: int, *, at_most: bool = False) -> bytes:
        try:
            data = self._stream.read(length)
        except OSError as error:
            raise machine_error(error, f"read {self.shown}") from error
        if len(data) < length and not at_most:
            raise _cut_short(self.shown)
        return data


class _MemberContent(Content):
    """One file of an archive, which is read on before the next is opened."""

    def __init__(self, archive: ArchiveSource, size: int) -> None:
        self._archive = archive
        self._size = size

    @override
    def read(self, length: int) -> bytes:
        self._take(length)
        return self._archive.read(length)

    @override
    def skip(self, length: int) -> None:
        self._take(length)
        self._archive.skip(length)

    def _take(self, length: int) -> None:
        if length > self._size:
            raise Malformed(f"a file in {self._archive.shown} ends too early", remedy=_AGAIN)
        self._size -= length


_AGAIN: Final = "take the directory or archive as `p2pboot store export` wrote it, or export it again"
_AS_WRITTEN: Final = (
    "take the archive as `p2pboot store export` wrote it, or unpack it and import the directory"
)


def _missing(shown: str, name: str) -> UsageError | Malformed:
    if name == DESCRIPTION:
        return UsageError(
            f"{shown} is no export of p2pboot: there is no {DESCRIPTION} in it",
            remedy=f"name the directory with {OWN} in it, or an archive that `p2pboot store export` wrote",
        )
    return Malformed(f"{name} is missing in {shown}", remedy="export it again")


def _other_size(shown: str, name: str, found: int, expected: int) -> Malformed:
    return Malformed(f"{name} in {shown} has {found} bytes instead of {expected}", remedy="export it again")


def _cut_short(shown: str) -> Malformed:
    return Malformed(f"{shown} is cut short", remedy="copy it again to its end, or export it again")
