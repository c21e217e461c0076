"""On which interfaces to take part, and what to tell on each: the addresses that lead there."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.transport.addresses import Address, can_be_zone, parse_address
from p2pboot.transport.interfaces import Listing, OwnAddress, Reach
from p2pboot.transport.scopes import Scope, on_link, scope_of

MAX_LINKS: Final = 20
"""Of each family; a socket and a packet each, on a machine with a hundred containers."""

MAX_TOLD: Final = 8
"""Addresses, so that all fits into one Ethernet frame, records of all kinds together."""

_LOOPBACK_INDEX: Final = 1  # on Linux always


@dataclass(frozen=True, slots=True)
class Link:
    """One interface on which one family of addresses takes part.

    Args:
        family: AF_INET or AF_INET6.
        index: the kernel's number of the interface.
        interface: its name.
        is_loopback: it leads to this machine alone.
    """

    family: socket.AddressFamily
    index: int
    interface: str
    is_loopback: bool = False

    @property
    def zone(self) -> str:
        """What it is called in an address."""
        return self.interface if can_be_zone(self.interface) else str(self.index)

    def __str__(self) -> str:
        return f"{self.interface} ({'IPv4' if self.family == socket.AF_INET else 'IPv6'})"


def links_of(listing: Listing) -> list[Link]:
    """Where to take part: interfaces in the order of their use, and loopback, for peers on this machine.

    Loopback is with IPv4 only: one is enough. Interfaces with a link-local address alone come last, and what connects
    this machine with its containers only where there is nothing else. One without a carrier leads nowhere, and when it
    gets one, it is a new link, on which is told and asked at once.
    """
    addressed = [_link(one) for one in listing.addresses if one.index and one.reach is not Reach.DOWN]
    alone = [_link(one) for one in listing.link_local if one.index and one.reach is not Reach.DOWN]
    inner = [link for link in addressed if link.is_loopback and link.family == socket.AF_INET][:1]
    outer = [link for link in addressed if not link.is_loopback]
    containers = {_link(one) for one in listing.link_local if one.reach is Reach.CONTAINER}
    known = {link.index for link in outer}
    outer += [link for link in alone if link not in containers or link.index in known]
    outer = list(dict.fromkeys(outer or alone))
    four, six = ([link for link in outer if link.family == family] for family in _FAMILIES)
    return [*four[:MAX_LINKS], *six[:MAX_LINKS], *inner]


_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)


def _link(own: OwnAddress) -> Link:
    family = socket.AF_INET if own.ip.version == 4 else socket.AF_INET6
    return Link(family, own.index, own.interface, own.reach is Reach.LOOPBACK)


def told_on(
    link: Link, addresses: Sequence[str], listens_on: Sequence[str], listing: Listing
) -> tuple[Address, ...]:
    """What to tell on a link.

    An address of another interface would lead others astray: every Docker host has 172.17.0.1. One that is routed to
    the loopback interface, or is on one that is not known, may be good everywhere. The link-local ones of the
    interface come last; they are all that there is where nobody hands out addresses.

    Args:
        link: where.
        addresses: of the node, the best first, without link-local ones.
        listens_on: the multiaddrs that it listens on.
        listing: this machine's addresses.

    Returns:
        At most MAX_TOLD addresses.
    """
    indexes = {str(one.ip): one.index for one in listing.addresses}
    told = [parsed for parsed in map(parse_address, addresses) if _belongs(parsed, link, indexes)]
    local = _link_local(link, listens_on, listing)[:2]
    return (*told[: MAX_TOLD - len(local)], *local)


def believed(address: Address, sender: str, link: Link, listing: Listing) -> Address | None:
    """What is made of an address that somebody tells of on a link; None where it is not to be dialled on his word.

    Loopback is told of on loopback only: a neighbour shall not have us speak to services of this machine. For the like
    reason nobody tells of another one's link-local address, among which are those at which clouds tell machines their
    secrets; one's own, from which the packet came, gets the interface's name. Names lead wherever their owner says. A
    public address is the sender's or in a subnet of ours: nobody has us call strangers all over the world, as a peer
    that is in another mesh besides does without meaning it.

    Args:
        address: as it was said.
        sender: the IP address that the packet came from.
        link: on which it came.
        listing: this machine's addresses.
    """
    if not address.is_ip or address.port == 0 or (address.is_loopback and not link.is_loopback):
        return None
    if address.is_link_local:
        if address.host != sender:
            return None
        return address if address.kind == "ip4" else replace(address, host=f"{sender}%{link.zone}")
    if scope_of(address.host) is Scope.WORLD and not link.is_loopback:
        is_near = address.host == sender or on_link(address.host, listing.addresses)
        return address if is_near and address.is_dialable else None
    return address if address.is_dialable else None


def worth_dialling(addresses: Sequence[Address], listing: Listing) -> list[Address]:
    """Leave the link-local ones out where another is in a subnet of ours, and will do.

    All that come from link-local addresses count as one origin, whose share of connections is small.
    """
    others = [address for address in addresses if not address.is_link_local]
    is_near = any(on_link(address.host, listing.addresses) for address in others)
    return others if is_near else list(addresses)


def _belongs(address: Address, link: Link, indexes: dict[str, int]) -> bool:
    if not address.is_dialable or (address.is_loopback and not link.is_loopback):
        return False
    return link.is_loopback or indexes.get(address.host, 0) in {0, _LOOPBACK_INDEX, link.index}


def _link_local(link: Link, listens_on: Sequence[str], listing: Listing) -> list[Address]:
    if link.is_loopback:
        return []
    kind, version = ("ip4", 4) if link.family == socket.AF_INET else ("ip6", 6)
    ports = [
        parsed.port for parsed in map(parse_address, listens_on) if parsed.is_wildcard and parsed.kind == kind
    ]
    hosts = [
        str(one.ip) for one in listing.link_local if one.index == link.index and one.ip.version == version
    ]
    return [Address(kind, host, port) for host in hosts for port in ports]
