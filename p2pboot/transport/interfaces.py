"""This machine's own addresses, the ones that lead to other machines first.

Which of its addresses a machine should tell is a question of reach and not of spelling: what it would itself speak from
comes first, what leads to containers and virtual machines inside of it last. Every list of own addresses (printed,
announced, advertised, signed) is made from this one, so that a bound on it keeps the useful ones.

`order_by_reach` decides, from facts that are handed to it; `list_own` gathers the facts from the kernel: by netlink, or
where a service may not open such sockets (systemd's `RestrictAddressFamilies=`), by older calls and /proc. Imports
neither libp2p nor trio.
"""

from __future__ import annotations

import enum
import ipaddress
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.transport.addresses import Address

LOOK_AGAIN_S: Final = (
    1.0  # a look costs about a millisecond; who asks all the time gets the last one's result
)

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address

# Connecting a UDP socket sends nothing, but the kernel chooses the address that it would speak from. Of the networks
# that are reserved for documentation the ones that are seldom borrowed for a laboratory.
_FAR_AWAY: Final = {socket.AF_INET: "203.0.113.254", socket.AF_INET6: "2001:db8:ffff:ffff::1"}

_UNIQUE_LOCAL: Final = ipaddress.IPv6Network("fc00::/7")

_SYS_NET: Final = Path("/sys/class/net")
_IF_INET6: Final = Path("/proc/self/net/if_inet6")
_SIOCGIFCONF: Final = 0x8912
_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFNETMASK: Final = 0x891B
_IFF_POINTOPOINT: Final = 0x10
_IFF_RUNNING: Final = 0x40
_IFREQ_BYTES: Final = 40
_MAX_IFREQS: Final = 1024
_TEMPORARY, _DADFAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x08, 0x20, 0x40  # <linux/if_addr.h>
# <linux/netlink.h>, <linux/rtnetlink.h>, <linux/if_addr.h>
_MESSAGE: Final = struct.Struct("=IHHII")  # length, kind, flags, number, from whom
_ADDRESS: Final = struct.Struct("=BBBBI")  # family, prefix, flags, scope, interface
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, kind
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE, _RTM_NEWADDR, _RTM_GETADDR = 2, 3, 20, 22
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NETLINK_BYTES: Final = 65536  # the kernel puts less into one answer
_MAX_ALONE: Final = 32  # interfaces without an address of their own that are looked at
_MAX_STACKED: Final = 4  # a VLAN on a bond on two cards has three levels

# Only where the kernel does not say what an interface is, and to tell a container's bridge from other bridges.
_CONTAINER_NAME: Final = re.compile(
    r"docker|br-[0-9a-f]{12}$|virbr|vnet\d|veth|vboxnet|vmnet|tap\d|cni|flannel|cali|cilium|weave|kube|podman|nerdctl"
    r"|lxc|lxd|incus|vif\d|ifb\d"
)
_TUNNEL_NAME: Final = r"tun\d|wg|ppp\d|tailscale|zt[0-9a-z]{8}|utun\d|gre|sit\d|ipip"


