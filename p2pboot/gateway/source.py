"""What the gateway needs of the node behind it; `node.node.Node` is one."""

from __future__ import annotations

from typing import Protocol

from p2pboot.core.clock import Clock
from p2pboot.node.status import Measured
from p2pboot.store.manifests import HeadRow
from p2pboot.store.store import Store


class Source(Protocol):
    """A node with things to offer."""

    @property
    def store(self) -> Store:
        """Its open store."""

    @property
    def peer_id(self) -> str:
        """Its identity."""

    def clock(self) -> Clock:
        """The time to judge manifests by; blocking."""

    def offered(self, channel: str | None = None, arch: str | None = None) -> list[HeadRow]:
        """The manifests that are wholly here, trusted and in date, one for a channel and arch at most; blocking."""

    def default_pair(self) -> tuple[str | None, str | None]:
        """The channel and arch that the operator named, where there is one."""

    def measured(self) -> Measured:
        """What was counted since the start."""
