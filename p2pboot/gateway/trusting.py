"""Trust documents for clients that speak HTTP: the root, its versions, freshness statements and yanks.

Everything is answered as the bytes in which it came; who asks verifies it, as with manifests. Yanks stand in an array.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

from p2pboot.core.digests import is_digest
from p2pboot.core.jsonform import MAX_INTEGER
from p2pboot.core.names import is_next, normalise_arch
from p2pboot.core.policy import TrustedRoot
from p2pboot.core.trust import Pair
from p2pboot.core.trustdocs.chain import claims_version
from p2pboot.gateway import replies
from p2pboot.gateway.backend import Backend
from p2pboot.gateway.replies import Reply, refusal, unavailable
from p2pboot.gateway.request import Request
from p2pboot.gateway.routes import PAIR, Parts, Route, route
from p2pboot.node.trusting.offered import OfferedDocuments
from p2pboot.protocol.messages import MAX_DOCUMENTS_BYTES
from p2pboot.serving.threads import Threads

SOON_S: Final = 10
"""When to ask again for what peers may have and this node has not heard of yet."""


class TrustRoutes:
    """Answers for the paths of trust documents.

    Args:
        node: that keeps them.
        lookups: where it looks them up.
    """

    def __init__(self, node: Backend, lookups: Threads) -> None:
        self._node = node
        self._lookups = lookups
        self._documents = OfferedDocuments(node.store, node.catalogue)
        self.routes: tuple[Route, ...] = (
            route("trust", r"/root\.json", self._root),
            route("trust", r"/root/(?P<version>[1-9][0-9]{0,15})\.json", self._root),
            route("trust", rf"{PAIR}/freshness\.json", self._freshness),
            route("trust", r"/freshness\.json", self._freshness),
            route("trust", rf"{PAIR}/yanks\.json", self._yanks),
            route("trust", r"/yanks\.json", self._yanks),
        )

    # -- roots -------------------------------------------------------------------------------------------------------

    async def _root(self, request: Request, parts: Parts) -> Reply:
        version = int(parts["version"]) if "version" in parts else None
        found = await self._lookups.run(self._find_root, _digest_in(request, "fleet"), version)
        return found if isinstance(found, Reply) else replies.document(request, found, replies.JSON, {})

    def _find_root(self, fleet: str | None, version: int | None) -> bytes | Reply:
        """A root's bytes, or why there is none.

        Args:
            fleet: which one is meant; None for the only one, "" where something else than a digest was named.
            version: of the root; None for the newest.
        """
        if fleet == "" or (version or 0) > MAX_INTEGER:
            return refusal(404, "name the fleet by 64 lowercase hex digits, and a version up to 2^53-1")
        roots = self._node.catalogue.trust.roots
        meant = [one for one in roots if fleet in (None, one.fleet, one.anchor.digest)]
        if not meant:
            return refusal(404, "no root is believed here" if not roots else "that fleet is not known here")
        if len(meant) > 1:
            names = ", ".join(f"?fleet={one.fleet or one.anchor.digest}" for one in meant)
            return refusal(404, f"there are several fleets here: name one, {names}")
        return self._version_of(meant[0], version)

    def _version_of(self, trusted: TrustedRoot, version: int | None) -> bytes | Reply:
        newest = trusted.newest
        if newest is None:
            return unavailable(f"the root {trusted.anchor.shown} is not known here yet", SOON_S)
        if version is None or version == newest.version:
            return newest.raw
        fleet = trusted.fleet or trusted.anchor.digest
        found = self._node.store.documents.roots(fleet, version - 1, max_bytes=1)
        if version < newest.version and found and claims_version(found[0]) == version:
            return found[0]
        return refusal(404, f"root version {version} is not here; the newest is version {newest.version}")

    # -- statements and yanks ----------------------------------------------------------------------------------------

    async def _freshness(self, request: Request, parts: Parts) -> Reply:
        found = await self._lookups.run(self._find_freshness, parts)
        return found if isinstance(found, Reply) else replies.document(request, found, replies.JSON, {})

    def _find_freshness(self, parts: Parts) -> bytes | Reply:
        pair = self._pair(parts)
        if isinstance(pair, Reply):
            return pair
        shown, publisher = "/".join(pair), self._node.catalogue.trust.publisher_for(*pair)
        if publisher is None:
            return refusal(404, f"nothing is known here of {shown}")
        if publisher.freshness is None:
            return refusal(404, f"{shown}: nobody is named who says what the newest manifest is")
        statements = self._documents.freshness(*pair)
        return (
            statements[0]
            if statements
            else unavailable(f"{shown}: no freshness statement is known here yet", SOON_S)
        )

    async def _yanks(self, request: Request, parts: Parts) -> Reply:
        found = await self._lookups.run(self._find_yanks, parts, _digest_in(request, "after"))
        return found if isinstance(found, Reply) else replies.document(request, found, replies.JSON, {})

    def _find_yanks(self, parts: Parts, after: str | None) -> bytes | Reply:
        """The yanks of a channel and arch as a JSON array, the newest first: each as it came, a comma in between.

        Where not all of them fit, the rest is asked for with the content of the last as `after`; "" where something
        else than a digest was named.
        """
        if after == "":  # no list at all: an empty one would say that nothing was yanked
            return refusal(404, "name the content of the last yank that came by 64 lowercase hex digits")
        pair = self._pair(parts)
        if isinstance(pair, Reply):
            return pair
        if self._node.catalogue.trust.publisher_for(*pair) is None:
            return refusal(404, f"nothing is known here of {'/'.join(pair)}")
        fitting: list[bytes] = []
        size = len(b"[]")
        for raw in self._documents.yanks(*pair, after):
            size += len(raw) + len(b",")
            if size > MAX_DOCUMENTS_BYTES:
                break
            fitting.append(raw)
        return b"[" + b",".join(fitting) + b"]"

    def _pair(self, parts: Parts) -> Pair | Reply:
        """The channel and arch that a path names; or those that the operator named, or the only ones that are here."""
        if "channel" in parts:
            return parts["channel"], normalise_arch(parts["arch"].lower())
        channel, arch = self._node.default_pair()
        if channel is not None and arch is not None:
            return channel, arch
        pairs = [
            pair
            for pair in self._documents.pairs()
            if channel in (None, pair[0]) and arch in (None, pair[1]) and not is_next(pair[0])
        ]
        if len(pairs) == 1:
            return pairs[0]
        return refusal(404, "name the channel and arch" if pairs else "nothing is held here")


def _digest_in(request: Request, member: str) -> str | None:
    """The digest that a member of a request's query names; None without one, "" where it is none."""
    try:
        named = parse_qs(request.query, max_num_fields=8).get(member) if request.query else None
    except ValueError:  # more members than anybody needs
        return ""
    if not named:
        return None
    return named[0] if len(named) == 1 and is_digest(named[0]) else ""
