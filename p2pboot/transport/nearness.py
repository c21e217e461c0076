"""Who is near: in the same subnet, or at the same site as the operators call it.

A site is its peer's own word. It decides what is asked of whom first, and nobody is believed more for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from p2pboot.core.origins import ip_of
from p2pboot.transport.interface import Connection

if TYPE_CHECKING:
    from p2pboot.transport.interfaces import Interfaces

_REMEMBERED: Final = 1024


class Nearness:
    """What one end knows of who is near.

    Args:
        site: what the operator calls the place where this machine stands, if it has a name.
        interfaces: tells which subnets this machine is in; looked at when somebody asks.
    """

    def __init__(self, site: str | None = None, interfaces: Interfaces | None = None) -> None:
        self.site = site
        self._interfaces = interfaces
        self._sites: LRUCache[str, str] = LRUCache(_REMEMBERED)  # by peer id
        self._on_link: LRUCache[Connection, bool] = LRUCache(_REMEMBERED)

    def note(self, connection: Connection, site: str) -> None:
        """The peer on a connection says where it stands."""
        if self.site is not None:
            self._sites[connection.peer_id] = site

    def near(self, connection: Connection) -> bool:
        """Whether the peer at the other end is near; quick, and the same for a connection unless a site is said."""
        if self.site is not None and self._sites.get(connection.peer_id) == self.site:
            return True
        if connection not in self._on_link:
            self._on_link[connection] = self.near_address(connection.address)
        return self._on_link[connection]

    def near_address(self, address: str) -> bool:
        """Whether an IP address or multiaddr is in a subnet of this machine's."""
        ip = ip_of(address)
        if ip is not None and (ip.is_loopback or ip.is_link_local):  # whatever subnets there are
            return True
        from p2pboot.transport.interfaces import (
            Interfaces,
        )  # 3 ms that a client without neighbours need not pay
        from p2pboot.transport.scopes import on_link

        self._interfaces = self._interfaces or Interfaces()
        return on_link(address, self._interfaces.listing().addresses)
