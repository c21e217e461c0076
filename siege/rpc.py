"""GossipSub's RPCs as bytes, honest ones and others; the fields are those of libp2p's rpc.proto."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from p2pboot.core.identity import SecretKey
from p2pboot.wire.protobuf import bytes_field, number_field
from p2pboot.wire.varint import encode_varint

GOSSIP_PROTOCOL = "/meshsub/1.1.0"
MAX_RPC = 1024 * 1024
_SUBSCRIPTION, _PUBLISH, _CONTROL = 1, 2, 3
_IHAVE, _IWANT, _GRAFT, _PRUNE = 1, 2, 3, 4
_SIGNED_PREFIX = b"libp2p-pubsub:"


def rpc(*fields: bytes) -> bytes:
    """One RPC with its length."""
    body = b"".join(fields)
    return encode_varint(len(body)) + body


def filled(field: bytes) -> bytes:
    """An RPC that says the same until it is as long as it may be."""
    return rpc(field * ((MAX_RPC - 16) // len(field)))


def subscription(topic: str, *, join: bool = True) -> bytes:
    return bytes_field(_SUBSCRIPTION, number_field(1, int(join)) + bytes_field(2, topic.encode()))


def empty_message() -> bytes:
    return bytes_field(_PUBLISH, b"")


def message(topic: str, data: bytes, key: SecretKey, *, forged: bool = False) -> bytes:
    """A message in its envelope.

    Args:
        topic: of it.
        data: what it says.
        key: of whom it comes from.
        forged: whether the signature is none.
    """
    said = (
        bytes_field(1, key.public.peer_id_bytes)
        + bytes_field(2, data)
        + bytes_field(3, secrets.token_bytes(8))
        + bytes_field(4, topic.encode())
    )
    signature = secrets.token_bytes(64) if forged else key.sign(_SIGNED_PREFIX + said)
    return bytes_field(_PUBLISH, said + bytes_field(5, signature))


def control(*entries: bytes) -> bytes:
    return bytes_field(_CONTROL, b"".join(entries))


def ihave(topic: str, ids: Iterable[bytes]) -> bytes:
    return bytes_field(_IHAVE, bytes_field(1, topic.encode()) + _ids(2, ids))


def iwant(ids: Iterable[bytes]) -> bytes:
    return bytes_field(_IWANT, _ids(1, ids))


def graft(topic: str) -> bytes:
    return bytes_field(_GRAFT, bytes_field(1, topic.encode()))


def prune(topic: str) -> bytes:
    return bytes_field(_PRUNE, bytes_field(1, topic.encode()))


def _ids(number: int, ids: Iterable[bytes]) -> bytes:
    return b"".join(bytes_field(number, one) for one in ids)
