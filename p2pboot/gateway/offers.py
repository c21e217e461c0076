"""The manifests that the gateway offers: those that the node holds wholly, trusts, and that are in date.

An artifact's name leads nowhere but through here, so a name can only mean what a signed manifest says it means.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from p2pboot.core.manifest import Manifest
from p2pboot.core.names import normalise_arch
from p2pboot.gateway.source import Source
from p2pboot.store.manifests import HeadRow

_REMEMBERED: Final = 64  # parsed manifests, at most 64 KiB each


@dataclass(frozen=True, slots=True)
class Offer:
    """A manifest with its detached signature, where there is one."""

    manifest: Manifest
    detached: str | None


class Ambiguous(Exception):
    """Internal: the short names could mean several channels or archs.

    Args:
        pairs: all of them.
    """

    def __init__(self, pairs: tuple[tuple[str, str], ...]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


class Offers:
    """Looks manifests up; every method blocks on the database and may be called from any thread."""

    def __init__(self, node: Source) -> None:
        self._node = node
        self._manifests: OrderedDict[str, Manifest] = OrderedDict()
        self._lock = threading.Lock()

    def all(self) -> list[Offer]:
        """Every manifest on offer, sorted by channel and arch."""
        return [offer for row in self._node.offering.offered() if (offer := self._offer(row)) is not None]

    def of(self, channel: str, arch: str) -> Offer | None:
        """The current manifest of a channel and arch; `aarch64` is arm64."""
        rows = self._node.offering.offered(channel, normalise_arch(arch))
        return self._offer(rows[0]) if rows else None

    def default(self) -> Offer | None:
        """What the short names (`/kernel`, `/boot.ipxe`) mean: the operator's channel and arch, or the only ones.

        Raises:
            Ambiguous: there are several, and nothing says which one.
        """
        channel, arch = self._node.default_pair()
        rows = self._node.offering.offered(channel, arch)
        if len(rows) > 1:
            raise Ambiguous(tuple((row.channel, row.arch) for row in rows))
        return self._offer(rows[0]) if rows else None

    def _offer(self, row: HeadRow) -> Offer | None:
        stored = self._node.store.manifests.get(row.digest)
        if stored is None:
            return None  # replaced since it was looked up
        with self._lock:
            manifest = self._manifests.get(row.digest)
        if manifest is None or manifest.raw != stored.raw:
            manifest = Manifest.parse(stored.raw)  # checks the signatures once more: the disk may have rotted
        with self._lock:
            self._manifests[row.digest] = manifest
            self._manifests.move_to_end(row.digest)
            if len(self._manifests) > _REMEMBERED:
                self._manifests.popitem(last=False)
        return Offer(manifest, stored.detached)
