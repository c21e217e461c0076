"""Ends: bounded goodbyes while a task is being cancelled, what a group of errors is made of, and a handler's errors."""

from __future__ import annotations

import logging

import trio

from p2pboot.core.events import Event
from p2pboot.transport.interface import Stream, StreamHandler, StreamReset


def shielded_for(seconds: float) -> trio.CancelScope:
    """Return a scope that keeps cancellation out, for at most `seconds`: for clean-up in `finally`."""
    scope = trio.move_on_after(seconds)
    scope.shield = True
    return scope


def is_all(error: BaseException, kind: type[Exception]) -> bool:
    """Whether an error, or everything in a group of errors, is of one kind."""
    return isinstance(error, kind) or (isinstance(error, BaseExceptionGroup) and not error.split(kind)[1])


async def run_handler(protocol: str, handler: StreamHandler, stream: Stream, log: logging.Logger) -> None:
    """Run a handler on an inbound stream: the boundary at which its errors end."""
    try:
        await handler(stream)
    except Exception as error:
        level = logging.DEBUG if is_all(error, StreamReset) else logging.WARNING
        log.log(
            level,
            "serving %s to %s failed: %r",
            protocol,
            stream.connection.peer_id,
            error,
            extra=Event.SERVING_FAILED(peer=stream.connection.peer_id, protocol=protocol),
        )
        log.debug("the traceback", exc_info=True)
        await stream.reset()
    except BaseException:
        await stream.reset()  # cancelled: the peer must not wait for the rest
        raise
    else:
        await stream.close()
