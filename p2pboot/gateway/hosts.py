"""Where the gateway is: the sockets it listens on, and the URLs under which clients reach it."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from p2pboot.config.values import is_passed
from p2pboot.errors import MachineError, machine_error
from p2pboot.transport.addresses import Address
from p2pboot.transport.interfaces import Interfaces, Reach, reachable
from p2pboot.transport.passed import PassedSockets

BACKLOG: Final = 1024  # connections that the kernel keeps while all tasks are busy
MAX_URLS: Final = 4
"""How many of the machine's addresses are advertised, the best ones. Each is in the manifest once for every artifact,
and a client tries them one after the other; the format has room for 16."""

# RFC 9110, section 7.2, as far as names and addresses that can stand in a URL and in a script need no quoting.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST: Final = re.compile(
    rf"(?P<name>{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]{{2,45}}\])(?::(?P<port>[0-9]{{1,5}}))?"
)
_MAX_HOST = 253 + len(":65535")


def is_host(text: str) -> bool:
    """Whether a Host field looks like a host name or an address, with or without a port.

    It goes into boot scripts and manifests: everything else is refused.
    """
    match = _HOST.fullmatch(text) if len(text) <= _MAX_HOST else None
    if match is None or not 0 < int(match["port"] or 80) <= 65535:
        return False
    if match["name"].startswith("["):
        return is_ip(match["name"][1:-1], 6)
    last = match["name"].rstrip(".").rpartition(".")[2]
    return not last.isdigit() or is_ip(match["name"], 4)


def is_ip(text: str, *versions: int) -> bool:
    """Whether a text is an IP address, without brackets; of one of these versions, if any are named."""
    with suppress(ValueError):
        return ipaddress.ip_address(text).version in (versions or (4, 6))
    return False


def open_sockets(where: str, passed: PassedSockets, *, option: str = "--http") -> tuple[socket.socket, ...]:
    """The sockets to listen on: opened here, or by the service manager.

    Args:
        where: as of `listen`, or `systemd:NAME` for those passed sockets, or `systemd` for all that nobody took.
        passed: what the service manager opened.
        option: by which it was said.

    Raises:
        MachineError: as of `listen`.
        UsageError: no such socket was passed, or something that does not listen.
    """
    if not is_passed(where):
        return (listen(where, option=option),)
    return passed.take(where.partition(":")[2] or None)


def listen(http: str, *, option: str = "--http") -> socket.socket:
    """Open the socket of a gateway, so that a port in use is known before anything else is started.

    Args:
        http: HOST:PORT, an IPv6 address in brackets. Port 0 is any free one.
        option: by which it was said.

    Raises:
        MachineError: the port is in use, or this machine has no such address.
    """
    host, _, port = http.rpartition(":")
    remedy = f"give {option} an address of this machine, such as 127.0.0.1:8080"
    try:
        found = socket.getaddrinfo(
            host.strip("[]"),
            int(port),
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV,
        )
    except socket.gaierror as error:
        raise MachineError(f"cannot listen on {http}: {error.strerror}", remedy=remedy) from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # Connections of a former run may linger.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # [::] takes IPv4 as well
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise machine_error(error, f"listen for HTTP on {http}") from None
    return listener


def on_loopback(http: str) -> str:
    """The same port where only this machine reaches it: on the loopback address of the kind that was named.

    Args:
        http: as of `listen`; a name stays what it is where it stands for a loopback address.
    """
    host, _, port = http.rpartition(":")
    bare = host.strip("[]")
    if bare == "localhost" or (is_ip(bare) and ipaddress.ip_address(bare).is_loopback):
        return http
    return f"[::1]:{port}" if is_ip(bare, 6) else f"127.0.0.1:{port}"


def own_addresses(listeners: Sequence[socket.socket], interfaces: Interfaces) -> tuple[Address, ...]:
    """The addresses on which sockets can be reached now, the best first: concrete ones, never a wildcard."""
    return reachable([address for listener in listeners for address in _bound(listener)], interfaces)


def _bound(listener: socket.socket) -> list[Address]:
    host, port, *_ = listener.getsockname()
    if listener.family == socket.AF_INET:
        return [Address("ip4", host, port)]
    bound = Address("ip6", host.partition("%")[0], port)
    if not bound.is_wildcard or listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return [bound]
    # It takes IPv4 as well.
    return [Address("ip4", "0.0.0.0", port), bound]  # noqa: S104 - is replaced by what it stands for


def lan_addresses(listeners: Sequence[socket.socket], interfaces: Interfaces) -> tuple[Address, ...]:
    """Where others on the network find sockets, the best first.

    Without the addresses that lead to this machine's own containers, which are the same on the next machine: unless
    there are no others.
    """
    own = own_addresses(listeners, interfaces)
    if len(own) < 2:
        return own
    inner = {str(one.ip) for one in interfaces.listing().addresses if one.reach is Reach.CONTAINER}
    lan = (address for address in own if address.host not in inner and not address.is_loopback)
    return tuple(lan) or own


def base_urls(addresses: Sequence[Address]) -> tuple[str, ...]:
    """Addresses as beginnings of URLs."""
    return tuple(base_url(address.host, address.port) for address in addresses)


def base_url(host: str, port: int) -> str:
    """`http://<host>:<port>`, without the port where it is the usual one."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}" if port == 80 else f"http://{shown}:{port}"


def port_of(listeners: Sequence[socket.socket]) -> int:
    """The TCP port that the first of the sockets listens on."""
    port: int = listeners[0].getsockname()[1]
    return port


def is_on_loopback(listener: socket.socket) -> bool:
    """Whether only this machine reaches a socket."""
    return ip_of(listener).is_loopback


def ip_of(listener: socket.socket) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that a socket is bound to, which may stand for all."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0])


def advertised(
    listeners: Sequence[socket.socket], configured: Sequence[str], interfaces: Interfaces
) -> tuple[str, ...]:
    """What goes into manifests: what the operator says, or else where we listen, the best first.

    Nothing while a gateway that listens everywhere has only loopback addresses: the network is not there yet, and what
    is signed now would lead every client to itself.
    """
    if configured:
        return tuple(configured)
    own = lan_addresses(listeners, interfaces)
    is_everywhere = any(ip_of(listener).is_unspecified for listener in listeners)
    told = [address for address in own if not (address.is_loopback and is_everywhere)]
    return base_urls(told[:MAX_URLS])
