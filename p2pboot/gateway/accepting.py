"""The connections of sockets that listen: each gets a slot, waits for one or is refused, and is served to its end."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import h11
import trio

from p2pboot.core.events import Event
from p2pboot.gateway.body import Room
from p2pboot.gateway.counters import GatewayCounters
from p2pboot.gateway.http1 import Connection, Shared
from p2pboot.gateway.replies import Reply
from p2pboot.gateway.request import Ends
from p2pboot.gateway.slots import WAIT_S, Slots
from p2pboot.gateway.stream import ClientStream
from p2pboot.serving.threads import Turns

log = logging.getLogger(__name__)

MEASURE_S: Final = 2.0  # how often it is looked how clients read
ACCEPTED: Final = 64  # connections at once, before others have their turn
_NO_FILES_PAUSE_S: Final = 0.1
_NO_SLOT: Final = {"Content-Length": "0", "Retry-After": "10", "Connection": "close"}
_OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)

Opened = Callable[[socket.socket, str], ClientStream]
"""Makes a stream of a connection and the address of its client."""
_NO_FIELDS: Final[Mapping[str, str]] = MappingProxyType({})

Answer = Callable[[h11.Request, Ends], Awaitable[Reply]]
"""Finds the reply to a request on a connection with these ends; raises nothing."""


class Accepting:
    """Accepts, until it is cancelled.

    Args:
        listeners: non-blocking, closed by the caller.
        slots: how many connections.
        counters: told of replies, and of faults of ours.
        turns: how many requests are worked on at the same time.
        fields: of HTTP, for replies to what is no request and comes to no `answer`.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        slots: Slots,
        counters: GatewayCounters,
        *,
        turns: int,
        fields: Mapping[str, str] = _NO_FIELDS,
    ) -> None:
        self._listeners = listeners
        self._slots = slots
        self._counters = counters
        self._shared = Shared(Turns(turns), Room(), counters, fields)
        lines = (f"{name}: {value}\r\n" for name, value in (_NO_SLOT | dict(fields)).items())
        self._no_slot = f"HTTP/1.1 503 Service Unavailable\r\n{''.join(lines)}\r\n".encode()

    async def run(self, answer: Answer, opened: Opened) -> None:
        """Serve; all connections end with it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._measure)
            for listener in self._listeners:
                nursery.start_soon(self._accept, listener, nursery, answer, opened)

    async def _accept(
        self, listener: socket.socket, nursery: trio.Nursery, answer: Answer, opened: Opened
    ) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener.fileno())
            for _ in range(ACCEPTED):
                try:
                    accepted, client = listener.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in _OUT_OF_RESOURCES:
                        log.warning(
                            "no connection can be accepted: %s", error.strerror, extra=Event.HTTP_FAILED()
                        )
                        await trio.sleep(_NO_FILES_PAUSE_S)
                    continue  # else the client went before it was accepted
                accepted.setblocking(False)
                stream = opened(accepted, client[0])
                admitted = trio.Event()
                if self._slots.admit(stream.slot, trio.current_time()):
                    nursery.start_soon(self._serve, answer, stream)
                elif self._slots.wait(stream.slot, admitted.set):
                    nursery.start_soon(self._wait, answer, stream, admitted)
                else:
                    stream.refuse(self._no_slot)
                    stream.finish()

    async def _wait(self, answer: Answer, stream: ClientStream, admitted: trio.Event) -> None:
        try:
            with trio.move_on_after(WAIT_S):
                await admitted.wait()
            self._slots.give_up(stream.slot)
            if admitted.is_set():
                await self._serve(answer, stream)
            else:
                stream.refuse(self._no_slot)
                await stream.linger()
        finally:
            self._slots.give_up(stream.slot)
            stream.finish()

    async def _serve(self, answer: Answer, stream: ClientStream) -> None:
        try:
            ends = stream.ends()
            await Connection(stream, lambda head: answer(head, ends), self._shared).run()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except Exception:  # one connection must not end the node
            log.exception("a connection ended by a fault of the gateway", extra=Event.HTTP_FAILED())
            self._counters.failures += 1
        finally:
            self._slots.release(stream.slot, trio.current_time())
            stream.cut()

    async def _measure(self) -> None:
        while True:
            await trio.sleep(MEASURE_S)
            self._slots.measure(trio.current_time())
