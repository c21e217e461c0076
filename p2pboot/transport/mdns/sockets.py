"""The sockets of multicast DNS: one for each interface and family, so that the kernel keeps apart what came where.

Bound to the group's address, not to all: nothing comes that was sent to this machine alone, from wherever that was,
and no other program on port 5353 is deprived of it. Joined on one interface, and deaf to what others joined. Nothing
blocks.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

import trio

from p2pboot.transport.mdns.links import Link

PORT: Final = 5353
GROUPS: Final = {socket.AF_INET: "224.0.0.251", socket.AF_INET6: "ff02::fb"}
MAX_PACKET: Final = 9000
"""RFC 6762, section 17."""

_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29  # <linux/in.h>, <linux/in6.h>; Python has no names for them
_HOPS: Final = 255  # RFC 6762, section 11


class LinkSocket:
    """A socket that takes part on one link.

    Args:
        link: where.
        port: to speak from and to.

    Raises:
        OSError: it is not possible there.
    """

    def __init__(self, link: Link, port: int = PORT) -> None:
        self._link, self._port = link, port
        self._socket = socket.socket(link.family, socket.SOCK_DGRAM)
        try:
            self._prepare()
            self._receiving = trio.socket.from_stdlib_socket(self._socket)
        except BaseException:
            self._socket.close()
            raise

    def _prepare(self) -> None:
        sock, link = self._socket, self._link
        sock.setblocking(False)
        # Others on this port have it too, and multicast comes to all of them. With SO_REUSEPORT besides, Linux would
        # deal packets out among those that are bound alike, whatever they have joined.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        group = GROUPS[link.family]
        if link.family == socket.AF_INET6:
            level, member = (
                socket.IPPROTO_IPV6,
                struct.pack("16sI", socket.inet_pton(link.family, group), link.index),
            )
            sock.setsockopt(level, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(level, socket.IPV6_MULTICAST_HOPS, _HOPS)
            sock.setsockopt(level, socket.IPV6_MULTICAST_LOOP, 1)  # peers on this machine
            sock.setsockopt(level, _IPV6_MULTICAST_ALL, 0)
            sock.setsockopt(level, socket.IPV6_MULTICAST_IF, link.index)
            sock.setsockopt(level, socket.IPV6_JOIN_GROUP, member)
            sock.bind((group, self._port, 0, link.index))
        else:
            level, member = socket.IPPROTO_IP, struct.pack("4s4xi", socket.inet_aton(group), link.index)
            sock.setsockopt(level, socket.IP_MULTICAST_TTL, _HOPS)
            sock.setsockopt(level, socket.IP_MULTICAST_LOOP, 1)
            sock.setsockopt(level, _IP_MULTICAST_ALL, 0)
            sock.setsockopt(level, socket.IP_MULTICAST_IF, member)
            sock.setsockopt(level, socket.IP_ADD_MEMBERSHIP, member)
            sock.bind((group, self._port))

    def send(self, packet: bytes) -> None:
        """Send to everybody on the link.

        Raises:
            OSError: the system does not take it.
        """
        group = GROUPS[self._link.family]
        scope = (0, self._link.index) if self._link.family == socket.AF_INET6 else ()
        self._socket.sendto(packet, (group, self._port, *scope))

    def send_to(self, packet: bytes, receiver: tuple[str, int]) -> None:
        """Send to one who asked; OSError likewise."""
        host, port = receiver
        scope = (0, self._link.index) if self._link.family == socket.AF_INET6 else ()
        self._socket.sendto(packet, (host, port, *scope))

    async def receive(self) -> tuple[bytes, tuple[str, int]]:
        """Return the next datagram, and the address, without a zone, and port that it came from."""
        packet, sender = await self._receiving.recvfrom(MAX_PACKET)
        return packet, (str(sender[0]).partition("%")[0], int(sender[1]))

    def close(self) -> None:
        """Close it."""
        self._receiving.close()
