"""Make `wire.json`, always the same: `python -m tests.vectors.wire.make`.

It holds what other implementations put on the wire, from fixed keys that are known to everyone.

- ``noise_xx``: a whole handshake and two messages after it, by the package ``noiseprotocol``.
- ``payload``: Noise payloads by py-libp2p, and identities of kinds that p2pboot does not take.
- ``identify``: messages by py-libp2p's protobuf classes.
- ``kad``: messages by py-libp2p's protobuf classes, without their length.
- ``yamux``: frames as they are laid out in https://github.com/hashicorp/yamux/blob/master/spec.md, by hand.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.secp256k1 import Secp256k1PrivateKey
from libp2p.crypto.x25519 import X25519PrivateKey
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.kad_dht.pb.kademlia_pb2 import Message, Record
from libp2p.security.noise.messages import (
    NoiseExtensions,
    NoiseHandshakePayload,
    make_handshake_payload_sig,
)
from noise.connection import Keypair, NoiseConnection

VECTORS = Path(__file__).with_name("wire.json")
KEYS = {
    "initiator_static": bytes(range(32)),
    "initiator_ephemeral": bytes(range(32, 64)),
    "responder_static": bytes(range(64, 96)),
    "responder_ephemeral": bytes(range(96, 128)),
}
SEED = bytes(range(128, 160))


def noise_xx(prologue: bytes, payloads: list[bytes]) -> dict[str, Any]:
    """A conversation in which the payloads are sent in turn, the initiator's first."""
    sides = []
    for role in ("initiator", "responder"):
        side = NoiseConnection.from_name(b"Noise_XX_25519_ChaChaPoly_SHA256")
        side.set_keypair_from_private_bytes(Keypair.STATIC, KEYS[f"{role}_static"])
        side.set_keypair_from_private_bytes(Keypair.EPHEMERAL, KEYS[f"{role}_ephemeral"])
        side.set_prologue(prologue)
        side.set_as_initiator() if role == "initiator" else side.set_as_responder()
        with warnings.catch_warnings(action="ignore"):  # ephemeral keys are to be ephemeral
            side.start_handshake()
        sides.append(side)
    messages = []
    for index, payload in enumerate(payloads):
        writer, reader = sides if index % 2 == 0 else reversed(sides)
        if writer.handshake_finished:
            message = writer.encrypt(payload)
            assert reader.decrypt(message) == payload
        else:
            message = bytes(writer.write_message(payload))
            assert bytes(reader.read_message(message)) == payload
        messages.append({"payload": payload.hex(), "message": message.hex()})
    keys = {name: key.hex() for name, key in KEYS.items()}
    handshake_hash = sides[0].get_handshake_hash().hex()
    return {**keys, "prologue": prologue.hex(), "handshake_hash": handshake_hash, "messages": messages}


def payloads() -> dict[str, Any]:
    """By name: what is sent beside the static key of `initiator_static`."""
    static = X25519PrivateKey.from_bytes(KEYS["initiator_static"]).get_public_key()
    pair = create_new_key_pair(SEED)
    signature = make_handshake_payload_sig(pair.private_key, static)
    other = Secp256k1PrivateKey.new(SEED)
    extensions = {
        "plain": None,
        "muxers": NoiseExtensions(stream_muxers=["/yamux/1.0.0", "/mplex/6.7.0"]),
        "certificates": NoiseExtensions(
            webtransport_certhashes=[b"\x12\x20" + bytes(32)], early_data=b"early"
        ),
    }
    made = {
        name: NoiseHandshakePayload(pair.public_key, signature, extension).serialize().hex()
        for name, extension in extensions.items()
    }
    foreign = NoiseHandshakePayload(other.get_public_key(), signature).serialize().hex()
    return {
        "static_public": static.to_bytes().hex(),
        "identity": pair.public_key.to_bytes().hex(),
        "good": made,
        "secp256k1": foreign,
    }


