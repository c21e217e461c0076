"""Lets permission bits apply to root: a test of what is locked then tests the same for every user.

Root opens everything because of two capabilities. A thread that gives these two up is refused like anybody, and
still owns what root owns. To become another user instead would need a checkout that others can read.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

# linux/capability.h
_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_OVERRIDES = 1 << _CAP_DAC_OVERRIDE | 1 << _CAP_DAC_READ_SEARCH


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Word(ctypes.Structure):
    """32 capabilities; of two such words a set is made."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_Capabilities = _Word * 2


@contextmanager
def permissions_applied() -> Iterator[None]:
    """Let permission bits apply to this thread, and to threads and forked children that it starts meanwhile.

    A program that a child executes as root has all its rights again.

    Raises:
        OSError: the system refuses it.
    """
    before = _call("capget")
    give_up_overrides()
    try:
        yield
    finally:
        _call("capset", before)


def give_up_overrides() -> None:
    """Let permission bits apply to this thread from now on.

    Raises:
        OSError: the system refuses it.
    """
    less = _call("capget")
    less[0].effective &= ~_OVERRIDES
    _call("capset", less)


def _call(name: str, words: ctypes.Array[_Word] | None = None) -> ctypes.Array[_Word]:
    words = _Capabilities() if words is None else words
    header = _Header(_VERSION_3, 0)
    if getattr(ctypes.CDLL(None, use_errno=True), name)(ctypes.byref(header), words):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return words
