"""Both transports in a private mesh: streams, ping, identify and gossip are as ever, and others get nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest
import trio

from p2pboot.core.identity import SecretKey
from p2pboot.core.swarmkey import SwarmKey
from p2pboot.transport.interface import DialError, Forwarding, Gossip
from p2pboot.transport.libp2p import open_libp2p
from p2pboot.transport.light import open_light
from p2pboot.wire.ping import PING_PROTOCOL
from tests.transport.conftest import ECHO, TOPIC, Lab, echo, read_all, until, wait_connected

KEY, OTHER = SwarmKey(b"k" * 32), SwarmKey(b"o" * 32)
LOOPBACK = ["/ip4/127.0.0.1/tcp/0"]

Open = Callable[[str, int, SwarmKey | None], Awaitable[Gossip]]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    async with trio.open_nursery() as nursery:
        lab = Lab("private", nursery)

        async def open_one(kind: str, number: int, swarm_key: SwarmKey | None) -> Gossip:
            key = SecretKey(bytes([number]) * 32)
            if kind == "light":  # which has no gossip; nobody asks it for any
                return cast("Gossip", await lab.hold(open_light(key, LOOPBACK, swarm_key=swarm_key)))
            return await lab.hold(open_libp2p(key, LOOPBACK, swarm_key=swarm_key))

        yield open_one
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("dialled", ["light", "libp2p"])
@pytest.mark.parametrize("dialling", ["light", "libp2p"])
async def test_streams_ping_and_identify_work_as_ever(opened: Open, dialling: str, dialled: str) -> None:
    ours, theirs = await opened(dialling, 1, KEY), await opened(dialled, 2, KEY)
    theirs.handle(ECHO, echo)
    connection = await ours.dial(theirs.addresses()[0])
    stream, data = await ours.open_stream(connection, ECHO), bytes(range(256)) * 2000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.write, data[:300_000])
        received = bytearray()
        while len(received) < 300_000:
            received += await stream.read(1 << 20)
    assert received == data[:300_000]
    await stream.close()
    ping = await ours.open_stream(connection, PING_PROTOCOL)
    await ping.write(b"p" * 32)
    await ping.close_write()
    assert await read_all(ping) == b"p" * 32
    await until(lambda: set(ours.addresses()) <= set(theirs.peer_addresses(ours.peer_id)))


async def test_gossip_is_heard(opened: Open) -> None:
    nodes = [await opened("libp2p", n, KEY) for n in (1, 2, 3)]
    heard: list[tuple[int, bytes]] = []
    for number, node in enumerate(nodes):

        async def note(_peer: str, payload: bytes, number: int = number) -> Forwarding:
            heard.append((number, payload))
            return Forwarding.ACCEPT

        await node.subscribe(TOPIC, note)
    for one, other in ((0, 1), (1, 2)):
        await nodes[one].dial(nodes[other].addresses()[0])
        await wait_connected(nodes[other], nodes[one].peer_id)
    while (2, b"said") not in heard:
        await nodes[0].publish(TOPIC, b"said")
        await trio.sleep(0.05)
    assert (1, b"said") in heard
    assert all(len(node.peer_records()) >= 1 for node in nodes)


@pytest.mark.parametrize("kind", ["light", "libp2p"])
@pytest.mark.parametrize("swarm_key", [OTHER, None], ids=["another key", "no key"])
async def test_who_has_not_the_key_stays_outside(
    opened: Open, kind: str, swarm_key: SwarmKey | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pboot.transport.tcp.endpoint._ANSWER_S", 0.05)
    inside, outside = await opened(kind, 1, KEY), await opened("light", 2, swarm_key)
    with pytest.raises(DialError, match="private mesh"):
        await outside.dial(inside.addresses()[0])
    with pytest.raises(DialError, match="swarm key"):
        await inside.dial(outside.addresses()[0])
    assert not inside.peers() | outside.peers()
