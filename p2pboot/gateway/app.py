"""The routes. What is behind each of them is in the module of that name; names and validators are `replies`'s.

Every lookup goes through the store in a thread: `offers` for what a name means now, `body` for verified bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import trio
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from p2pboot.core.manifest import Artifact
from p2pboot.core.names import DTB_PREFIX
from p2pboot.errors import BlobMissing, ManifestError
from p2pboot.gateway import replies
from p2pboot.gateway.body import SMALLEST_READ, BlobReader, BlobResponse, piece_end
from p2pboot.gateway.front import HOST, KIND, METHODS
from p2pboot.gateway.hosts import base_url
from p2pboot.gateway.ipxe import boot_script
from p2pboot.gateway.offers import Ambiguous, Offer, Offers
from p2pboot.gateway.phase import phase_view
from p2pboot.gateway.ranges import Part
from p2pboot.gateway.replies import refusal
from p2pboot.gateway.reports import Reports
from p2pboot.gateway.source import Source
from p2pboot.store.errors import BlobGone

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]
AboutOffer = Callable[["Gateway", Request, Offer], Awaitable[Response]]

LOOKUPS: Final = 4  # threads that look into the database at the same time


class _Text(Convertor[str]):
    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Name(_Text):
    regex = "[a-z0-9][a-z0-9._-]{0,63}"  # core.names.NAME_PATTERN


class _Short(_Text):
    regex = "kernel|initramfs|rootfs"


class _Arch(_Text):
    regex = "x86_64|arm64|aarch64"


class _Digest(_Text):
    regex = "[0-9a-f]{64}"


for _kind, _convertor in (("name", _Name()), ("short", _Short()), ("arch", _Arch()), ("digest", _Digest())):
    register_url_convertor(f"p2pboot_{_kind}", _convertor)

_PAIR: Final = "/{channel:p2pboot_name}/{arch:p2pboot_arch}"
_NAME: Final = "{name:p2pboot_name}"
_SHA256: Final = "{sha256:p2pboot_digest}"


class Gateway:
    """Answers requests, and nothing else: no socket and no task of its own.

    Args:
        node: whose artifacts they are.
        offers: its manifests.
        reports: what there is to say about the node.
    """

    def __init__(self, node: Source, offers: Offers, reports: Reports) -> None:
        self._offers = offers
        self._blobs = node.store.blobs
        self._reader = BlobReader(node.store.blobs)
        self._measured = node.measured
        self._reports = reports
        self._lookups = trio.CapacityLimiter(LOOKUPS)

    def router(self) -> Router:
        """The ASGI application; without redirects, which firmware does not follow."""
        return Router(
            [
                _route("/", "report", self._page),
                _route("/health", "report", self._health),
                _route("/status", "report", self._status),
                _route("/metrics", "report", self._metrics),
                _route(f"/blobs/{_SHA256}", "blob", self._blob),
                _route(f"/blobs/{{prefix}}/{_SHA256}.bin", "blob", self._blob),
                _route("/manifest.json", "manifest", self._about(_manifest)),
                _route("/manifest.json.sig", "manifest", self._about(_signature)),
                _route("/boot.ipxe", "script", self._about(_script)),
                _route("/{name:p2pboot_short}", "artifact", self._about(_artifact)),
                _route(f"{_PAIR}/manifest.json", "manifest", self._about(_manifest)),
                _route(f"{_PAIR}/manifest.json.sig", "manifest", self._about(_signature)),
                _route(f"{_PAIR}/boot.ipxe", "script", self._about(_script)),
                _route(f"{_PAIR}/{_NAME}", "artifact", self._about(_artifact)),
                _route(f"{_PAIR}/dtbs/{_NAME}", "artifact", self._about(_device_tree)),
                _route(f"/phase{_PAIR}/manifest.json", "phase", self._about(_phase_manifest)),
                _route(f"/phase{_PAIR}/{_NAME}", "phase", self._about(_artifact)),
                _route(f"/phase{_PAIR}/dtbs/{_NAME}", "phase", self._about(_device_tree)),
            ],
            redirect_slashes=False,
            default=refusal(404, "there is nothing of that name"),
        )

    def _about(self, answer: AboutOffer) -> Endpoint:
        """An endpoint that first finds the manifest that the path means, and answers 404 when there is none."""

        async def endpoint(request: Request) -> Response:
            channel, arch = (request.path_params.get(part) for part in ("channel", "arch"))
            try:
                if channel is None:
                    offer = await self._look_up(self._offers.default)
                else:
                    offer = await self._look_up(self._offers.of, channel, arch)
            except Ambiguous as error:
                names = ", ".join(f"/{one}/{other}" for one, other in error.pairs)
                return refusal(404, f"name the channel and arch, for example {names}")
            if offer is None:
                return refusal(404, "no valid manifest is held here for it")
            return await answer(self, request, offer)

        return endpoint

    async def _look_up(self, look: Callable[..., T], *arguments: Any) -> T:
        return await trio.to_thread.run_sync(look, *arguments, limiter=self._lookups)

    async def _page(self, request: Request) -> Response:
        body = await self._look_up(self._reports.page)
        headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return replies.document(request, body, "text/html; charset=utf-8", headers, cache=replies.NO_STORE)

    async def _health(self, _request: Request) -> Response:
        problem = await self._look_up(self._reports.problem)
        if problem is not None:
            return refusal(503, problem)
        return Response("ok\n", media_type=replies.TEXT, headers={"cache-control": replies.NO_STORE})

    async def _status(self, request: Request) -> Response:
        body = await self._look_up(self._reports.status, self._measured())
        return replies.document(request, body, replies.JSON, {}, cache=replies.NO_STORE)

    async def _metrics(self, request: Request) -> Response:
        body, media_type = await self._look_up(self._reports.metrics, self._measured())
        return replies.document(request, body, media_type, {}, cache=replies.NO_STORE)

    async def _blob(self, request: Request) -> Response:
        """By content: also what a former manifest names, as long as it is held."""
        sha256 = request.path_params["sha256"]
        if request.path_params.get("prefix", sha256[:2]) != sha256[:2]:
            return refusal(404, "the directory is the first two digits of the digest")
        size = await self._look_up(self._size, sha256)
        if size is None:
            return refusal(404, "no such artifact is wholly held here")
        return await self.send(request, sha256, size, {}, replies.IMMUTABLE)

    def _size(self, sha256: str) -> int | None:
        table = self._blobs.table(sha256) if self._blobs.holds(sha256) else None
        return None if table is None else table.size

    async def send(
        self, request: Request, sha256: str, size: int, headers: dict[str, str], cache: str
    ) -> Response:
        """Answer with an artifact, or the part of it that is asked for."""
        headers = replies.validators(sha256, replies.BINARY, cache) | headers
        headers["x-artifact-hash"] = f"sha256:{sha256}"
        selection = replies.selection_of(request, size, sha256)
        refused = replies.without_body(selection, headers, size)
        if refused is not None:
            return refused
        start, end, status = 0, size, 200
        if isinstance(selection, Part):
            start, end, status = selection.start, selection.end, 206
            headers["content-range"] = replies.content_range(selection, size)
        headers["content-length"] = str(end - start)
        first = b""
        if request.method != "HEAD":
            try:
                first = await self._reader.read(sha256, start, piece_end(start, SMALLEST_READ, end) - start)
            except (BlobMissing, BlobGone):  # removed, or found damaged just now
                return refusal(404, "no such artifact is wholly held here")
        return BlobResponse(self._reader, sha256, first, start=start, end=end, status=status, headers=headers)


async def _manifest(_gateway: Gateway, request: Request, offer: Offer) -> Response:
    manifest = offer.manifest
    return replies.document(request, manifest.raw, replies.JSON, replies.manifest_fields(manifest))


async def _signature(_gateway: Gateway, request: Request, offer: Offer) -> Response:
    if offer.detached is None:
        return refusal(404, "this manifest came without a detached signature")
    body = offer.detached.encode()
    return replies.document(request, body, replies.TEXT, replies.manifest_fields(offer.manifest))


async def _script(_gateway: Gateway, request: Request, offer: Offer) -> Response:
    try:
        script = boot_script(offer.manifest, _base(request))
    except ManifestError as error:
        return refusal(404, error.message)
    return replies.document(request, script.encode(), replies.TEXT, replies.manifest_fields(offer.manifest))


async def _phase_manifest(_gateway: Gateway, request: Request, offer: Offer) -> Response:
    view = phase_view(offer.manifest, _base(request))
    return replies.document(request, view, replies.JSON, replies.manifest_fields(offer.manifest))


async def _artifact(gateway: Gateway, request: Request, offer: Offer) -> Response:
    return await _send(gateway, request, offer, offer.manifest.artifacts.get(request.path_params["name"]))


async def _device_tree(gateway: Gateway, request: Request, offer: Offer) -> Response:
    key = DTB_PREFIX + request.path_params["name"]
    return await _send(gateway, request, offer, offer.manifest.artifacts.get(key))


async def _send(gateway: Gateway, request: Request, offer: Offer, artifact: Artifact | None) -> Response:
    if artifact is None:
        return refusal(404, "the current manifest has nothing of that name")
    fields = replies.manifest_fields(offer.manifest)
    return await gateway.send(request, artifact.sha256, artifact.size, fields, replies.REVALIDATE)


def _base(request: Request) -> str:
    """Where the client reached us, as it said itself; HTTP/1.0 may not say it."""
    host: str | None = getattr(request.state, HOST)
    if host is not None:
        return f"http://{host}"
    return base_url(*request.scope["server"])


def _route(path: str, kind: str, endpoint: Endpoint) -> Route:
    async def counted(request: Request) -> Response:
        setattr(request.state, KIND, kind)
        return await endpoint(request)

    return Route(path, counted, methods=list(METHODS))
