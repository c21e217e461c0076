"""Where a job that found nothing looks next: in the distributed hash table, from whoever is connected on.

It begins when a second has passed without anything of use, so that a machine in a rack never asks: first for who has a
manifest, and later, where nobody delivers an artifact any more, for who has that. What it finds are addresses of
strangers, and hints like those of the local network. Its modules are imported when it begins.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from p2pboot.transport.interface import Transport

if TYPE_CHECKING:
    from p2pboot.dht.client import DhtClient
    from p2pboot.dht.table import Contact

log = logging.getLogger(__name__)

NOTHING_S: Final = 1.0
"""After which nothing was found otherwise."""

WAIT_S: Final = 4.0
"""That the first look is waited for, at most, before a job may say that there is nobody."""

AGAIN_S: Final = 3.0
"""Between two looks: others may have been connected meanwhile."""

CONTENTS: Final = 8
"""Artifacts that are looked for at a time."""

LATEST_S: Final = 30.0
"""Between two looks for artifacts, after several."""

_HINTS: Final = 1024


class WiderSearch:
    """Looks for the providers of one channel and arch, or for anybody who takes part in the table.

    Args:
        transport: the job's network.
        pair: channel and arch; None in it: for anybody.
        public: whether addresses that lead all over the world are used too.
    """

    def __init__(
        self, transport: Transport, pair: tuple[str | None, str | None], *, public: bool = False
    ) -> None:
        self._transport = transport
        self._pair = pair
        self._public = public
        self._found = trio.Event()
        self._lost = trio.Event()
        self._send, self.hints = trio.open_memory_channel[str](_HINTS)
        self._lacking: Sequence[str] = ()
        self._lacks = trio.Event()
        self.over = trio.Event()
        """Nothing is to be waited for: it looked, or need not look. Another one when something is lacked."""

    def note_found(self) -> None:
        """There is something of use: nobody has to look any further."""
        self._found.set()
        self.over.set()

    def lack(self, digests: Sequence[str]) -> None:
        """Nobody delivers some artifacts: look for others who have them.

        Args:
            digests: their SHA-256, in hex; said again for as long as it is so.
        """
        if not self._lacking and self.over.is_set():  # whoever waits for one that is not set goes on waiting
            self.over = trio.Event()
        self._lacking = digests
        self._lacks.set()

    def note_lost(self) -> None:
        """What was found is gone, and there is nothing else: it is to be looked for again."""
        if self._found.is_set():
            self._found = trio.Event()
            self._lost.set()
            self._lost = trio.Event()

    async def run(self) -> None:
        """Look, whenever nothing is found otherwise, until something is; until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_for_artifacts)
            while True:
                with trio.move_on_after(NOTHING_S):
                    await self._found.wait()
                if self._found.is_set():
                    await self._lost.wait()
                else:
                    log.debug("nothing was found in %g s; looking in the distributed hash table", NOTHING_S)
                    await self._look_for_manifests(self._client())

    def _client(self) -> DhtClient:
        from p2pboot.dht.addresses import AddressPolicy
        from p2pboot.dht.client import DhtClient

        return DhtClient(self._transport, AddressPolicy(public=self._public))

    async def _look_for_manifests(self, client: DhtClient) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_no_longer)
            while not self._found.is_set():
                await self._look(client)
                self.over.set()
                with trio.move_on_after(AGAIN_S):
                    await self._found.wait()
            nursery.cancel_scope.cancel()

    async def _look_for_artifacts(self) -> None:
        await self._lacks.wait()
        from p2pboot.dht.keys import content_key

        client, pause_s = self._client(), AGAIN_S
        while True:
            for digest in self._lacking[:CONTENTS]:
                log.debug("nobody delivers %s; looking in the distributed hash table", digest)
                await client.find_providers(content_key(digest), self._take)
            self.over.set()
            self._lacks = trio.Event()
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, LATEST_S)
            await self._lacks.wait()

    async def _wait_no_longer(self) -> None:
        await trio.sleep(WAIT_S)
        self.over.set()

    async def _look(self, client: DhtClient) -> None:
        from p2pboot.dht.keys import pair_key, peer_id_bytes
        from p2pboot.wire.kad import Message, MessageType

        channel, arch = self._pair
        if channel is not None and arch is not None:
            await client.find_providers(pair_key(channel, arch), self._take)
        else:  # whoever is asked on the way is connected then
            await client.look_up(Message(MessageType.FIND_NODE, peer_id_bytes(self._transport.peer_id)))

    def _take(self, contact: Contact) -> None:
        log.debug("the distributed hash table tells of %s", contact.peer_id)
        addresses: Sequence[str] = contact.addresses
        for address in addresses:
            try:
                self._send.send_nowait(address)
            except trio.WouldBlock:
                return
