"""Attacks by peers that are found as everybody is: they listen, and the node, or who fetches there, comes to them."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from contextlib import suppress

import trio

from p2pboot.core.identity import SecretKey
from p2pboot.errors import P2PBootError
from p2pboot.transport.interface import Connection, Stream, Transport
from p2pboot.transport.light import open_light
from siege.attack import Attack

_AGAIN_S = 1.0


class Listener(Attack):
    """Each listens at an address, and makes itself known to the node again and again."""

    protocol: str
    """What it is asked in."""

    async def one(self, number: int) -> None:
        key = SecretKey(secrets.token_bytes(32))
        async with open_light(key, [f"/ip4/{self.source(number)}/tcp/0"]) as transport:
            transport.handle(self.protocol, self.serve)
            node = f"/ip4/{self.target.host}/tcp/{self.target.port}/p2p/{self.target.peer_id}"
            while True:
                with suppress(P2PBootError):
                    await self.be_known(transport, await transport.dial(node))
                await trio.sleep(_AGAIN_S)

    async def be_known(self, transport: Transport, node: Connection) -> None:
        """Have the node know of it; nothing more than to be connected is needed, unless it says so."""

    @abstractmethod
    async def serve(self, stream: Stream) -> None:
        """Answer on a stream."""
