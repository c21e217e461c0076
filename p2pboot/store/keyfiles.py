"""Key files on disk: read, made exactly once, never overwritten.

A key file appears under its name whole or not at all, readable by its owner only from the first moment, and
two processes that start at once end with one key. The content is :mod:`p2pboot.core.keyformats`, or for the key of a
private mesh :mod:`p2pboot.core.swarmkey`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.events import Event
from p2pboot.core.identity import KEY_BYTES, SecretKey
from p2pboot.core.keyformats import MAX_KEY_FILE, parse_key_toml, render_key_toml
from p2pboot.core.textfiles import SAVE_AS_UTF8, OtherEncoding, decode_text
from p2pboot.errors import KeyFileError, MachineError, machine_error
from p2pboot.store.durable import fsync_directory, make_directory
from p2pboot.store.ownership import is_unowned, user_name

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from p2pboot.core.swarmkey import SwarmKey  # most processes have none

Warn = Callable[[str], None]
"""Takes one line for a person; by default it is logged."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_WRITABLE: Final = stat.S_IWGRP | stat.S_IWOTH
_PRIVATE_FILE: Final = 0o600
_NAME_ANOTHER: Final = "name a file in a directory that can be written"
# What link(2) answers where the file system has no hard links (FAT, exFAT, some network and FUSE ones).
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a kind of secret is called in messages.

    Args:
        name: what the file holds.
        file: what the file is.
        if_missing: the remedy where there is none, but for its path at the end.
        if_others: the remedy where somebody else owns it.
    """

    name: str
    file: str
    if_missing: str
    if_others: str


_IDENTITY: Final = _Kind(
    "secret key",
    "key file",
    "make one: p2pboot key generate --key",
    "run as that user, or make a key of your own: p2pboot key generate --key PATH",
)
_SWARM: Final = _Kind(
    "swarm key",
    "swarm key",
    "copy it from a node of the mesh, or make one for a new mesh: p2pboot key swarm",
    "run as that user, or copy it to a file of your own",
)


def load_key(path: Path, *, warn: Warn = logger.warning) -> SecretKey:
    """Read a key file.

    Args:
        path: the file; a symbolic link is followed.
        warn: told when others than the owner may read the secret.

    Raises:
        KeyFileError: there is none, it is no regular file, others own it or may write it, or it is not a valid key
            file.
        MachineError: it can not be read.
    """
    return parse_key_toml(read_key_text(path, warn), source=str(path))


def read_key_text(path: Path, warn: Warn = logger.warning) -> str:
    """Read the text of a key file, whatever it says; arguments and errors as of `load_key`."""
    data = _read(path, warn, _IDENTITY)
    try:
        text = decode_text(data)
    except OtherEncoding as error:
        raise KeyFileError(f"{path} {error}", remedy=SAVE_AS_UTF8) from None
    except ValueError as error:
        if b"secret_key" in data:  # ours, with a remark in another encoding
            raise KeyFileError(f"{path} {error}", remedy=SAVE_AS_UTF8) from None
        raise _foreign(path) from None
    if "-----BEGIN" in text:
        raise _foreign(path)
    return text


def _foreign(path: Path) -> KeyFileError:
    return KeyFileError(
        f"{path} is not a p2pboot key file", remedy=f"import another format: p2pboot key import {path}"
    )


def generate_key(path: Path) -> SecretKey:
    """Make a new key from the operating system's random numbers and write it to ``path``.

    Raises:
        KeyFileError: something of that name exists; it is left alone.
        MachineError: it can not be written.
    """
    key = SecretKey(secrets.token_bytes(KEY_BYTES))
    write_key(path, key)
    return key


def load_or_generate(path: Path, *, warn: Warn = logger.warning) -> SecretKey:
    """Read the key of ``path``; make it first if there is none.

    Any number of processes may do this at once: one key is made, all return it.

    Raises:
        KeyFileError: what is there is not a valid key file.
        MachineError: it can not be read or written.
    """
    if not os.path.lexists(path):
        with contextlib.suppress(KeyFileExists):
            key = generate_key(path)
            logger.info(
                "generated the key %s in %s",
                key.public.peer_id,
                path,
                extra=Event.KEY_FILE(peer_id=key.public.peer_id, path=str(path)),
            )
            return key
    return load_key(path, warn=warn)


def write_key(path: Path, key: SecretKey, version: int | None = None) -> None:
    """Write a key file, durably, with mode 0600; missing directories are made.

    Args:
        path: of the file.
        key: for it.
        version: of the key, for who signs snapshots; None where it has none.

    Raises:
        KeyFileExists: something of that name exists; it is left alone.
        MachineError: it can not be written.
    """
    try:
        _write_new(path, render_key_toml(key, version).encode("ascii"))
    except MachineError as error:
        if error.remedy == _NAME_ANOTHER:
            error.remedy += ": --key PATH"
        raise


def load_swarm_key(path: Path, *, warn: Warn = logger.warning) -> SwarmKey:
    """Read the key of a private mesh; arguments as of `load_key`.

    Raises:
        KeyFileError: there is none, it is no regular file, others own it or may write it, or it is no swarm key.
        MachineError: it can not be read.
    """
    from p2pboot.core.swarmkey import parse_swarm_key

    return parse_swarm_key(_read(path, warn, _SWARM), source=str(path))


def generate_swarm_key(path: Path) -> SwarmKey:
    """Make a key for a private mesh from the operating system's random numbers; as `generate_key` otherwise."""
    from p2pboot.core.swarmkey import SwarmKey, render_swarm_key

    key = SwarmKey(secrets.token_bytes(KEY_BYTES))
    _write_new(path, render_swarm_key(key).encode("ascii"))
    return key


