"""The routes. What is behind each of them is in the module of that name; names and validators are `replies`'s.

Every lookup goes through the store in a thread: `offers` for what a name means now, `body` for verified bytes.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import trio
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from p2pboot.core.manifest import Artifact
from p2pboot.core.names import ARCH_ALIASES, ARCHS, DTB_ARCHIVE, DTB_PREFIX, NAME_PATTERN, UKI
from p2pboot.errors import BlobMissing, ManifestError
from p2pboot.gateway import replies
from p2pboot.gateway.bases import Bases
from p2pboot.gateway.body import SMALLEST_READ, BlobReader, BlobResponse, piece_end
from p2pboot.gateway.front import KIND, METHODS
from p2pboot.gateway.ipxe import boot_script
from p2pboot.gateway.offers import NotOffered, Offer, Offers, retry_after
from p2pboot.gateway.phase import phase_view
from p2pboot.gateway.ranges import Part
from p2pboot.gateway.replies import refusal, unavailable
from p2pboot.gateway.reports import Reports
from p2pboot.gateway.source import Source
from p2pboot.gateway.trees import EXTENSION, Content, TreeArchives
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
    regex = NAME_PATTERN.pattern


class _Short(_Text):
    regex = "kernel|initramfs|rootfs|uki"


class _Arch(_Text):
    regex = f"(?i:{'|'.join(map(re.escape, (*ARCHS, *ARCH_ALIASES)))})"


class _Tree(_Text):
    regex = (
        "[A-Za-z0-9_][A-Za-z0-9._+,@-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+,@-]*){0,7}"  # `paths` bounds its length
    )


class _Digest(_Text):
    regex = "[0-9a-f]{64}"


for _kind, _convertor in (
    ("name", _Name()),
    ("short", _Short()),
    ("arch", _Arch()),
    ("tree", _Tree()),
    ("digest", _Digest()),
):
    register_url_convertor(f"p2pboot_{_kind}", _convertor)

_PAIR: Final = "/{channel:p2pboot_name}/{arch:p2pboot_arch}"
_NAME: Final = "{name:p2pboot_name}"
_TREE: Final = "{tree:p2pboot_tree}"
_SHA256: Final = "{sha256:p2pboot_digest}"


class Gateway:
    """Answers requests, and nothing else: no socket and no task of its own.

    Args:
        node: whose artifacts they are.
        offers: its manifests.
        reports: what there is to say about the node.
        bases: where clients reach it.
    """

    def __init__(self, node: Source, offers: Offers, reports: Reports, bases: Bases) -> None:
        self._node = node
        self._offers = offers
        self._blobs = node.store.blobs
        self._reader = BlobReader(node.store.blobs)
        self._trees = TreeArchives(node.store.blobs)
        self._reports = reports
        self._bases = bases
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
                *self._of_manifests(_PAIR),
                *self._of_phase(f"/phase{_PAIR}"),
                *self._of_phase("/phase"),
                *self._of_manifests("", artifact="{name:p2pboot_short}"),
            ],
            redirect_slashes=False,
            default=refusal(404, "there is nothing of that name"),
        )

    def _of_manifests(self, prefix: str, artifact: str = _NAME) -> list[Route]:
        """What there is of a manifest: of the one that the prefix names, or without one of the only one."""
        return [
            _route(f"{prefix}/manifest.json", "manifest", self._about(_manifest)),
            _route(f"{prefix}/manifest.json.sig", "manifest", self._about(_signature)),
            _route(f"{prefix}/boot.ipxe", "script", self._about(_script)),
            _route(f"{prefix}/{artifact}", "artifact", self._about(_artifact)),
            _route(f"{prefix}/dtbs/{_TREE}", "artifact", self._about(_device_tree)),
        ]

    def _of_phase(self, prefix: str) -> list[Route]:
        """The same for Phase's tools, which know nothing of signatures apart and of iPXE."""
        return [
            _route(f"{prefix}/manifest.json", "phase", self._about(_phase_manifest)),
            _route(f"{prefix}/{_NAME}", "phase", self._about(_artifact)),
            _route(f"{prefix}/dtbs/{_TREE}", "phase", self._about(_device_tree)),
        ]

    def _about(self, answer: AboutOffer) -> Endpoint:
        """An endpoint that first finds the manifest that the path means, and says why when there is none to offer."""

        async def endpoint(request: Request) -> Response:
            channel, arch = (request.path_params.get(part) for part in ("channel", "arch"))
            awaited = self._node.awaited()
            try:
                if channel is None:
                    offer = await self._look_up(self._offers.default, awaited)
                else:
                    offer = await self._look_up(self._offers.of, channel, arch, awaited)
            except NotOffered as error:
                if error.known:
                    return unavailable(error.text, error.retry_after_s)
                return refusal(404, error.text)
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
        body = await self._look_up(self._reports.status, self._node.measured())
        return replies.document(request, body, replies.JSON, {}, cache=replies.NO_STORE)

    async def _metrics(self, request: Request) -> Response:
        body, media_type = await self._look_up(self._reports.metrics, self._node.measured())
        return replies.document(request, body, media_type, {}, cache=replies.NO_STORE)

    async def _blob(self, request: Request) -> Response:
        """By content: also what a former manifest names, as long as it is held."""
        sha256 = request.path_params["sha256"]
        if request.path_params.get("prefix", sha256[:2]) != sha256[:2]:
            return refusal(404, "the directory is the first two digits of the digest")
        size = await self._look_up(self._size, sha256)
        if size is None:
            return await self._not_here(sha256)
        return await self.send(request, Content.whole(sha256, size), {}, replies.IMMUTABLE)

    def _size(self, sha256: str) -> int | None:
        table = self._blobs.table(sha256) if self._blobs.holds(sha256) else None
        return None if table is None else table.size

    async def _not_here(self, sha256: str) -> Response:
        """An artifact that is not wholly here: on its way, damaged, gone with a former version, or never heard of."""
        missing = await self._look_up(self._node.offering.missing, sha256)
        if missing is None:
            return refusal(404, "no such artifact is known here")
        text = f"{missing.channel}/{missing.arch}: {missing.text}"
        return unavailable(text, retry_after(missing, self._node.awaited()))

    async def find_tree(self, archive: Artifact, name: str) -> Content | Response:
        """A device tree in an archive, or the answer that it can not be had."""
        try:
            tree = await self._look_up(self._trees.find, archive, name)
        except (BlobMissing, BlobGone):
            return await self._not_here(archive.sha256)
        except ManifestError:
            return refusal(404, f"{DTB_ARCHIVE} of the current manifest is no archive of device trees")
        return tree or refusal(404, "the current manifest has no device tree of that name")

    async def send(self, request: Request, content: Content, headers: dict[str, str], cache: str) -> Response:
        """Answer with an artifact or a member of one, or the part of it that is asked for."""
        headers = replies.validators(content.tag, replies.BINARY, cache) | headers
        if content.is_whole:
            headers["x-artifact-hash"] = f"sha256:{content.sha256}"
        selection = replies.selection_of(request, content.size, content.tag)
        refused = replies.without_body(selection, headers, content.size)
        if refused is not None:
            return refused
        start, end, status = 0, content.size, 200
        if isinstance(selection, Part):
            start, end, status = selection.start, selection.end, 206
            headers["content-range"] = replies.content_range(selection, content.size)
        headers["content-length"] = str(end - start)
        start, end = content.start + start, content.start + end
        first = b""
        if request.method != "HEAD":
            try:
                first = await self._reader.read(
                    content.sha256, start, piece_end(start, SMALLEST_READ, end) - start
                )
            except (BlobMissing, BlobGone):  # removed, or found damaged just now
                return await self._not_here(content.sha256)
        return BlobResponse(
            self._reader, content.sha256, first, start=start, end=end, status=status, headers=headers
        )

    def base(self, request: Request) -> str:
        """Where the client reached us."""
        return self._bases.of(request.scope)


