"""What peers say by mDNS: questions for `_p2p._udp.local`, and the answers with their addresses.

Spec: https://github.com/libp2p/specs/blob/master/discovery/mdns.md. A PTR leads to a random name, and a TXT record of
that name has one string `dnsaddr=<multiaddr>` for each address. SRV and A or AAAA come with them: go-libp2p overlooks
who does not send those. What others send is read leniently: rust's names lack the service's suffix, py numbers its
strings, js sends a TXT record for each address.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from p2pboot.errors import UsageError
from p2pboot.transport.addresses import Address, parse_address
from p2pboot.wire.dns import (
    AAAA,
    ANY,
    PTR,
    SRV,
    TXT,
    A,
    Message,
    Name,
    Question,
    Record,
    write_answer,
    write_question,
)

SERVICE: Final[Name] = (b"_p2p", b"_udp", b"local")
SERVICES: Final[Name] = (b"_services", b"_dns-sd", b"_udp", b"local")
"""Under which one asks for all kinds of services (RFC 6763, section 9)."""

QUESTION: Final = write_question(Question(SERVICE, PTR))
MAX_TAKEN: Final = 16
"""Addresses, of one packet."""

_MAX_READ: Final = 64  # strings, of one packet, whatever is in them
_TTL_S: Final = 120
_TTL_OF_ONE_S: Final = 10  # RFC 6762, section 6.7: for who asks by unicast DNS
_MAX_STRING: Final = 255
_DNSADDR: Final = re.compile(rb"dnsaddr\d*=")  # py-libp2p numbers them from the second on


def new_name() -> bytes:
    """A name that says nothing about the peer, as the spec wants it; 32 characters."""
    return secrets.token_hex(16).encode()


def asks_for_peers(message: Message) -> bool:
    """Whether somebody looks for peers."""
    return any(one.name == SERVICE and one.kind in {PTR, ANY} for one in message.questions)


def asks_of(name: bytes, message: Message) -> bool:
    """Whether somebody asks for the records of one name, as of `new_name`, or for those of its host."""
    return any(one.name in {(name, *SERVICE), (name, b"local")} for one in message.questions)


def asks_for_services(message: Message) -> bool:
    """Whether somebody looks what kinds of services there are."""
    return any(one.name == SERVICES and one.kind in {PTR, ANY} for one in message.questions)


def announcement(name: bytes, addresses: Sequence[Address], *, question: Message | None = None) -> bytes:
    """The answer that says where we are.

    Args:
        name: as of `new_name`.
        addresses: with our peer id; at least one.
        question: that is answered to who asked it alone; None: everybody hears it.
    """
    return _answer(name, addresses, _TTL_S if question is None else _TTL_OF_ONE_S, question)


def withdrawal(name: bytes, addresses: Sequence[Address]) -> bytes:
    """An announcement that says that it holds no longer."""
    return _answer(name, addresses, 0, None)


def _answer(name: bytes, addresses: Sequence[Address], ttl_s: int, question: Message | None) -> bytes:
    instance, host = (name, *SERVICE), (name, b"local")
    is_whole = question is None  # who asks by unicast DNS knows nothing of caches
    strings = [f"dnsaddr={address}".encode() for address in addresses]
    text = b"".join(bytes([len(one)]) + one for one in strings if len(one) <= _MAX_STRING)
    numbers = dict.fromkeys(ipaddress.ip_address(one.host) for one in addresses if one.is_ip)
    port = bytes(4) + addresses[0].port.to_bytes(2, "big")  # after priority and weight
    return write_answer(
        [Record(SERVICE, PTR, ttl_s, target=instance)],
        [
            Record(instance, TXT, ttl_s, text, is_whole=is_whole),
            Record(instance, SRV, ttl_s, port, host, is_whole=is_whole),
            *(
                Record(host, A if ip.version == 4 else AAAA, ttl_s, ip.packed, is_whole=is_whole)
                for ip in numbers
            ),
        ],
        number=0 if question is None else question.number,
        questions=() if question is None else question.questions,
    )


def services() -> bytes:
    """The answer that says that there are peers."""
    return write_answer([Record(SERVICES, PTR, _TTL_S, target=SERVICE)], [])


def told(message: Message) -> list[Address]:
    """The addresses over TCP that an answer tells of and does not withdraw, each with the peer's id; bounded."""
    strings = (string for text in message.texts if text.ttl_s > 0 for string in text.strings)
    return list(dict.fromkeys(islice(_addresses(islice(strings, _MAX_READ)), MAX_TAKEN)))


def _addresses(strings: Iterable[bytes]) -> Iterator[Address]:
    for string in strings:
        match = _DNSADDR.match(string)
        try:
            address = parse_address(string[match.end() :].decode("ascii")) if match else None
        except (UsageError, UnicodeDecodeError):
            continue  # QUIC, WebSocket, relays: addresses of nodes that have others, too
        if address is not None and address.peer_id is not None:
            yield address
