"""Whose a directory or file is: what others own, or may write, is not worked in.

Whoever may write into a state decides what this program remembers; whoever may write into an output directory decides
what is booted; and both may put links there that lead our writes to somebody else's files. So directories are opened
once, through no link where no person named one, and looked at before anything in them is believed: they are the
user's that runs us or root's. A group that consists of that user alone is no other (umask 002 on many systems), and
where the file system gives everybody's files to one owner, or all of them one mode (FAT, squashed network shares),
owner and mode say nothing and are not asked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import MachineError, machine_error

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # never through a link, never waiting for a pipe


class NotOurs(MachineError):
    """A directory or file that others own or may write."""


@dataclass(frozen=True, slots=True)
class Place:
    """A kind of directory, and how much of it may be other people's.

    Args:
        what: it is called in messages.
        option: how a person names another one.
        group_may_write: whether any group may write there: it is somebody's decision who is in it.
    """

    what: str
    option: str
    group_may_write: bool = False


STATE: Final = Place("state directory", "--state")
OUTPUT: Final = Place("output directory", "-o", group_may_write=True)
PRIVATE: Final = ".p2pboot"
"""What our state is called in somebody's directory."""


@contextlib.contextmanager
def opened_directory(path: Path, place: Place, *, follow: bool = False) -> Iterator[int]:
    """Open a directory that is ours; yields a descriptor for working relative to it.

    Args:
        path: exists.
        place: what it is for.
        follow: whether the last part of the path may be a symbolic link: a person named it.

    Raises:
        NotOurs: others own it or may write there, or it is a link.
        MachineError: it can not be opened, or is no directory.
    """
    try:
        fd = os.open(path, _DIRECTORY | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        if not follow and path.is_symlink():
            raise _link(path, place) from None
        raise machine_error(error, f"open the {place.what} {path}") from error
    try:
        _check_directory(fd, path, place)
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def opened_state(path: Path) -> Iterator[int]:
    """Open a state directory, as `opened_directory`.

    It may be a link that a person named, unless it is called `.p2pboot`: that is the name we give ourselves, in
    directories where others may have put something.
    """
    is_ours = path.name == PRIVATE
    with opened_directory(
        path, replace(STATE, option=OUTPUT.option) if is_ours else STATE, follow=not is_ours
    ) as fd:
        yield fd


def check_real_directory(path: Path, place: Place) -> bool:
    """Whether there is a directory of that name; one that is a link to somewhere is refused.

    Raises:
        NotOurs: it is a link.
        MachineError: it can not be looked at.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise machine_error(error, f"look at {path}") from error
    if stat.S_ISLNK(mode):
        raise _link(path, place)
    return stat.S_ISDIR(mode)


def open_own_file(name: str, flags: int, mode: int, *, directory: int, shown: Path) -> int:
    """Open a file of ours in a directory that was opened before; through no link, and nothing but a regular file.

    Args:
        name: of the file, without directories.
        flags: of open(2), as `os.O_RDWR | os.O_CREAT`; O_TRUNC would come before the check.
        mode: permissions, where it is made.
        directory: a descriptor of the directory.
        shown: the file's path, for messages.

    Raises:
        NotOurs: it is a link, or no regular file, or somebody else's.
        OSError: what the system call says.
    """
    try:
        fd = os.open(name, flags | _FILE, mode, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotOurs(
                f"{shown} is a symbolic link", remedy="remove it, and find out who put it there"
            ) from None
        raise
    try:
        check_file(os.fstat(fd), directory, shown)
    except BaseException:
        os.close(fd)
        raise
    return fd


def check_files(names: tuple[str, ...], directory: int, shown: Path) -> None:
    """Look at files that somebody else opens by their paths (SQLite): each is there and ours, or not there.

    Args:
        names: of the files.
        directory: a descriptor of theirs.
        shown: its path.

    Raises:
        NotOurs: one is a link, or no regular file, or others own it or may write it.
        MachineError: one can not be looked at.
    """
    for name in names:
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise machine_error(error, f"look at {shown / name}") from error
        check_file(status, directory, shown / name)


def close_files(names: tuple[str, ...], directory: int) -> None:
    """Let nobody else write files that somebody else makes (SQLite) with what the umask leaves; where that is possible.

    By their names, which were checked: a descriptor of our own that is closed would end SQLite's locks.
    """
    for name in names:
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                os.chmod(
                    name, stat.S_IMODE(status.st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH), dir_fd=directory
                )


def check_file(status: os.stat_result, directory: int, shown: Path) -> None:
    """Refuse what is no regular file of ours.

    Args:
        status: of the file.
        directory: a descriptor of the directory that it is in.
        shown: its path.

    Raises:
        NotOurs: it is a link, or no regular file, or others own it or may write it.
    """
    if not stat.S_ISREG(status.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a regular file"
        raise NotOurs(f"{shown} is {what}", remedy="remove it, and find out who put it there")
    if not _is_own(status.st_uid) and not _tells_nothing(directory, status):
        raise NotOurs(
            f"{shown} belongs to {user_name(status.st_uid)}",
            remedy="run as that user, or remove it if nobody needs it",
        )
    # Where nobody else gets at it, its own mode does not matter: a database has what the umask left.
    reach = os.fstat(directory).st_mode
    within_reach = bool(reach & stat.S_IXGRP) * stat.S_IWGRP | bool(reach & stat.S_IXOTH) * stat.S_IWOTH
    writers = others_who_write(status) & within_reach
    if writers and not _tells_nothing(directory, status):
        raise NotOurs(
            f"others may write {shown} (mode {stat.S_IMODE(status.st_mode):04o})",
            remedy=f"if what is in it is right, chmod go-w {shown}",
        )


def others_who_write(status: os.stat_result) -> int:
    """The bits of a mode by which somebody else may write; a group of this user alone is nobody else."""
    bits = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if bits & stat.S_IWGRP and is_private_group(status.st_gid):
        bits &= ~stat.S_IWGRP
    return bits


def is_private_group(gid: int) -> bool:
    """Whether a group is that of the running user alone, as many systems make one for each user."""
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:  # as in a container that knows no names
        return False
    return (group.gr_gid, group.gr_name) == (user.pw_gid, user.pw_name) and {*group.gr_mem} <= {user.pw_name}


def user_name(uid: int) -> str:
    """How a person calls a user."""
    import pwd

    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def is_unowned(path: Path, status: os.stat_result) -> bool:
    """Whether the owner and the mode of a file say nothing, because every file in its directory has these.

    Args:
        path: of the file.
        status: of the same.
    """
    try:
        directory = os.open(path.parent, _DIRECTORY)
    except OSError:
        return False
    try:
        return _tells_nothing(directory, status)
    finally:
        os.close(directory)


def _check_directory(fd: int, path: Path, place: Place) -> None:
    status = os.fstat(fd)
    if not _is_own(status.st_uid) and not _tells_nothing(fd, status):
        raise NotOurs(
            f"the {place.what} {path} belongs to {user_name(status.st_uid)}",
            remedy=f"run as that user, or name a directory of your own with {place.option}",
        )
    writers = others_who_write(status)
    if place.group_may_write:
        writers &= ~stat.S_IWGRP
        if status.st_mode & stat.S_ISVTX:  # as /tmp: nobody replaces what is another's there
            writers = 0
    if writers and not _tells_nothing(fd, status):
        raise NotOurs(
            f"others may write into the {place.what} {path} (mode {stat.S_IMODE(status.st_mode):04o})",
            remedy=f"if what is in it is right, chmod go-w {path}; else name a new directory with {place.option}",
        )


def _is_own(uid: int) -> bool:
    return uid in (os.geteuid(), 0)


def _tells_nothing(directory: int, status: os.stat_result) -> bool:
    """Whether what we make there ourselves looks the same: then whose it is and who may write it is unknown."""
    made = _made_in(directory)
    if made is None:
        return False
    bits = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return made.st_mode & bits == bits and (_is_own(status.st_uid) or made.st_uid == status.st_uid)


def _made_in(directory: int) -> os.stat_result | None:
    """What a file looks like that we make there for ourselves alone; None where none can be made."""
    name = f".{secrets.token_hex(8)}.p2pboot-{secrets.token_hex(8)}.tmp"
    try:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    except OSError:
        return None
    try:
        os.unlink(name, dir_fd=directory)
        return os.fstat(fd)
    finally:
        os.close(fd)


def _link(path: Path, place: Place) -> NotOurs:
    return NotOurs(
        f"{path} is a symbolic link",
        remedy=f"remove it, or name the directory that is meant with {place.option}",
    )