class Reach(enum.IntEnum):
    """What an address is good for, the best first."""

    ROUTED = 0  # on the interface by which this machine itself reaches the rest of the world
    PHYSICAL = 1  # on a network card, or on a VLAN or bond of cards
    OTHER = 2  # on something else that is no bridge: in a container this is the network
    BRIDGED = 3  # on a bridge that a network card is part of
    TUNNEL = 4  # on a link to one other machine or network: a VPN, a dial-up line
    BRIDGE = 5  # on a bridge without a network card
    DOWN = 6  # on an interface without a carrier: no cable, or nobody at its other end
    CONTAINER = 7  # on what connects this machine with containers and virtual machines inside of it
    LOOPBACK = 8  # for this machine alone


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of an interface.

    Args:
        name: as the kernel calls it; empty where it is not known which interface an address is on.
        index: the kernel's number, 0 where it is not known.
        is_physical: a network card, or what stands on one, such as a VLAN, a bond, or a bridge with one in it.
        is_bridge: it connects other interfaces.
        is_tunnel: it leads to one other end.
        has_carrier: something is at its other end.
    """

    name: str
    index: int = 0
    is_physical: bool = False
    is_bridge: bool = False
    is_tunnel: bool = False
    has_carrier: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """One address of an interface, as the kernel lists it.

    Args:
        ip: the address.
        card: the interface.
        is_fading: it is still good, but not to be told any more.
        prefix: bits of it that name the subnet; None where nobody said.
    """

    ip: _IP
    card: Card
    is_fading: bool = False
    prefix: int | None = None


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """One address of this machine, what it is good for, and how many bits name its subnet, where that is known."""

    ip: _IP
    interface: str
    index: int
    reach: Reach
    prefix: int | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """This machine's addresses at one moment.

    Args:
        addresses: the best first, loopback last; no link-local ones, which mean nothing without an interface's name.
        refused: the system's words where it did not let this process ask by netlink: some may be missing then.
        link_local: those, the best first: only for who is on the same link.
    """

    addresses: tuple[OwnAddress, ...]
    refused: str | None = None
    link_local: tuple[OwnAddress, ...] = ()

    @property
    def is_alone(self) -> bool:
        """Whether no other machine could speak to this one."""
        return self.refused is None and all(one.reach is Reach.LOOPBACK for one in self.addresses)

    @property
    def is_unplugged(self) -> bool:
        """Whether there would be addresses for others, but nothing is at the other end of any of their interfaces."""
        outer = [one for one in self.addresses if one.reach is not Reach.LOOPBACK]
        return bool(outer) and all(one.reach is Reach.DOWN for one in outer)


class Interfaces:
    """The machine's addresses, looked at again when the last look is older than a second.

    Args:
        look: lists them.
        now: a clock in seconds.
    """

    def __init__(
        self, look: Callable[[], Listing] | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = list_own if look is None else look
        self._now = now
        self._last: tuple[float, Listing] | None = None

    def listing(self) -> Listing:
        """The addresses as they are now, or were a second ago."""
        now = self._now()
        if self._last is None or now - self._last[0] >= LOOK_AGAIN_S:
            self._last = (now, self._look())
        return self._last[1]

    def forget(self) -> None:
        """Look again when somebody asks next: something has changed."""
        self._last = None

    @property
    def refused(self) -> str | None:
        """Why the last look may not have seen everything; None also when nobody needed one."""
        return None if self._last is None else self._last[1].refused

    @property
    def is_alone(self) -> bool:
        """Whether no other machine could speak to this one, as of the last look; False also when nobody needed one."""
        return self._last is not None and self._last[1].is_alone

    @property
    def is_unplugged(self) -> bool:
        """As of the last look, whether nothing is at the other end of any interface."""
        return self._last is not None and self._last[1].is_unplugged


def reachable(listening: Sequence[Address], interfaces: Interfaces) -> tuple[Address, ...]:
    """Where others can dial what listens on these addresses, the best first.

    A wildcard stands for the addresses that the machine has now. Loopback is left out of it unless there is nothing
    else at all: nobody but this machine could dial it. Addresses are only looked at where something depends on them.
    """
    if len(listening) < 2 and not any(address.is_wildcard for address in listening):
        return tuple(listening)
    own = interfaces.listing().addresses
    places = {str(one.ip): place for place, one in reversed(list(enumerate(own)))}
    named = [address for address in listening if not address.is_wildcard]
    expanded = [
        replace(wildcard, host=str(one.ip))
        for wildcard in listening
        if wildcard.is_wildcard
        for one in own
        if one.ip.version == (6 if wildcard.kind == "ip6" else 4)
    ]
    useful = [*named, *(address for address in expanded if not address.is_loopback)]
    found = sorted(
        useful or expanded, key=lambda address: (address.is_loopback, places.get(address.host, len(places)))
    )
    return tuple(dict.fromkeys(found))


def order_by_reach(found: Iterable[Found], sources: Collection[_IP]) -> tuple[OwnAddress, ...]:
    """Sort a machine's addresses.

    Of one reach IPv4 and IPv6 take turns, so that a short list has both; among those of one version addresses for the
    world come before those for a site, the one that the kernel would speak from first, and else the numbers decide.

    Args:
        found: multicast addresses among them are left out.
        sources: what the kernel would speak from to the rest of the world.
    """
    usable = [one for one in found if not (one.ip.is_multicast or one.ip.is_unspecified)]
    routed = {one.card.name for one in usable if one.ip in sources}
    by_reach: dict[Reach, list[Found]] = {}
    for one in usable:
        by_reach.setdefault(_reach(one, routed), []).append(one)

    def preference(one: Found) -> tuple[bool, bool, bool, bool, int]:
        is_idle = _reach(one, routed) is Reach.BRIDGE and not one.card.has_carrier
        is_of_a_site = one.ip.version == 6 and one.ip in _UNIQUE_LOCAL
        return one.is_fading, is_idle, is_of_a_site, one.ip not in sources, int(one.ip)

    ordered: list[OwnAddress] = []
    for reach, several in sorted(by_reach.items()):
        four, six = (sorted((one for one in several if one.ip.version == v), key=preference) for v in (4, 6))
        turns = chain.from_iterable(zip_longest(four, six))
        ordered += (
            OwnAddress(one.ip, one.card.name, one.card.index, reach, one.prefix)
            for one in turns
            if one is not None
        )
    return tuple(dict.fromkeys(ordered))


def _reach(one: Found, routed: Collection[str]) -> Reach:
    card = one.card
    is_container = not card.is_physical and _CONTAINER_NAME.match(card.name) is not None
    if one.ip.is_loopback:
        return Reach.LOOPBACK
    if card.is_tunnel:  # also when all traffic goes through it: the local network is not behind it
        return Reach.TUNNEL
    # A bridge has a carrier while something is plugged into it, such as a running container: that changes all the time.
    if not card.has_carrier and not is_container and (card.is_physical or not card.is_bridge):
        return Reach.DOWN
    if card.name in routed:
        return Reach.ROUTED
    if card.is_physical:
        return Reach.BRIDGED if card.is_bridge else Reach.PHYSICAL
    return Reach.CONTAINER if is_container else Reach.BRIDGE if card.is_bridge else Reach.OTHER


def list_own() -> Listing:
    """Ask the kernel for this machine's addresses; a few system calls, raises nothing."""
    refused = None
    try:
        listed = _ask_netlink()
    except OSError as error:
        refused = error.strerror or str(error)
        listed = _ask_without_netlink()
    sources = [source for family in _FAR_AWAY if (source := _source(family)) is not None]
    if refused is not None:  # whatever else was found, these are there
        known = {ip for _, ip, _ in listed}
        certain: list[_IP] = [*sources, ipaddress.IPv4Address("127.0.0.1")]
        listed += [("", ip, None) for ip in certain if ip not in known]
    # Two interfaces may have the same link-local address.
    flags = {(name, ip): flags for name, ip, flags, _ in _ipv6_addresses()}
    named = {name for name, ip, _ in listed if not ip.is_link_local}
    cards = {name: _describe(name) for name in {*named, *_links_alone(listed, named)}}
    found = [
        Found(ip, cards[name], is_fading=bool(flags.get((name, ip), 0) & _DEPRECATED), prefix=prefix)
        for name, ip, prefix in listed
        # A temporary address is for asking, not for being asked, and gone tomorrow (RFC 8981); a tentative one is not
        # in use yet, and may be somebody else's.
        if name in cards and not flags.get((name, ip), 0) & (_TEMPORARY | _TENTATIVE | _DADFAILED)
    ]
    ordered = order_by_reach(found, sources)
    return Listing(
        tuple(one for one in ordered if not one.ip.is_link_local),
        refused,
        tuple(one for one in ordered if one.ip.is_link_local),
    )


