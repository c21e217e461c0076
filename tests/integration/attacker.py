"""A stranger that means no good. Run as `python -m tests.integration.attacker connect|garbage ADDRESS COUNT`."""

from __future__ import annotations

import random
import sys

import trio

from p2pboot.core.identity import SecretKey
from p2pboot.errors import P2PBootError
from p2pboot.transport.libp2p.host import open_libp2p

PROTOCOLS = (
    "/p2pboot/sync/1",
    "/p2pboot/artifact/1",
    "/meshsub/1.1.0",
    "/ipfs/id/1.0.0",
    "/ipfs/id/push/1.0.0",
    "/ipfs/ping/1.0.0",
)
AT_ONCE = 8  # connections that are open together


async def connect(address: str, count: int) -> None:
    """Come and go, each time as somebody else."""
    slots = trio.CapacityLimiter(AT_ONCE)

    async def once(number: int) -> None:
        async with slots, open_libp2p(SecretKey(number.to_bytes(32, "big")), []) as transport:
            await transport.dial(address)

    async with trio.open_nursery() as nursery:
        for number in range(1, count + 1):
            nursery.start_soon(once, number)


async def garbage(address: str, count: int) -> None:
    """Speak nonsense on every protocol, before and after the handshakes."""
    chance = random.Random(count)
    for number in range(count):
        await _raw(address, chance.randbytes(chance.randrange(1, 4096)))
        await _raw(address, b"\x13/multistream/1.0.0\n" + chance.randbytes(512))
        await _raw(address, b"\x13/multistream/1.0.0\n\x07/noise\n" + chance.randbytes(512))
        async with open_libp2p(SecretKey(bytes([number + 1]) * 32), []) as transport:
            connection = await transport.dial(address)
            for protocol in PROTOCOLS:
                for nonsense in (
                    b"\x05hello",
                    b"\xff" * 64,
                    b"\x80\x00",
                    chance.randbytes(2048),
                    b"\x02{}",
                    b"\x00",
                ):
                    try:
                        with trio.move_on_after(5):
                            stream = await transport.open_stream(connection, protocol)
                            await stream.write(nonsense)
                            await stream.close_write()
                            await stream.read(65536)
                            await stream.reset()
                    except P2PBootError:
                        continue  # refused: as it should be


async def _raw(address: str, nonsense: bytes) -> None:
    _, _, host, _, port, *_ = address.split("/")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        try:
            await stream.send_all(nonsense)
            with trio.move_on_after(0.2):
                await stream.receive_some(1024)
        except trio.BrokenResourceError:
            return


if __name__ == "__main__":
    trio.run({"connect": connect, "garbage": garbage}[sys.argv[1]], sys.argv[2], int(sys.argv[3]))
