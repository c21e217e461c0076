"""Finding peers on the local network: libp2p's mDNS, as js, go and rust speak it.

Spec: https://github.com/libp2p/specs/blob/master/discovery/mdns.md, RFC 6762. A question for the service
``_p2p._udp.local`` is answered with a PTR to a random name of ours and, with it, a TXT record that has one
``dnsaddr=<multiaddr>`` string per address; also SRV and A or AAAA, without which go finds nobody.

Over IPv4 and IPv6, on the interfaces that have addresses to tell, also those that come later; what is told on one is
what leads there. Non-blocking sockets in the caller's event loop; of `zeroconf` only its reading and writing of DNS
packets is used, not its threads. What is found is a hint from whoever is on the wire: bounded; dialling checks it.
"""

from __future__ import annotations

import logging
import re
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from itertools import chain, count
from typing import Final

import trio
from cachetools import TTLCache

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import UsageError, first_error
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interfaces import Interfaces, Listing

log = logging.getLogger("p2pboot.transport.mdns")

_GROUPS: Final = {socket.AF_INET: "224.0.0.251", socket.AF_INET6: "ff02::fb"}
_PORT: Final = 5353
_ALONE: Final = "this machine has no address on it (link-local ones are not used)"
_SERVICE: Final = "_p2p._udp.local."
_TTL_S: Final = 120
_MAX_PACKET: Final = 9000  # RFC 6762, section 17
_MAX_LINKS: Final = 20  # of each family; Linux lets a socket join no more IPv4 groups (igmp_max_memberships)
_LOOK_S: Final = 3.0  # how often it is looked for other interfaces and addresses
_MAX_ANNOUNCED: Final = 8  # so that all fits into one Ethernet frame, PTR and TXT together
_MAX_TAKEN: Final = 16  # from one packet
_CHANNEL_SIZE: Final = 64  # what does not fit is dropped: it is announced again
_QUESTIONS_AFTER_S: Final = (0.0, 1.0, 3.0)  # a lost packet costs a second; then every minute
_QUESTION_EVERY_S: Final = 60.0
_ANSWER_EVERY_S: Final = 1.0  # RFC 6762, section 6: a record at most once a second, whoever asks how often
_ANSWER_DELAY_S: Final = 0.05  # questions that come together get one answer
_REPEAT_AFTER_S: Final = 15.0  # an address that is heard again and again is told of this often
_MAX_REMEMBERED: Final = 512
_LOOPBACK_INDEX: Final = 1  # on Linux always
_DNSADDR: Final = re.compile(rb"dnsaddr\d*=")  # py-libp2p numbers them from the second on


@dataclass(frozen=True, slots=True)
class _Link:
    """One interface on which one family of addresses takes part.

    Args:
        family: AF_INET or AF_INET6.
        index: the kernel's number of the interface; 0 where it is not known (then `host` says which one).
        host: an IPv4 address on it; empty for IPv6.
        is_loopback: it leads to this machine alone.
    """

    family: socket.AddressFamily
    index: int
    host: str
    is_loopback: bool


def _links(listing: Listing) -> list[_Link]:
    """Where to take part: interfaces in the order of their use, and loopback, for peers on this machine.

    IPv6 only where there is an address to tell: a host with a hundred containers has a hundred interfaces with
    nothing but a link-local one. Loopback is with IPv4 only; one is enough.
    """
    links: dict[tuple[int, int, str], _Link] = {}
    for one in listing.addresses:
        if one.ip.version == 6 and (one.ip.is_loopback or not one.index):
            continue
        family = socket.AF_INET if one.ip.version == 4 else socket.AF_INET6
        host = str(one.ip) if family is socket.AF_INET else ""
        key = (family, one.index, "" if one.index else host)
        links.setdefault(key, _Link(family, one.index, "" if one.index else host, one.ip.is_loopback))
    inner = [link for link in links.values() if link.is_loopback][:1]
    outer = [link for link in links.values() if not link.is_loopback]
    four, six = ([link for link in outer if link.family is family] for family in _GROUPS)
    return [*four[: _MAX_LINKS - len(inner)], *six[:_MAX_LINKS], *inner]


