"""What one peer says that it has, and the manifests themselves: bounded, and with the liars named.

A peer's list of heads is hearsay. It only decides in which order a few manifests are asked for; what a
manifest says is believed after `core.verify` alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from p2pboot.errors import RemoteProtocolError
from p2pboot.fetch.asking.reasons import PeerWord, pairs_of
from p2pboot.fetch.asking.requests import RequestStream, requests_to
from p2pboot.fetch.ledger import Ledger
from p2pboot.protocol.client import ManifestReply, PeerBusy, PeerRefused, ask_heads, ask_manifest
from p2pboot.protocol.messages import SYNC_PROTOCOL, Head
from p2pboot.protocol.withheld import WithheldHead
from p2pboot.transport.interface import Connection, Transport

Select = Callable[[Sequence[Head]], Iterable[Head]]
Take = Callable[[Head, ManifestReply], Awaitable[None]]


class Misled(RemoteProtocolError):
    """A peer's manifest is not what the peer said it has, or none at all."""


async def ask_peer(
    transport: Transport,
    connection: Connection,
    ledger: Ledger,
    *,
    channel: str | None,
    arch: str | None,
    select: Select,
    take: Take,
) -> bool:
    """Ask one peer once, over one of its connections.

    Args:
        transport: the network.
        connection: with the peer.
        ledger: where a liar is dropped, and where it is noted what went wrong with a peer and what it says of what
            it does not offer.
        channel: what to ask for; None for all.
        arch: what to ask for; None for all.
        select: which of the heads (at most 256, only of what was asked for) to get the manifests of, in
            which order;
            bounds what a peer can make us fetch. Called lazily, between manifests.
        take: judges a manifest (what the peer said of it, its bytes and detached signature). Raises Misled.

    Returns:
        Whether the peer answered to the end.
    """
    peer_id = connection.peer_id
    try:
        async with requests_to(transport, connection, SYNC_PROTOCOL) as requests:
            reply = await requests.ask(ask_heads(channel, arch))
            heads = [head for head in reply.heads if _asked_for(head, channel, arch)]
            withheld = tuple(one for one in reply.withheld if _asked_for(one, channel, arch))
            narrowed = (channel, arch) != (None, None)
            elsewhere = await _ask_elsewhere(requests, ledger) if narrowed and not heads else ()
            ledger.words[peer_id] = PeerWord(withheld, elsewhere)
            for head in select(heads):
                try:
                    manifest = await requests.ask(ask_manifest(head.digest))
                except PeerBusy:
                    raise
                except PeerRefused:
                    continue  # its head moved on meanwhile
                await take(head, manifest)
    except (PeerRefused, RemoteProtocolError) as error:
        ledger.note_error(peer_id, error)
        return False
    ledger.note_recovery(peer_id)
    return True


async def _ask_elsewhere(requests: RequestStream, ledger: Ledger) -> tuple[str, ...]:
    """Ask a peer that offers nothing of what was asked for what it has instead; once for each job."""
    known = ledger.words.get(requests.peer_id, PeerWord()).elsewhere
    if known:
        return known
    try:
        return pairs_of((await requests.ask(ask_heads())).heads)
    except PeerRefused:  # it is busy, and this is for people only
        return ()


def _asked_for(one: Head | WithheldHead, channel: str | None, arch: str | None) -> bool:
    return channel in (None, one.channel) and arch in (None, one.arch)


def check_kept_word(head: Head, manifest_says: tuple[str, str, int, str]) -> None:
    """Compare a manifest with what the peer's list said of it.

    Args:
        head: the list's entry.
        manifest_says: channel, arch, manifest_version and digest of the manifest that came.

    Raises:
        Misled: they differ; an honest peer derives the one from the other.
    """
    if manifest_says != (head.channel, head.arch, head.manifest_version, head.digest):
        raise Misled("it listed a manifest and sent another one")
