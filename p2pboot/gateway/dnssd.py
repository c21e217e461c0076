"""Announces what the gateway offers on the local network: DNS-SD (RFC 6763), service `_phase-image._tcp`.

One instance for each channel and arch, with channel, arch, version and port as TXT records. It is a hint for finding a
gateway, nothing in it is signed. The library answers in a thread of its own; here is only what it shall say.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import trio
from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, NonUniqueNameException, ServiceInfo, Zeroconf

from p2pboot.core.manifest import Manifest
from p2pboot.errors import P2PBootError
from p2pboot.gateway.hosts import base_urls, port_of
from p2pboot.gateway.offers import Offers

log = logging.getLogger(__name__)

SERVICE: Final = "_phase-image._tcp.local."
LOOK_S: Final = 5.0  # how often it is looked whether there is another version
_MAX_LABEL: Final = 63  # bytes of one label of a DNS name


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is announced, of whom, and where it is.

    Args:
        offers: the manifests.
        provider: what the operator calls the node.
        listener: the gateway's socket.
    """

    offers: Offers
    provider: str
    listener: socket.socket


async def announce(announcement: Announcement) -> None:
    """Announce what is on offer, and follow its changes, until cancelled; then withdraw it.

    Where there is no multicast, a warning says so and nothing is announced.
    """
    addresses = ip_addresses(announcement.listener)
    try:
        zeroconf = await trio.to_thread.run_sync(_open, addresses)
    except (OSError, ZeroconfError, RuntimeError) as error:
        log.warning("the HTTP gateway is not announced on the local network: %s", error)
        return
    announced: dict[tuple[str, str], ServiceInfo] = {}
    try:
        while True:
            await trio.to_thread.run_sync(_follow, zeroconf, announcement, addresses, announced)
            await trio.sleep(LOOK_S)
    finally:
        with trio.CancelScope(shield=True):  # bounded by the library: it says goodbye for 0.4 s
            await trio.to_thread.run_sync(zeroconf.close)


def ip_addresses(listener: socket.socket) -> list[str]:
    """The IP addresses under which a gateway can be reached."""
    hosts = [urlsplit(url).hostname for url in base_urls(listener)]
    return [host for host in hosts if host is not None]


def _open(addresses: list[str]) -> Zeroconf:
    return Zeroconf(
        interfaces=[address for address in addresses if "." in address] or ["127.0.0.1"],
        ip_version=IPVersion.V4Only,
    )


def _follow(
    zeroconf: Zeroconf,
    announcement: Announcement,
    addresses: list[str],
    announced: dict[tuple[str, str], ServiceInfo],
) -> None:
    """Make what is announced equal to what is on offer; blocking."""
    try:
        manifests = [offer.manifest for offer in announcement.offers.all()]
    except P2PBootError as error:
        log.debug("not announced: %s", error)
        return
    wanted = {(one.channel, one.arch): one for one in manifests}
    for pair in announced.keys() - wanted.keys():
        zeroconf.unregister_service(announced.pop(pair))
    for pair, manifest in wanted.items():
        info = describe(manifest, announcement.provider, port_of(announcement.listener), addresses)
        known = announced.get(pair)
        with suppress(NonUniqueNameException):  # another node of that name: not even a suffix was free
            if known is None:
                zeroconf.register_service(info, allow_name_change=True)
                announced[pair] = info
            elif known.text != info.text:
                zeroconf.update_service(info := _renamed(info, known.name))
                announced[pair] = info


def _renamed(info: ServiceInfo, name: str) -> ServiceInfo:
    """The same under the name that was free when it was registered."""
    return ServiceInfo(
        SERVICE,
        name,
        port=info.port,
        properties=info.properties,
        server=info.server,
        addresses=info.addresses,
    )


def describe(manifest: Manifest, provider: str, port: int, addresses: list[str]) -> ServiceInfo:
    """What is said of one manifest."""
    return ServiceInfo(
        SERVICE,
        f"{_instance(provider, manifest)}.{SERVICE}",
        port=port,
        properties={
            "channel": manifest.channel,
            "arch": manifest.arch,
            "version": manifest.version,
            "http_port": str(port),
        },
        server=f"{_label(socket.gethostname().split('.')[0]) or 'p2pboot'}.local.",
        addresses=[ipaddress.ip_address(address).packed for address in addresses],
    )


def _instance(provider: str, manifest: Manifest) -> str:
    """A name for people; where it is taken, the library puts a number behind it."""
    provider = _label(provider.replace(".", " "), 24)
    return _label(f"{provider} {manifest.channel} {manifest.arch}", _MAX_LABEL - len("-99"))


def _label(text: str, max_bytes: int = _MAX_LABEL) -> str:
    """As much of a text as fits into one label."""
    return text.encode()[:max_bytes].decode(errors="ignore")
