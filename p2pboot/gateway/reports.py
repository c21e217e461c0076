"""What everybody who reaches a port of the node may ask of it: whether it works, and whether it has anything to offer.

No paths, no addresses of other nodes, no error texts. Everything else is told at the admin address (`gateway.admin`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from p2pboot.errors import P2PBootError
from p2pboot.gateway import replies
from p2pboot.gateway.backend import Backend
from p2pboot.gateway.offers import Offers
from p2pboot.gateway.replies import Reply, refusal, unavailable
from p2pboot.node.awaiting import Awaited

FULL_BYTES: Final = 4 << 20  # below it neither the database nor a manifest can be relied on to be written
RETRY_S: Final = 5  # after which to ask again whether something is offered, where nobody knows when


class Reports:
    """Every method reads the store: called in a thread.

    Args:
        node: whose gateway it is.
        offers: its manifests.
    """

    def __init__(self, node: Backend, offers: Offers) -> None:
        self._node = node
        self._offers = offers

    def health(self) -> Reply:
        """200, or 503 with the reason why this node should not be asked now: store unreadable, disk full."""
        problem = self._problem()
        return _ok("ok") if problem is None else refusal(503, problem)

    def _problem(self) -> str | None:
        path = self._node.store.path
        try:
            os.scandir(path / "blobs").close()
            self._offers.all()
            disk = os.statvfs(path)
        except (P2PBootError, OSError):
            return "the store can not be read"
        return "the disk is full" if disk.f_bavail * disk.f_frsize < FULL_BYTES else None

    def is_ready(self) -> bool:
        """Whether something can be had here: a release, or a snapshot."""
        snapshots = self._node.snapshots
        return self._offers.any() or (snapshots is not None and snapshots.held > 0)

    def ready(self, awaited: Sequence[Awaited]) -> Reply:
        """200 as soon as something can be had here, 503 with the reason until then.

        Args:
            awaited: what the node is to have.
        """
        if self.is_ready():
            return _ok("ready")
        return self._offers.why_none(awaited) or unavailable("nothing is offered here yet", RETRY_S)


def _ok(word: str) -> Reply:
    return Reply(200, {"Content-Type": replies.TEXT, "Cache-Control": replies.NO_STORE}, f"{word}\n".encode())
