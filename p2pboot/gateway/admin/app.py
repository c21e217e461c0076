"""The answers at the admin address."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import h11

from p2pboot.gateway import replies
from p2pboot.gateway.admin.access import Access
from p2pboot.gateway.admin.assets import CACHE, assets
from p2pboot.gateway.admin.events import Events, Kind, Seen
from p2pboot.gateway.backend import Backend
from p2pboot.gateway.counters import GatewayCounters
from p2pboot.gateway.front import read_request
from p2pboot.gateway.offers import Offers
from p2pboot.gateway.replies import Reply, refusal
from p2pboot.gateway.reports import Reports
from p2pboot.gateway.request import Ends, Request
from p2pboot.gateway.routes import Parts, answer_by, find, route
from p2pboot.gateway.slots import Slots
from p2pboot.node.status import RunningNode, describe_fetching, describe_trust
from p2pboot.serving.threads import Threads

LOOKUPS: Final = 2  # threads that work for those who look
HTML: Final = "text/html; charset=utf-8"
EVENT_STREAM: Final = "text/event-stream"
# No script, style or picture but our own, and nothing at all from elsewhere; nobody shows the page in a frame.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
FIELDS: Final = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""In every reply, also to what is no request."""

Counted = tuple[GatewayCounters, Slots]
"""What a gateway counts, and its connections."""


