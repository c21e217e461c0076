"""What every request passes first: form of the request line and Host, the drain for unwanted bodies, the last resort.

What a path may look like is `paths`'s. Routes see only paths that passed, in the one form that it makes of them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from starlette.responses import Response

from p2pboot.errors import MachineError, P2PBootError, StoreError
from p2pboot.gateway.counters import GatewayCounters
from p2pboot.gateway.hosts import is_host
from p2pboot.gateway.paths import MAX_PATH, plain_path
from p2pboot.gateway.replies import refusal

log = logging.getLogger(__name__)

_ABSOLUTE: Final = re.compile(rb"http://([^/?#@]+)(/.*)?", re.IGNORECASE)
METHODS: Final = ("GET", "HEAD")
_CLOSE: Final = {"connection": "close"}  # who does not speak the protocol gets no second try

App = Callable[[Any, Any, Any], Awaitable[None]]
KIND: Final = "kind"  # where a route tells in the scope's state what it is, for the counters
HOST: Final = "host"  # where routes find there how the client calls us; None for HTTP/1.0 without the field


class Front:
    """An ASGI application around another.

    Args:
        app: sees only GET and HEAD of sensible paths; its P2PBootErrors are answered for it.
        counters: told of every request.
    """

    def __init__(self, app: App, counters: GatewayCounters) -> None:
        self._app = app
        self._counters = counters

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request; called by hypercorn."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        reply = _Reply(send)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_gone, receive, reply, nursery.cancel_scope)
            await self._answer(scope, receive, reply)
            nursery.cancel_scope.cancel()

    async def _answer(self, scope: Any, receive: Any, reply: _Reply) -> None:
        refused = None
        try:
            await (check_request(scope) or self._app)(scope, receive, reply.send)
        except P2PBootError as error:
            log.warning("%s: %s", scope["path"], error)
            status = 503 if isinstance(error, StoreError | MachineError) else 500
            refused = refusal(status, "not available at the moment")
        except Exception:  # one request must not end the node
            log.exception("%s: a fault of the gateway", scope["path"])
            self._counters.failures += 1
            refused = refusal(500, "a fault of the gateway")
        if refused is not None and not reply.status:
            await refused(scope, receive, reply.send)
        self._counters.requests[scope["state"].get(KIND, "other"), reply.status] += 1


class _Reply:
    """What was sent of a reply so far."""

    def __init__(self, send: Callable[[Any], Awaitable[None]]) -> None:
        self._send = send
        self.status = 0
        self.complete = False
        """All was handed over: what follows is hypercorn's own tidying up, which must not be cancelled."""

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self.complete = True
        await self._send(message)


def check_request(scope: Any) -> Response | None:
    """Judge request line and Host, and put the plain path into the scope.

    Returns:
        The refusal, when it is one.
    """
    scope["path"], raw = "", scope["raw_path"]
    if scope["http_version"] not in ("1.0", "1.1"):
        return refusal(400, "this is an HTTP/1.1 server", _CLOSE)
    if scope["method"] not in METHODS:
        return refusal(405, "only GET and HEAD are answered", {"allow": ", ".join(METHODS), **_CLOSE})
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    absolute = _ABSOLUTE.fullmatch(raw)
    if absolute is not None:  # as to a proxy; its host counts instead of the field (RFC 9112, section 3.2.2)
        hosts, raw = [absolute[1].decode("latin-1")], absolute[2] or b"/"
    path = _path_of(raw)
    if isinstance(path, Response):
        return path
    if len(hosts) > 1 or not all(is_host(host) for host in hosts):
        return refusal(400, "Host must be a host name or an address", _CLOSE)
    scope["path"] = path
    scope["state"][HOST] = hosts[0] if hosts else None
    return None


def _path_of(raw: bytes) -> str | Response:
    """The plain path, or the refusal of what is none."""
    if len(raw) > MAX_PATH:
        return refusal(414, "no path here is as long", _CLOSE)
    if not raw.startswith(b"/"):
        return refusal(400, "not a path", _CLOSE)
    return plain_path(raw.decode("latin-1")) or refusal(404, "there is nothing of that name")


async def _until_gone(receive: Any, reply: _Reply, scope: trio.CancelScope) -> None:
    """Throw away what a client sends along, and stop the reply when it goes: nobody would read it."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if not reply.complete:
        scope.cancel()
