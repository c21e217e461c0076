"""GossipSub's RPCs as far as they concern us before they are decoded, and the signature of a message in one.

Weighing comes first: how many fields of which kind, without making an object of any.

An RPC of two-byte submessages costs its decoder a thousand times what it costs its sender. So it is gone through once,
in place; whoever sent too much is noticed after so many fields as an honest one has, however many follow.

Spec: https://github.com/libp2p/specs/blob/master/pubsub/README.md#the-rpc and the extensions of gossipsub-v1.1
and -v1.2. Protobuf merges a submessage that comes twice, and keeps fields that nobody knows: all of them count here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import PublicKey
from p2pboot.errors import RemoteProtocolError
from p2pboot.wire.protobuf import bytes_field

MAX_FIELDS: Final = 2048
"""Of one RPC, scalars and unknown ones too. A greeting with 256 topics has 769, gossip about 256 messages about 800."""

MAX_MESSAGES: Final = 8
"""Published by one RPC. Other implementations send each alone, and what is asked for (IWANT) by threes at most."""

MESSAGE, SUBSCRIPTION, CONTROL, IDS = "message", "subscription", "control", "ids"

_VARINT, _BYTES = 0, 2
_FIXED: Final = {1: 8, 5: 4}  # wire type to length
_CONTINUES: Final = 0x80
_MAX_VARINT: Final = 10
_MAX_KEY: Final = (1 << 29) - 1 << 3 | 7  # of the highest field number that there is

# Field number to what it counts as besides a field, and the fields of a submessage.
_Schema = Mapping[int, tuple[str | None, Any]]
_LEAF: Final[_Schema] = {}  # only numbers, texts and bytes
_MANY_IDS: Final[_Schema] = {1: (IDS, None)}
_RPC: Final[_Schema] = {
    1: (SUBSCRIPTION, _LEAF),
    2: (MESSAGE, _LEAF),
    3: (
        None,
        {
            1: (CONTROL, {2: (IDS, None)}),  # IHAVE
            2: (CONTROL, _MANY_IDS),  # IWANT
            3: (CONTROL, _LEAF),  # GRAFT
            4: (CONTROL, {2: (CONTROL, _LEAF)}),  # PRUNE, with peers to go to instead
            5: (CONTROL, _MANY_IDS),  # IDONTWANT
            6: (CONTROL, _LEAF),  # extensions
            7: (CONTROL, _LEAF),  # observe
            8: (CONTROL, _LEAF),  # unobserve
        },
    ),
}


_SIGNED_PREFIX: Final = b"libp2p-pubsub:"
# Field numbers of a message.
_FROM, _DATA, _SEQNO, _MESSAGE_TOPIC = 1, 2, 3, 4


class TooMuch(RemoteProtocolError):
    """An RPC that no honest node sends, for its size alone."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What there is in one RPC.

    Args:
        size: bytes.
        fields: of the RPC and all that is nested in it, at most `MAX_FIELDS`.
        messages: that it publishes, at most `MAX_MESSAGES`.
        subscriptions: topics joined or left.
        controls: control messages, each peer of a PRUNE too.
        ids: message ids in these.
    """

    size: int
    fields: int
    messages: int
    subscriptions: int
    controls: int
    ids: int


def weigh(rpc: bytes) -> Weight:
    """Count what is in an RPC, in a time that `MAX_FIELDS` bounds, whatever its length.

    Args:
        rpc: without its length prefix. What is weighed here and then not decoded did no harm; what passes may still be
            refused by the decoder, which also looks at texts.

    Raises:
        TooMuch: too many fields or messages.
        RemoteProtocolError: it is no protobuf message, or one with groups, which nobody has sent for twenty years.
    """
    counts: Counter[str] = Counter()
    fields = 0
    nested: list[tuple[int, int, _Schema]] = [(0, len(rpc), _RPC)]
    while nested:
        at, end, schema = nested.pop()
        while at < end:
            fields += 1
            if fields > MAX_FIELDS:
                raise TooMuch(f"an RPC of {len(rpc)} bytes has more than {MAX_FIELDS} fields")
            key, at = (rpc[at], at + 1) if rpc[at] < _CONTINUES else _varint(rpc, at, end)
            if not 8 <= key <= _MAX_KEY:  # the lowest field number is 1
                raise RemoteProtocolError("an RPC has a field with an impossible number")
            length, at = _length(rpc, at, end, key & 7)
            if length > end - at:
                raise RemoteProtocolError("an RPC ends within a field")
            if key & 7 == _BYTES and (known := schema.get(key >> 3)) is not None:
                kind, inner = known
                if kind is not None:
                    counts[kind] += 1
                if inner is not None and length:
                    nested.append((at, at + length, inner))
            at += length
    if counts[MESSAGE] > MAX_MESSAGES:
        raise TooMuch(f"an RPC publishes {counts[MESSAGE]} messages, more than {MAX_MESSAGES}")
    return Weight(len(rpc), fields, counts[MESSAGE], counts[SUBSCRIPTION], counts[CONTROL], counts[IDS])


def _length(rpc: bytes, at: int, end: int, wire_type: int) -> tuple[int, int]:
    """How long a field's content is, and where it begins; nothing is left of a number that was read already."""
    if wire_type == _VARINT:
        return 0, _varint(rpc, at, end)[1]
    if wire_type == _BYTES:
        return _varint(rpc, at, end)
    if wire_type in _FIXED:
        return _FIXED[wire_type], at
    raise RemoteProtocolError(f"an RPC has a field of wire type {wire_type}")


def _varint(rpc: bytes, at: int, end: int) -> tuple[int, int]:
    """Read the number at an offset; protobuf allows more than one spelling of it, up to ten bytes."""
    value = shift = 0
    for index in range(at, min(end, at + _MAX_VARINT)):
        byte = rpc[index]
        value |= (byte & 0x7F) << shift
        if byte < _CONTINUES:
            return value, index + 1
        shift += 7
    raise RemoteProtocolError("an RPC has an unfinished number")


def signed_bytes(*, sender: bytes, data: bytes, seqno: bytes, topic: str) -> bytes:
    """What the signature of a message is of: the message without key and signature, behind a prefix.

    Spec: https://github.com/libp2p/specs/blob/master/pubsub/README.md#message-signing.
    """
    return (
        _SIGNED_PREFIX
        + bytes_field(_FROM, sender)
        + bytes_field(_DATA, data)
        + bytes_field(_SEQNO, seqno)
        + bytes_field(_MESSAGE_TOPIC, topic.encode())
    )


def signer_of(sender: bytes) -> PublicKey | None:
    """The key that a message's sender signs with; None where it is no Ed25519 key.

    Others are not looked at: an RSA key of a stranger's choice may make one check take seconds.
    """
    try:
        return PublicKey.from_peer_id_bytes(sender)
    except ValueError:
        return None


def is_of_other_kind(sender: bytes) -> bool:
    """Whether this is the peer id of a key that is not Ed25519: RSA and ECDSA by their hash, or secp256k1."""
    return (len(sender) == 34 and sender.startswith(b"\x12\x20")) or (
        len(sender) == 39 and sender.startswith(b"\x00\x25\x08\x02\x12\x21")
    )
