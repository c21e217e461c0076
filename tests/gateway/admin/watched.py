"""A status page for browsers, served from a thread, of a node that says whatever a test wants it to say."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from p2pboot.gateway.admin.service import AdminService
from p2pboot.node.status import describe_node
from p2pboot.store.store import Store
from tests.gateway.world import OfferingNode, gateway_settings
from tests.node.status.filled import filled, running, ways_of

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def document_of(path: Path, *, peers: int = 1, clients: int = 1) -> dict[str, Any]:
    """The status of a mirror that has everything; so many peers and clients."""
    _, store, catalogue = filled(path)
    with store:
        (pending,) = store.manifests.pending()
        stored = store.manifests.get(pending.digest)
        assert stored is not None
        from p2pboot.core.manifest import Manifest

        node = running(ways_of(Manifest.parse(stored.raw)), peers, clients)
        return describe_node(node, store, catalogue)


class SayingNode(OfferingNode):
    """Its status is `document`, which a test may change at any time."""

    document: dict[str, Any]
    asked = 0
    service: AdminService

    async def status(self, *, watched: bool = True) -> dict[str, Any]:
        self.asked += 1
        return self.document


@contextmanager
def shown(path: Path, document: dict[str, Any], *, port: int = 0) -> Iterator[tuple[str, SayingNode]]:
    """Serve its page; the URL and the node."""
    ready = threading.Event()
    ends: list[trio.CancelScope] = []
    tokens: list[trio.lowlevel.TrioToken] = []
    where: list[str] = []
    settings = gateway_settings(path, **{"gateway.admin": f"127.0.0.1:{port}"})
    with Store.open(path / "saying") as store:
        node = SayingNode(store)
        node.document = document

        async def serve() -> None:
            service = AdminService(settings)
            where.append(str(service.admin))
            node.service = service
            async with trio.open_nursery() as nursery:
                ends.append(nursery.cancel_scope)
                tokens.append(trio.lowlevel.current_trio_token())
                await nursery.start(service.run, node)
                ready.set()

        thread = threading.Thread(target=trio.run, args=[serve])
        thread.start()
        ready.wait()
        try:
            yield where[0], node
        finally:
            tokens[0].run_sync_soon(ends[0].cancel)
            thread.join()
