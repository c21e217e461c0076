"""Where peers are to be found, also after they went; bounded, whatever they say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cachetools import LRUCache

from p2pboot.transport.addresses import known_dialable
from p2pboot.transport.records import MAX_ADDRESSES

_MAX_REMEMBERED: Final = 1024  # peers whose addresses outlive their connection


class AddressBook:
    """Where peers were to be found, also after they went: the last addresses of the last peers."""

    def __init__(self) -> None:
        self._addresses: LRUCache[str, tuple[str, ...]] = LRUCache(_MAX_REMEMBERED)

    def remember(self, peer_id: str, addresses: Iterable[str]) -> None:
        """Put `addresses` in front of those known already."""
        self._set(peer_id, (*addresses, *self.get(peer_id)))

    def append(self, peer_id: str, addresses: Iterable[str]) -> None:
        """Put `addresses` behind those known already."""
        self._set(peer_id, (*self.get(peer_id), *addresses))

    def _set(self, peer_id: str, addresses: Iterable[str]) -> None:
        kept = known_dialable(addresses, limit=MAX_ADDRESSES)
        if kept:
            self._addresses[peer_id] = kept

    def get(self, peer_id: str) -> tuple[str, ...]:
        """Return a peer's addresses, the best first."""
        return self._addresses.get(peer_id, ())
