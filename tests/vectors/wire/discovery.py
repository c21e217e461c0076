"""Make `discovery.json`, always the same: `python -m tests.vectors.wire.discovery`.

It holds what p2pboot's nodes put on the wire to find each other, put together a second time, without any code of
p2pboot: DNS messages and a multiaddr by hand, Kademlia's with py-libp2p's protobuf classes, a private mesh's by a
second Salsa20 that is compared with libsodium's. `docs/protocol-wire.md`, part three, takes it apart.

- ``mdns``: a question and an answer.
- ``multiaddr``: an address with its peer, as text and in the binary form.
- ``kad``: requests, each with its reply, both with their lengths before them; in their order on a fresh node.
- ``psk``: what both sides of a connection in a private mesh say first, as it is meant and as it goes out.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from libp2p.kad_dht.pb.kademlia_pb2 import Message, Record
from nacl.bindings import crypto_scalarmult_base, crypto_secretbox
from nacl.signing import SigningKey

VECTORS = Path(__file__).with_name("discovery.json")
NAME = b"000102030405060708090a0b0c0d0e0f"
ADDRESSES = ("/ip4/192.0.2.7/tcp/4001", "/ip6/fd00::7/tcp/4001")
IPS = (bytes.fromhex("c0000207"), bytes.fromhex("fd00" + "00" * 13 + "07"))
TTL = (120).to_bytes(4, "big")
PORT = (4001).to_bytes(2, "big")
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
KEY = b"/phase/stable/arm64/manifest"
CONTENT = bytes((i + 6) % 251 for i in range(200_000))
"""The kernel of part one's vectors."""


def peer_id(number: int) -> bytes:
    """In the binary form, of the key whose seed is so many times 32."""
    return bytes.fromhex("002408011220") + bytes(SigningKey(bytes([number]) * 32).verify_key)


def base58(raw: bytes) -> str:
    """Base58btc."""
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = ALPHABET[digit] + text
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text


def record(name: bytes, kind: int, group: int, data: bytes) -> bytes:
    """A DNS record."""
    return (
        name + kind.to_bytes(2, "big") + group.to_bytes(2, "big") + TTL + len(data).to_bytes(2, "big") + data
    )


def mdns() -> dict[str, str]:
    """By name; pointers are counted out."""
    service = b"\x04_p2p\x04_udp\x05local\x00"
    question = bytes.fromhex("000000000001000000000000") + service + bytes.fromhex("000c0001")
    strings = [f"dnsaddr={address}/p2p/{base58(peer_id(1))}".encode() for address in ADDRESSES]
    answer = bytes.fromhex("000084000000000100000004")
    answer += record(service, 12, 1, b"\x20" + NAME + b"\xc0\x0c")  # the service's name begins at 12
    instance = b"\xc0\x27"  # 39: behind the first record's data length
    answer += record(instance, 16, 0x8001, b"".join(bytes([len(one)]) + one for one in strings))
    host_at = len(answer) + 18  # behind the pointer, kind, class, ttl, length, and six bytes of data
    answer += record(instance, 33, 0x8001, bytes(4) + PORT + b"\x20" + NAME + b"\xc0\x16")  # "local" is at 22
    host = (0xC000 | host_at).to_bytes(2, "big")
    answer += record(host, 1, 0x8001, IPS[0]) + record(host, 28, 0x8001, IPS[1])
    return {"question": question.hex(), "answer": answer.hex()}


def multiaddr() -> dict[str, str]:
    """The first address, with its peer."""
    return {
        "text": f"{ADDRESSES[0]}/p2p/{base58(peer_id(1))}",
        "binary": ("04" + IPS[0].hex() + "06" + PORT.hex() + "a50326" + peer_id(1).hex()),
    }


def kad() -> dict[str, dict[str, str]]:
    """By the type of the request; who is asked has a gateway at 10.0.0.7, and knows one other peer, at 10.0.0.9."""
    itself, asker, other = (
        Message.Peer(id=peer_id(number), addrs=[bytes([4, 10, 0, 0, host, 6]) + PORT])
        for number, host in ((1, 7), (2, 8), (3, 9))
    )
    own, other_s = (f"http://10.0.0.{host}:8080/phase/stable/arm64/manifest.json".encode() for host in (7, 8))
    theirs = bytes(Record(key=KEY, value=other_s).SerializeToString())
    lasting = theirs + varint(777 << 3) + varint(3600)  # ttl, which py-libp2p does not know
    put = Message(type=Message.PUT_VALUE, key=KEY).SerializeToString() + field(3, lasting)
    content = bytes.fromhex("1220") + hashlib.sha256(CONTENT).digest()
    value = Message(type=Message.GET_VALUE, key=KEY, record=Record(key=KEY, value=own), closerPeers=[other])
    exchanges = {
        "find_node": (
            Message(type=Message.FIND_NODE, key=peer_id(1)).SerializeToString(),
            Message(type=Message.FIND_NODE, closerPeers=[itself, other]).SerializeToString(),
        ),
        "put_value": (put, put),
        "get_value": (
            Message(type=Message.GET_VALUE, key=KEY).SerializeToString(),
            value.SerializeToString() + field(2500, theirs),
        ),
        "add_provider": (
            Message(type=Message.ADD_PROVIDER, key=content, providerPeers=[asker]).SerializeToString(),
            b"",
        ),
        "get_providers": (
            Message(type=Message.GET_PROVIDERS, key=content).SerializeToString(),
            Message(
                type=Message.GET_PROVIDERS, key=content, closerPeers=[other], providerPeers=[asker]
            ).SerializeToString(),
        ),
    }
    return {
        name: {"request": framed(request).hex(), "reply": framed(reply).hex() if reply else ""}
        for name, (request, reply) in exchanges.items()
    }


