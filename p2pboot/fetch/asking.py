"""What one peer says that it has, and the manifests themselves: bounded, and with the liars named.

A peer's list of heads is hearsay. It only decides in which order a few manifests are asked for; what a
manifest says is believed after `core.verify` alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

import trio

from p2pboot.errors import RemoteProtocolError
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.requests import Head, ManifestReply, PeerRefused, RequestStream
from p2pboot.protocol.messages import SYNC_PROTOCOL
from p2pboot.transport.interface import StreamReset, Transport

PEER_TIMEOUT_S = 5.0
"""For everything that is asked of one peer at one time; a mute one holds its own task only."""

Select = Callable[[Sequence[Head]], Iterable[Head]]
Take = Callable[[str, Head, ManifestReply], Awaitable[None]]


class Misled(RemoteProtocolError):
    """A peer's manifest is not what the peer said it has, or none at all."""


async def ask_peer(
    transport: Transport,
    peer_id: str,
    ledger: Ledger,
    *,
    channel: str | None,
    arch: str | None,
    select: Select,
    take: Take,
) -> bool:
    """Ask one peer once.

    Args:
        transport: the network.
        peer_id: of a connected peer.
        ledger: where a liar is dropped.
        channel: what to ask for; None for all.
        arch: what to ask for; None for all.
        select: which of the heads (at most 256, only of what was asked for) to get the manifests of, in
            which order;
            bounds what a peer can make us fetch. Called lazily, between manifests.
        take: judges a manifest (peer id, what the peer said of it, its bytes and detached signature).
            Raises Misled.

    Returns:
        Whether the peer answered to the end.
    """
    try:
        with trio.fail_after(PEER_TIMEOUT_S):
            stream = await transport.open_stream(peer_id, SYNC_PROTOCOL)
            async with RequestStream(stream) as requests:
                heads = await requests.heads(channel, arch)
                for head in select([head for head in heads if _asked_for(head, channel, arch)]):
                    try:
                        reply = await requests.manifest(head.digest)
                    except PeerRefused:
                        continue  # its head moved on meanwhile
                    await take(peer_id, head, reply)
    except (StreamReset, PeerRefused, trio.TooSlowError):
        return False
    except RemoteProtocolError as error:
        ledger.drop(peer_id, error.message)
        return False
    return True


def _asked_for(head: Head, channel: str | None, arch: str | None) -> bool:
    return channel in (None, head.channel) and arch in (None, head.arch)


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
