"""Finding peers on the local network: libp2p's mDNS, as js, go and rust speak it.

Spec: https://github.com/libp2p/specs/blob/master/discovery/mdns.md, RFC 6762. A question for the service
``_p2p._udp.local`` is answered with a PTR to a random name of ours and, with it, a TXT record that has one
``dnsaddr=<multiaddr>`` string per address.

One non-blocking socket in the caller's event loop; of `zeroconf` only its reading and writing of DNS packets
is used, not its threads. What is found is a hint from whoever is on the wire: bounded; dialling checks it.
"""

from __future__ import annotations

import logging
import re
import secrets
import socket
import struct
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import chain, count
from typing import Final

import trio

from p2pboot.errors import UsageError
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.cleanup import single_error

log = logging.getLogger("p2pboot.transport.mdns")

_GROUP: Final = "224.0.0.251"
_PORT: Final = 5353
_SERVICE: Final = "_p2p._udp.local."
_TTL_S: Final = 120
_MAX_PACKET: Final = 9000  # RFC 6762, section 17
_MAX_ANNOUNCED: Final = 8  # so that all fits into one Ethernet frame, PTR and TXT together
_MAX_TAKEN: Final = 16  # from one packet
_CHANNEL_SIZE: Final = 64  # what does not fit is dropped: it is announced again
_QUESTIONS_AFTER_S: Final = (0.0, 1.0, 3.0)  # a lost packet costs a second; then every minute
_QUESTION_EVERY_S: Final = 60.0
_ANSWER_EVERY_S: Final = 1.0  # RFC 6762, section 6: a record at most once a second, whoever asks how often
_ANSWER_DELAY_S: Final = 0.05  # questions that come together get one answer
_REPEAT_AFTER_S: Final = 15.0  # an address that is heard again and again is told of this often
_MAX_REMEMBERED: Final = 512
_DNSADDR: Final = re.compile(rb"dnsaddr\d*=")  # py-libp2p numbers them from the second on


class _Wire:
    """The multicast socket: everything is sent once on each interface.

    Args:
        interfaces: IPv4 addresses of this machine's interfaces.

    Raises:
        OSError: multicast is not to be had.
    """

    def __init__(self, interfaces: Iterable[str]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.interfaces: list[str] = []
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind(("", _PORT))
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)  # peers on this machine
            self._socket.setblocking(False)
            for interface in interfaces:
                self._join(interface)
            if not self.interfaces:
                raise OSError("no interface takes part in multicast")
            self._receiving = trio.socket.from_stdlib_socket(self._socket)
        except BaseException:
            self._socket.close()
            raise

    def _join(self, interface: str) -> None:
        member = struct.pack("4s4s", socket.inet_aton(_GROUP), socket.inet_aton(interface))
        try:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        except OSError as error:
            log.debug("no multicast on %s: %s", interface, error)
        else:
            self.interfaces.append(interface)

    def send(self, interface: str, packet: bytes) -> None:
        """Send on one interface; what the system does not take is lost, as any datagram may be."""
        try:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
            self._socket.sendto(packet, (_GROUP, _PORT))
        except OSError as error:
            log.debug("mDNS packet not sent on %s: %s", interface, error)

    async def receive(self) -> bytes:
        """Return the next datagram."""
        return (await self._receiving.recvfrom(_MAX_PACKET))[0]

    def close(self) -> None:
        """Close the socket."""
        self._receiving.close()