def identify() -> dict[str, Any]:
    """By name."""
    full = Identify(
        public_key=create_new_key_pair(SEED).public_key.serialize(),
        listen_addrs=[bytes.fromhex("047f000001060fa1"), bytes.fromhex("29" + "00" * 15 + "01060fa1")],
        protocols=["/ipfs/id/1.0.0", "/meshsub/1.1.0"],
        observed_addr=bytes.fromhex("047f0000010600ff"),
        protocol_version="ipfs/0.1.0",
        agent_version="vector/1",
        signedPeerRecord=b"an envelope",
    )
    return {"full": full.SerializeToString().hex(), "empty": Identify().SerializeToString().hex()}


KAD_KEY = b"/phase/stable/arm64/manifest"
KAD_URL = b"http://192.0.2.7:8080/phase/stable/arm64/manifest.json"


def kad() -> dict[str, Any]:
    """By name; what only some implementations send is in `foreign`."""
    peers = [
        Message.Peer(id=bytes.fromhex("002408011220") + bytes([number]) * 32, addrs=addresses)
        for number, addresses in (
            (7, [bytes.fromhex("040a00000106" + "0fa1"), bytes.fromhex("29fd" + "00" * 14 + "01060fa1")]),
            (8, []),
        )
    ]
    record = Record(key=KAD_KEY, value=KAD_URL)
    said = Record(
        key=KAD_KEY,
        value=KAD_URL,
        author=b"whose",
        signature=b"not looked at",
        timeReceived="2025-11-26T12:00:00.000000000Z",
    )
    messages = {
        "put": Message(type=Message.PUT_VALUE, key=KAD_KEY, record=record),
        "get": Message(type=Message.GET_VALUE, key=KAD_KEY),
        "value": Message(type=Message.GET_VALUE, key=KAD_KEY, record=record, closerPeers=peers),
        "add provider": Message(type=Message.ADD_PROVIDER, key=KAD_KEY, providerPeers=peers[:1]),
        "providers": Message(
            type=Message.GET_PROVIDERS, key=KAD_KEY, providerPeers=peers[:1], closerPeers=peers[1:]
        ),
        "find": Message(type=Message.FIND_NODE, key=peers[0].id),
        "found": Message(type=Message.FIND_NODE, closerPeers=peers),
        "ping": Message(type=Message.PING),
    }
    foreign = Message(
        type=Message.GET_VALUE,
        clusterLevelRaw=1,
        key=KAD_KEY,
        record=said,
        closerPeers=[Message.Peer(id=peers[0].id, connection=Message.CONNECTED, signedRecord=b"an envelope")],
        senderRecord=b"another one",
    )
    return {
        **{name: message.SerializeToString().hex() for name, message in messages.items()},
        "foreign": foreign.SerializeToString().hex(),
    }


YAMUX = {
    "open stream 1 with 768 KiB more": "00 01 0001 00000001 000c0000",
    "accept stream 1": "00 01 0002 00000001 00000000",
    "five bytes on stream 1": "00 00 0000 00000001 00000005 68656c6c6f",
    "end of stream 1": "00 00 0004 00000001 00000000",
    "reset stream 1": "00 01 0008 00000001 00000000",
    "ping": "00 02 0001 00000000 0badcafe",
    "pong": "00 02 0002 00000000 0badcafe",
    "go away": "00 03 0000 00000000 00000000",
}


def vectors() -> dict[str, Any]:
    """Everything in `wire.json`."""
    return {
        "noise_xx": [
            noise_xx(b"", [b"", b"second", b"third", b"a message", b"and its answer"]),
            noise_xx(b"prologue", [b"first", b"", b"", b"", b"x" * 300]),
        ],
        "payload": payloads(),
        "identify": identify(),
        "kad": kad(),
        "yamux": {name: frame.replace(" ", "") for name, frame in YAMUX.items()},
    }


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n")
