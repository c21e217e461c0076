"""Being connected: a dial and its limit, one peer at several addresses, and what there is to do with connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

import trio

from p2pboot.errors import NotFoundError
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import Connection, PeerSource, Transport
from p2pboot.transport.racing import ATTEMPT_S, NoneAnswers, race_of

NAMED_DIAL_S = 10.0
"""A name has to be looked up first, and may stand for many addresses."""


async def for_each_connection(transport: Transport, serve: Callable[[Connection], Awaitable[None]]) -> None:
    """Run `serve(connection)` for every connection as long as it is up, until cancelled.

    Those that come up later join; the task of one that ends is cancelled.
    """
    running: dict[Connection, trio.CancelScope] = {}

    async def run(connection: Connection, scope: trio.CancelScope) -> None:
        with scope:
            await serve(connection)

    with transport.connection_events() as events:
        async with trio.open_nursery() as nursery:
            async for event in events:
                if event.connected:
                    scope = running[event.connection] = trio.CancelScope()
                    nursery.start_soon(run, event.connection, scope)
                else:
                    running.pop(event.connection).cancel()


async def until_one_ended(transport: Transport, connections: Collection[Connection]) -> None:
    """Wait until one of some connections has ended."""
    async with trio.open_nursery() as nursery:

        async def wait(connection: Connection) -> None:
            await transport.wait_ended(connection)
            nursery.cancel_scope.cancel()

        for connection in connections:
            nursery.start_soon(wait, connection)


async def dial(transport: Transport, address: str, source: PeerSource) -> Connection:
    """Be connected to whoever is at an address.

    Args:
        transport: the network to dial on.
        address: a multiaddr.
        source: whence it is known.

    Raises:
        NotFoundError: nobody answers, or not in time.
        ProtocolError: it is not whom the address names, or speaks something else.
    """
    limit_s = ATTEMPT_S if parse_address(address).is_ip else NAMED_DIAL_S
    try:
        with trio.fail_after(limit_s):
            return await transport.dial(address, source)
    except trio.TooSlowError:
        raise NotFoundError(f"no answer from {address} in {limit_s:g} s") from None


async def reach(transport: Transport, addresses: Sequence[str], source: PeerSource) -> Connection:
    """Be connected to one peer, at whichever of its addresses answers first.

    Args:
        transport: the network to dial on.
        addresses: multiaddrs, the best first; those with names have to be looked up within `ATTEMPT_S`.
        source: whence they are known.

    Raises:
        NotFoundError: none answers.
        ProtocolError: at the only one is somebody else.
    """
    if len(addresses) == 1:
        return await dial(transport, addresses[0], source)
    try:
        return await race_of(
            addresses, lambda address: dial(transport, address, source), lambda _connection: None
        )
    except NoneAnswers as error:
        raise (error.failures or (error,))[0] from None
