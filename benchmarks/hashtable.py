"""The distributed hash table: how long a lookup takes among thirty nodes, with and without liars among them.

    python -m benchmarks.hashtable [--quick]

All nodes are in one process and share one core, each with its own connections (TCP, Noise, Yamux) over loopback; so the
figures are upper bounds. Each lookup is a new client's that knows one node: dialling whom it is told of is in its time.
Three in ten lie, in one of three ways: they answer every question with a wrong value and with twenty peers that are not
there, at addresses that refuse or at one that takes every call and says nothing; or they say nothing themselves.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from benchmarks.results import Goal, Table, quantile, run_alone
from p2pboot.core.identity import SecretKey
from p2pboot.dht.addresses import AddressPolicy
from p2pboot.dht.client import DhtClient
from p2pboot.dht.keys import manifest_key, manifest_url
from p2pboot.dht.member import DhtMember
from p2pboot.testing.manifests import key_of
from p2pboot.transport.interface import Stream, StreamHandler, Transport
from p2pboot.transport.light import open_light
from p2pboot.wire.kad import (
    KAD_PROTOCOL,
    KadPeer,
    Message,
    MessageReader,
    MessageType,
    Record,
    encode_message,
)

NODES = 30
LIARS = 9
_LOOKUPS = 100
_LISTEN = ("/ip4/127.0.0.1/tcp/0",)
_INVENTED = [key_of(f"invented {number}").public.peer_id_bytes for number in range(200)]


@dataclass
class Lookups:
    """Seconds.

    Args:
        first: until the right value was found.
        whole: until everybody near was asked.
        missed: lookups that did not find it.
    """

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    missed: int = 0


@dataclass(frozen=True)
class Figures:
    """What was measured, by what the liars do."""

    lookups: dict[str, Lookups]

    def tables(self) -> Iterator[Table]:
        rows = [
            (
                what,
                str(len(one.whole)),
                *(f"{1000 * quantile(one.first, share):.0f}" for share in (0.5, 0.99)),
                *(f"{1000 * quantile(one.whole, share):.0f}" for share in (0.5, 0.99)),
                str(one.missed),
            )
            for what, one in self.lookups.items()
        ]
        heads = ("", "lookups", "found p50", "found p99", "all asked p50", "all asked p99", "missed")
        yield Table(f"Lookups in the hash table, milliseconds, {NODES} nodes in one process", heads, rows)

    def goals(self) -> Iterator[Goal]:
        for what, one in self.lookups.items():
            yield Goal.at_most(f"p99 of a lookup, {what}, s", 1.5, quantile(one.whole, 0.99))
        yield Goal.at_most(
            "lookups without the right value", 0, sum(one.missed for one in self.lookups.values())
        )

    def to_json(self) -> dict[str, Any]:
        return {"hashtable": {what: vars(one) for what, one in self.lookups.items()}}


def _key(number: int) -> tuple[bytes, bytes]:
    channel = f"channel-{number}"
    return manifest_key(channel, "arm64"), manifest_url("http://127.0.0.1:8080", channel, "arm64")


async def _lie(stream: Stream, chance: random.Random, address: Callable[[int], bytes]) -> None:
    """Answer with a wrong value and invented peers, each at the address that its number stands for."""
    reader = MessageReader()
    while data := await stream.read(4096):
        reader.receive(data)
        while (request := reader.next()) is not None:
            invented = tuple(
                KadPeer(peer_id, (address(number),))
                for number, peer_id in enumerate(chance.sample(_INVENTED, 20))
            )
            wrong = Record(request.key, b"http://wrong/")
            if request.type is not MessageType.ADD_PROVIDER:
                lie = Message(request.type, request.key, wrong, closer=invented, providers=invented)
                await stream.write(encode_message(lie))


async def _silent(_stream: Stream) -> None:
    await trio.sleep_forever()


async def _measure(lookups: int) -> Figures:
    chance = random.Random(30)
    figures = {}
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        transports: list[Transport] = []
        for number in range(NODES):
            transport = await stack.enter_async_context(open_light(key_of(f"node {number}"), _LISTEN))
            member = DhtMember(transport, AddressPolicy(), serves=True)
            member.say(dict([_key(number)]), ())
            nursery.start_soon(member.run)
            for other in chance.sample(transports, min(3, len(transports))):
                await transport.dial(other.addresses()[0])
            transports.append(transport)
        await trio.sleep(15)  # each has told the others what it says
        figures["nobody lies"] = await _look_up(transports, range(NODES), chance, lookups)
        lying = chance.sample(range(NODES), LIARS)
        honest = [number for number in range(NODES) if number not in lying]
        with socket.create_server(("127.0.0.1", 0), backlog=4096) as mute:
            port = mute.getsockname()[1].to_bytes(2, "big")
            ways: dict[str, StreamHandler] = {
                "of whom nobody is there": partial(
                    _lie, chance=chance, address=lambda number: bytes([4, 127, 9, 9, number, 6, 3, 232])
                ),
                "of whom nobody speaks": partial(
                    _lie, chance=chance, address=lambda _number: bytes([4, 127, 0, 0, 1, 6]) + port
                ),
                "": _silent,
            }
            for told, way in ways.items():
                for number in lying:
                    transports[number].handle(KAD_PROTOCOL, way)
                what = f"{LIARS} tell of peers {told}" if told else f"{LIARS} say nothing"
                figures[what] = await _look_up(transports, honest, chance, lookups)
        nursery.cancel_scope.cancel()
    return Figures(figures)


async def _look_up(
    transports: Sequence[Transport], said_by: Sequence[int], chance: random.Random, count: int
) -> Lookups:
    into = Lookups()
    for turn in range(count):
        key, right = _key(chance.choice(said_by))
        seed = hashlib.sha256(b"%d %d" % (turn, len(said_by))).digest()
        async with open_light(SecretKey(seed)) as transport:
            began = trio.current_time()
            found: dict[bytes, float] = {}
            await transport.dial(transports[chance.choice(said_by)].addresses()[0])

            def note(value: bytes, found: dict[bytes, float] = found) -> None:
                found[value] = trio.current_time()

            await DhtClient(transport, AddressPolicy()).find_values(key, note)
            into.whole.append(trio.current_time() - began)
            if right in found:
                into.first.append(found[right] - began)
            else:
                into.missed += 1
    return into


def measure(*, lookups: int = _LOOKUPS) -> Figures:
    return trio.run(lambda: _measure(lookups))


def measure_as_told(arguments: argparse.Namespace) -> Figures:
    return measure(lookups=20 if arguments.quick else _LOOKUPS)


if __name__ == "__main__":
    run_alone("Measure lookups in the distributed hash table.", measure_as_told)