def _write_new(path: Path, content: bytes) -> None:
    """Write a new key file; raises as `write_key`."""
    if os.path.lexists(path):  # also a directory; linking below is what keeps two of us apart
        raise KeyFileExists(path)
    try:
        make_directory(path.parent)
        with _private_temporary(path, content) as temporary:
            _place(temporary, path)
        fsync_directory(path.parent)
    except FileExistsError:
        raise KeyFileExists(path) from None
    except OSError as error:
        failure = machine_error(error, f"write the key file {path}")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            failure.remedy = _NAME_ANOTHER
        raise failure from error


class KeyFileExists(KeyFileError):
    """A key file would have to be overwritten, which never happens.

    Args:
        path: of the file that is there.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} already exists", remedy="choose another path, or move the file away first")
        self.path = path


def _read(path: Path, warn: Warn, kind: _Kind) -> bytes:
    try:
        # Without O_NONBLOCK opening a FIFO waits for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise KeyFileError(f"{path} is not a regular file", remedy="give the path of a key file")
            _refuse_others(path, status, kind)
            if status.st_mode & _OTHERS and not _is_credential(path):
                warn(f"others may read the {kind.name} {path}: run chmod 600 {path}")
            data = os.read(fd, MAX_KEY_FILE + 1)
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise KeyFileError(f"there is no {kind.file} {path}", remedy=f"{kind.if_missing} {path}") from None
    except OSError as error:
        raise machine_error(error, f"read the key file {path}") from error
    if len(data) > MAX_KEY_FILE:
        raise KeyFileError(f"{path} is too large for a key file", remedy="give the path of a key file")
    return data


def _is_credential(path: Path) -> bool:
    """Whether the service manager put a file there for this process alone (LoadCredential= of systemd).

    Where it gives us the right to read it by an access control list, that looks like a group's right.
    """
    return os.environ.get("CREDENTIALS_DIRECTORY") == str(path.parent)


def _refuse_others(path: Path, status: os.stat_result, kind: _Kind) -> None:
    """Refuse a secret that somebody else may have put there: he knows it, and could do with it what we do.

    Of a group nobody knows here who will be in it tomorrow; where every file has the same owner and mode, a warning
    that others may read it has to do.
    """
    is_others = status.st_uid not in (os.geteuid(), 0)
    if not (is_others or status.st_mode & _WRITABLE) or is_unowned(Path(os.path.realpath(path)), status):
        return
    if is_others:
        raise KeyFileError(
            f"the {kind.name} {path} belongs to {user_name(status.st_uid)}",
            remedy=kind.if_others,
        )
    raise KeyFileError(
        f"others may write the {kind.name} {path} (mode {stat.S_IMODE(status.st_mode):04o})",
        remedy=f"if nobody else put it there, chmod 600 {path}; else make a new one",
    )


@contextlib.contextmanager
def _private_temporary(path: Path, content: bytes) -> Iterator[Path]:
    """Write a new file beside ``path`` that others could never read; remove it at the end."""
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.tmp")
    fd = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE_FILE
    )
    try:
        with open(fd, "wb") as file:
            # A umask may have taken bits away, never added any. FAT has no modes and refuses to change them.
            with contextlib.suppress(PermissionError):
                os.fchmod(fd, _PRIVATE_FILE)
            file.write(content)
            file.flush()
            os.fsync(fd)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _place(temporary: Path, path: Path) -> None:
    """Give the finished file its name, unless something has that name (FileExistsError)."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _place_without_links(temporary, path)


def _place_without_links(temporary: Path, path: Path) -> None:
    """The same by renaming, which would replace a file: the directory's lock keeps two of us apart.

    Creating the final name with O_EXCL and writing into it would do without a lock, but would show half a key
    to who reads meanwhile, and leave it there after a crash.
    """
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        temporary.rename(path)
    finally:
        os.close(directory)