class _Wire:
    """A multicast socket of one family.

    Args:
        family: AF_INET or AF_INET6.

    Raises:
        OSError: it is not to be had.
    """

    def __init__(self, family: socket.AddressFamily) -> None:
        self._family = family
        self._socket = sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)  # peers on this machine
            sock.bind(("", _PORT))
            sock.setblocking(False)
            self._receiving = trio.socket.from_stdlib_socket(sock)
        except BaseException:
            sock.close()
            raise

    def join(self, link: _Link) -> None:
        """Take part on a link; OSError where that is not possible."""
        if self._family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, _member6(link))
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, _member4(link))

    def leave(self, link: _Link) -> None:
        """Take part no longer: memberships of interfaces that went would use up what the system allows."""
        with suppress(OSError):
            if self._family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, _member6(link))
            else:
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, _member4(link))

    def send(self, link: _Link, packet: bytes) -> None:
        """Send on one link; what the system does not take is lost, as any datagram may be."""
        try:
            if self._family == socket.AF_INET6:
                self._socket.sendto(packet, (_GROUPS[socket.AF_INET6], _PORT, 0, link.index))
            else:
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _member4(link))
                self._socket.sendto(packet, (_GROUPS[socket.AF_INET], _PORT))
        except OSError as error:
            log.debug("mDNS packet not sent on %s: %s", link, error)

    async def receive(self) -> bytes:
        """Return the next datagram."""
        return (await self._receiving.recvfrom(_MAX_PACKET))[0]

    def close(self) -> None:
        """Close the socket."""
        self._receiving.close()


def _member4(link: _Link) -> bytes:
    """Struct ip_mreqn: the group, and the interface by its number or by an address on it."""
    host = socket.inet_aton(link.host or "0.0.0.0")  # noqa: S104 - nothing is bound to it
    return struct.pack("4s4si", socket.inet_aton(_GROUPS[socket.AF_INET]), host, link.index)


def _member6(link: _Link) -> bytes:
    """Struct ipv6_mreq."""
    return struct.pack("16sI", socket.inet_pton(socket.AF_INET6, _GROUPS[socket.AF_INET6]), link.index)


