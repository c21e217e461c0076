"""What peers say that was announced: bounded, checked, and with the liars named.

A peer's list of heads is hearsay; it only decides which announcements are asked for. An announcement is
believed after its signature, and counts after its signer is known.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pboot.core.timetoke.announcement import Announcement, claim
from p2pboot.errors import Malformed, RemoteProtocolError, SignatureError
from p2pboot.fetch.asking.requests import requests_to
from p2pboot.fetch.ledger import Ledger
from p2pboot.protocol.client import PeerRefused
from p2pboot.protocol.snapshot_client import ask_announcement, ask_snapshot_heads
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL, SnapshotHead
from p2pboot.transport.interface import Connection, Transport

ANNOUNCEMENTS_PER_ROUND = 32
"""Several signers, and a few sequences of each; a peer that lists more is asked again in the next round."""

Wants = Callable[[SnapshotHead], bool]
Take = Callable[[Announcement], object]


async def hear_peer(
    transport: Transport, connection: Connection, ledger: Ledger, *, wants: Wants, take: Take
) -> bool:
    """Ask one peer once which snapshots it has, and for their announcements.

    Args:
        transport: the network.
        connection: with the peer.
        ledger: where it is noted what went wrong with the peer, and a liar is dropped.
        wants: whether the announcement of a listed head is worth asking for; must be quick.
        take: is given every announcement of the right form and signature.

    Returns:
        Whether the peer answered to the end.
    """
    try:
        async with requests_to(transport, connection, SNAPSHOT_PROTOCOL) as requests:
            wanted = [head for head in await requests.ask(ask_snapshot_heads()) if wants(head)]
            wanted.sort(key=lambda head: -head.sequence)
            for head in wanted[:ANNOUNCEMENTS_PER_ROUND]:
                try:
                    raw = await requests.ask(ask_announcement(head.signer, head.root))
                except PeerRefused:
                    continue  # it is gone meanwhile
                take(_check(raw, head))
    except (PeerRefused, RemoteProtocolError) as error:
        ledger.note_error(connection.peer_id, error)
        return False
    ledger.note_recovery(connection.peer_id)
    return True


def _check(raw: bytes, head: SnapshotHead) -> Announcement:
    try:
        claimed = claim(raw)
        announced = claimed.announcement
        if (announced.signer, announced.root) != (head.signer, head.root):
            raise RemoteProtocolError("it was asked for one announcement and sent another one")
        return claimed.confirm()
    except (Malformed, SignatureError) as error:
        raise RemoteProtocolError(f"it sent an invalid announcement: {error.message}") from None
