"""Where a client reached the gateway: the beginning of the URLs in boot scripts and in the view for Phase's tools.

Of what says something about it, the first counts:

1. the operator: `--advertise-http`;
2. a proxy whose address the operator named with `--trusted-proxy`: `X-Forwarded-*`, or else `Forwarded` (RFC 7239);
3. the `Host` field;
4. the socket's own address, for HTTP/1.0 without that field.

Anybody can send the fields of a proxy. Believed from anybody, they would let a client have a cache in between hand out
a script that names other machines; so what is not from a trusted proxy is as if it were not there.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from p2pboot.core.dataclass import dataclass
from p2pboot.core.origins import ip_of
from p2pboot.gateway.hosts import base_url, is_host
from p2pboot.gateway.request import Fields, Request

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PORT: Final = re.compile(r"[0-9]{1,5}")
# An address, perhaps with a port; an IPv6 address that has one is in brackets.
_ADDRESS: Final = re.compile(
    r"\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?|([0-9.]{7,15})(?::[0-9]{1,5})?|([0-9A-Fa-f:.]{2,45})"
)
_OWN_PORT: Final = re.compile(r".*:[0-9]+")  # of a host; an IPv6 address ends with a bracket
# Segments as in names, none of dots only: it goes into scripts as it is.
_PREFIX: Final = re.compile(r"(?:/(?!\.+(?:/|\Z))[A-Za-z0-9._-]{1,64}){1,8}/?")
# One `name=value` of Forwarded and what ends it. A value with a colon should be quoted, and in practice is not always.
_FORWARDED_PAIR: Final = re.compile(
    r'[ \t]*(?:(?P<name>[A-Za-z0-9_-]+)=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^ \t",;]+)))?[ \t]*(?P<end>[;,]|\Z)'
)


@dataclass(frozen=True, slots=True)
class _Told:
    """What a proxy says of the client's request; None or empty where it says nothing, or nothing that can be."""

    scheme: str | None = None
    host: str | None = None
    prefix: str = ""


class Bases:
    """Finds the beginning of the URLs for each request.

    Args:
        advertised: by the operator; beginnings of URLs, without a slash at the end.
        proxies: networks or addresses whose forwarding fields are believed, as `config.values.networks` takes them.
    """

    def __init__(self, advertised: Sequence[str] = (), proxies: Iterable[str] = ()) -> None:
        self._advertised = tuple(advertised)
        self._proxies = tuple(ipaddress.ip_network(text) for text in proxies)

    def of(self, request: Request) -> str:
        """The beginning of URLs for one request: `http://boot.example:8080`."""
        told = _read(request.fields, request.host) if self.is_proxy(request.ends.client) else _Told()
        host = told.host or request.host
        if self._advertised:
            return self._advertise(host, told.scheme)
        if host is None:
            return base_url(*request.ends.own)
        return f"{told.scheme or 'http'}://{host}{told.prefix}"

    def client_of(self, request: Request) -> str:
        """The IP address of who asks: what a trusted proxy says last, or else the connection's other end."""
        if not self.is_proxy(request.ends.client):
            return request.ends.client
        said = ",".join(request.fields.get("x-forwarded-for", ())) or _last_forwarded(
            ",".join(request.fields.get("forwarded", ()))
        ).get("for", "")
        found = _ADDRESS.fullmatch(said.rpartition(",")[2].strip(" \t"))
        ip = None if found is None else ip_of(found[1] or found[2] or found[3])
        return request.ends.client if ip is None else str(ip)

    def is_proxy(self, client: str) -> bool:
        """Whether an address is of a proxy that the operator trusts."""
        if not self._proxies:
            return False
        address = ipaddress.ip_address(client.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # an IPv4 client of a socket for both
        return any(address in network for network in self._proxies)

    def _advertise(self, host: str | None, scheme: str | None) -> str:
        """The one by which the client came, as far as can be told, or else the first."""
        wanted = urlsplit(f"//{host}") if host else None

        def likeness(base: str) -> tuple[int, bool]:
            parts = urlsplit(base)
            if (
                wanted is None
                or parts.hostname is None
                or _bare(parts.hostname) != _bare(wanted.hostname or "")
            ):
                return 0, False
            return 2 if parts.netloc.lower() == wanted.netloc.lower() else 1, parts.scheme == scheme

        return max(self._advertised, key=likeness)  # of several that are alike, the first


def _bare(hostname: str) -> str:
    return hostname.lower().rstrip(".")


def _read(fields: Fields, host: str | None) -> _Told:
    """What a trusted proxy says; of several values in one field the last, which it wrote itself."""

    def last(name: str) -> str:
        return ",".join(fields.get(name, ())).rpartition(",")[2].strip(" \t")

    scheme, forwarded_host, port = (last(f"x-forwarded-{name}") for name in ("proto", "host", "port"))
    if not (scheme or forwarded_host or port):
        said = _last_forwarded(",".join(fields.get("forwarded", ())))
        scheme, forwarded_host = said.get("proto", ""), said.get("host", "")
    known_scheme = scheme.lower() if scheme.lower() in _DEFAULT_PORTS else None
    known_host = forwarded_host if is_host(forwarded_host) else host
    if known_host is not None:
        known_host = _with_port(known_host, port, known_scheme or "http")
    prefix = last("x-forwarded-prefix")
    return _Told(known_scheme, known_host, prefix.rstrip("/") if _PREFIX.fullmatch(prefix) else "")


def _with_port(host: str, port: str, scheme: str) -> str:
    """The host with the port that a proxy names apart from it, as nginx's `$host` needs it."""
    if _OWN_PORT.fullmatch(host) or not _PORT.fullmatch(port) or not 0 < int(port) <= 65535:
        return host
    return host if int(port) == _DEFAULT_PORTS[scheme] else f"{host}:{int(port)}"


def _last_forwarded(text: str) -> dict[str, str]:
    """The parameters of the last element of a `Forwarded` field, by lower-case name; none of one that is no such."""
    element: dict[str, str] = {}
    last: dict[str, str] = {}
    position = 0
    while position < len(text):
        pair = _FORWARDED_PAIR.match(text, position)
        if pair is None:
            return {}
        if pair["name"] is not None:
            name = pair["name"].lower()
            if name in element:
                return {}  # which of the two would it be?
            element[name] = pair["bare"] or re.sub(r"\\(.)", r"\1", pair["quoted"] or "")
        if element:
            last = element
        if pair["end"] == ",":
            element = {}
        position = pair.end()
    return last
