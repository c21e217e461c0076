"""Servers that have one key, and so one peer id, at several addresses.

A transport tells peers apart by their ids alone. Two servers with one key and different content would look
like one of them, and who wants to hide a newer manifest, or a second one under the same number, would only
have to answer first. So every such address is asked on its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

import trio

from p2pboot.errors import NotFoundError, ProtocolError
from p2pboot.fetch.asking.dialling import dial
from p2pboot.fetch.ledger import Ledger
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import Transport

ASK_AGAIN_S = 2.0

OpenTransport = Callable[[], AbstractAsyncContextManager[Transport]]
Ask = Callable[[Transport, str, str], Awaitable[object]]


def ambiguous_addresses(addresses: Sequence[str]) -> tuple[str, ...]:
    """Those that may lead to the same peer id as another one: they name the same, or none.

    Raises:
        UsageError: one is not an address.
    """
    named = {address: parse_address(address).peer_id for address in addresses}
    count = Counter(named.values())
    return tuple(
        address
        for address, peer_id in named.items()
        if len(named) > 1 and (peer_id is None or count[peer_id] > 1)
    )


class SharedKeyServers:
    """Asks at every address that may share its key with another, over a transport for this address alone.

    Args:
        open_transport: opens one more, with an identity of its own. None: nobody is asked.
        addresses: all multiaddrs that the user gave.
        ledger: who was dropped is not asked.

    Raises:
        UsageError: one is not an address.
    """

    def __init__(
        self, open_transport: OpenTransport | None, addresses: Sequence[str], ledger: Ledger
    ) -> None:
        self._open = open_transport
        self._addresses = () if open_transport is None else ambiguous_addresses(addresses)
        self._ledger = ledger
        self._untried = set(self._addresses)

    @property
    def settled(self) -> bool:
        """Every address was asked once, or does not answer."""
        return not self._untried

    async def run(self, ask: Ask) -> None:
        """Call `ask(transport, peer_id, address)` for each now and then, until cancelled."""
        if self._open is None:
            return
        async with trio.open_nursery() as nursery:
            for address in self._addresses:
                nursery.start_soon(self._keep_asking, self._open, address, ask)

    async def _keep_asking(self, open_transport: OpenTransport, address: str, ask: Ask) -> None:
        async with open_transport() as transport:
            while True:
                try:
                    peer_id = await dial(transport, address)
                except (NotFoundError, ProtocolError):
                    pass  # a `Dialler` has the same address, and says why
                else:
                    if self._ledger.usable(peer_id):
                        await ask(transport, peer_id, address)
                self._untried.discard(address)
                await trio.sleep(ASK_AGAIN_S)
