"""Private meshes with go-libp2p and js-libp2p: each dials the other, over both of our transports."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2pboot.core.identity import SecretKey
from p2pboot.store.keyfiles import generate_swarm_key, load_swarm_key
from p2pboot.transport.interface import DialError, Stream, Transport
from p2pboot.transport.libp2p import open_libp2p
from p2pboot.transport.light import open_light
from p2pboot.wire.ping import PING_PROTOCOL
from tests.interop.peers import peer

pytestmark = pytest.mark.interop

ECHO = "/p2pboot/test/echo"
LENGTH = 3 << 20
LISTEN = ["/ip4/127.0.0.1/tcp/0"]


@pytest.fixture
def key_path(tmp_path: Path) -> Path:
    generate_swarm_key(tmp_path / "swarm.key")
    return tmp_path / "swarm.key"


@asynccontextmanager
async def opened(kind: str, key_path: Path) -> AsyncIterator[Transport]:
    open_it = open_light if kind == "light" else open_libp2p
    key = SecretKey(secrets.token_bytes(32))
    async with open_it(key, LISTEN, swarm_key=load_swarm_key(key_path)) as transport:
        transport.handle(ECHO, echo)
        yield transport


async def echo(stream: Stream) -> None:
    while data := await stream.read(1 << 20):
        await stream.write(data)


async def send_and_compare(transport: Transport, address: str) -> None:
    connection = await transport.dial(address)
    ping = await transport.open_stream(connection, PING_PROTOCOL)
    await ping.write(b"p" * 32)
    answer = bytearray(32)
    await ping.read_into(memoryview(answer), 32)
    assert answer == b"p" * 32
    await ping.close()
    stream, sent, received = (
        await transport.open_stream(connection, ECHO),
        secrets.token_bytes(LENGTH),
        bytearray(),
    )

    async def write() -> None:
        await stream.write(sent)
        await stream.close_write()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        while data := await stream.read(1 << 20):
            received += data
    assert received == sent


@pytest.mark.parametrize("kind", ["light", "libp2p"])
@pytest.mark.parametrize("language", ["go", "js"])
async def test_each_dials_the_other_and_everything_on_top_works(
    tmp_path: Path, key_path: Path, language: str, kind: str
) -> None:
    with peer(language, "psk", str(key_path), log=tmp_path / "log") as running:
        said = await running.heard(addresses=...)
        async with opened(kind, key_path) as transport:
            running.tell(dial=transport.addresses()[0])
            told = await running.heard(connected=transport.peer_id)
            assert (told["pinged"], told["echoed"]) == (True, LENGTH)
            assert ECHO in told["protocols"]
        async with opened(kind, key_path) as transport:
            await send_and_compare(
                transport, said["addresses"][0].partition("/p2p/")[0] + f"/p2p/{said['id']}"
            )


@pytest.mark.parametrize("language", ["go", "js"])
async def test_with_another_key_neither_gets_in_and_both_learn_it_soon(
    tmp_path: Path, key_path: Path, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pboot.transport.limits.HANDSHAKE_S", 1.0)
    monkeypatch.setattr("p2pboot.transport.tcp.endpoint._ANSWER_S", 0.5)
    other = tmp_path / "other.key"
    generate_swarm_key(other)
    with peer(language, "psk", str(other), log=tmp_path / "log") as running:
        said = await running.heard(addresses=...)
        async with opened("light", key_path) as transport:
            with pytest.raises(DialError, match="swarm key"):
                await transport.dial(said["addresses"][0])
            running.tell(dial=transport.addresses()[0])
            await running.heard(failed=transport.addresses()[0])
            assert not transport.peers()
