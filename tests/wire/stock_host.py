"""A py-libp2p host exactly as it comes, as a process of its own: `python -m tests.wire.stock_host`.

It prints its address and sends back what it gets on `/test/echo/1`. `tests.wire` has the stand-in for fastecdsa
imported; what the adapter changes in the library it changes only when a node of ours is opened, which nobody does here.
"""

from __future__ import annotations

from typing import Any

import trio
from libp2p import new_host
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamEOF
from multiaddr import Multiaddr

ECHO = "/test/echo/1"


async def _echo(stream: Any) -> None:
    while True:
        try:
            data = await stream.read(1 << 20)
        except StreamEOF:
            break
        await stream.write(data)
    await stream.close()


async def main() -> None:
    host = new_host()
    host.set_stream_handler(TProtocol(ECHO), _echo)
    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        print(host.get_addrs()[0], flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
