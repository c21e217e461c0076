"""Who may read what the node says of itself: this machine, and the networks that the operator named.

Who asks is who is connected: the address at the other end of the socket, never what a header says. Behind a proxy on
this machine everybody is 127.0.0.1; so a request that a proxy marked as somebody else's does not count as this
machine's. Web pages are kept out as well: one can have its own name lead here ("DNS rebinding", `gateway.names`), and
any can have a browser ask, though not read the answer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from p2pboot.gateway.names import Names
from p2pboot.gateway.replies import Reply, refusal
from p2pboot.gateway.request import Request

# What proxies add to requests of others, RFC 9110 and 7239 and custom. See `_is_forwarded`.
_OF_PROXIES: Final = frozenset(
    {
        "via",
        "x-real-ip",
        "cf-connecting-ip",
        "x-envoy-external-address",
    }
)
_OTHER_SITES: Final = ("cross-site", "same-site")


class Access:
    """Judges requests.

    Args:
        allowed: networks or addresses beside this machine, as `config.values.networks` takes them.
        names: by which the node may be called.
    """

    def __init__(self, allowed: Iterable[str], names: Names) -> None:
        self._allowed = tuple(ipaddress.ip_network(text) for text in allowed)
        self._names = names

    def refusal(self, request: Request) -> Reply | None:
        """Why a request is not answered; None where it is."""
        client = _ip_of(request.ends.client)
        if not any(client in network for network in self._allowed):
            if not client.is_loopback:
                return refusal(
                    403, "this is for the machine itself; --admin-allow lets other addresses in", is_last=True
                )
            if _is_forwarded(request):
                return refusal(
                    403,
                    "this came through a proxy, for somebody else; --admin-allow lets the proxy in",
                    is_last=True,
                )
        if not all(map(self._names.has, request.hosts)):
            return refusal(421, "this node is not known by that name; ask by its address, or as localhost")
        if _is_of_another_site(request):
            return refusal(403, "this is not for pages of other sites")
        return None


def _ip_of(client: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address at the other end of a socket; that of IPv4 at a socket for both kinds is one of IPv4."""
    address = ipaddress.ip_address(client.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _is_forwarded(request: Request) -> bool:
    return any(
        name in _OF_PROXIES or "forwarded" in name or name.endswith("client-ip") for name in request.fields
    )


def _is_of_another_site(request: Request) -> bool:
    """Whether a page of another site asks, other than by a link that somebody followed.

    By Fetch Metadata; and by Origin, which older browsers say where a script would read the answer.
    """
    own = {f"{scheme}://{host}".lower() for scheme in ("http", "https") for host in request.hosts}
    if any(origin.lower() not in own for origin in request.values("origin")):
        return True
    return any(
        site in _OTHER_SITES for site in request.values("sec-fetch-site")
    ) and "navigate" not in request.values("sec-fetch-mode")
