"""What the gateway says of itself and its node: health, status, metrics and the page for people.

All of it is for everybody who can reach the port: no paths, no addresses of other nodes, no error texts.
"""

from __future__ import annotations

import json
import os
from typing import Final

from p2pboot import __version__
from p2pboot.core.manifest import Manifest
from p2pboot.core.manifest.facts import facts
from p2pboot.errors import P2PBootError
from p2pboot.gateway.backend import Backend
from p2pboot.gateway.counters import GatewayCounters
from p2pboot.gateway.metrics import exposition, of_fetching, of_gateway, of_node, of_process, of_store
from p2pboot.gateway.offers import Offers
from p2pboot.gateway.page import render
from p2pboot.gateway.slots import Slots
from p2pboot.node.status import RunningNode, describe_dht, describe_node
from p2pboot.transport.traffic import HTTP, RECEIVED, SENT

FULL_BYTES: Final = 4 << 20  # below it neither the database nor a manifest can be relied on to be written


class Reports:
    """Every method reads the store: called in a thread. What is running is told by the node's own thread.

    Args:
        node: whose gateway it is.
        offers: its manifests.
        counters: of the gateway.
        slots: its connections.
    """

    def __init__(self, node: Backend, offers: Offers, counters: GatewayCounters, slots: Slots) -> None:
        self._node = node
        self._offers = offers
        self._counters = counters
        self._slots = slots

    def problem(self) -> str | None:
        """Why this node should not be asked now: store unreadable, disk full. None if all is well."""
        path = self._node.store.path
        try:
            os.scandir(path / "blobs").close()
            self._offers.all()
            disk = os.statvfs(path)
        except (P2PBootError, OSError):
            return "the store can not be read"
        return "the disk is full" if disk.f_bavail * disk.f_frsize < FULL_BYTES else None

    def status(self, running: RunningNode) -> bytes:
        """The status as JSON."""
        traffic = self._node.bandwidth.traffic
        sent = sum(size for (_, direction), size in running.transferred.items() if direction == SENT)
        document = {
            "version": __version__,
            "peer_id": self._node.peer_id,
            "uptime_s": round(running.uptime_s),
            "manifests": [self._describe(offer.manifest) for offer in self._offers.all()],
            "withheld": [one.to_json() for one in self._node.catalogue.withheld()],
            "peers": sorted(running.peers),
            "dht": describe_dht(running.dht),
            "bytes": {
                "peers_sent": sent,
                "peers_received": sum(running.transferred.values()) - sent,
                "http_sent": traffic[HTTP, SENT],
                "http_received": traffic[HTTP, RECEIVED],
            },
            "connections": len(self._slots),
        }
        return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"

    def metrics(self, running: RunningNode, accept: str = "") -> tuple[bytes, str]:
        """The metrics in the form of Prometheus' that `accept` asks for, and its media type."""
        node = self._node
        document = describe_node(running, node.store, node.catalogue)
        return exposition(
            [
                *of_node(running, is_ready=bool(self._offers.all())),
                *of_store(node.store, node.store.blobs.room.limit_bytes(), node.catalogue.keep),
                *of_fetching(document["fetching"]),
                *of_gateway(self._counters, self._slots, node.bandwidth.traffic),
                *of_process(),
            ],
            accept,
        )

    def page(self) -> bytes:
        """The page for people."""
        manifests = [offer.manifest for offer in self._offers.all()]
        withheld = self._node.catalogue.withheld()
        return render(manifests, withheld, peer_id=self._node.peer_id, now=self._node.catalogue.clock().now)

    def _describe(self, manifest: Manifest) -> dict[str, object]:
        return {
            **facts(
                manifest,
                *("channel", "arch", "version", "manifest_version"),
                *("digest", "signers", "created_at", "expires_at"),
            ),
            "expires_in_s": manifest.expires_at - self._node.catalogue.clock().now,
        }
