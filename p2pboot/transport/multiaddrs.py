"""Multiaddrs in their binary form, as identify and signed peer records have them.

Spec: https://github.com/multiformats/multiaddr; codes: https://github.com/multiformats/multicodec. Only what
`transport.addresses` can dial is known here: an address over anything else is none.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from p2pboot.core.identity import PublicKey
from p2pboot.errors import RemoteProtocolError, UsageError
from p2pboot.transport.addresses import Address, parse_address
from p2pboot.wire.varint import decode_varint, encode_varint

_IP: Final = {"ip4": (4, 4), "ip6": (41, 16)}  # kind: code, bytes
_DNS: Final = {"dns": 53, "dns4": 54, "dns6": 55}
_TCP: Final = 6
_P2P: Final = 421
_PORT_BYTES: Final = 2
_FIXED: Final = {4: 4, 41: 16, _TCP: _PORT_BYTES}  # code: bytes; others begin with their length
_IP_KINDS: Final = {code: kind for kind, (code, _) in _IP.items()}
_DNS_KINDS: Final = {code: kind for kind, code in _DNS.items()}
_MAX_VARINT: Final = 3
_MAX_PARTS: Final = 3


def encode_multiaddr(address: Address) -> bytes:
    """Return the binary form.

    Args:
        address: whose peer, if it names one, has an Ed25519 key.
    """
    if address.is_ip:
        host = encode_varint(_IP[address.kind][0]) + ipaddress.ip_address(address.host).packed
    else:
        host = encode_varint(_DNS[address.kind]) + _prefixed(address.host.encode())
    encoded = host + encode_varint(_TCP) + address.port.to_bytes(_PORT_BYTES, "big")
    if address.peer_id is not None:
        encoded += encode_varint(_P2P) + _prefixed(PublicKey.from_peer_id(address.peer_id).peer_id_bytes)
    return encoded


def decode_multiaddr(raw: bytes) -> Address | None:
    """Read a stranger's binary multiaddr; None where it is none, or not one that `transport.addresses` knows."""
    try:
        parts = _parts(raw)
        if len(parts) not in {2, _MAX_PARTS} or parts[1][0] != _TCP:
            return None
        (code, host), (_, port) = parts[:2]
        text = f"{_host(code, host)}/tcp/{int.from_bytes(port, 'big')}"
        for code, name in parts[2:]:
            if code != _P2P:
                return None
            text += f"/p2p/{PublicKey.from_peer_id_bytes(name).peer_id}"
        return parse_address(text)
    except (RemoteProtocolError, UsageError, ValueError):
        return None


def _host(code: int, raw: bytes) -> str:
    if code in _IP_KINDS:
        return f"/{_IP_KINDS[code]}/{ipaddress.ip_address(raw)}"
    if code in _DNS_KINDS:
        return f"/{_DNS_KINDS[code]}/{raw.decode('ascii')}"
    raise ValueError(f"a host of kind {code}")


def _parts(raw: bytes) -> list[tuple[int, bytes]]:
    """Code and value of each part, of which there are at most three worth reading.

    Raises:
        ValueError: it is cut off, or has more.
    """
    parts: list[tuple[int, bytes]] = []
    at = 0
    while at < len(raw):
        if len(parts) == _MAX_PARTS:
            raise ValueError("more than host, port and peer")
        code, at = _number(raw, at)
        length = _FIXED.get(code)
        if length is None:
            length, at = _number(raw, at)
        if length > len(raw) - at:
            raise ValueError("it ends within a part")
        parts.append((code, raw[at : at + length]))
        at += length
    return parts


def _number(raw: bytes, at: int) -> tuple[int, int]:
    found = decode_varint(raw, at, max_bytes=_MAX_VARINT)
    if found is None:
        raise ValueError("it ends within a number")
    return found


def _prefixed(value: bytes) -> bytes:
    return encode_varint(len(value)) + value
