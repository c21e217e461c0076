"""The `.sig` file beside a payload: where it lies, what is in it, and what is wrong with it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from p2pboot.core.timetoke.errors import SignatureNoFile, SnapshotSignatureError
from p2pboot.core.timetoke.signatures import MAX_SIGNATURE_TEXT, PayloadSignature
from p2pboot.errors import MachineError, machine_error
from p2pboot.store.snapshots.walking import SIGNATURE_SUFFIX

_REMEDY: Final = "get it again, or remove it if the snapshot was never signed"


def signature_path(payload: Path) -> Path:
    """Where the signature of a payload lies."""
    return payload.with_name(payload.name + SIGNATURE_SUFFIX)


def read_signature(path: Path) -> bytes | None:
    """What a signature's file holds; None when there is none.

    Raises:
        SignatureNoFile: a link to nothing, or no file.
        MachineError: it can not be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.is_symlink():  # somebody meant it to have one
            raise SignatureNoFile(f"{path} is a link to nothing", remedy=_REMEDY) from None
        return None
    except OSError as error:
        raise machine_error(error, f"read {path}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode) and not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise SignatureNoFile(f"{path} is no regular file", remedy=_REMEDY)
        return os.read(fd, MAX_SIGNATURE_TEXT + 1)
    except OSError as error:
        raise machine_error(error, f"read {path}") from error
    finally:
        os.close(fd)


def signature_fault(path: Path) -> str | None:
    """Why a payload with this signature is not served, as the end of a sentence; None when nothing is wrong with it."""
    try:
        text = read_signature(path)
        if text is not None:
            PayloadSignature.parse(text, source="its signature")
    except (SnapshotSignatureError, MachineError) as error:
        return f"is not served: {error.message}"
    return None