class _Discovery:
    """One node's part: asks, answers, and hands on what it hears."""

    def __init__(self, wire: _Wire, peer_id: str, addresses: Sequence[str]) -> None:
        self._wire, self._peer_id = wire, peer_id
        # The spec wants a name that says nothing about the peer: 32 characters, drawn anew each time.
        self._name = f"{secrets.token_hex(16)}.{_SERVICE}"
        self._addresses = addresses
        self._asked = trio.Event()
        self._told: OrderedDict[str, float] = OrderedDict()
        self._found, self.found = trio.open_memory_channel[str](_CHANNEL_SIZE)

    async def ask(self) -> None:
        """Ask who is there, for ever."""
        question = _question()
        start = trio.current_time()
        for after in chain(_QUESTIONS_AFTER_S, count(_QUESTION_EVERY_S, _QUESTION_EVERY_S)):
            await trio.sleep_until(start + after)
            for interface in self._wire.interfaces:
                self._wire.send(interface, question)

    async def answer(self) -> None:
        """Say where we are: unasked at the start, and when asked, for ever."""
        while True:
            self.say()
            await trio.sleep(_ANSWER_EVERY_S)
            await self._asked.wait()
            self._asked = trio.Event()
            await trio.sleep(_ANSWER_DELAY_S)

    def say(self, ttl_s: int = _TTL_S) -> None:
        """Send our addresses; with a lifetime of 0 they are withdrawn."""
        for interface in self._wire.interfaces:
            addresses = [one for one in self._addresses if _belongs(one, interface)][:_MAX_ANNOUNCED]
            if addresses:
                self._wire.send(interface, _answer(self._name, addresses, ttl_s))

    async def listen(self) -> None:
        """Take what others send, for ever."""
        while True:
            try:
                packet = await self._wire.receive()
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
        now = trio.current_time()
        if (
            parse_address(address).peer_id == self._peer_id
            or now - self._told.get(address, -now) < _REPEAT_AFTER_S
        ):
            return
        try:
            self._found.send_nowait(address)
        except (trio.WouldBlock, trio.BrokenResourceError):
            return  # nobody reads, or not fast enough; it will be announced again
        self._told[address] = now
        self._told.move_to_end(address)
        if len(self._told) > _MAX_REMEMBERED:
            self._told.popitem(last=False)

    def close(self) -> None:
        """Withdraw our addresses and end the channel."""
        self.say(ttl_s=0)
        self._found.close()


def _belongs(address: str, interface: str) -> bool:
    """Whether others can use `address` where `interface` leads: a loopback address only on loopback."""
    parsed = parse_address(address)
    return parsed.is_dialable and (not parsed.is_loopback or interface.startswith("127."))


def _question() -> bytes:
    from zeroconf import const
    from zeroconf._dns import DNSQuestion
    from zeroconf._protocol.outgoing import DNSOutgoing

    outgoing = DNSOutgoing(const._FLAGS_QR_QUERY)
    outgoing.add_question(DNSQuestion(_SERVICE, const._TYPE_PTR, const._CLASS_IN))
    return outgoing.packets()[0]


def _answer(name: str, addresses: Iterable[str], ttl_s: int) -> bytes:
    from zeroconf import const
    from zeroconf._dns import DNSPointer, DNSText
    from zeroconf._protocol.outgoing import DNSOutgoing

    strings = [f"dnsaddr={address}".encode() for address in addresses]
    text = b"".join(bytes([len(one)]) + one for one in strings if len(one) <= 255)
    outgoing = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    outgoing.add_answer_at_time(DNSPointer(_SERVICE, const._TYPE_PTR, const._CLASS_IN, ttl_s, name), 0)
    outgoing.add_additional_answer(DNSText(name, const._TYPE_TXT, const._CLASS_IN_UNIQUE, ttl_s, text))
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


@asynccontextmanager
async def open_mdns(peer_id: str, addresses: Sequence[str]) -> AsyncIterator[trio.MemoryReceiveChannel[str]]:
    """Announce a node on the local network and look for others.

    Where there is no multicast, a warning says so and nothing is ever found.

    Args:
        peer_id: the node's own id; its announcements are not handed on.
        addresses: its concrete multiaddrs with `/p2p/…`. Loopback ones are told to this machine only.

    Yields:
        A channel of multiaddrs with `/p2p/…`, each told of again at times; bounded, the overflow is dropped.
    """
    import ifaddr

    hosts = [ip.ip for card in ifaddr.get_adapters() for ip in card.ips if isinstance(ip.ip, str)]
    try:
        wire = _Wire(hosts)
    except OSError as error:
        log.warning("no discovery on the local network: %s", error.strerror or error)
        nobody, found = trio.open_memory_channel[str](0)
        with nobody, found:
            yield found
        return
    discovery = _Discovery(wire, peer_id, addresses)
    try:
        async with trio.open_nursery() as nursery:
            for task in (discovery.listen, discovery.answer, discovery.ask):
                nursery.start_soon(task)
            try:
                with discovery.found:
                    yield discovery.found
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise single_error(group) from None
    finally:
        discovery.close()
        wire.close()
