"""How far an address leads: on this machine, in this subnet, at this site, or all over the world.

Who is told of an address that leads nowhere from where he is, learns what is no business of his; who dials one, because
a stranger told of it, may speak to a service that trusts its neighbours. So what is told and dialled depends on this.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from p2pboot.core.origins import ip_of
from p2pboot.transport.addresses import Address

if TYPE_CHECKING:
    from p2pboot.transport.interfaces import OwnAddress

_NETWORKS: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "100.64.0.0/10",  # RFC 6598: of a provider's customers, or of a VPN of them
            "fc00::/7",
            "fe80::/10",
            "fec0::/10",
        ),
    )
)


class Scope(enum.IntEnum):
    """From where an address can be dialled, the narrowest first."""

    MACHINE = 0  # loopback
    SITE = 1  # private and link-local ones
    WORLD = 2


def scope_of(address: str) -> Scope:
    """The scope of an IP address or multiaddr.

    A name has the narrowest one: whoever owns it decides where it leads, at every look.
    """
    ip = ip_of(address)
    if ip is None or ip.is_loopback or ip.is_unspecified:
        return Scope.MACHINE
    return Scope.SITE if any(ip in network for network in _NETWORKS) else Scope.WORLD


def narrowest(addresses: Iterable[Address]) -> Scope:
    """The scope in which all of some addresses can be dialled."""
    return min((scope_of(address.host) for address in addresses), default=Scope.WORLD)


def on_link(address: str, own: Iterable[OwnAddress]) -> bool:
    """Whether an IP address or multiaddr is in a subnet that this machine is in, or is link-local or its own.

    Args:
        address: an IP address, with or without a zone, or a multiaddr that begins with one.
        own: this machine's addresses.
    """
    ip = ip_of(address)
    if ip is None:
        return False
    if ip.is_link_local or ip.is_loopback:
        return True
    return any(ip.version == one.ip.version and ip in _subnet(one) for one in own)


def _subnet(own: OwnAddress) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    prefix = own.ip.max_prefixlen if own.prefix is None else own.prefix
    return ipaddress.ip_network((own.ip, prefix), strict=False)
