"""Asks peers for roots and nothing else: for jobs that have to know whom to believe before they can begin.

`HeadSearch` asks in its own conversations and begins meanwhile; who syncs a snapshot opens a directory by the keys.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from p2pboot.core.policy import Policy, no_trust
from p2pboot.errors import RemoteProtocolError, first_error
from p2pboot.fetch.asking.requests import requests_to
from p2pboot.fetch.asking.rooting import Roots
from p2pboot.fetch.asking.rounds import Rounds
from p2pboot.fetch.ledger import Ledger
from p2pboot.protocol.client import PeerRefused
from p2pboot.protocol.messages import SYNC_PROTOCOL
from p2pboot.transport.interface import Connection, Transport


async def newest_roots(
    policy: Policy,
    transport: Transport,
    ledger: Ledger,
    settle: Callable[[], Awaitable[None]],
    timeout_s: float,
) -> Policy:
    """Walk with every peer to the newest roots, until all were asked, or for a short grace after the first answer.

    Args:
        policy: whom the operator believes.
        transport: whoever is or gets connected is asked.
        ledger: who sends what is no root is dropped in it.
        settle: returns when no further peer is expected to connect.
        timeout_s: seconds at most.

    Returns:
        The policy with the newest roots in force.

    Raises:
        NotFoundError: nobody has a root that was named by its digest.
        TwoRoots: there are two roots of one version, and nothing says which is the right one.
    """
    roots = Roots(policy)

    def are_known() -> bool:
        return all(one.chain is not None for one in roots.policy.roots)

    async def ask(connection: Connection) -> None:
        try:
            async with requests_to(transport, connection, SYNC_PROTOCOL) as requests:
                pages = [await requests.ask(query) for query in roots.queries(connection)]
                await roots.follow(requests, pages)
        except (PeerRefused, RemoteProtocolError) as error:
            ledger.note_error(connection.peer_id, error)
            return
        ledger.note_recovery(connection.peer_id)
        if are_known():
            rounds.note_usable()

    rounds = Rounds(transport, ledger, ask, will_do_at=lambda: -math.inf if are_known() else math.inf)
    try:
        await rounds.run(timeout_s, settle)
    except BaseExceptionGroup as group:
        raise first_error(group) from None
    if not are_known():
        raise no_trust(roots.policy)
    return roots.policy