def _links_alone(listed: Iterable[tuple[str, _IP, int | None]], named: Collection[str]) -> list[str]:
    """Interfaces with a link-local address only, containers' last.

    Without ports of bridges and members of bonds, of which a host with a hundred containers has a hundred: who is
    behind them is reached through what they belong to.
    """
    alone = {name for name, ip, _ in listed if ip.is_link_local and name and name not in named}
    free = [name for name in alone if not (_SYS_NET / name / "master").exists()]
    free.sort(key=lambda name: (_CONTAINER_NAME.match(name) is not None, name))
    return free[:_MAX_ALONE]


def _source(family: socket.AddressFamily) -> _IP | None:
    """The address from which the kernel would speak to the rest of the world; None where no route leads there."""
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((_FAR_AWAY[family], 9))
        return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0])
    return None


def _ask_netlink() -> list[tuple[str, _IP, int | None]]:
    """Interfaces' names, addresses and prefixes; OSError where the kernel is not to be asked."""
    listed: list[tuple[str, _IP, int | None]] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        size = _MESSAGE.size + _ADDRESS.size
        header = _MESSAGE.pack(size, _RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0)
        kernel.send(header + bytes(_ADDRESS.size))
        while True:
            answer = memoryview(kernel.recv(_NETLINK_BYTES))
            while answer:
                length, kind, _, _, _ = _MESSAGE.unpack_from(answer)
                said, answer = answer[_MESSAGE.size : length], answer[_aligned(length) :]
                if kind == _NLMSG_DONE:
                    return listed
                if kind == _NLMSG_ERROR:
                    number = -struct.unpack_from("i", said)[0]
                    raise OSError(number, os.strerror(number))
                if kind == _RTM_NEWADDR and (one := _read_address(said)) is not None:
                    listed.append(one)


