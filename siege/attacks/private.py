"""Attacks on a node in a private mesh, by those who have not its key."""

from __future__ import annotations

import secrets

import trio

from p2pboot.core.swarmkey import SwarmKey
from p2pboot.wire.private import NONCE_BYTES, Keystream
from siege.attack import Attack
from siege.peer import first_flight
from siege.target import PRIVATE

_AT_ONCE = 16 * 1024


class _Outsider(Attack):
    room = PRIVATE

    async def one(self, number: int) -> None:
        async with self.socket(number) as sock, trio.open_nursery() as nursery:
            nursery.start_soon(self._hear, sock)
            await self.say(sock)
            await trio.sleep_forever()

    async def _hear(self, sock: trio.SocketStream) -> None:
        while data := await sock.receive_some(4096):
            self.count("received", len(data))
        raise EOFError("the node hung up")

    async def say(self, sock: trio.SocketStream) -> None:
        """Send what an outsider sends."""
        raise NotImplementedError


class Nonces(_Outsider):
    name = "private-nonces"
    what = "1,000 sockets from eight addresses send a nonce, and nothing more"
    bound = "handshakes under way by address, and their time"
    connections, addresses = 1000, 8

    async def say(self, sock: trio.SocketStream) -> None:
        await sock.send_all(secrets.token_bytes(NONCE_BYTES))


class SlowNonces(_Outsider):
    name = "private-slow"
    what = "300 sockets from four addresses send a nonce, a byte a second"
    bound = "the same"
    connections, addresses = 300, 4

    async def say(self, sock: trio.SocketStream) -> None:
        for byte in secrets.token_bytes(NONCE_BYTES):
            await sock.send_all(bytes([byte]))
            await trio.sleep(1)


class Garbage(_Outsider):
    name = "private-garbage"
    what = "300 sockets from four addresses send a nonce, and random bytes without end"
    bound = "what is no greeting is not read on; handshakes under way by address, and their time"
    connections, addresses = 300, 4

    async def say(self, sock: trio.SocketStream) -> None:
        while True:
            await sock.send_all(secrets.token_bytes(_AT_ONCE))
            self.count("sent", _AT_ONCE)


class WrongKey(_Outsider):
    name = "private-other-key"
    what = "32 tasks from four addresses begin as members of another mesh do, and come again at once"
    bound = "rate of handshakes by address"
    connections, addresses = 32, 4

    async def one(self, number: int) -> None:
        while True:
            with trio.move_on_after(1):
                await super().one(number)

    async def say(self, sock: trio.SocketStream) -> None:
        nonce, said = secrets.token_bytes(NONCE_BYTES), bytearray(first_flight())
        Keystream(SwarmKey(secrets.token_bytes(32)), nonce).apply(memoryview(said))
        await sock.send_all(nonce + said)


ATTACKS = (Nonces, SlowNonces, Garbage, WrongKey)