def field(number: int, value: bytes) -> bytes:
    """A protobuf field of bytes."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def framed(raw: bytes) -> bytes:
    """With its length before it."""
    return varint(len(raw)) + raw


def varint(number: int) -> bytes:
    """Unsigned, LEB128."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def salsa20(words: list[int]) -> list[int]:
    """Twenty rounds of Salsa20, without the addition at their end."""
    x = list(words)
    for _ in range(10):
        for first in range(4):  # the columns
            quarter(x, *(4 * (first + step) % 16 + first for step in range(4)))
        for first in range(4):  # the rows
            quarter(x, *(4 * first + (first + step) % 4 for step in range(4)))
    return x


def quarter(x: list[int], a: int, b: int, c: int, d: int) -> None:
    """Its quarter-round."""
    for to, one, other, bits in ((b, a, d, 7), (c, b, a, 9), (d, c, b, 13), (a, d, c, 18)):
        total = (x[one] + x[other]) & 0xFFFFFFFF
        x[to] ^= (total << bits | total >> (32 - bits)) & 0xFFFFFFFF


def matrix(key: bytes, middle: bytes) -> list[int]:
    """What Salsa20 begins with, for a key of 32 bytes."""
    sigma = b"expand 32-byte k"
    raw = sigma[:4] + key[:16] + sigma[4:8] + middle + sigma[8:12] + key[16:] + sigma[12:]
    return [int.from_bytes(raw[at : at + 4], "little") for at in range(0, 64, 4)]


def block(key: bytes, nonce: bytes, number: int) -> bytes:
    """64 bytes of Salsa20's keystream."""
    words = matrix(key, nonce + number.to_bytes(8, "little"))
    return b"".join(
        ((a + b) & 0xFFFFFFFF).to_bytes(4, "little") for a, b in zip(words, salsa20(words), strict=True)
    )


def xsalsa20(key: bytes, nonce: bytes, length: int) -> bytes:
    """The keystream; from its 33rd byte on it is libsodium's, which a secret box shows."""
    words = salsa20(matrix(key, nonce[:16]))
    derived = b"".join(words[n].to_bytes(4, "little") for n in (0, 5, 10, 15, 6, 7, 8, 9))
    stream = b"".join(block(derived, nonce[16:], number) for number in range(length // 64 + 1))[:length]
    assert crypto_secretbox(bytes(length - 32), nonce, key)[16:] == stream[32:]
    return stream


def psk() -> dict[str, str]:
    """Both sides' first flights.

    The dialler's goes on with Noise's first message, of the ephemeral key 32 times the byte `e`; the listener's second
    one, which is not here, with Noise's second.
    """
    key = bytes(range(32))
    agreed = framed(b"/multistream/1.0.0\n") + framed(b"/noise\n")
    noise = (32).to_bytes(2, "big") + crypto_scalarmult_base(b"e" * 32)
    made = {
        "file": f"/key/swarm/psk/1.0.0/\n/base16/\n{key.hex()}\n",
        "fingerprint": hashlib.shake_128(block(key, b"finprint", 0)).hexdigest(16),
        "ephemeral": (b"e" * 32).hex(),
    }
    for side, nonce, said in (
        ("dialler", bytes(range(24)), agreed + noise),
        ("listener", bytes(range(24, 48)), agreed),
    ):
        stream = xsalsa20(key, nonce, 64)
        sent = bytes(a ^ b for a, b in zip(said, stream, strict=False))
        made |= {f"{side} nonce": nonce.hex(), f"{side} says": said.hex(), f"{side} sends": sent.hex()}
    return made


def vectors() -> dict[str, Any]:
    """Everything in `discovery.json`."""
    return {"mdns": mdns(), "multiaddr": multiaddr(), "kad": kad(), "psk": psk()}


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n")
