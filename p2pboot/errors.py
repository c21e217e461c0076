"""The one tree of errors; every error knows its exit status and, where there is one, the remedy.

A person sees one line, `p2pboot: error: <message>; <remedy>`. Data that a caller needs is in fields, never in the
text. The errors of Timetoke snapshots are in `core.timetoke.errors`.

::

    P2PBootError                      1  refused
    ├── UsageError                    2  wrong usage or input of the operator
    │   ├── ConfigError                  configuration file or its values
    │   ├── KeyFileError                 a key file that is not one
    │   └── ArtifactError                the artifacts directory: none, two, empty, not a regular file
    ├── ManifestError                 1
    │   ├── Malformed                    not a manifest at all, or not canonical
    │   ├── Contradiction                what its signers state of an artifact can not be true
    │   └── Refused (core.verdict)       a manifest that may not be used here (carries the verdict)
    ├── SignatureError                1
    ├── StoreError                    1
    │   ├── BlobMissing                  digest
    │   └── BlobCorrupt                  expected, actual
    ├── ProtocolError                 1
    │   ├── LocalProtocolError           we would have sent something wrong
    │   └── RemoteProtocolError          the peer did
    ├── FetchError                    1  artifacts that no peer delivers intact
    ├── Unwell (doctor.findings)      1  what the doctor found to be in the way (carries the report); 3 and 4, too
    ├── NotFoundError                 3  nobody or nothing found in time
    └── MachineError                  4  disk full, port in use, no permission
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar


class ExitStatus(IntEnum):
    """What a command returns to the shell; scripts rely on these."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    MACHINE = 4


class P2PBootError(Exception):
    """Base of everything that a person may see.

    Args:
        message: what failed, with the file, peer or field in it; one line, no full stop.
        remedy: what to do about it; one line, or None where nothing sensible can be said.
        details: what scripts may want to know besides: further members of the JSON document of a command that fails.
    """

    exit_status: ClassVar[ExitStatus] = ExitStatus.REFUSED

    def __init__(
        self, message: str, *, remedy: str | None = None, details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = details or {}


class UsageError(P2PBootError):
    """The command line, or what it names, is not usable."""

    exit_status = ExitStatus.USAGE


class ConfigError(UsageError):
    """The configuration file or one of its values is wrong."""


class KeyFileError(UsageError):
    """A key file is not one, or contradicts itself."""


class ArtifactError(UsageError):
    """The artifacts directory can not be published as it is."""


class ManifestError(P2PBootError):
    """A manifest that is not taken."""


class Malformed(ManifestError):
    """Bytes that are no manifest: syntax, types, limits, or not the canonical form."""


class Contradiction(ManifestError):
    """What a manifest states of an artifact can not be true: its signers' fault, and nothing will mend it.

    Args:
        message: what contradicts what.
    """

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            remedy="tell the publisher: its manifest contradicts itself, fetching again does not help",
        )


class SignatureError(P2PBootError):
    """A signature is missing, undecodable or does not match."""


class StoreError(P2PBootError):
    """The store lacks something or holds it damaged."""


class BlobMissing(StoreError):
    """The store does not hold this blob (or this part of it)."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"artifact sha256:{digest} is not held here")
        self.digest = digest


class BlobCorrupt(StoreError):
    """Bytes on disk are not the bytes that their digest names."""

    def __init__(self, expected: str, actual: str, *, what: str = "artifact") -> None:
        super().__init__(f"{what} should have digest {expected} but has {actual}")
        self.expected = expected
        self.actual = actual


class ProtocolError(P2PBootError):
    """A peer-to-peer exchange went wrong."""


class LocalProtocolError(ProtocolError):
    """We were about to send what the protocol forbids: a bug on this side."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol forbids."""


class FetchError(P2PBootError):
    """Artifacts that no reachable peer delivers intact."""


class NotFoundError(P2PBootError):
    """Nobody or nothing was found in time."""

    exit_status = ExitStatus.NOT_FOUND


class MachineError(P2PBootError):
    """This machine is in the way: disk full, port in use, no permission."""

    exit_status = ExitStatus.MACHINE


_REMEDIES = {
    errno.ENOSPC: "free some space or use a directory on another disk",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or use another file system",
    errno.EDQUOT: "free some space: the disk quota is used up",
    errno.EACCES: "change the permissions or run as a user who may",
    errno.EPERM: "change the permissions or run as a user who may",
    errno.EROFS: "the file system is mounted read-only: use another directory",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EADDRINUSE: "end the program that holds the port, or choose another one",
    errno.EADDRNOTAVAIL: "listen on an address that this machine has",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a part of it is a file",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ELOOP: "check the path: its symbolic links go in a circle",
    errno.EIO: "the disk reports an error: check it",
}


def machine_error(error: OSError, doing: str) -> MachineError:
    """Turn an operating system's error into one clear line.

    Args:
        error: what the system call raised.
        doing: what was attempted, as a verb phrase: "write /srv/state/blobs/ab".
    """
    reason = error.strerror or str(error)
    name = f" ({error.filename})" if error.filename and str(error.filename) not in doing else ""
    return MachineError(f"cannot {doing}{name}: {reason}", remedy=_REMEDIES.get(error.errno or 0))


def first_error(
    group: BaseExceptionGroup[BaseException], kind: type[Exception] = P2PBootError
) -> BaseException:
    """Unwrap what tasks raised together: a lone error, or the first one, whose consequences the others are.

    To be raised from an `except BaseExceptionGroup`. Not from an `except*`: before Python 3.11.4, which is what
    Debian 12 has, that wraps whatever is raised in it into another group.

    Args:
        group: as a nursery raised it.
        kind: what the errors must be.

    Returns:
        The first error where all are of the kind, or there is one only, whatever it is; otherwise the group.
    """
    others = group.split(kind)[1]
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        if others is not None and len(error.exceptions) > 1:
            return group
        error = error.exceptions[0]
    return error