class Admin:
    """Answers requests, and nothing else: no socket and no task of its own, but for `events.run`.

    Args:
        node: of which is told.
        offers: its manifests.
        access: who may know.
        counters: of the admin address, told of faults of ours.
        gateway: what the gateway counts, where there is one.
    """

    def __init__(
        self,
        node: Backend,
        offers: Offers,
        access: Access,
        counters: GatewayCounters,
        *,
        gateway: Counted | None,
    ) -> None:
        self._node = node
        self._offers = offers
        self._reports = Reports(node, offers)
        self._access = access
        self._counters = counters
        self._gateway = gateway
        self._threads = Threads(LOOKUPS)
        self.events = Events(self._look, {Kind.DOCUMENT: _document_event, Kind.PAGE: _page_event})
        self._routes = (
            route("page", "/", self._page),
            route("page", "/problems/(?P<code>[a-z-]{1,64})", self._problem),
            route("asset", r"/static/(?P<name>[a-z]{1,16}\.[a-z]{1,4})", self._asset),
            route("report", "/status", self._status),
            route("report", "/metrics", self._metrics),
            route("events", "/events", self._watch(Kind.DOCUMENT)),
            route("events", "/events/page", self._watch(Kind.PAGE)),
            route("report", "/health", self._health),
            route("report", "/ready", self._ready),
        )

    async def answer(self, head: h11.Request, ends: Ends) -> Reply:
        """The reply to whatever came; raises nothing."""
        reply = await self._answer(head, ends)
        return replace(reply, headers={**FIELDS, **reply.headers})

    async def _answer(self, head: h11.Request, ends: Ends) -> Reply:
        request = read_request(head, ends)
        if isinstance(request, Reply):
            return request
        refused = self._access.refusal(request)
        if refused is not None:
            return refused
        found = find(self._routes, request.path)
        if found is None:
            return refusal(
                404, "there is nothing of that name; what machines boot is at the address of --http"
            )
        return await answer_by(found, request, self._counters, whose="the status page", tells_why=True)

    async def _page(self, request: Request, _parts: Parts) -> Reply:
        from p2pboot.gateway.admin.page import whole

        body = await self._threads.run(whole, await self._node.status())
        return replies.document(request, body, HTML, {}, cache=replies.NO_STORE)

    async def _problem(self, request: Request, parts: Parts) -> Reply:
        from p2pboot.gateway.admin.page import entry_page
        from p2pboot.node.troubleshooting import entries

        entry = (await self._threads.run(entries)).get(parts["code"])  # type: ignore[call-overload] # text of an enum
        if entry is None:
            return refusal(404, "there is no problem of that code")
        return replies.document(
            request, await self._threads.run(entry_page, entry), HTML, {}, cache=replies.NO_STORE
        )

    async def _asset(self, request: Request, parts: Parts) -> Reply:
        asset = (await self._threads.run(assets)).get(parts["name"])
        if asset is None:
            return refusal(404, "there is nothing of that name")
        return replies.document(request, asset.body, asset.media_type, {}, cache=CACHE)

    async def _status(self, request: Request, _parts: Parts) -> Reply:
        body = json.dumps(await self._node.status(), indent=1, ensure_ascii=False).encode() + b"\n"
        return replies.document(request, body, replies.JSON, {}, cache=replies.NO_STORE)

    async def _metrics(self, request: Request, _parts: Parts) -> Reply:
        accept = ", ".join(request.values("accept"))
        body, media_type = await self._threads.run(self._exposition, self._node.running(), accept)
        return replies.document(request, body, media_type, {"Vary": "Accept"}, cache=replies.NO_STORE)

    def _exposition(self, running: RunningNode, accept: str) -> tuple[bytes, str]:
        """The metrics in the form of Prometheus' that `accept` asks for, and its media type; blocking."""
        from p2pboot.gateway.metrics import (
            exposition,
            of_admin,
            of_fetching,
            of_gateway,
            of_node,
            of_process,
            of_store,
            of_trust,
        )

        node = self._node
        fetching = describe_fetching(running, node.store, node.catalogue)
        http = () if self._gateway is None else of_gateway(*self._gateway, node.bandwidth.traffic)
        return exposition(
            [
                *of_node(running, is_ready=self._reports.is_ready()),
                *of_store(node.store, node.store.blobs.room.limit_bytes(), node.catalogue.keep),
                *of_fetching(fetching),
                *of_trust(describe_trust(node.store, node.catalogue)),
                *http,
                *of_admin(self._counters, len(self.events)),
                *of_process(),
            ],
            accept,
        )

    async def _health(self, _request: Request, _parts: Parts) -> Reply:
        return await self._threads.run(self._reports.health)

    async def _ready(self, _request: Request, _parts: Parts) -> Reply:
        return await self._threads.run(self._reports.ready, self._node.awaited())

    # events

    def _watch(self, kind: Kind) -> Callable[[Request, Parts], Awaitable[Reply]]:
        async def endpoint(request: Request, _parts: Parts) -> Reply:
            headers = {"Content-Type": EVENT_STREAM, "Cache-Control": replies.NO_STORE}
            if request.method == "HEAD":
                return Reply(200, headers)
            stream = self.events.open(kind)
            if stream is None:
                return replies.unavailable("as many watch as can; close another page", 5)
            return Reply(200, headers, stream)

        return endpoint

    async def _look(self, kinds: frozenset[Kind]) -> Seen:
        return await self._threads.run(_describe, await self._node.status(), kinds)


def _describe(document: dict[str, Any], kinds: frozenset[Kind]) -> Seen:
    """Put one document into words for all who watch; in a thread."""
    parts: dict[Kind, Mapping[str, str]] = {}
    if Kind.DOCUMENT in kinds:
        parts[Kind.DOCUMENT] = {"status": json.dumps(document, ensure_ascii=False)}
    if Kind.PAGE in kinds:
        from p2pboot.gateway.admin.page import sections

        parts[Kind.PAGE] = sections(document)
    return Seen(parts)


def _document_event(changed: Mapping[str, str]) -> bytes:
    return _event("status", changed["status"])


def _page_event(changed: Mapping[str, str]) -> bytes:
    return _event("page", json.dumps(changed, ensure_ascii=False))


def _event(name: str, data: str) -> bytes:
    """One event; JSON without indentation has no line ends."""
    return f"event: {name}\ndata: {data}\n\n".encode()
