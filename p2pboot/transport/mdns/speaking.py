"""One node's part on one link: says where it is, asks who else is there, and hears what others say."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Final

import trio

from p2pboot.errors import RemoteProtocolError
from p2pboot.transport.addresses import Address
from p2pboot.transport.interfaces import Interfaces
from p2pboot.transport.mdns import records, sockets
from p2pboot.transport.mdns.links import Link, believed, worth_dialling
from p2pboot.transport.mdns.sockets import LinkSocket
from p2pboot.transport.mdns.sources import Sources
from p2pboot.transport.scopes import on_link
from p2pboot.wire.dns import Message, read_message

log = logging.getLogger(__name__)

QUESTIONS_AFTER_S: Final = (0.0, 1.0, 3.0)
"""At the start, and when something changed: a lost packet costs a second."""

QUESTION_EVERY_S: Final = 60.0
"""In the end, give or take a tenth; later if somebody else asks, as all hear the answers (RFC 6762, section 7.3).

Until then each pause is twice as long as the one before (section 5.2): a switch that looks for loops (spanning tree)
passes nothing on for half a minute after a cable was plugged in.
"""

ANSWER_EVERY_S: Final = 1.0
"""RFC 6762, section 6: a record at most once a second, whoever asks how often."""

ANSWER_DELAY_S: Final = (0.02, 0.12)
"""Likewise: who is asked together does not answer together, and questions that come together get one answer."""

UNASKED: Final = 3
"""Times that something new is said, unless somebody asks in between; RFC 6762, section 8.3."""

_REFUSED_AT_ONCE: Final = 100
_REST_S: Final = 0.01  # after so many packets that are not read: a flood costs the kernel, not us
_AFTER_ERROR_S: Final = 1.0


class Speaker:
    """Takes part on one link.

    Args:
        link: where.
        socket: of it; closed when `run` ends.
        peer_id: the node's own.
        interfaces: tells which subnets this machine is in.
        sources: what is taken of whom, on all links.
        found: is given every address that is to be handed on.
    """

    def __init__(
        self,
        link: Link,
        socket: LinkSocket,
        peer_id: str,
        interfaces: Interfaces,
        sources: Sources,
        *,
        found: Callable[[str], bool],
    ) -> None:
        self.link = link
        self._socket, self._peer_id, self._interfaces = socket, peer_id, interfaces
        self._sources, self._found = sources, found
        self._scope = trio.CancelScope()
        self._name = records.new_name()
        self._told: tuple[Address, ...] = ()
        self._unasked = UNASKED
        self._asked, self._changed, self._somebody_asks = trio.Event(), trio.Event(), trio.Event()
        self.failure: str | None = None
        """Why the last packet could not be sent."""

    def tell(self, addresses: tuple[Address, ...]) -> None:
        """Have these told from now on.

        Under another name, if they are others: go-libp2p looks at a name once, and nobody learns more by it.
        """
        addresses = tuple(address.with_peer(self._peer_id) for address in addresses)
        if addresses == self._told:
            return
        self._withdraw()
        self._name, self._told, self._unasked = records.new_name(), addresses, UNASKED
        self._asked.set()
        self.ask_anew()

    def ask_anew(self) -> None:
        """Ask as at the start: others may be there."""
        self._changed.set()

    async def run(self) -> None:
        """Speak and listen until `stop`, or until cancelled."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    for task in (self._answer, self._ask, self._listen):
                        nursery.start_soon(task)
        finally:
            self._withdraw()
            self._socket.close()

    def stop(self) -> None:
        """End `run`."""
        self._scope.cancel()

    def _withdraw(self) -> None:
        if self._told:
            self._send(records.withdrawal(self._name, self._told))

    def _send(self, packet: bytes) -> None:
        """What the system does not take is lost, as any datagram may be; that it was so is remembered."""
        try:
            self._socket.send(packet)
        except OSError as error:
            self.failure = error.strerror or str(error)
            log.debug("mDNS packet not sent on %s: %s", self.link, error)
        else:
            self.failure = None

    async def _ask(self) -> None:
        while True:
            self._changed = trio.Event()
            start = trio.current_time()
            for after_s in QUESTIONS_AFTER_S:
                with trio.move_on_at(start + after_s):
                    await self._changed.wait()
                if self._changed.is_set():
                    break
                self._send(records.QUESTION)
            doubled_s = QUESTIONS_AFTER_S[-1] - QUESTIONS_AFTER_S[-2]
            while not self._changed.is_set():
                self._somebody_asks = trio.Event()
                doubled_s = min(2 * doubled_s, QUESTION_EVERY_S)
                pause_s = doubled_s * random.uniform(0.9, 1.1)  # noqa: S311 - spreads questions, no secret
                with trio.move_on_after(pause_s) as pause:
                    await self._somebody_asks.wait()
                if pause.cancelled_caught and not self._changed.is_set():
                    self._send(records.QUESTION)

    async def _answer(self) -> None:
        while True:
            if self._told:
                self._send(records.announcement(self._name, self._told))
            self._unasked -= 1
            await trio.sleep(ANSWER_EVERY_S)
            if self._unasked <= 0:
                await self._asked.wait()
            self._asked = trio.Event()
            await trio.sleep(random.uniform(*ANSWER_DELAY_S))  # noqa: S311 - spreads answers, no secret

    async def _listen(self) -> None:
        refused = 0
        while True:
            try:
                packet, (host, port) = await self._socket.receive()
            except OSError as error:
                log.debug("mDNS on %s: %s", self.link, error)
                await trio.sleep(_AFTER_ERROR_S)
                continue
            if self._sources.may_read(host, trio.current_time()):
                self._take(packet, host, port)
                continue
            refused += 1
            if refused % _REFUSED_AT_ONCE == 0:
                await trio.sleep(_REST_S)

    def _take(self, packet: bytes, host: str, port: int) -> None:
        """Where the errors of one packet end: anybody on the link sends what he likes."""
        try:
            message = read_message(packet)
            if message.is_response:
                self._hear(message, host)
            else:
                self._hear_question(message, host, port)
        except RemoteProtocolError as error:
            log.debug("mDNS packet of %d bytes from %s: %s", len(packet), host, error)
        except Exception:
            log.debug("mDNS packet of %d bytes from %s", len(packet), host, exc_info=True)

    def _hear(self, message: Message, sender: str) -> None:
        listing = self._interfaces.listing()
        heard = [believed(said, sender, self.link, listing) for said in records.told(message)]
        others = [one for one in heard if one is not None and one.peer_id != self._peer_id]
        for address in map(str, worth_dialling(others, listing)):
            is_new = self._sources.may_tell(
                sender, address, trio.current_time(), is_here=self.link.is_loopback
            )
            if is_new and not self._found(address):
                self._sources.forget(address)

    def _hear_question(self, message: Message, host: str, port: int) -> None:
        if records.asks_for_services(message) and self._told:
            self._send(records.services())
        if records.asks_for_peers(message):
            self._somebody_asks.set()
        elif not records.asks_of(self._name, message):
            return
        self._asked.set()
        if port != sockets.PORT and self._told:
            self._answer_alone(message, host, port)

    def _answer_alone(self, question: Message, host: str, port: int) -> None:
        """For a program that asks by unicast DNS and hears nothing else; rust-libp2p asks so, and hears what all hear.

        Senders can be made up: who is not on the link gets nothing from us.
        """
        is_near = on_link(host, self._interfaces.listing().addresses)
        if not is_near or not self._sources.may_answer(host, trio.current_time()):
            return
        try:
            self._socket.send_to(
                records.announcement(self._name, self._told, question=question), (host, port)
            )
        except OSError as error:
            log.debug("mDNS answer not sent to %s: %s", host, error)
