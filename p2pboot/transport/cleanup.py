"""Ends: bounded goodbyes while a task is being cancelled, and what a group of errors is made of."""

from __future__ import annotations

import trio


def shielded_for(seconds: float) -> trio.CancelScope:
    """Return a scope that keeps cancellation out, for at most `seconds`: for clean-up in `finally`."""
    scope = trio.move_on_after(seconds)
    scope.shield = True
    return scope


def is_all(error: BaseException, kind: type[Exception]) -> bool:
    """Whether an error, or everything in a group of errors, is of one kind."""
    return isinstance(error, kind) or (isinstance(error, BaseExceptionGroup) and not error.split(kind)[1])
