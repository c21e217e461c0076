"""Ends: bounded goodbyes while a task is being cancelled, and errors as they were raised."""

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


def single_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Unwrap what nurseries wrapped: a lone error under any number of groups, or the group of several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        if len(error.exceptions) > 1:
            return error
        error = error.exceptions[0]
    return error
