"""What the gateway needs of the node behind it; `node.node.Node` is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from p2pboot.node.awaiting import Awaited
from p2pboot.node.status import RunningNode, SnapshotsFacts
from p2pboot.node.status.boots import Boots
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store
from p2pboot.transport.bandwidth import Bandwidth


class Backend(Protocol):
    """A node with things to offer."""

    @property
    def store(self) -> Store:
        """Its open store."""

    @property
    def peer_id(self) -> str:
        """Its identity."""

    @property
    def bandwidth(self) -> Bandwidth:
        """What it may use of the network, the gateway's part included."""

    @property
    def catalogue(self) -> Catalogue:
        """What it offers now, and what it knows of and does not offer."""

    @property
    def boots(self) -> Boots:
        """Told which client took what."""

    @property
    def snapshots(self) -> SnapshotsFacts | None:
        """What it has of snapshots; None: it has no part in them."""

    def default_pair(self) -> tuple[str | None, str | None]:
        """The channel and arch that the operator named, where there is one."""

    def awaited(self) -> Sequence[Awaited]:
        """What the operator wants to have here, there already or not; for the event loop's thread."""

    def running(self) -> RunningNode:
        """What was counted since the start, and what is so now; for the event loop's thread."""

    async def status(self, *, watched: bool = True) -> dict[str, Any]:
        """Everything that it says of itself to those who may know it, as `node.status` describes it."""
