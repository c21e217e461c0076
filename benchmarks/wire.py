"""What one byte costs in our connection stack, without sockets, beside the cipher alone and py-libp2p.

    python -m benchmarks.wire [--quick]

Everything runs in one process, in turns, and counts processor time; the ratios of one run mean something also on a
busy machine. py-libp2p's Noise and Yamux run on trio over the same kind of pipe in memory.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import trio
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from benchmarks.results import GB, MIB, Table, median, run_alone
from p2pboot.core.identity import SecretKey
from p2pboot.wire.connection import Connection, Keys
from p2pboot.wire.noise.transport import MAX_PLAINTEXT, OVERHEAD
from p2pboot.wire.yamux.events import Readable, StreamOpened
from p2pboot.wire.yamux.scheduler import MAX_FRAME_BODY
from p2pboot.wire.yamux.stream import Stream

_BATCH = 4 * (MAX_PLAINTEXT + OVERHEAD)  # to the socket at once
_RUST_FRAME = 16 * 1024
_KEYS = [SecretKey(bytes([n]) * 32) for n in (1, 2)]


@dataclass(frozen=True)
class Costs:
    """Seconds of processor time by what was measured: sending, receiving, or both where they cannot be told apart."""

    seconds_per_gb: dict[str, tuple[float | None, float | None, float]]

    def tables(self) -> Iterator[Table]:
        cipher = self.seconds_per_gb["cipher alone"][2]
        rows = [
            (name, *("" if each is None else f"{each:.2f}" for each in costs), f"{costs[2] / cipher:.1f}")
            for name, costs in self.seconds_per_gb.items()
        ]
        yield Table("Connection stack, in memory", ("CPU s/GB", "send", "receive", "both", "× cipher"), rows)

    def to_json(self) -> dict[str, Any]:
        return {"wire": self.seconds_per_gb}


class Flow:
    """A stream in bulk from one connection to another."""

    def __init__(self, sender: Connection, receiver: Connection, size: int) -> None:
        self.stream = sender.session.open()
        _carry(sender, receiver)
        (opened,) = (event for event in receiver.events() if isinstance(event, StreamOpened))
        self.far_end: Stream = opened.stream
        self._unwritten = self._unread = size
        self._piece = memoryview(bytes(MIB))
        self._target = memoryview(bytearray(MIB))
        self._post()

    @property
    def done(self) -> bool:
        return self._unread == 0

    def write(self) -> None:
        """Keep half a batch in the queue: a piece of a file, without copies."""
        offered = self._piece[: self._unwritten]
        self._unwritten -= self.stream.write(offered)

    def read(self) -> None:
        """Take a whole piece and give the buffer for the next one."""
        self._unread -= self.far_end.finish_read()
        self._post()

    def _post(self) -> None:
        size = min(MIB, self._unread)
        if size:
            self.far_end.read_into(self._target[:size], at_least=size)


def _connected() -> tuple[Connection, Connection]:
    sides = (
        Connection(initiator=True, keys=Keys(_KEYS[0], b"s" * 32, b"1" * 32)),
        Connection(initiator=False, keys=Keys(_KEYS[1], b"t" * 32, b"2" * 32)),
    )
    for _ in range(2):
        _carry(*sides)
        _carry(*reversed(sides))
    return sides


def _carry(sender: Connection, receiver: Connection) -> None:
    while data := sender.data_to_send(_BATCH):
        receiver.receive(data)


def _core(size: int, frame_body: int, *, both_ways: bool = False) -> tuple[float, float]:
    """Seconds of sending and of receiving `size` bytes, each way if so told."""
    sides = _connected()
    flows = {sides[1]: Flow(*sides, size)}
    if both_ways:
        flows[sides[0]] = Flow(*reversed(sides), size)
    for side in sides:
        side.session.frame_body = frame_body
    spent = [0.0, 0.0]
    while not all(flow.done for flow in flows.values()):
        for sender, receiver in (sides, sides[::-1]):
            began = time.process_time()
            if receiver in flows:
                flows[receiver].write()
            data = sender.data_to_send(_BATCH)
            sealed = time.process_time()
            receiver.receive(data)
            for event in receiver.events():
                if isinstance(event, Readable):
                    flows[receiver].read()
            spent[0] += sealed - began
            spent[1] += time.process_time() - sealed
    return spent[0], spent[1]


def _cipher(size: int) -> tuple[float, float]:
    cipher, nonce, plaintext = ChaCha20Poly1305(bytes(32)), bytes(12), bytes(MAX_PLAINTEXT)
    sealed, opened = bytearray(MAX_PLAINTEXT + 16), bytearray(MAX_PLAINTEXT)
    began = time.process_time()
    for _ in range(size // MAX_PLAINTEXT):
        cipher.encrypt_into(nonce, plaintext, None, sealed)
    middle = time.process_time()
    for _ in range(size // MAX_PLAINTEXT):
        cipher.decrypt_into(nonce, sealed, None, opened)
    return middle - began, time.process_time() - middle


def _stock(size: int) -> float:
    """Seconds of both sides together, of py-libp2p's Noise and Yamux as they come."""
    import p2pboot.transport.libp2p  # noqa: F401  # a second, and only here; has a stand-in for what libp2p wants

    return trio.run(_stock_on_trio, size)


