"""Attacks on the gateway."""

from __future__ import annotations

import random
import socket

import trio

from siege.attack import Attack

_SMALL_BUFFER = 8192
_ESTABLISHED = 1  # of TCP's states


class _Client(Attack):
    def request(self, *fields: str, path: str | None = None) -> bytes:
        lines = [f"GET {path or self.target.path} HTTP/1.1", f"Host: {self.target.http[0]}", *fields, "", ""]
        return "\r\n".join(lines).encode()


async def _drain(sock: trio.SocketStream) -> None:
    while await sock.receive_some(65_536):
        pass
    raise EOFError


class SlowClients(_Client):
    name = "http-slow"
    what = "600 readers of one address that take 12 kB/s each of the largest artifact"
    bound = "connections by address; a minimum rate while others wait"
    shows = "received"
    connections = 600

    async def one(self, number: int) -> None:
        async with self.socket(number, http=True, receive_buffer=_SMALL_BUFFER) as sock:
            await sock.send_all(self.request())
            while data := await sock.receive_some(6_000):
                self.count("received", len(data))
                await trio.sleep(len(data) / 12_000)
            raise EOFError


class StalledClients(_Client):
    name = "http-stalled"
    what = "600 readers from four addresses that take nothing"
    bound = "connections by address; memory of a connection"
    connections, addresses = 600, 4

    async def one(self, number: int) -> None:
        async with self.socket(number, http=True, receive_buffer=_SMALL_BUFFER) as sock:
            await sock.send_all(self.request())
            while sock.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED:  # noqa: ASYNC110
                await trio.sleep(1)
            raise EOFError


class IdleClients(_Client):
    name = "http-idle"
    what = "600 connections of one address that had one answer and are kept open"
    bound = "connections by address; the idlest goes"
    connections = 600

    async def one(self, number: int) -> None:
        async with self.socket(number, http=True) as sock:
            await sock.send_all(self.request(path="/health"))
            await _drain(sock)


class MuteClients(_Client):
    name = "http-mute"
    what = "600 connections from four addresses that ask nothing"
    bound = "connections by address; time that a request may take to arrive"
    connections, addresses = 600, 4

    async def one(self, number: int) -> None:
        async with self.socket(number, http=True) as sock:
            await _drain(sock)


class TrickledHeaders(_Client):
    name = "http-trickle"
    what = "300 requests from four addresses whose header comes a byte a second"
    bound = "time that a request may take to arrive"
    connections, addresses = 300, 4

    async def one(self, number: int) -> None:
        async with self.socket(number, http=True) as sock:
            for byte in self.request():
                await sock.send_all(bytes([byte]))
                await trio.sleep(1)


class LargeHeaders(_Client):
    name = "http-headers"
    what = "32 clients of two addresses that send headers of 20 kB, in one packet"
    bound = "bytes of a header, however they arrive"
    shows = "answers"
    connections, addresses = 32, 2

    async def one(self, number: int) -> None:
        request = self.request(f"X-Filler: {'x' * 20_000}", path="/health")
        while True:
            async with self.socket(number, http=True) as sock:
                await sock.send_all(request)
                answer = await sock.receive_some(4096)
                self.count(answer[9:12].decode() or "cut")
                self.count("answers")


class RangeBombs(_Client):
    name = "http-ranges"
    what = "32 clients of two addresses that ask for a thousand ranges at once"
    bound = "ranges of a request"
    shows = "answers"
    connections, addresses = 32, 2

    async def one(self, number: int) -> None:
        ranges = ",".join(f"{at * 64}-{at * 64 + 1}" for at in range(1000))
        async with self.socket(number, http=True) as sock:
            while True:
                await sock.send_all(self.request(f"Range: bytes={ranges}"))
                answer = await sock.receive_some(65_536)
                if not answer:
                    raise EOFError
                self.count("answers")


class SingleBytesOverHttp(_Client):
    name = "http-single-bytes"
    what = "64 clients of one address that ask for single bytes, each of another piece"
    bound = "disk work by address; small reads of a piece are served from one verification"
    shows = "answers"
    connections = 64

    async def one(self, number: int) -> None:
        chance = random.Random(number)
        async with self.socket(number, http=True) as sock:
            while True:
                at = chance.randrange(self.target.size)
                await sock.send_all(self.request(f"Range: bytes={at}-{at}"))
                if not await sock.receive_some(4096):
                    raise EOFError
                self.count("answers")


class HangUps(_Client):
    name = "http-hang-ups"
    what = "32 clients of two addresses that ask for the largest artifact and hang up"
    bound = "connections by address; nothing is read ahead for who is gone"
    connections, addresses = 32, 2

    async def one(self, number: int) -> None:
        while True:
            async with self.socket(number, http=True) as sock:
                await sock.send_all(self.request())
                await sock.receive_some(1000)


class Downloads(_Client):
    name = "http-downloads"
    what = "64 clients of one address that read the largest artifact as fast as they can"
    bound = "fair shares by address"
    shows = "received"
    connections = 64

    async def one(self, number: int) -> None:
        while True:
            async with self.socket(number, http=True) as sock:
                await sock.send_all(self.request("Connection: close"))
                while data := await sock.receive_some(262_144):
                    self.count("received", len(data))


ATTACKS = (
    SlowClients,
    StalledClients,
    IdleClients,
    MuteClients,
    TrickledHeaders,
    LargeHeaders,
    RangeBombs,
    SingleBytesOverHttp,
    HangUps,
    Downloads,
)
