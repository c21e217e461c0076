"""The answer to each request: what the paths are, and the manifests behind them.

Every lookup goes through the store in a thread. Names and validators are those of `replies`, bytes of artifacts come
from `artifacts`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import h11

from p2pboot.core.manifest import Artifact
from p2pboot.core.names import DTB_ARCHIVE, DTB_PREFIX, UKI
from p2pboot.errors import ManifestError
from p2pboot.gateway import replies
from p2pboot.gateway.artifacts import Artifacts
from p2pboot.gateway.backend import Backend
from p2pboot.gateway.bases import Bases
from p2pboot.gateway.counters import GatewayCounters
from p2pboot.gateway.front import read_request
from p2pboot.gateway.ipxe import boot_script
from p2pboot.gateway.machines import RollOutOffers, asked_machine
from p2pboot.gateway.offers import Offer, Offers
from p2pboot.gateway.phase import phase_view
from p2pboot.gateway.replies import Reply, refusal
from p2pboot.gateway.reports import Reports
from p2pboot.gateway.request import Ends, Request
from p2pboot.gateway.routes import (
    NAME,
    PAIR,
    SHA256,
    SHORT_NAME,
    TREE,
    Endpoint,
    Parts,
    Route,
    answer_by,
    find,
    route,
)
from p2pboot.gateway.trees import EXTENSION, Representation
from p2pboot.gateway.trusting import TrustRoutes
from p2pboot.serving.threads import Threads

LOOKUPS: Final = 4  # threads that look into the database at the same time

AboutOffer = Callable[[Request, Offer, Parts], Awaitable[Reply]]


class Gateway:
    """Answers requests, and nothing else: no socket and no task of its own.

    Args:
        node: whose artifacts they are.
        offers: its manifests.
        reports: what there is to say about the node.
        bases: where clients reach it.
        counters: told of faults of ours.
    """

    def __init__(
        self,
        node: Backend,
        offers: Offers,
        reports: Reports,
        bases: Bases,
        *,
        counters: GatewayCounters,
    ) -> None:
        self._node = node
        self._offers = offers
        self._reports = reports
        self._bases = bases
        self._counters = counters
        self._lookups = Threads(LOOKUPS)
        self._artifacts = Artifacts(node, self._lookups, bases)
        self._rolled_out = RollOutOffers(node, offers)
        self._routes = (
            route("report", "/health", self._health),
            route("report", "/ready", self._ready),
            route("other", "/|/status|/metrics|/events", self._elsewhere),
            route("blob", f"/blobs/{SHA256}", self._blob),
            route("blob", f"/blobs/(?P<prefix>[^/]+)/{SHA256}\\.bin", self._blob),
            *TrustRoutes(node, self._lookups).routes,
            *self._of_manifests(PAIR, NAME),
            *self._of_phase(f"/phase{PAIR}"),
            *self._of_phase("/phase"),
            *self._of_manifests("", SHORT_NAME),
        )

    def _of_manifests(self, prefix: str, artifact: str) -> tuple[Route, ...]:
        """What there is of a manifest: of the one that the prefix names, or without one of the only one."""
        return (
            route("manifest", rf"{prefix}/manifest\.json", self._about(self._manifest)),
            route("manifest", rf"{prefix}/manifest\.json\.sig", self._about(self._signature)),
            route("script", rf"{prefix}/boot\.ipxe", self._about(self._script)),
            route("artifact", prefix + artifact, self._about(self._artifact)),
            route("artifact", prefix + TREE, self._about(self._device_tree)),
        )

    def _of_phase(self, prefix: str) -> tuple[Route, ...]:
        """The same for Phase's tools, which know nothing of signatures apart and of iPXE."""
        return (
            route("phase", rf"{prefix}/manifest\.json", self._about(self._phase_manifest)),
            route("phase", prefix + NAME, self._about(self._artifact)),
            route("phase", prefix + TREE, self._about(self._device_tree)),
        )

    async def answer(self, head: h11.Request, ends: Ends) -> Reply:
        """The reply to whatever came; raises nothing, as one request must not end the node."""
        request = read_request(head, ends)
        if isinstance(request, Reply):
            return request
        found = find(self._routes, request.path)
        if found is None:
            return refusal(404, "there is nothing of that name")
        return await answer_by(found, request, self._counters, whose="the gateway", tells_why=False)

    def _about(self, answer: AboutOffer) -> Endpoint:
        """An endpoint that first finds the manifest that the path means, and says why when there is none to offer."""

        async def endpoint(request: Request, parts: Parts) -> Reply:
            awaited = self._node.awaited()
            if "channel" in parts:
                offer = await self._lookups.run(self._offers.of, parts["channel"], parts["arch"], awaited)
            else:
                offer = await self._lookups.run(self._offers.default, awaited)
            if isinstance(offer, Reply):
                return offer
            return await answer(request, offer, parts)

        return endpoint

    # reports

    async def _health(self, _request: Request, _parts: Parts) -> Reply:
        return await self._lookups.run(self._reports.health)

    async def _ready(self, _request: Request, _parts: Parts) -> Reply:
        return await self._lookups.run(self._reports.ready, self._node.awaited())

    async def _elsewhere(self, _request: Request, _parts: Parts) -> Reply:
        return refusal(
            404, "what the node says of itself is at its admin address, which `p2pboot status` names"
        )

    # artifacts and manifests

    async def _blob(self, request: Request, parts: Parts) -> Reply:
        sha256 = parts["sha256"]
        if parts.get("prefix", sha256[:2]) != sha256[:2]:
            return refusal(404, "the directory is the first two digits of the digest")
        return await self._artifacts.by_digest(request, sha256)

    async def _manifest(self, request: Request, offer: Offer, _parts: Parts) -> Reply:
        manifest = offer.manifest
        return replies.document(request, manifest.raw, replies.JSON, replies.manifest_fields(manifest))

    async def _signature(self, request: Request, offer: Offer, _parts: Parts) -> Reply:
        if offer.detached is None:
            return refusal(404, "this manifest came without a detached signature")
        body = offer.detached.encode()
        return replies.document(request, body, replies.TEXT, replies.manifest_fields(offer.manifest))

    async def _script(self, request: Request, offer: Offer, _parts: Parts) -> Reply:
        machine, cache = asked_machine(request.query), replies.REVALIDATE
        if isinstance(machine, Reply):
            return machine
        if machine is not None:
            cache = replies.NO_STORE
            if machine.name is not None:
                offer = await self._lookups.run(self._rolled_out.of, offer, machine)
        try:
            script = boot_script(offer.manifest, self._bases.of(request))
        except ManifestError as error:
            return refusal(404, error.message)
        fields = replies.manifest_fields(offer.manifest)
        return replies.document(request, script.encode(), replies.TEXT, fields, cache=cache)

    async def _phase_manifest(self, request: Request, offer: Offer, _parts: Parts) -> Reply:
        view = phase_view(offer.manifest, self._bases.of(request))
        return replies.document(request, view, replies.JSON, replies.manifest_fields(offer.manifest))

    async def _artifact(self, request: Request, offer: Offer, parts: Parts) -> Reply:
        artifacts = offer.manifest.artifacts
        artifact = artifacts.get(parts["name"])
        if artifact is not None:
            return await self._send(request, offer, artifact)
        if UKI in artifacts:
            return refusal(
                404, "the current manifest has nothing of that name: kernel and initramfs are in its uki"
            )
        return refusal(404, "the current manifest has nothing of that name")

    async def _device_tree(self, request: Request, offer: Offer, parts: Parts) -> Reply:
        """By the name it has on a disk, with or without the extension; an artifact of its own, or in the archive."""
        name, artifacts = parts["tree"], offer.manifest.artifacts
        artifact = artifacts.get(DTB_PREFIX + name) or artifacts.get(
            DTB_PREFIX + name.removesuffix(EXTENSION)
        )
        if artifact is not None:
            return await self._send(request, offer, artifact)
        archive = artifacts.get(DTB_ARCHIVE)
        if archive is None:
            return refusal(404, "the current manifest has no device tree of that name")
        return await self._artifacts.device_tree(
            request, archive, name, replies.manifest_fields(offer.manifest)
        )

    async def _send(self, request: Request, offer: Offer, artifact: Artifact) -> Reply:
        fields = replies.manifest_fields(offer.manifest)
        if artifact.key == UKI:
            fields["Content-Type"] = replies.EFI
        content = Representation.whole(artifact.sha256, artifact.size)
        return await self._artifacts.send(request, content, fields, replies.REVALIDATE)
