"""Another client of the two stream protocols, written from their description: varints, JSON and raw bodies.

Only the streams themselves are the program's: there is no second libp2p to test with.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from p2pboot.core.identity import SecretKey
from p2pboot.testing.waiting import HANG_S
from p2pboot.transport.interface import Connection, Stream, StreamReset, Transport
from p2pboot.transport.libp2p import open_libp2p

SYNC = "/p2pboot/sync/1"
ARTIFACT = "/p2pboot/artifact/1"


@asynccontextmanager
async def dialled(address: str) -> AsyncIterator[tuple[Transport, Connection]]:
    """A client's own node, and its connection with the peer."""
    async with open_libp2p(SecretKey(secrets.token_bytes(32)), []) as transport:
        with trio.fail_after(HANG_S):
            connection = await transport.dial(address)
        yield transport, connection


def varint(number: int) -> bytes:
    encoded = b""
    while number >= 0x80:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def frame(document: object) -> bytes:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return varint(len(payload)) + payload


class Wire:
    """One stream; everything it says is kept until it is read."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    @classmethod
    async def open(cls, transport: Transport, connection: Connection, protocol: str) -> Wire:
        with trio.fail_after(HANG_S):
            return cls(await transport.open_stream(connection, protocol))

    async def send(self, data: bytes) -> None:
        with trio.fail_after(HANG_S):
            await self.stream.write(data)

    async def take(self, count: int) -> bytes:
        with trio.fail_after(HANG_S):
            while len(self._buffer) < count:
                received = await self.stream.read(1 << 20)
                if not received:
                    raise EOFError(bytes(self._buffer))
                self._buffer += received
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def reply(self) -> tuple[dict[str, Any], bytes]:
        """Header and body of the next reply."""
        length = (await self.take(1))[0]
        if length >= 0x80:
            length = length & 0x7F | (await self.take(1))[0] << 7
        header = json.loads(await self.take(length))
        assert isinstance(header, dict)
        body = await self.take(header["length"]) if header["status"] == "ok" else b""
        return header, body

    async def ask(self, document: object) -> tuple[dict[str, Any], bytes]:
        await self.send(frame(document))
        return await self.reply()

    async def ok(self, document: object) -> bytes:
        header, body = await self.ask(document)
        assert header["status"] == "ok", header
        return body

    async def end(self) -> str:
        """How the stream ends from here: "eof", "reset", or what still came."""
        try:
            rest = await self.take(1)
        except EOFError as error:
            return "eof" if error.args == (b"",) else repr(error)
        except StreamReset:
            return "reset"
        return repr(rest)