class _Discovery:
    """One node's part: asks, answers, and hands on what it hears.

    Args:
        nursery: for a task on each socket.
        peer_id: the node's own id.
        addresses: tells where the node is now, the best first.
        interfaces: tells where to take part.
        report: is told why nothing can be found, or None once something can, whenever that changes.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        peer_id: str,
        addresses: Callable[[], Sequence[str]],
        interfaces: Interfaces,
        report: Callable[[str | None], None],
    ) -> None:
        self._nursery, self._peer_id = nursery, peer_id
        self._addresses, self._interfaces, self._report = addresses, interfaces, report
        # The spec wants a name that says nothing about the peer: 32 characters, drawn again each time.
        self._name = secrets.token_hex(16)
        self._wires: dict[socket.AddressFamily, _Wire] = {}
        self._links: list[_Link] = []
        self._reported: str | None = None
        self._announced: Sequence[str] = ()
        self._asked = trio.Event()
        self._changed = trio.Event()
        self._told: TTLCache[str, None] = TTLCache(_MAX_REMEMBERED, _REPEAT_AFTER_S, trio.current_time)
        self._found, self.found = trio.open_memory_channel[str](_CHANNEL_SIZE)

    async def follow(self) -> None:
        """Take part on interfaces that come, and say again where we are when that changed, until cancelled."""
        while True:
            await trio.sleep(_LOOK_S)
            self.look()

    def look(self) -> None:
        """Take part where it is possible now."""
        listing = self._interfaces.listing()
        # What is left without netlink may be a part of the interfaces: half a discovery, and nobody would know.
        wanted = [] if listing.refused else _links(listing)
        for gone in set(self._links) - set(wanted):
            self._wires[gone.family].leave(gone)
        before, reason = self._links, "no interface takes part in multicast"
        if listing.refused:
            reason = f"not allowed to list this machine's interfaces by AF_NETLINK ({listing.refused})"
        self._links = [link for link in before if link in wanted]
        for link in wanted:
            if link not in before:
                try:
                    self._wire(link.family).join(link)
                except OSError as error:
                    reason = error.strerror or str(error)
                    log.debug("no multicast on %s: %s", link, error)
                else:
                    self._links.append(link)
        is_alone = bool(self._links) and listing.is_alone  # loopback takes part, for peers on this machine
        self._tell(_ALONE if is_alone else None if self._links else reason)
        addresses = self._addresses()
        if self._links != before or addresses != self._announced:
            self._announced = addresses
            self._asked.set()
            self._changed.set()

    def _tell(self, reason: str | None) -> None:
        if reason != self._reported:
            self._reported = reason
            self._report(reason)

    def _wire(self, family: socket.AddressFamily) -> _Wire:
        if family not in self._wires:
            self._wires[family] = wire = _Wire(family)
            self._nursery.start_soon(self._listen, wire)
        return self._wires[family]

    async def ask(self) -> None:
        """Ask who is there, until cancelled; more often at the start, and on new interfaces."""
        question = _question()
        while True:
            self._changed = trio.Event()
            start = trio.current_time()
            for after in chain(_QUESTIONS_AFTER_S, count(_QUESTION_EVERY_S, _QUESTION_EVERY_S)):
                with trio.move_on_at(start + after):
                    await self._changed.wait()
                if self._changed.is_set():
                    break
                for link in self._links:
                    self._wires[link.family].send(link, question)

    async def answer(self) -> None:
        """Say where we are: unasked at the start, when that changed, and when asked, until cancelled."""
        while True:
            self.say()
            await trio.sleep(_ANSWER_EVERY_S)
            await self._asked.wait()
            self._asked = trio.Event()
            await trio.sleep(_ANSWER_DELAY_S)

    def say(self, ttl_s: int = _TTL_S) -> None:
        """Send our addresses; with a lifetime of 0 they are withdrawn."""
        indexes = (
            {str(one.ip): one.index for one in self._interfaces.listing().addresses} if self._links else {}
        )
        for link in self._links:
            addresses = [one for one in self._announced if _belongs(one, link, indexes)][:_MAX_ANNOUNCED]
            if addresses:
                self._wires[link.family].send(link, _answer(self._name, addresses, ttl_s))

    async def _listen(self, wire: _Wire) -> None:
        """Take what others send, until cancelled."""
        while True:
            try:
                packet = await wire.receive()
            except OSError as error:
                log.debug("mDNS: %s", error)
                await trio.sleep(_ANSWER_EVERY_S)
                continue
            asked, addresses = _read(packet)
            if asked:
                self._asked.set()
            for address in addresses:
                self._hand_on(address)

    def _hand_on(self, address: str) -> None:
        if parse_address(address).peer_id == self._peer_id or address in self._told:
            return
        try:
            self._found.send_nowait(address)
        except (trio.WouldBlock, trio.BrokenResourceError):
            return  # nobody reads, or not fast enough; it will be announced again
        self._told[address] = None

    def close(self) -> None:
        """Withdraw our addresses, close the sockets and end the channel."""
        self.say(ttl_s=0)
        for wire in self._wires.values():
            wire.close()
        self._found.close()


def _belongs(address: str, link: _Link, indexes: dict[str, int]) -> bool:
    """Whether others can use `address` where `link` leads.

    An address of another interface would lead them astray: every Docker host has 172.17.0.1. One that is routed to the
    loopback interface, or is on one that is not known, may be good everywhere.
    """
    parsed = parse_address(address)
    if not parsed.is_dialable or (parsed.is_loopback and not link.is_loopback):
        return False
    index = indexes.get(parsed.host, 0)
    return link.is_loopback or index in {0, _LOOPBACK_INDEX, link.index} or link.index == 0


def _question() -> bytes:
    from zeroconf import const
    from zeroconf._dns import DNSQuestion
    from zeroconf._protocol.outgoing import DNSOutgoing

    outgoing = DNSOutgoing(const._FLAGS_QR_QUERY)
    outgoing.add_question(DNSQuestion(_SERVICE, const._TYPE_PTR, const._CLASS_IN))
    return outgoing.packets()[0]


def _answer(name: str, addresses: Sequence[str], ttl_s: int) -> bytes:
    from zeroconf import ServiceInfo, const
    from zeroconf._protocol.outgoing import DNSOutgoing

    strings = [f"dnsaddr={address}".encode() for address in addresses]
    parsed = [parse_address(address) for address in addresses]
    service = ServiceInfo(
        _SERVICE,
        f"{name}.{_SERVICE}",
        port=parsed[0].port,
        properties=b"".join(bytes([len(one)]) + one for one in strings if len(one) <= 255),
        server=f"{name}.local.",
        parsed_addresses=list(dict.fromkeys(one.host for one in parsed if one.is_ip)),
        host_ttl=ttl_s,
        other_ttl=ttl_s,
    )
    outgoing = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    outgoing.add_answer_at_time(service.dns_pointer(), 0)
    for record in (service.dns_text(), service.dns_service(), *service.dns_addresses()):
        outgoing.add_additional_answer(record)
    return outgoing.packets()[0]


def _read(packet: bytes) -> tuple[bool, list[str]]:
    """Read a packet: whether it asks for our service, and the usable addresses in it."""
    from zeroconf._dns import DNSText
    from zeroconf._protocol.incoming import DNSIncoming

    try:
        incoming = DNSIncoming(packet)
        if not incoming.valid:
            return False, []
        if incoming.is_query():
            return any(question.name.lower() == _SERVICE for question in incoming.questions), []
        # Whatever name they are under: rust's lacks the service's suffix.
        texts = [
            record.text for record in incoming.answers() if isinstance(record, DNSText) and record.ttl > 0
        ]
    except Exception as error:  # a stranger's bytes in somebody else's parser
        log.debug("mDNS packet of %d bytes not read: %r", len(packet), error)
        return False, []
    strings = [string for text in texts for string in _strings(text)]
    return False, _usable(strings)[:_MAX_TAKEN]


def _strings(text: bytes) -> list[bytes]:
    """Split a TXT record into its strings, each after a byte of length."""
    found = []
    while text:
        length = text[0]
        found.append(text[1 : 1 + length])
        text = text[1 + length :]
    return found


def _usable(strings: Iterable[bytes]) -> list[str]:
    found = []
    for string in strings:
        match = _DNSADDR.match(string)
        try:
            address = parse_address(string[match.end() :].decode("ascii")) if match else None
        except (UsageError, UnicodeDecodeError):
            continue  # QUIC, WebSocket, relays: addresses of nodes that have others, too
        if address is not None and address.peer_id is not None and address.is_dialable:
            found.append(str(address))
    return found


def _warn(reason: str | None) -> None:
    if reason is not None:
        log.warning("no discovery on the local network: %s", reason)


@asynccontextmanager
async def open_mdns(
    peer_id: str,
    addresses: Callable[[], Sequence[str]],
    *,
    interfaces: Interfaces | None = None,
    report: Callable[[str | None], None] | None = None,
) -> AsyncIterator[trio.MemoryReceiveChannel[str]]:
    """Announce a node on the local network and look for others.

    Where there is no multicast, nothing is ever found until there is.

    Args:
        peer_id: the node's own id; its announcements are not handed on.
        addresses: tells its concrete multiaddrs with `/p2p/…`, the best first; asked every few seconds. Loopback ones
            are told to this machine only, others where they lead.
        interfaces: tells which ones the machine has.
        report: is told, whenever that changes, why nothing can be found on the local network, or None when something
            can; without it a warning is logged.

    Yields:
        A channel of multiaddrs with `/p2p/…`, each told of again at times; bounded, the overflow is dropped.
    """
    try:
        with ExitStack() as at_end:
            async with trio.open_nursery() as nursery:
                discovery = _Discovery(
                    nursery, peer_id, addresses, interfaces or Interfaces(), report or _warn
                )
                at_end.callback(discovery.close)
                discovery.look()
                for task in (discovery.follow, discovery.answer, discovery.ask):
                    nursery.start_soon(task)
                try:
                    with discovery.found:
                        yield discovery.found
                finally:
                    nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise first_error(group) from None
