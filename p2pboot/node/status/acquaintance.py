"""What peers say of themselves, and how far they are: asked for only while somebody looks at the status.

Names come from identify, round trips from libp2p's ping, what a peer holds from sync, which asks for it anyway. All of
it is hearsay of strangers: bounded, and made safe to show.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import trio
from cachetools import LRUCache

from p2pboot.core.dataclass import dataclass
from p2pboot.core.trust import Pair
from p2pboot.errors import ProtocolError
from p2pboot.fetch.asking.pinging import round_trip
from p2pboot.protocol.messages import Head
from p2pboot.transport.interface import Connection, Transport
from p2pboot.wire.identify import IDENTIFY_PROTOCOL, MAX_IDENTIFY, IdentifyReader

MAX_NAME: Final = 64
"""Characters."""

MAX_HOLDS: Final = 8
"""Lines of what one peer holds."""

_MAX_LINE: Final = 160

LOOKED_S: Final = 30.0
"""For so long after a look peers are asked on: a page looks every second, a terminal every few."""

AGAIN_S: Final = 60.0
"""Between two pings of one peer."""

AT_ONCE: Final = 4
_IDENTIFY_S: Final = 5.0
_REMEMBERED: Final = 1024


def readable(text: str, at_most: int) -> str:
    """Make what a stranger says fit to be shown: one line, no control characters, so many characters at most."""
    shown = "".join(character if character.isprintable() else " " for character in text[: 4 * at_most])
    return " ".join(shown.split())[:at_most].strip()


@dataclass(slots=True, eq=False)
class _Said:
    agent: str | None = None
    rtt_s: float | None = None
    pinged_at: float | None = None
    was_asked: bool = False  # once, to the end


class Acquaintance:
    """What is known of connected peers beyond what the transport knows.

    Args:
        transport: the node's network.
        shown: which of the connected peers are shown, by their ids.
    """

    def __init__(self, transport: Transport, shown: Callable[[], Collection[str]]) -> None:
        self._transport = transport
        self._shown = shown
        self._said: LRUCache[str, _Said] = LRUCache(_REMEMBERED)
        self._holds: LRUCache[str, tuple[str, ...]] = LRUCache(_REMEMBERED)
        self._numbers: LRUCache[str, Mapping[Pair, int]] = LRUCache(_REMEMBERED)
        self._looked_at = -LOOKED_S
        self._looked = trio.Event()
        self._some_asked = trio.Event()

    def note_heads(self, peer_id: str, heads: Sequence[Head]) -> None:
        """A peer says what it holds."""
        numbers: dict[Pair, int] = {}
        for head in heads[:MAX_HOLDS]:
            pair = (head.channel, head.arch)
            numbers[pair] = max(numbers.get(pair, 0), head.manifest_version)
        self._numbers[peer_id] = numbers
        lines = (f"{head.channel}/{head.arch} #{head.manifest_version}" for head in heads[:MAX_HOLDS])
        self._holds[peer_id] = tuple(readable(line, _MAX_LINE) for line in lines)

    def holds(self, peer_id: str) -> tuple[str, ...]:
        """What a peer said last that it holds, a line each."""
        return self._holds.get(peer_id, ())

    def numbers(self, peer_id: str) -> Mapping[Pair, int]:
        """The highest manifest version of each channel and arch among these."""
        return self._numbers.get(peer_id, {})

    def agent(self, peer_id: str) -> str | None:
        """What a peer's program calls itself; None: it was not asked yet, or says nothing."""
        said = self._said.get(peer_id)
        return None if said is None else said.agent or None

    def rtt_s(self, peer_id: str) -> float | None:
        """The round trip as last measured, seconds."""
        said = self._said.get(peer_id)
        return None if said is None else said.rtt_s

    def look(self) -> None:
        """Somebody looks: peers are asked for a while from now on."""
        self._looked_at = trio.current_time()
        self._looked.set()

    async def settle(self, within_s: float) -> None:
        """Somebody looks once: wait until every peer that is shown was asked once, but no longer than so."""
        self.look()
        with trio.move_on_after(within_s):
            while any(
                peer_id not in self._said or not self._said[peer_id].was_asked for peer_id in self._shown()
            ):
                await self._some_asked.wait()

    async def run(self) -> None:
        """Ask while somebody looks, until cancelled."""
        while True:
            await self._looked.wait()
            if trio.current_time() - self._looked_at >= LOOKED_S:
                self._looked = trio.Event()
                continue
            await self._ask_all()
            await trio.sleep(1.0)

    async def _ask_all(self) -> None:
        shown, slots = set(self._shown()), trio.CapacityLimiter(AT_ONCE)
        now = trio.current_time()
        async with trio.open_nursery() as nursery:
            for connection in self._transport.connections():
                said = self._said.get(connection.peer_id)
                if connection.peer_id not in shown:
                    continue
                shown.discard(connection.peer_id)  # of several connections, one
                if said is None or said.pinged_at is None or now - said.pinged_at >= AGAIN_S:
                    nursery.start_soon(self._ask, connection, slots)

    async def _ask(self, connection: Connection, slots: trio.CapacityLimiter) -> None:
        async with slots:
            said = self._said.setdefault(connection.peer_id, _Said())
            said.pinged_at = trio.current_time()
            said.rtt_s = await round_trip(self._transport, connection)
            if said.agent is None:
                said.agent = await _agent(self._transport, connection)
            said.was_asked = True
            self._some_asked.set()
            self._some_asked = trio.Event()


async def _agent(transport: Transport, connection: Connection) -> str:
    """What a peer's program calls itself; "" where it does not say, or something unreadable."""
    reader = IdentifyReader()
    with trio.move_on_after(_IDENTIFY_S):
        try:
            stream = await transport.open_stream(connection, IDENTIFY_PROTOCOL)
            try:
                while data := await stream.read(MAX_IDENTIFY):
                    reader.receive(data)
                return readable(reader.receive_eof().agent_version, MAX_NAME)
            finally:
                await stream.close()
        except ProtocolError:
            pass
    return ""