def _read_address(said: memoryview) -> tuple[str, _IP, int] | None:
    """One address as netlink tells it; None for those of another family, and of an interface that is just gone."""
    family, prefix, _, _, index = _ADDRESS.unpack_from(said)
    attributes = {}
    rest = said[_ADDRESS.size :]
    while rest:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        attributes[kind] = bytes(rest[_ATTRIBUTE.size : length])
        rest = rest[_aligned(length) :]
    raw = attributes.get(_IFA_LOCAL) or attributes.get(
        _IFA_ADDRESS
    )  # at a tunnel the latter is the other end's
    if raw is None or family not in {socket.AF_INET, socket.AF_INET6}:
        return None
    try:
        return socket.if_indextoname(index), ipaddress.ip_address(raw), prefix
    except OSError:
        return None


def _aligned(length: int) -> int:
    return length + 3 & ~3


def _ask_without_netlink() -> list[tuple[str, _IP, int | None]]:
    """The same from the call that there was before netlink, and from /proc."""
    return [*_ipv4_addresses(), *((name, ip, prefix) for name, ip, _, prefix in _ipv6_addresses())]


def _real_name(name: str) -> str:
    """`eth0:1` is a label of a second address of `eth0`."""
    return name.partition(":")[0]


def _ipv4_addresses() -> list[tuple[str, _IP, int | None]]:
    import array
    import fcntl

    buffer = array.array("B", bytes(_IFREQ_BYTES * _MAX_IFREQS))
    address, _ = buffer.buffer_info()
    try:
        with _any_socket() as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFCONF, struct.pack("iP", len(buffer), address))
    except OSError:
        return []
    used, _ = struct.unpack("iP", answer)
    step = _IFREQ_BYTES if struct.calcsize("P") == 8 else 32
    entries = [buffer[start : start + step].tobytes() for start in range(0, used, step)]
    return [
        (
            _real_name(entry[:16].split(b"\0")[0].decode("utf-8", "replace")),
            ipaddress.ip_address(entry[20:24]),
            _ipv4_prefix(entry[:16]),
        )
        for entry in entries
        if struct.unpack_from("H", entry, 16)[0] == socket.AF_INET
    ]


def _ipv4_prefix(label: bytes) -> int | None:
    """How many bits of the address under a label name its subnet."""
    import fcntl

    try:
        with _any_socket() as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFNETMASK, struct.pack("16s24x", label))
    except OSError:
        return None
    return int.from_bytes(answer[20:24], "big").bit_count()


def _ipv6_addresses() -> list[tuple[str, _IP, int, int]]:
    """Names, addresses, flags and prefixes; empty where there is no IPv6, or /proc does not tell."""
    try:
        lines = _IF_INET6.read_text().splitlines()
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [
        (row[5], ipaddress.IPv6Address(bytes.fromhex(row[0])), int(row[4], 16), int(row[2], 16))
        for row in rows
        if len(row) == 6
    ]


def _any_socket() -> socket.socket:
    """A socket for questions about interfaces, whichever family this process may use."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            return socket.socket(family, socket.SOCK_DGRAM)
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def _describe(name: str) -> Card:
    """What the kernel says of an interface, and where it says nothing, what its name lets one guess."""
    index = 0
    with suppress(OSError):
        index = socket.if_nametoindex(name)
    flags = _flags(name)
    carrier = flags is None or bool(flags & _IFF_RUNNING)
    leads_to_one = flags is not None and bool(flags & _IFF_POINTOPOINT)
    directory = _SYS_NET / name
    if not name or not _is_about(directory, index):
        is_bridge = name.startswith("br")
        is_tunnel = leads_to_one or re.match(_TUNNEL_NAME, name) is not None
        return Card(name, index, is_bridge=is_bridge, is_tunnel=is_tunnel, has_carrier=carrier)
    return Card(
        name,
        index,
        is_physical=_stands_on_card(directory),
        is_bridge=(directory / "bridge").is_dir(),
        is_tunnel=leads_to_one
        or ((directory / "tun_flags").exists() and not (directory / "master").exists()),
        has_carrier=carrier,
    )


def _flags(name: str) -> int | None:
    import fcntl

    try:
        with _any_socket() as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16s24x", name.encode()[:15]))
    except OSError:
        return None
    return int(struct.unpack_from("H", answer, 16)[0])


def _is_about(directory: Path, index: int) -> bool:
    """Whether /sys speaks of this very interface: in another network namespace it tells of the former one's."""
    try:
        return int((directory / "ifindex").read_text()) == index
    except (OSError, ValueError):
        return False


def _stands_on_card(directory: Path, levels: int = _MAX_STACKED) -> bool:
    if (directory / "device").exists():
        return True
    try:
        lower = [entry for entry in directory.iterdir() if entry.name.startswith("lower_")]
    except OSError:
        return False
    return levels > 0 and any(_stands_on_card(entry, levels - 1) for entry in lower)
