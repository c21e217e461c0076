"""One node's part in the discovery on the local network: on every link that it has, as long as it has it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from p2pboot.core.events import Event
from p2pboot.errors import first_error
from p2pboot.transport.changes import Changes
from p2pboot.transport.interfaces import Interfaces, Listing
from p2pboot.transport.mdns import sockets
from p2pboot.transport.mdns.links import Link, links_of, told_on
from p2pboot.transport.mdns.sockets import LinkSocket
from p2pboot.transport.mdns.sources import Sources
from p2pboot.transport.mdns.speaking import Speaker

log = logging.getLogger("p2pboot.transport.mdns")

LOOK_S: Final = 3.0
"""How often it is looked for other interfaces and addresses; where the kernel tells of a change, at once."""

CHANNEL_SIZE: Final = 64
"""What does not fit is dropped: it is announced again."""

ALONE: Final = "this machine has no address on it"
UNPLUGGED: Final = "no cable is plugged in, or nobody is at its other end"
NO_INTERFACE: Final = "no interface takes part in multicast"


class _Discovery:
    """Takes part on the links that there are.

    Args:
        nursery: for a task on each link.
        peer_id: the node's own id.
        addresses: tells where the node is now, the best first.
        listens_on: tells the multiaddrs that it listens on.
        interfaces: tells where to take part.
        report: is told why nothing can be found, or None once something can, whenever that changes.
        changes: tells when it is worth a look.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        peer_id: str,
        addresses: Callable[[], Sequence[str]],
        listens_on: Callable[[], Sequence[str]],
        interfaces: Interfaces,
        *,
        report: Callable[[str | None], None],
        changes: Changes,
    ) -> None:
        self._nursery, self._peer_id = nursery, peer_id
        self._addresses, self._listens_on = addresses, listens_on
        self._interfaces, self._report = interfaces, report
        self._speakers: dict[Link, Speaker] = {}
        self._reported: str | None = None
        self._sources = Sources(trio.current_time())
        self._changes = changes
        self._found, self.found = trio.open_memory_channel[str](CHANNEL_SIZE)

    async def follow(self) -> None:
        """Take part on interfaces that come, and tell of addresses that change, until cancelled."""
        while True:
            with trio.move_on_after(LOOK_S) as pause:
                await self._changes.wait()
            if not pause.cancelled_caught:
                self._interfaces.forget()
            self.look()

    def look(self) -> None:
        """Take part where it is possible now."""
        listing = self._interfaces.listing()
        # What is left without netlink may be a part of the interfaces: half a discovery, and nobody would know.
        wanted = [] if listing.refused else links_of(listing)
        for gone in set(self._speakers) - set(wanted):
            self._speakers.pop(gone).stop()
        failure = None
        for link in wanted:
            if link not in self._speakers:
                try:
                    self._begin(link)
                except OSError as error:
                    failure = error.strerror or str(error)
                    log.debug("no multicast on %s: %s", link, error)
        addresses, listens_on = self._addresses(), self._listens_on()
        for link, speaker in self._speakers.items():
            speaker.tell(told_on(link, addresses, listens_on, listing))
        if listing.refused:
            failure = f"not allowed to list this machine's interfaces by AF_NETLINK ({listing.refused})"
        self._tell(self._reason(failure, listing))

    def _begin(self, link: Link) -> None:
        socket = LinkSocket(link, sockets.PORT)
        speaker = Speaker(link, socket, self._peer_id, self._interfaces, self._sources, found=self._hand_on)
        self._speakers[link] = speaker
        self._nursery.start_soon(speaker.run)

    def _reason(self, failure: str | None, listing: Listing) -> str | None:
        """Why nobody can be found."""
        if not self._speakers:
            return failure or NO_INTERFACE
        outer = [speaker for speaker in self._speakers.values() if not speaker.link.is_loopback]
        if not outer:
            return failure or (UNPLUGGED if listing.is_unplugged else ALONE)
        failures = [speaker.failure for speaker in outer]
        return f"packets can not be sent: {failures[0]}" if all(failures) else None

    def _tell(self, reason: str | None) -> None:
        if reason != self._reported:
            self._reported = reason
            self._report(reason)

    def _hand_on(self, address: str) -> bool:
        """Whether somebody takes it: nobody may read, or not fast enough."""
        try:
            self._found.send_nowait(address)
        except (trio.WouldBlock, trio.BrokenResourceError):
            return False
        return True

    def close(self) -> None:
        """End the channel."""
        self._found.close()


def _warn(reason: str | None) -> None:
    if reason is not None:
        log.warning("no discovery on the local network: %s", reason, extra=Event.DISCOVERY_FAILED())


@asynccontextmanager
async def open_mdns(
    peer_id: str,
    addresses: Callable[[], Sequence[str]],
    *,
    listens_on: Callable[[], Sequence[str]] = tuple,
    interfaces: Interfaces | None = None,
    report: Callable[[str | None], None] | None = None,
) -> AsyncIterator[trio.MemoryReceiveChannel[str]]:
    """Announce a node on the local network and look for others.

    Where there is no multicast, nothing is ever found until there is.

    Args:
        peer_id: the node's own id; its announcements are not handed on.
        addresses: tells its concrete multiaddrs, the best first; asked every few seconds. Loopback ones are told to
            this machine only, others where they lead.
        listens_on: tells the multiaddrs that it listens on: a wildcard stands for link-local addresses as well, which
            are told where they mean something.
        interfaces: tells which ones the machine has.
        report: is told, whenever that changes, why nothing can be found on the local network, or None when something
            can; without it a warning is logged.

    Yields:
        A channel of multiaddrs with `/p2p/…`, each told of again at times; bounded, the overflow is dropped.
    """
    changes = Changes()
    try:
        async with trio.open_nursery() as nursery:
            discovery = _Discovery(
                nursery,
                peer_id,
                addresses,
                listens_on,
                interfaces or Interfaces(),
                report=report or _warn,
                changes=changes,
            )
            try:
                discovery.look()
                nursery.start_soon(discovery.follow)
                with discovery.found:
                    yield discovery.found
            finally:
                discovery.close()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise first_error(group) from None
    finally:
        changes.close()
