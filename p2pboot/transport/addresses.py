"""The multiaddrs that p2pboot dials and listens on.

``/ip4|ip6|dns|dns4|dns6/<host>/tcp/<port>[/p2p/<peer id>]``, with ``/ip6zone/<interface>`` before a link-local one,
which means something on this machine alone; and ``/dnsaddr/<name>[/p2p/<peer id>]``, which stands for some of these:
see https://github.com/multiformats/multiaddr. They are read and written, and lists of them cleaned. Which addresses
this machine has is told by `interfaces`. Imports neither libp2p nor trio, so that a command refuses a bad address at
once, by name, and not later by a dial that never succeeds.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import UsageError

MAX_ADDRESS_LENGTH: Final = 400  # a DNS name has at most 253 characters
_REMEMBERED: Final = 1024  # each peer says and is told the same ones many times, and reading one takes 50 µs
_REMEDY: Final = "give it as /ip4/192.0.2.1/tcp/4001, with /p2p/<peer id> at the end where the peer is known"
_IP_VERSIONS: Final = {"ip4": 4, "ip6": 6}
_DNS: Final = frozenset({"dns", "dns4", "dns6"})
DNSADDR: Final = "dnsaddr"
"""The kind of an address that stands for others, which are found in DNS (`transport.names`)."""

_DNS_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_PORT: Final = re.compile(r"0|[1-9][0-9]{0,4}")
# An interface's name, as long as Linux has them, or its number.
_ZONE: Final = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")
_PEER_ID: Final = re.compile(r"12D3KooW[1-9A-HJ-NP-Za-km-z]{44}|Qm[1-9A-HJ-NP-Za-km-z]{44}")


@dataclass(frozen=True, slots=True)
class Address:
    """One multiaddr over TCP.

    Args:
        kind: ``ip4``, ``ip6``, ``dns``, ``dns4``, ``dns6`` or ``dnsaddr``.
        host: IP address in its canonical text form, or DNS name; a link-local one may have its zone: ``fe80::1%eth0``.
        port: 0 to 65535; 0 only makes sense for listening, and for ``dnsaddr``, which has none.
        peer_id: base58 peer id, or None when not named.
    """

    kind: str
    host: str
    port: int
    peer_id: str | None = None

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP address and not a name."""
        return self.kind in _IP_VERSIONS

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for all of the machine's addresses (``0.0.0.0`` or ``::``)."""
        return self.is_ip and _ip_of(self.host).is_unspecified

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can dial it."""
        return self.is_ip and _meant_by(self.host).is_loopback

    @property
    def is_link_local(self) -> bool:
        """Whether it means something on one link only."""
        return self.is_ip and _meant_by(self.host).is_link_local

    @property
    def is_dialable(self) -> bool:
        """Whether a stranger's word for it is worth a dial: a unicast address with a port.

        A ``dnsaddr`` is not: whoever owns it may have us ask any number of resolvers for it.
        """
        if self.port == 0:
            return False
        if not self.is_ip:
            return True
        ip = _meant_by(self.host)
        return not (ip.is_unspecified or ip.is_multicast or ip.is_link_local)

    @property
    def is_dialable_here(self) -> bool:
        """Whether it is link-local and says on which link, so that the operator of this machine may name it."""
        return self.port != 0 and self.is_link_local and (self.kind == "ip4" or "%" in self.host)

    def with_peer(self, peer_id: str | None) -> Address:
        """Return the same address naming `peer_id`, or no peer."""
        return replace(self, peer_id=peer_id)

    def __str__(self) -> str:
        suffix = f"/p2p/{self.peer_id}" if self.peer_id else ""
        if self.kind == DNSADDR:
            return f"/{self.kind}/{self.host}{suffix}"
        host, _, zone = self.host.partition("%")
        prefix = f"/ip6zone/{zone}" if zone else ""
        return f"{prefix}/{self.kind}/{host}/tcp/{self.port}{suffix}"


def parse_address(text: str) -> Address:
    """Read a multiaddr.

    Raises:
        UsageError: not a multiaddr, or one that p2pboot cannot use; the message says which part.
    """
    text = text.strip()
    if len(text) > MAX_ADDRESS_LENGTH or not text.startswith("/"):
        raise UsageError(f"{text[:120]!r} is not a multiaddr", remedy=_REMEDY)
    return _parse(text)


@lru_cache(maxsize=_REMEMBERED)
def _parse(text: str) -> Address:
    shown = repr(text[:120])
    parts = text.rstrip("/").split("/")[1:]
    if parts and parts[0] == DNSADDR:
        if len(parts) not in {2, 4} or parts[2:3] not in ([], ["p2p"], ["ipfs"]):
            raise UsageError(
                f"{shown}: a dnsaddr is a name, and maybe a peer",
                remedy="give it as /dnsaddr/boot.example.net",
            )
        return Address(DNSADDR, _host("dns", parts[1], shown), 0, _peer_of(parts[3:], shown))
    zone = parts[1] if len(parts) > 2 and parts[0] == "ip6zone" else ""
    if zone:
        parts = parts[2:]
    if len(parts) not in {4, 6} or parts[2] != "tcp" or (len(parts) == 6 and parts[4] not in {"p2p", "ipfs"}):
        raise UsageError(f"{shown} is not an address over TCP", remedy=_REMEDY)
    host = _host(parts[0], parts[1], shown)
    if zone:
        host = _zoned(parts[0], host, zone, shown)
    if _PORT.fullmatch(parts[3]) is None or int(parts[3]) > 65535:
        raise UsageError(f"{shown}: {parts[3][:20]!r} is no TCP port", remedy="give a port from 0 to 65535")
    return Address(parts[0], host, int(parts[3]), _peer_of(parts[5:], shown))


def _peer_of(rest: Sequence[str], shown: str) -> str | None:
    """The peer id at the end of an address, if there is one."""
    if not rest:
        return None
    if _PEER_ID.fullmatch(rest[0]) is None:
        raise UsageError(
            f"{shown}: {rest[0][:60]!r} is no peer id", remedy="copy the whole address, 12D3KooW…"
        )
    return rest[0]


def _host(kind: str, host: str, shown: str) -> str:
    if kind in _DNS:
        if len(host) > 253 or _DNS_NAME.fullmatch(host) is None:
            raise UsageError(f"{shown}: {host[:60]!r} is no host name", remedy=_REMEDY)
        return host
    if kind not in _IP_VERSIONS:
        raise UsageError(f"{shown}: {kind[:20]!r} addresses are not supported", remedy=_REMEDY)
    try:
        ip = _ip_of(host)
    except ValueError:
        ip = None
    if ip is None or ip.version != _IP_VERSIONS[kind] or "%" in host:
        version = "IPv4" if kind == "ip4" else "IPv6"
        raise UsageError(f"{shown}: {host[:60]!r} is no {version} address", remedy=_REMEDY)
    return str(ip)


def _zoned(kind: str, host: str, zone: str, shown: str) -> str:
    if kind != "ip6" or not _ip_of(host).is_link_local:
        raise UsageError(f"{shown}: only a link-local IPv6 address has a zone", remedy=_REMEDY)
    if not can_be_zone(zone):
        raise UsageError(f"{shown}: {zone[:20]!r} is no name of an interface", remedy=_REMEDY)
    return f"{host}%{zone}"


def can_be_zone(interface: str) -> bool:
    """Whether an interface's name can stand in an address; otherwise its number can."""
    return _ZONE.fullmatch(interface) is not None


