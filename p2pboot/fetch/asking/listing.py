"""What one peer says that it has, and the manifests themselves: bounded, and with the liars named.

A peer's list of heads is hearsay. It only decides in which order a few manifests are asked for; what a
manifest says is believed after `core.verify` alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, cast

import trio

from p2pboot.errors import ProtocolError, RemoteProtocolError
from p2pboot.fetch.asking.reasons import PeerWord, pairs_of
from p2pboot.fetch.asking.requests import RequestStream, requests_to
from p2pboot.fetch.ledger import Ledger
from p2pboot.protocol.client import (
    HeadsReply,
    ManifestReply,
    PeerBusy,
    PeerRefused,
    Query,
    ask_heads,
    ask_manifest,
)
from p2pboot.protocol.messages import SYNC_PROTOCOL, Head
from p2pboot.protocol.withheld import WithheldHead
from p2pboot.transport.interface import Connection, Transport

Select = Callable[[Sequence[Head]], Iterable[Head]]
Take = Callable[[Head, ManifestReply], Awaitable[None]]
Documents = Query[tuple[bytes, ...]]


class Beside(Protocol):
    """What is asked in the same conversation beside manifests."""

    def queries(self, connection: Connection) -> Sequence[Documents]:
        """What to ask at once with the heads: that costs no time."""

    async def take(self, requests: RequestStream, answers: Sequence[tuple[bytes, ...] | None]) -> None:
        """Look at the answers, None for what the peer has no answer to; ask on where they say so.

        Called before manifests are selected.

        Raises:
            RemoteProtocolError: a peer sent what no honest one does.
        """

    async def finish(self, requests: RequestStream) -> None:
        """Ask for what is missing after the manifests came."""


class Misled(RemoteProtocolError):
    """A peer's manifest is not what the peer said it has, or none at all."""


async def ask_peer(  # noqa: PLR0913 - what a conversation is about
    transport: Transport,
    connection: Connection,
    ledger: Ledger,
    *,
    channel: str | None,
    arch: str | None,
    select: Select,
    take: Take,
    also: Sequence[tuple[str, str]] = (),
    beside: Beside | None = None,
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
        also: further channels and archs whose heads are asked for.
        beside: what else is asked; None for nothing.

    Returns:
        Whether the peer answered to the end.
    """
    peer_id = connection.peer_id
    try:
        async with requests_to(transport, connection, SYNC_PROTOCOL) as requests:
            queries = () if beside is None else beside.queries(connection)
            asked = ((channel, arch), *also)
            replies, answers = await _ask_at_once(requests, [ask_heads(*pair) for pair in asked], queries)
            reply = replies[0]
            if beside is not None:
                await beside.take(requests, answers)
            heads = [
                head
                for pair, said in zip(asked, replies, strict=True)
                for head in said.heads
                if _asked_for(head, *pair)
            ]
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
            if beside is not None:
                await beside.finish(requests)
    except (PeerRefused, RemoteProtocolError) as error:
        ledger.note_error(peer_id, error)
        return False
    ledger.note_recovery(peer_id)
    return True


async def _ask_at_once(
    requests: RequestStream, heads: Sequence[Query[HeadsReply]], queries: Sequence[Documents]
) -> tuple[list[HeadsReply], list[tuple[bytes, ...] | None]]:
    """Ask everything in one go; the first error of heads is raised, and any that ended the stream.

    A node of an earlier release answers that it does not know what it is asked beside.
    """
    if len(heads) == 1 and not queries:
        return [await requests.ask(heads[0])], []
    answers: dict[int, HeadsReply | tuple[bytes, ...] | ProtocolError] = {}

    async def ask(number: int, query: Query[Any]) -> None:
        try:
            answers[number] = await requests.ask(query)
        except ProtocolError as error:
            answers[number] = error

    async with trio.open_nursery() as nursery:
        for number, query in enumerate((*heads, *queries)):
            if number:
                nursery.start_soon(ask, number, query)
        await ask(0, heads[0])  # is sent before them
        if isinstance(answers[0], ProtocolError):
            nursery.cancel_scope.cancel()  # who has no time for this one has none for the others
    found = []
    for number in range(len(heads)):
        answer = answers[number]
        if isinstance(answer, ProtocolError):
            raise answer
        found.append(cast("HeadsReply", answer))
    documents: list[tuple[bytes, ...] | None] = []
    for number in range(len(heads), len(answers)):
        answer = answers[number]
        if isinstance(answer, ProtocolError) and not isinstance(answer, PeerRefused):
            raise answer
        documents.append(None if isinstance(answer, ProtocolError) else cast("tuple[bytes, ...]", answer))
    return found, documents


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
