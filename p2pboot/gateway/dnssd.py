"""Announces what the gateway offers on the local network: DNS-SD (RFC 6763), service `_phase-image._tcp`.

One instance for each channel and arch, with channel, arch, version and port as TXT records. It is a hint for finding a
gateway, nothing in it is signed. The library answers in a thread of its own; here is only what it shall say.

Machines of one name are common (installed from one image, or all called after their system), and several nodes may run
on one. So nothing here is made of the host's name alone: instances carry the end of the node's peer id, also because
two machines that are switched on together would both find the plain name free; and the host that they lead to is named
after the node, as only this node's addresses belong to it.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio
from zeroconf import Error as ZeroconfError
from zeroconf import InterfaceChoice, NonUniqueNameException, ServiceInfo, Zeroconf

from p2pboot.core.dataclass import dataclass
from p2pboot.core.events import Event
from p2pboot.core.manifest import Manifest
from p2pboot.core.names import is_next
from p2pboot.errors import P2PBootError
from p2pboot.gateway.hosts import lan_addresses, own_addresses, port_of
from p2pboot.gateway.names import host_name
from p2pboot.gateway.offers import Offers
from p2pboot.transport.interfaces import Interfaces

log = logging.getLogger(__name__)

SERVICE: Final = "_phase-image._tcp.local."
LOOK_S: Final = 5.0  # how often it is looked whether there is another version, or another address
_MAX_LABEL: Final = 63  # bytes of one label of a DNS name
_MAX_ADDRESSES: Final = 8  # so that an answer fits into one packet
_MAX_INTERFACES: Final = 16  # Linux lets a socket join 20 groups
_PEER_ID_END: Final = 6  # characters; all ids begin alike


@dataclass(frozen=True, slots=True)
class ServiceAnnouncement:
    """What is announced, of whom, and where it is.

    Args:
        offers: the manifests.
        provider: what the operator calls the node.
        peer_id: the node's identity.
        listeners: the gateway's sockets; those on the port of the first are announced.
        interfaces: tells the machine's addresses.
    """

    offers: Offers
    provider: str
    peer_id: str
    listeners: Sequence[socket.socket]
    interfaces: Interfaces

    def hosts(self) -> tuple[str, ...]:
        """The addresses to tell, the best first."""
        port = port_of(self.listeners)
        found = lan_addresses(self.listeners, self.interfaces)
        return tuple(address.host for address in found if address.port == port)[:_MAX_ADDRESSES]

    def spoken_from(self) -> tuple[str, ...]:
        """An address on each interface on which to speak; loopback where there is no other."""
        own = [
            address.host
            for address in own_addresses(self.listeners, self.interfaces)
            if not address.is_loopback
        ]
        indexes = {str(one.ip): one.index for one in self.interfaces.listing().addresses} if own else {}
        one_each: dict[object, str] = {}
        for host in own:
            one_each.setdefault((":" in host, indexes.get(host) or host), host)
        return tuple(one_each.values())[:_MAX_INTERFACES] or ("127.0.0.1",)


async def announce(announcement: ServiceAnnouncement) -> None:
    """Announce what is on offer, follow its changes and those of the addresses, until cancelled; then withdraw it.

    Where there is no multicast, a warning says so once, and it is tried again.
    """
    speaker = _Speaker(announcement)
    try:
        while True:
            await trio.to_thread.run_sync(speaker.follow)
            await trio.sleep(LOOK_S)
    finally:
        with trio.CancelScope(shield=True):  # bounded by the library: it says goodbye for 0.4 s
            await trio.to_thread.run_sync(speaker.close)


class _Speaker:
    """Says what there is to say at the moment; blocking."""

    def __init__(self, announcement: ServiceAnnouncement) -> None:
        self._announcement = announcement
        self._zeroconf: Zeroconf | None = None
        self._told: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self._announced: dict[tuple[str, str], ServiceInfo] = {}
        self._failed = False

    def follow(self) -> None:
        """Make what is announced equal to what is on offer, where it is."""
        where = (self._announcement.hosts(), self._announcement.spoken_from())
        # The library keeps to the interfaces that it began with.
        if where != self._told or self._zeroconf is None:
            self.close()
            self._told = where
            try:
                # Given addresses, the library asks for the interfaces again, by netlink; without, it speaks IPv4 on the
                # usual one.
                refused = self._announcement.interfaces.refused is not None
                self._zeroconf = Zeroconf(InterfaceChoice.Default if refused else list(where[1]))
            except (OSError, ZeroconfError, RuntimeError) as error:
                if not self._failed:
                    log.warning(
                        "the HTTP gateway is not announced on the local network: %s",
                        error,
                        extra=Event.DISCOVERY_FAILED(),
                    )
                self._failed = True
                return
            self._failed = False
        self._announce(self._zeroconf, where[0])

    def _announce(self, zeroconf: Zeroconf, addresses: Sequence[str]) -> None:
        try:
            offered = [offer.manifest for offer in self._announcement.offers.all()]
        except P2PBootError as error:
            log.debug("not announced: %s", error)
            return
        # Who is to boot what is rolled out into a channel asks for the channel.
        wanted = {(one.channel, one.arch): one for one in offered if not is_next(one.channel)}
        for pair in self._announced.keys() - wanted.keys():
            zeroconf.unregister_service(self._announced.pop(pair))
        for pair, manifest in wanted.items():
            known = self._announced.get(pair)
            # Under the name that was free when it was registered.
            name = None if known is None else known.name
            info = describe(manifest, self._announcement, addresses, name=name)
            with suppress(NonUniqueNameException):  # another node of that name: not even a suffix was free
                if known is None:
                    zeroconf.register_service(info, allow_name_change=True)
                elif known.text != info.text:
                    zeroconf.update_service(info)
                else:
                    continue
                self._announced[pair] = info

    def close(self) -> None:
        """Withdraw everything."""
        self._announced.clear()
        if self._zeroconf is not None:
            self._zeroconf.close()
            self._zeroconf = None


def describe(
    manifest: Manifest,
    announcement: ServiceAnnouncement,
    addresses: Sequence[str],
    *,
    name: str | None = None,
) -> ServiceInfo:
    """What is said of one manifest; under this name, if it has one already."""
    port = port_of(announcement.listeners)
    return ServiceInfo(
        SERVICE,
        name or f"{_instance(announcement, manifest)}.{SERVICE}",
        port=port,
        properties={
            "channel": manifest.channel,
            "arch": manifest.arch,
            "version": manifest.version,
            "http_port": str(port),
        },
        server=host_name(announcement.peer_id),
        addresses=[ipaddress.ip_address(address).packed for address in addresses],
    )


def _instance(announcement: ServiceAnnouncement, manifest: Manifest) -> str:
    """A name for people, and the node's own; where it is taken, the library puts a number behind it."""
    provider = _label(announcement.provider.replace(".", " "), 24)
    end = f" {announcement.peer_id[-_PEER_ID_END:]}"
    return _label(f"{provider} {manifest.channel} {manifest.arch}", _MAX_LABEL - len(f"{end}-99")) + end


def _label(text: str, max_bytes: int = _MAX_LABEL) -> str:
    """As much of a text as fits into one label."""
    return text.encode()[:max_bytes].decode(errors="ignore")