@lru_cache(maxsize=_REMEMBERED)
def _ip_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(host)


def parse_listen_address(text: str) -> Address:
    """Read a multiaddr to listen on: an IP address, with port 0 for any free one, without a peer id.

    Raises:
        UsageError: as `parse_address`; also a DNS name or a peer id.
    """
    address = parse_address(text)
    if not address.is_ip:
        raise UsageError(
            f"cannot listen on the name in {text!r}", remedy="give an IP address of this machine"
        )
    if address.peer_id is not None:
        raise UsageError(f"an address to listen on has no peer id: {text!r}", remedy="leave /p2p/… out")
    return address


def can_listen(kind: str) -> bool:
    """Whether this machine, and this process, has IPv4 (``ip4``) or IPv6 (``ip6``) at all; addresses or not."""
    family, any_host = (socket.AF_INET6, "::") if kind == "ip6" else (socket.AF_INET, "0.0.0.0")  # noqa: S104
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((any_host, 0))
    except OSError:
        return False
    return True


def _meant_by(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Where a connection goes: with `::ffff:127.0.0.1` to this machine, over IPv4."""
    ip = _ip_of(host)
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip


def known_dialable(texts: Iterable[str], *, limit: int) -> tuple[str, ...]:
    """Keep at most `limit` of a stranger's addresses: well-formed, dialable, each once, in their order.

    An address that is there with and without its peer is one: the form that names the peer is kept, as a dial by it can
    not reach somebody else.
    """
    named: dict[Address, set[str | None]] = {}
    for address in _well_formed(texts):
        if address.is_dialable:
            named.setdefault(_endpoint(address), set()).add(address.peer_id)
    kept = (
        str(endpoint.with_peer(peer_id))
        for endpoint, peers in named.items()
        for peer_id in (sorted(filter(None, peers)) or (None,))
    )
    return tuple(islice(kept, limit))


def _endpoint(address: Address) -> Address:
    """The address alone, spelt one way: without its peer, and a name in lower case and without the root's dot."""
    host = address.host if address.is_ip else address.host.lower().rstrip(".")
    return replace(address, host=host, peer_id=None)


def of_peer(texts: Iterable[str], peer_id: str) -> Iterable[str]:
    """Have every address name a peer; those that name another one are left out, and so is what is no address."""
    for address in _well_formed(texts):
        if address.peer_id in {None, peer_id}:
            yield str(address.with_peer(peer_id))


def _well_formed(texts: Iterable[str]) -> Iterator[Address]:
    for text in texts:
        with suppress(UsageError):
            yield parse_address(text)