async def _manifest(_gateway: Gateway, request: Request, offer: Offer) -> Response:
    manifest = offer.manifest
    return replies.document(request, manifest.raw, replies.JSON, replies.manifest_fields(manifest))


async def _signature(_gateway: Gateway, request: Request, offer: Offer) -> Response:
    if offer.detached is None:
        return refusal(404, "this manifest came without a detached signature")
    body = offer.detached.encode()
    return replies.document(request, body, replies.TEXT, replies.manifest_fields(offer.manifest))


async def _script(gateway: Gateway, request: Request, offer: Offer) -> Response:
    try:
        script = boot_script(offer.manifest, gateway.base(request))
    except ManifestError as error:
        return refusal(404, error.message)
    return replies.document(request, script.encode(), replies.TEXT, replies.manifest_fields(offer.manifest))


async def _phase_manifest(gateway: Gateway, request: Request, offer: Offer) -> Response:
    view = phase_view(offer.manifest, gateway.base(request))
    return replies.document(request, view, replies.JSON, replies.manifest_fields(offer.manifest))


async def _artifact(gateway: Gateway, request: Request, offer: Offer) -> Response:
    name, artifacts = request.path_params["name"], offer.manifest.artifacts
    artifact = artifacts.get(name)
    if artifact is not None:
        return await _send(gateway, request, offer, artifact)
    if UKI in artifacts:
        return refusal(
            404, "the current manifest has nothing of that name: kernel and initramfs are in its uki"
        )
    return refusal(404, "the current manifest has nothing of that name")


async def _device_tree(gateway: Gateway, request: Request, offer: Offer) -> Response:
    """By the name it has on a disk, with or without the extension; an artifact of its own, or in the archive."""
    name, artifacts = request.path_params["tree"], offer.manifest.artifacts
    artifact = artifacts.get(DTB_PREFIX + name) or artifacts.get(DTB_PREFIX + name.removesuffix(EXTENSION))
    if artifact is not None:
        return await _send(gateway, request, offer, artifact)
    archive = artifacts.get(DTB_ARCHIVE)
    if archive is None:
        return refusal(404, "the current manifest has no device tree of that name")
    found = await gateway.find_tree(archive, name)
    if isinstance(found, Response):
        return found
    return await gateway.send(request, found, replies.manifest_fields(offer.manifest), replies.REVALIDATE)


async def _send(gateway: Gateway, request: Request, offer: Offer, artifact: Artifact) -> Response:
    content = Content.whole(artifact.sha256, artifact.size)
    fields = replies.manifest_fields(offer.manifest)
    if artifact.key == UKI:
        fields["content-type"] = replies.EFI
    return await gateway.send(request, content, fields, replies.REVALIDATE)


def _route(path: str, kind: str, endpoint: Endpoint) -> Route:
    async def counted(request: Request) -> Response:
        setattr(request.state, KIND, kind)
        return await endpoint(request)

    return Route(path, counted, methods=list(METHODS))
