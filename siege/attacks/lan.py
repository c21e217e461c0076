"""Attacks by multicast DNS, from machines on the same network."""

from __future__ import annotations

import itertools
import secrets
import socket
from abc import abstractmethod
from collections.abc import Iterator
from typing import Final

import trio
from typing_extensions import override

from p2pboot.core.identity import SecretKey
from p2pboot.transport.addresses import Address, parse_address
from p2pboot.transport.mdns.records import QUESTION, announcement, new_name
from p2pboot.transport.mdns.sockets import GROUPS, PORT
from siege.attack import Attack
from siege.target import LAN

_PER_TURN: Final = 8  # packets, and then others have theirs
_SOURCES: Final = 100  # the last byte of the first address that they come from


class _Multicast(Attack):
    """So many senders; a packet goes out as fast as the kernel takes it."""

    room = LAN
    shows = "sent"
    connections, addresses = 8, 8

    @override
    def source(self, number: int) -> str:
        return self._beside(_SOURCES + number % self.addresses)

    @property
    @override
    def victim(self) -> str:
        return self._beside(250)

    def _beside(self, last: int) -> str:
        return f"{self.target.host.rpartition('.')[0]}.{last}"

    async def one(self, number: int) -> None:
        source = self.source(number)
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                sock.setsockopt(socket.SOL_SOCKET, option, 1)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source))
            await sock.bind((source, PORT))
            for turn, packet in enumerate(self.packets()):
                await sock.sendto(packet, (GROUPS[socket.AF_INET], PORT))
                self.count("sent")
                if turn % _PER_TURN == 0:
                    await trio.sleep(0.001)

    @abstractmethod
    def packets(self) -> Iterator[bytes]:
        """What one of them sends, for ever."""


class Questions(_Multicast):
    name = "mdns-questions"
    what = "8 machines ask who is there, thousands of times a second"
    bound = "packets read by address, and of all; one answer a second for all who ask"

    def packets(self) -> Iterator[bytes]:
        return itertools.repeat(QUESTION)


class Invented(_Multicast):
    name = "mdns-invented"
    what = "8 machines announce ever other peers, all of them at a victim's address"
    bound = "packets read by address, and of all; 16 addresses a minute of each; dials of hints at a time"

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host=self.victim)
            self._port = listener.socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, self._be_dialled, [listener])
            await super().run()

    async def _be_dialled(self, _sock: trio.SocketStream) -> None:
        self.count("victim was dialled")

    def packets(self) -> Iterator[bytes]:
        while True:
            peer_id = SecretKey(secrets.token_bytes(32)).public.peer_id
            yield announcement(new_name(), [_address(self.victim, self._port, peer_id)])


class Addresses(_Multicast):
    name = "mdns-addresses"
    what = "8 machines announce one peer each, at 10,000 addresses"
    bound = "addresses read of a packet; 16 a minute of each machine; eight of one peer are dialled"

    def packets(self) -> Iterator[bytes]:
        name, peer_id = new_name(), SecretKey(secrets.token_bytes(32)).public.peer_id
        ports = itertools.cycle(range(10_000, 20_000))
        while True:
            yield announcement(name, [_address(self.victim, next(ports), peer_id) for _ in range(8)])


class Junk(_Multicast):
    name = "mdns-junk"
    what = "8 machines send packets of 9,000 bytes that are no DNS"
    bound = "packets read by address, and of all; names and records of a packet"

    def packets(self) -> Iterator[bytes]:
        counts = b"\0\0\x84\0\0\0\xff\xff\0\0\xff\xff"
        while True:
            yield counts + b"\xc0\x0c" * 600 + secrets.token_bytes(7_700)


def _address(host: str, port: int, peer_id: str) -> Address:
    return parse_address(f"/ip4/{host}/tcp/{port}/p2p/{peer_id}")


ATTACKS = (Questions, Invented, Addresses, Junk)
