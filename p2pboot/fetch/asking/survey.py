"""Who is there and what they offer: asks every peer that can be reached, and judges nothing but the form.

What `p2pboot discover` and the doctor ask the network, over an open transport.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterator, Sequence
from dataclasses import field
from typing import Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Manifest
from p2pboot.errors import ManifestError, SignatureError
from p2pboot.fetch.asking.acquainting import Acquainting
from p2pboot.fetch.asking.connecting import for_each_connection
from p2pboot.fetch.asking.dialling import Dialler
from p2pboot.fetch.asking.listing import Misled, ask_peer, check_kept_word
from p2pboot.fetch.asking.reasons import PeerWord
from p2pboot.fetch.asking.wider import WiderSearch
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import Progress
from p2pboot.protocol.client import ManifestReply
from p2pboot.protocol.messages import Head
from p2pboot.transport.interface import Connection, Transport
from p2pboot.transport.nearness import Nearness

MANIFESTS_PER_PEER: Final = 32
"""One for each channel, arch and publisher of a busy provider; a flood is cut off."""

ASK_AGAIN_S: Final = 1.0
LOOK_S: Final = 0.1
"""Between two looks at whether somebody is still expected of whom peers told."""


@dataclass(slots=True)
class Provider:
    """A peer that answered.

    Args:
        peer_id: proven by the connection.
        addresses: where it was reached, or says that it is; hints.
        offers: manifest digests; of all servers that have its key.
        word: what it says of what it does not offer.
    """

    peer_id: str
    addresses: tuple[str, ...]
    offers: list[str] = field(default_factory=list)
    word: PeerWord = field(default_factory=PeerWord)


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found.

    Args:
        providers: by peer id.
        manifests: well-formed and signed by those whom they name, by digest; whether to trust them is open.
        dropped: peers that sent what no honest one sends, and why.
        unreached: why addresses could not be reached.
        failures: what went wrong with peers that were reached, by peer id.
    """

    providers: dict[str, Provider]
    manifests: dict[str, Manifest]
    dropped: dict[str, str]
    unreached: dict[str, str]
    failures: dict[str, str]


class Surveyor:
    """Does one survey.

    Args:
        transport: whoever is or gets connected is asked.
        channel: only manifests of this one, None for all.
        arch: likewise.
        progress: told of peers that are dropped.
        wider: looks further where nothing is offered; None: nobody does.
    """

    def __init__(
        self,
        transport: Transport,
        channel: str | None,
        arch: str | None,
        progress: Progress,
        wider: WiderSearch | None = None,
    ) -> None:
        self._transport = transport
        self._wider = wider
        self._channel = channel
        self._arch = arch
        self._ledger = Ledger(progress)
        self._providers: dict[str, Provider] = {}
        self._manifests: dict[str, Manifest] = {}
        self._answered: set[Connection] = set()
        self._changed = trio.Event()  # replaced whenever it was looked at

    async def run(
        self, bootstrap: Sequence[str], hints: AsyncIterable[str] | None, timeout_s: float
    ) -> Survey:
        """Ask until everybody answered: at these addresses, and whom they know; with discovery, until time is up."""
        acquainting = Acquainting(self._transport, Nearness(), usable=self._ledger.usable)
        acquainting.look_for(None)
        dialler = Dialler(
            self._transport,
            bootstrap,
            self._ledger,
            hints,
            has_room=lambda: acquainting.has_room,
            wider=self._wider,
        )
        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dialler.run)
                nursery.start_soon(acquainting.run)
                nursery.start_soon(for_each_connection, self._transport, self._visit)
                await dialler.settle()
                while acquainting.is_expecting or not self._all_answered():
                    self._changed = trio.Event()
                    with trio.move_on_after(LOOK_S):
                        await self._changed.wait()
                nursery.cancel_scope.cancel()
        return Survey(
            self._providers,
            self._manifests,
            dict(self._ledger.dropped),
            dict(dialler.failures),
            dict(self._ledger.failures),
        )

    def _all_answered(self) -> bool:
        up = self._transport.connections()
        return bool(up) and all(
            each in self._answered or not self._ledger.usable(each.peer_id) for each in up
        )

    async def _visit(self, connection: Connection) -> None:
        try:
            while self._ledger.usable(connection.peer_id):
                if await self._ask(connection):
                    self._answered.add(connection)
                    return
                await trio.sleep(ASK_AGAIN_S)
        finally:
            self._changed.set()  # it has answered, was dropped, or is gone

    async def _ask(self, connection: Connection) -> bool:
        """Ask one server once; whether it answered."""
        offers: list[str] = []
        peer_id = connection.peer_id
        answered = await ask_peer(
            self._transport,
            connection,
            self._ledger,
            channel=self._channel,
            arch=self._arch,
            select=lambda heads: self._select(heads, offers),
            take=self._take,
        )
        if answered:
            provider = self._providers.setdefault(peer_id, Provider(peer_id, ()))
            # Where it was reached may be in no list: a link-local address is for who is on its link.
            said = self._transport.peer_addresses(peer_id)
            addresses = (*provider.addresses, connection.address, *said)
            provider.addresses = tuple(dict.fromkeys(addresses))
            provider.offers = list(dict.fromkeys((*provider.offers, *offers)))
            provider.word = self._ledger.words[peer_id]
            if offers and self._wider is not None:
                self._wider.note_found()
        return answered

    def _select(self, heads: Sequence[Head], offers: list[str]) -> Iterator[Head]:
        offers.clear()
        for head in heads[:MANIFESTS_PER_PEER]:
            if head.digest not in self._manifests:
                yield head
            if head.digest in self._manifests:
                offers.append(head.digest)

    async def _take(self, head: Head, reply: ManifestReply) -> None:
        # A document can be made to take tens of milliseconds: not in the event loop.
        try:
            manifest = await trio.to_thread.run_sync(Manifest.parse, reply.raw)
        except (ManifestError, SignatureError) as error:
            raise Misled(f"it sent an invalid manifest: {error.message}") from None
        check_kept_word(head, (manifest.channel, manifest.arch, manifest.manifest_version, manifest.digest))
        self._manifests[manifest.digest] = manifest
