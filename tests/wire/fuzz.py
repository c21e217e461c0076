"""Throw made-up bytes at the connection stack, for as long as you like: `make fuzz`, or

    python -m tests.wire.fuzz [--inputs N] [--seed S] [--only TARGET]

Every input is made of what the layer expects, damaged here and there, and arrives in pieces. Whatever comes, nothing
but a ProtocolError may come out, nothing may be held beyond its bound, and what is sent must still be frames.
A failure names the seed of its input: `--seed S --inputs 1` repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

from p2pboot.core.identity import SecretKey
from p2pboot.errors import ProtocolError
from p2pboot.wire.identify import MAX_ADDRESSES, MAX_PROTOCOLS, IdentifyReader, Identity, encode_identify
from p2pboot.wire.kad import (
    MAX_ADDRESSES as MAX_KAD_ADDRESSES,
)
from p2pboot.wire.kad import (
    MAX_CLOSER,
    KadPeer,
    Message,
    MessageReader,
    MessageType,
    Record,
    encode_message,
)
from p2pboot.wire.multistream import GREETING, Dialler, Listener, encode_line
from p2pboot.wire.noise.payload import decode_payload, encode_payload
from p2pboot.wire.protobuf import bytes_field, number_field
from p2pboot.wire.varint import encode_varint
from p2pboot.wire.yamux.events import StreamOpened
from p2pboot.wire.yamux.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    INITIAL_WINDOW,
    PING,
    RST,
    SESSION,
    SYN,
    WINDOW_UPDATE,
    header,
)
from p2pboot.wire.yamux.limits import Limits
from p2pboot.wire.yamux.session import Session
from p2pboot.wire.yamux.stream import Stream
from tests.wire.driving import connection
from tests.wire.sessions import frames

_KEY = SecretKey(b"f" * 32)
_STATIC = bytes(range(32))
_PAYLOAD = encode_payload(_KEY, _STATIC, ("/yamux/1.0.0",))
_IDENTIFY = encode_identify(
    Identity(_KEY.public, (b"\x04\x7f\0\0\x01\x06\x0f\xa1",), ("/a", "/b"), agent_version="x")
)
_KAD_PARTS = (
    bytes_field(1, b"key") + bytes_field(2, b"value") + number_field(777, 60),
    bytes_field(1, b"id") + bytes_field(2, b"\x04\x7f\0\0\x01\x06\x0f\xa1") * 3,
    b"",
)
_KAD = encode_message(
    Message(MessageType.GET_VALUE, b"key", Record(b"key", b"value"), closer=(KadPeer(b"id", (b"address",)),))
)
_LIMITS = Limits(inbound_streams=3, outbound_streams=3, unread=INITIAL_WINDOW, window=INITIAL_WINDOW + 1000)
_LENGTHS = (0, 1, 2, 5, 12, 100, 4096, INITIAL_WINDOW, INITIAL_WINDOW + 1001, 1 << 20, (1 << 32) - 1)
_TEXTS = ("/noise", "/yamux/1.0.0", "na", "ls", "", "/x", GREETING)


def damage(chance: random.Random, data: bytes) -> bytes:
    """Often nothing; else a few bytes changed, lost, doubled."""
    if chance.random() < 0.6:
        return data
    damaged = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(damaged) + 1)
        match chance.randrange(4):
            case 0:
                damaged[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del damaged[at : at + chance.randint(1, 8)]
            case 2:
                damaged[at:at] = damaged[at : at + 20]
            case 3:
                damaged[at:at] = chance.randbytes(chance.randint(1, 8))
    return bytes(damaged)


def deliver(chance: random.Random, receive: Callable[[bytes], object], data: bytes) -> None:
    """Hand it over in up to three pieces."""
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(3)))
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        receive(data[start:end])


def fuzz_yamux(chance: random.Random) -> None:
    session = Session(initiator=chance.random() < 0.5, limits=_LIMITS)
    streams = [session.open() for _ in range(chance.randrange(3))]
    for stream in streams:
        stream.write(b"request")
    for _ in range(chance.randint(1, 6)):
        said = b"".join(
            plausible_frame(chance, session) if chance.random() < 0.95 else any_frame(chance)
            for _ in range(chance.randint(1, 3))
        )
        try:
            deliver(chance, session.receive, damage(chance, said) if chance.random() < 0.1 else said)
        finally:
            streams += [event.stream for event in session.events() if isinstance(event, StreamOpened)]
            for stream in streams:
                use(chance, stream)
            frames(session.data_to_send(chance.choice((13, 100, 65_519))))
            unread = sum(stream.unread for stream in streams)
            assert session.unread == unread <= _LIMITS.unread
            assert len(session.streams) <= 6


def any_frame(chance: random.Random) -> bytes:
    """Fields that make no sense together."""
    kind = chance.choice((DATA, WINDOW_UPDATE, PING, GO_AWAY, chance.randrange(256)))
    length = chance.choice(_LENGTHS)
    flags = chance.choice((0, SYN, FIN, RST, chance.randrange(1 << 16)))
    return header(kind, flags, chance.randrange(9), length) + (
        bytes(min(length, 5000)) if kind == DATA else b""
    )


def plausible_frame(chance: random.Random, session: Session) -> bytes:
    """What an honest peer might send, unless it forgot what it sent before."""
    ids = [stream.id for stream in session.streams] or [session._parity + 1]
    stream_id = chance.choice(ids)
    match chance.randrange(8):
        case 0 | 1:
            body = bytes(chance.choice((0, 1, 100, 5000)))
            return header(DATA, chance.choice((0, 0, 0, ACK, FIN)), stream_id, len(body)) + body
        case 2:
            return header(WINDOW_UPDATE, chance.choice((0, 0, ACK, FIN)), stream_id, chance.choice(_LENGTHS))
        case 3:
            return header(chance.choice((DATA, WINDOW_UPDATE)), RST, stream_id, 0)
        case 4:
            return header(PING, SYN, SESSION, chance.randrange(1 << 32))
        case 5:
            return header(GO_AWAY, 0, SESSION, chance.randrange(4))
        case _:
            return header(WINDOW_UPDATE, SYN, 2 * chance.randrange(1, 1000) + 1 - session._parity, 1000)


def use(chance: random.Random, stream: Stream) -> None:
    """What a driver may do with a stream at any time."""
    with contextlib.suppress(ProtocolError):
        match chance.randrange(10):
            case 0:
                stream.read(chance.choice((1, 10_000)))
            case 1:
                stream.write(bytes(chance.choice((1, 100_000))))
            case 2:
                stream.close_write()
            case 3:
                stream.reset()
            case 4:
                stream.ignore_input()
            case 5:
                stream.read_into(memoryview(bytearray(6000)), at_least=chance.choice((1, 6000)))
            case 6:
                stream.finish_read()


def fuzz_multistream(chance: random.Random) -> None:
    role = chance.choice((Dialler, Listener))
    said = b"".join(encode_line(chance.choice(_TEXTS)) for _ in range(chance.randint(1, 5)))
    if chance.random() < 0.8:
        said = encode_line(GREETING) + said
    negotiation = role(["/noise", "/x"])
    deliver(chance, negotiation.receive, damage(chance, said))
    assert negotiation.selected in (None, "/noise", "/x")
    assert len(negotiation.trailing_data) <= len(said) + 60


def fuzz_handshake(chance: random.Random) -> None:
    dialler, listener = connection(True), connection(False)
    sides = [(dialler, listener), (listener, dialler)]
    damaged = False
    for _ in range(3):
        writer, reader = sides[0]
        said = bytes(writer.data_to_send(100_000))
        changed = damage(chance, said)
        damaged |= changed != said
        deliver(chance, reader.receive, changed)
        sides.reverse()
    assert damaged or (dialler.secured and listener.secured)
    dialler.session.open().write(bytes(chance.choice((1, 70_000))))
    said = bytes(dialler.data_to_send(100_000))
    changed = damage(chance, said)
    deliver(chance, listener.receive, changed)
    if changed != said:
        assert 0 < listener.wants_bytes <= 65_537


def fuzz_payload(chance: random.Random) -> None:
    raw = damage(chance, _PAYLOAD)
    payload = decode_payload(raw, _STATIC)
    assert payload.identity == _KEY.public


def fuzz_identify(chance: random.Random) -> None:
    reader = IdentifyReader()
    fields = b"".join(
        bytes_field(chance.randrange(12), chance.randbytes(chance.choice((0, 1, 40, 300))))
        if chance.random() < 0.8
        else number_field(chance.randrange(12), chance.randrange(1 << 40))
        for _ in range(chance.randrange(6))
    )
    deliver(chance, reader.receive, damage(chance, _IDENTIFY + encode_varint(len(fields)) + fields))
    said = reader.receive_eof()
    assert len(said.listen_addresses) <= MAX_ADDRESSES
    assert len(said.protocols) <= MAX_PROTOCOLS


def fuzz_kad(chance: random.Random) -> None:
    reader = MessageReader()
    fields = b"".join(
        bytes_field(chance.choice((2, 3, 8, 9, 11, 2500)), damage(chance, chance.choice(_KAD_PARTS)))
        if chance.random() < 0.8
        else number_field(chance.choice((1, 2, 10)), chance.randrange(8))
        for _ in range(chance.randrange(6))
    )
    said = encode_varint(len(fields)) + fields
    read = []

    def receive(data: bytes) -> None:
        reader.receive(data)
        while (message := reader.next()) is not None:
            read.append(message)

    deliver(chance, receive, damage(chance, _KAD + said))
    for message in read:
        assert len(message.closer) <= MAX_CLOSER
        assert all(len(peer.addresses) <= MAX_KAD_ADDRESSES for peer in message.closer)


TARGETS: dict[str, Callable[[random.Random], None]] = {
    "yamux": fuzz_yamux,
    "multistream": fuzz_multistream,
    "handshake": fuzz_handshake,
    "payload": fuzz_payload,
    "identify": fuzz_identify,
    "kad": fuzz_kad,
}
# Handshakes cost a hundred times as much as the others.
_SHARES = {"yamux": 60, "multistream": 20, "handshake": 1, "payload": 9, "identify": 10, "kad": 10}


def fuzz(inputs: int, seed: int, targets: Sequence[str] = tuple(TARGETS)) -> Counter[str]:
    """Try `inputs` inputs, beginning with the one that `seed` makes; count them by target and outcome.

    Raises:
        AssertionError: of the first one that does what it must not, from whatever it raised.
    """
    counts: Counter[str] = Counter()
    shares = [_SHARES[name] for name in targets]
    for number in range(seed, seed + inputs):
        chance = random.Random(number)
        (name,) = chance.choices(targets, shares)
        try:
            TARGETS[name](chance)
            counts[f"{name}, taken"] += 1
        except ProtocolError:
            counts[f"{name}, refused"] += 1
        except Exception as error:
            raise AssertionError(f"{name}: the input of seed {number} does what it must not") from error
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description="Throw made-up bytes at the connection stack.")
    parser.add_argument(
        "--inputs", type=int, default=100_000, metavar="N", help="how many  [default: %(default)s]"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="of the first one  [default: a new one]")
    parser.add_argument("--only", choices=TARGETS, help="this layer only")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 40) if arguments.seed is None else arguments.seed
    began = time.perf_counter()
    print(f"{arguments.inputs} inputs from seed {seed}", flush=True)
    counts = fuzz(arguments.inputs, seed, [arguments.only] if arguments.only else tuple(TARGETS))
    for name, count in sorted(counts.items()):
        print(f"  {name:22} {count:10}")
    print(f"  in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