async def _stock_on_trio(size: int) -> float:
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
    from libp2p.network.connection.raw_connection import RawConnection
    from libp2p.peer.id import ID
    from libp2p.security.noise.transport import Transport
    from libp2p.stream_muxer.yamux.yamux import Yamux

    pairs = [create_new_key_pair(key.seed) for key in _KEYS]
    noise = [Transport(pair, noise_privkey=create_noise_key_pair().private_key) for pair in pairs]
    pipes: Any = _pipes()
    ends: list[Any] = [None, None]

    async def dial() -> None:
        ends[0] = await noise[0].secure_outbound(
            RawConnection(pipes[0], True), ID.from_pubkey(pairs[1].public_key)
        )

    async def listen() -> None:
        ends[1] = await noise[1].secure_inbound(RawConnection(pipes[1], False))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(listen)
    muxers = [Yamux(end, end.get_remote_peer(), is_initiator=end is ends[0]) for end in ends]
    async with trio.open_nursery() as nursery:
        for each in muxers:
            nursery.start_soon(each.start)
            await each.event_started.wait()
        sender = await muxers[0].open_stream()
        receiver = await muxers[1].accept_stream()
        began = time.process_time()
        nursery.start_soon(_write_all, sender, size)
        left = size
        while left:
            left -= len(await receiver.read(min(left, MIB)))
        spent = time.process_time() - began
        nursery.cancel_scope.cancel()
    return spent


async def _write_all(stream: Any, size: int) -> None:
    piece = bytes(MIB)
    for _ in range(size // MIB):
        await stream.write(piece)


def _pipes() -> list[Any]:
    from libp2p.io.abc import ReadWriteCloser
    from libp2p.io.exceptions import IOException

    class Pipe(ReadWriteCloser):
        """What py-libp2p wants of a socket, over bounded channels."""

        def __init__(self, sending: Any, receiving: Any) -> None:
            self._sending, self._receiving = sending, receiving
            self._received = b""

        async def read(self, n: int | None = None) -> bytes:
            if not self._received:
                try:
                    self._received = await self._receiving.receive()
                except trio.EndOfChannel:
                    return b""
            taken, self._received = self._received[:n], self._received[n:] if n is not None else b""
            return taken

        async def write(self, data: bytes) -> None:
            try:
                await self._sending.send(bytes(data))
            except trio.BrokenResourceError as error:
                raise IOException("closed") from error

        async def close(self) -> None:
            self._sending.close()

        def get_remote_address(self) -> tuple[str, int] | None:
            return None

    # As much as sockets buffer: with one message stock muxers lock each other up, each waiting to answer a ping.
    first, second = (trio.open_memory_channel[bytes](64) for _ in range(2))
    return [Pipe(first[0], second[1]), Pipe(second[0], first[1])]


def measure_as_told(arguments: argparse.Namespace) -> Costs:
    size, rounds = (64 * MIB, 1) if arguments.quick else (256 * MIB, 3)
    measures = {
        "cipher alone": lambda: _cipher(size),
        "our stack": lambda: _core(size, MAX_FRAME_BODY),
        "our stack, 16 KiB frames": lambda: _core(size, _RUST_FRAME),
        "our stack, both ways at once": lambda: tuple(
            each / 2 for each in _core(size, MAX_FRAME_BODY, both_ways=True)
        ),
        "py-libp2p": lambda: (_stock(size),),
    }
    samples: dict[str, list[tuple[float, ...]]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            samples[name].append(tuple(each / size * GB for each in measure()))
    return Costs({name: _costs(taken) for name, taken in samples.items()})


def _costs(samples: list[tuple[float, ...]]) -> tuple[float | None, float | None, float]:
    both = median(sum(sample) for sample in samples)
    if len(samples[0]) == 1:
        return None, None, both
    return median(sample[0] for sample in samples), median(sample[1] for sample in samples), both


if __name__ == "__main__":
    run_alone(__doc__.partition("\n")[0], measure_as_told)
