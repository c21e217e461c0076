"""Whom a cost is put down to: the address that a stranger comes from, which he cannot multiply, before the peer id.

Peer ids are free: anybody makes thousands. IPv4 addresses are not, and of IPv6 whoever has one has its whole /64.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final, NamedTuple

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_PREFIX: Final = 64
_PRIVATE: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"),
            *("fc00::/7", "fe80::/10", "::1/128"),
        ),
    )
)

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Party(NamedTuple):
    """Who uses something: an origin first, one of its peers second.

    Args:
        origin: as `origin_of` gives it.
        peer_id: the peer's; empty where nobody has proved who it is, and for HTTP clients.
    """

    origin: str
    peer_id: str = ""


def party_of(address: str, peer_id: str = "") -> Party:
    """The party of a peer at an address (an IP address or a multiaddr)."""
    return Party(origin_of(address), peer_id)


@lru_cache(maxsize=4096)
def origin_of(address: str) -> str:
    """Name what a stranger at an address cannot have many of.

    Args:
        address: an IP address, with or without a zone, or a multiaddr that begins with one.

    Returns:
        ``192.0.2.7``, or ``2001:db8:1:2::/64``. An IPv6 address that stands for an IPv4 address (mapped, or
        translated by NAT64's well-known prefix) counts as that. What is no IP address is its own origin.
    """
    ip = ip_of(address)
    if ip is None:
        return _host_of(address)
    return str(ipaddress.IPv6Network((ip, _PREFIX), strict=False)) if ip.version == 6 else str(ip)


@lru_cache(maxsize=4096)
def ip_of(address: str) -> IpAddress | None:
    """The IP address in an address (as `origin_of` takes it), an IPv6 one that stands for IPv4 as that; else None."""
    try:
        ip = ipaddress.ip_address(_host_of(address).partition("%")[0])
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def _host_of(address: str) -> str:
    if address.startswith("/ip6zone/"):
        address = "/" + address.split("/", 3)[-1]
    parts = address.split("/", 3) if address.startswith("/") else ()
    return parts[2] if len(parts) > 2 else address


@lru_cache(maxsize=4096)
def is_private(address: str) -> bool:
    """Whether an address (as `origin_of` takes it) means something at one site only: private, link-local, loopback.

    Those of RFC 1918, 4193, 3927 and 4291; not what carriers share (RFC 6598), nor what is only for documentation. A
    name is not private.
    """
    ip = ip_of(address)
    return ip is not None and any(ip in network for network in _PRIVATE if network.version == ip.version)
