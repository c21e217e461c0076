"""HTTP/1.1 on one connection, by hypercorn: what of it is used, and what is replaced.

Its worker (`hypercorn.trio.serve`) opens and accepts connections itself, knows no limit on their number, sends
shielded from cancellation (one client that stops reading would keep the node from ending) and upgrades to HTTP/2 in
clear text, with a second parser and up to 100 requests at once on a connection. So the gateway accepts connections
itself, and hypercorn gets one at a time, with these two parts replaced; see `docs/adr/0006-hypercorn-connections.md`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, cast

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState, H11SendableEvent
from hypercorn.utils import parse_socket_addr

from p2pboot.gateway.stream import ClientStream

HEADER_BYTES: Final = 16 * 1024  # request line and header fields together; what boots sends less than 1 KiB
HEADER_S: Final = 15.0  # for a whole request to arrive, and between two on one connection
REQUESTS: Final = 1000  # on one connection
STREAM: Final = "client_stream"  # where the application finds it in the scope's state

log = logging.getLogger(__name__)

App = Callable[[Any, Any, Any], Awaitable[None]]


def make_config() -> Config:
    """Hypercorn's settings for the gateway."""
    config = Config()
    config.include_server_header = False  # nobody needs to know
    config.h11_max_incomplete_size = HEADER_BYTES
    config.keep_alive_timeout = HEADER_S
    config.keep_alive_max_requests = REQUESTS
    config.accesslog = None
    config.errorlog = logging.getLogger("p2pboot.gateway.hypercorn")
    return config


class _Http1Only(H11Protocol):
    async def _check_protocol(self, event: h11.Request) -> None:
        """Upgrade nothing: a server may ignore the wish (RFC 9110, section 7.8)."""

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """Write replies as old parsers in firmware know them: with a reason, and `Content-Length` in that case."""
        if isinstance(event, h11.Response):
            event = h11.Response(
                status_code=event.status_code,
                headers=[(name.title(), value) for name, value in event.headers],
                reason=HTTPStatus(event.status_code).phrase,
            )
        await super()._send_h11_event(event)


class Connection(TCPServer):
    """Serves the requests of one connection until it ends."""

    def __init__(self, app: App, config: Config, context: WorkerContext, stream: ClientStream) -> None:
        wrapped = ASGIWrapper(cast("ASGIFramework", app))
        super().__init__(wrapped, config, context, {}, cast("Any", stream))
        self.client = stream

    async def run(self) -> None:
        """Serve; returns when either side has closed."""
        family = self.client.socket.family
        try:
            client = parse_socket_addr(family, self.client.socket.getpeername())
            server = parse_socket_addr(family, self.client.socket.getsockname())
            async with TaskGroup() as task_group:
                self._task_group = task_group
                state = ConnectionState({STREAM: self.client})
                protocol = _Http1Only(
                    self.app,
                    self.config,
                    self.context,
                    task_group,
                    state,
                    False,
                    client,
                    server,
                    self.protocol_send,
                )
                self.protocol = cast("ProtocolWrapper", protocol)  # which would choose HTTP/2 at times
                await self.idle_task.restart(task_group, self._idle_timeout)
                await self._read_data()
                await self.idle_task.stop()  # the client is gone: nothing to wait for
        except OSError:
            pass  # the client went between being accepted and being asked who it is
        finally:
            self.client.cut()

    async def protocol_send(self, event: Event) -> None:
        """Do what the protocol asks for; sending can be cancelled at any time."""
        if isinstance(event, RawData):
            async with self.send_lock:
                try:
                    await self.client.send_all(event.data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    await self.protocol.handle(Closed())
            return
        if isinstance(event, Updated):
            mark = self.client.slot.rest if event.idle else self.client.slot.answer
            mark(trio.current_time())
        await super().protocol_send(event)
