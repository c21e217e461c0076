"""A py-libp2p host exactly as it comes, as a process of its own: `python -m tests.wire.stock_host [ADDRESS]`.

It prints its address and sends back what it gets on `/test/echo/1`; on a topic of GossipSub it answers what it hears.
With an address it dials that node and has it send back a megabyte first. `tests.wire` has the stand-in for fastecdsa
imported; what the adapter changes in the library it changes only when a node of ours is opened, which nobody does here.
"""

from __future__ import annotations

import sys
from typing import Any

import trio
from libp2p import new_host
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

ECHO = TProtocol("/test/echo/1")
TOPIC = "/test/topic/1"
_BODY = bytes(range(256)) * 4096


async def _echo(stream: Any) -> None:
    async for data in _chunks(stream):
        await stream.write(data)
    await stream.close()


async def _chunks(stream: Any) -> Any:
    while True:
        try:
            yield await stream.read(1 << 20)
        except StreamEOF:
            return


async def _ask(host: Any, address: str) -> None:
    peer = info_from_p2p_addr(Multiaddr(address))
    await host.connect(peer)
    stream = await host.new_stream(peer.peer_id, [ECHO])

    async def send() -> None:
        await stream.write(_BODY)
        await stream.close_write()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        received = b"".join([data async for data in _chunks(stream)])
    if received != _BODY:
        raise SystemExit("not what was sent")


async def main() -> None:
    host = new_host()
    host.set_stream_handler(ECHO, _echo)
    router = GossipSub(protocols=[PROTOCOL_ID_V11], degree=8, degree_low=6, degree_high=12)
    pubsub = Pubsub(host, router)
    async with (
        host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]),
        background_trio_service(router),
        background_trio_service(pubsub),
    ):
        await pubsub.wait_until_ready()
        heard = await pubsub.subscribe(TOPIC)
        if sys.argv[1:]:
            await _ask(host, sys.argv[1])
        print(host.get_addrs()[0], flush=True)
        while True:
            message = await heard.get()
            if message.from_id != host.get_id().to_bytes():
                await pubsub.publish(TOPIC, b"heard " + message.data)


if __name__ == "__main__":
    trio.run(main)
