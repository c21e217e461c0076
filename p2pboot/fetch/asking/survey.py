"""Who is there and what they offer: asks every peer that can be reached, and judges nothing but the form.

What `p2pboot discover` and the doctor ask the network, over an open transport.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Final

import trio

from p2pboot import RELEASE_DATE
from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import Policy
from p2pboot.core.trust import Pair
from p2pboot.errors import ManifestError, SignatureError
from p2pboot.fetch.asking.acquainting import LOOK_AROUND_S, Acquainting
from p2pboot.fetch.asking.connecting import for_each_connection
from p2pboot.fetch.asking.dialling import Dialler
from p2pboot.fetch.asking.hearing import Conversation, Hearing, Told
from p2pboot.fetch.asking.listing import Misled, ask_peer, check_kept_word
from p2pboot.fetch.asking.pinging import round_trip
from p2pboot.fetch.asking.reasons import PeerWord
from p2pboot.fetch.asking.wider import WiderSearch
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import Progress
from p2pboot.protocol.client import ManifestReply
from p2pboot.protocol.messages import Head
from p2pboot.transport.interface import Connection, PeerSource, Transport
from p2pboot.transport.nearness import Nearness

if TYPE_CHECKING:  # few are given an address book
    from p2pboot.fetch.asking.remembering import Remembering
    from p2pboot.store.peers import Peers

MANIFESTS_PER_PEER: Final = 32
"""One for each channel, arch and publisher of a busy provider; a flood is cut off."""

ASK_AGAIN_S: Final = 1.0
"""Whoever did not answer is asked again after this."""

WATCH_S: Final = 5.0
"""The same for who did, where it is watched what becomes of him."""

LOOK_S: Final = 0.1
"""Between two looks at whether somebody is still expected of whom peers told."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer that was reached.

    Args:
        peer_id: proven by the connection.
        addresses: where it was reached, and then where it says that it is; hints.
        sources: how it was found, what led to it first at the beginning.
        round_trip_s: measured on the connection; None where it answers no pings.
        offers: manifest digests; of all servers that have its key.
        word: what it says of what it does not offer.
        failure: why it could not be asked; None for one that answered.
        told: what it told of roots and freshness.
    """

    peer_id: str
    addresses: tuple[str, ...] = ()
    sources: tuple[PeerSource, ...] = ()
    round_trip_s: float | None = None
    offers: tuple[str, ...] = ()
    word: PeerWord = PeerWord()
    failure: str | None = None
    told: Told = Told()


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found.

    Args:
        peers: who was reached, by peer id.
        manifests: well-formed and signed by those whom they name, by digest; whether to trust them is open.
        dropped: peers that sent what no honest one sends, and why.
        unreached: why addresses could not be reached.
        failures: what went wrong with peers that were reached, by peer id.
        hearing: what they told of trust; None where nobody was asked.
    """

    peers: dict[str, Peer]
    manifests: dict[str, Manifest]
    dropped: dict[str, str]
    unreached: dict[str, str]
    failures: dict[str, str]
    hearing: Hearing | None = None

    @property
    def providers(self) -> dict[str, Peer]:
        """Those who answered."""
        return {peer_id: peer for peer_id, peer in self.peers.items() if peer.failure is None}


class Surveyor:
    """Does one survey.

    Args:
        transport: whoever is or gets connected is asked.
        channel: only manifests of this one, None for all.
        arch: likewise.
        progress: told of peers that are dropped.
        wider: looks further where nothing is offered; None: nobody does.
        book: where peers were reached earlier, a copy that is dropped afterwards; None: not known.
        policy: whom to believe; None: nobody is asked for roots and such.
        now: the time, unix seconds.
    """

    def __init__(
        self,
        transport: Transport,
        channel: str | None,
        arch: str | None,
        progress: Progress,
        wider: WiderSearch | None = None,
        *,
        book: Peers | None = None,
        policy: Policy | None = None,
        now: Callable[[], float] = lambda: RELEASE_DATE,
    ) -> None:
        self._transport = transport
        self._wider = wider
        self._channel = channel
        self._arch = arch
        self._ledger = Ledger(progress)
        self._remembering = None if book is None else self._follow_book(book)
        self._peers: dict[str, Peer] = {}
        self._manifests: dict[str, Manifest] = {}
        self._hearing: Hearing | None = None
        if policy is not None and (policy.publishers or policy.roots):
            self._hearing = Hearing(policy, now, self._manifests.get)
        self._told: dict[str, Told] = {}  # by peer id, of those that are connected
        self._offers: dict[
            Connection, tuple[str, ...]
        ] = {}  # of those that answered, also by none of the manifests
        self._under_way: dict[Connection, list[str]] = {}  # the same of those that are being asked
        self._done: set[Connection] = set()  # those that answered, and were measured
        self._unreached: Callable[[], dict[str, str]] = dict
        self._is_watching = False
        self._changed = trio.Event()  # replaced whenever it was looked at

    def _follow_book(self, book: Peers) -> Remembering:
        from p2pboot.fetch.asking.remembering import Remembering

        def no_time() -> float:
            return 0.0  # nobody reads when somebody was reached: the book is a copy

        usable = self._ledger.usable
        return Remembering(self._transport, book, no_time, usable=usable, begin_s=LOOK_AROUND_S)

    @property
    def survey(self) -> Survey:
        """What was found until now."""
        return Survey(
            {peer_id: self._with_sources(peer) for peer_id, peer in self._peers.items()},
            dict(self._manifests),
            dict(self._ledger.dropped),
            self._unreached(),
            dict(self._ledger.failures),
            self._hearing,
        )

    def _with_sources(self, peer: Peer) -> Peer:
        """More ways may have led to it since; whoever is gone keeps what is known of him."""
        return replace(peer, sources=self._transport.sources(peer.peer_id) or peer.sources)

    async def run(
        self, bootstrap: Sequence[str], hints: AsyncIterable[str] | None, timeout_s: float
    ) -> Survey:
        """Ask until everybody answered: at these addresses, and whom they know; with discovery, until time is up."""
        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                acquainting, dialler = self._begin(nursery, bootstrap, hints)
                await dialler.settle()
                if self._remembering is not None:
                    await self._remembering.followed.wait()
                while acquainting.is_expecting or not self._all_answered():
                    await self._wait_for_change(LOOK_S)
                nursery.cancel_scope.cancel()
        return self.survey

    async def watch(
        self,
        bootstrap: Sequence[str],
        hints: AsyncIterable[str] | None,
        show: Callable[[Survey], None],
        nobody: Callable[[Survey], None],
    ) -> None:
        """Go on asking until cancelled.

        Args:
            bootstrap: addresses.
            hints: further ones as discovery finds them.
            show: is given what there is now, whenever that may have changed, and once a second at least.
            nobody: is given the same where nobody was found in the time that this usually takes; once.
        """
        self._is_watching = True
        async with trio.open_nursery() as nursery:
            _, dialler = self._begin(nursery, bootstrap, hints)
            nursery.start_soon(self._note_nobody, dialler, nobody)
            while True:
                show(self.survey)
                await trio.sleep(LOOK_S)  # several changes come together
                await self._wait_for_change(1 - LOOK_S)

    async def _note_nobody(self, dialler: Dialler, nobody: Callable[[Survey], None]) -> None:
        await dialler.settle()
        await trio.sleep(1)  # whoever was reached has answered by then
        if not self._peers:
            nobody(self.survey)

    def _begin(
        self, nursery: trio.Nursery, bootstrap: Sequence[str], hints: AsyncIterable[str] | None
    ) -> tuple[Acquainting, Dialler]:
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
        self._unreached = lambda: dict(dialler.failures)
        nursery.start_soon(dialler.run)
        nursery.start_soon(acquainting.run)
        if self._remembering is not None:
            nursery.start_soon(self._remembering.run)
        nursery.start_soon(for_each_connection, self._transport, self._visit)
        return acquainting, dialler

    def _all_answered(self) -> bool:
        up = self._transport.connections()
        return bool(up) and all(each in self._done or not self._ledger.usable(each.peer_id) for each in up)

    async def _wait_for_change(self, timeout_s: float) -> None:
        with trio.move_on_after(timeout_s):
            await self._changed.wait()
        self._changed = trio.Event()

    async def _visit(self, connection: Connection) -> None:
        try:
            while self._ledger.usable(connection.peer_id):
                if not await self._ask(connection):
                    await trio.sleep(ASK_AGAIN_S)
                elif self._is_watching:
                    await trio.sleep(WATCH_S)
                else:
                    return
        finally:
            if self._is_watching:
                self._forget(connection)
            self._changed.set()  # it has answered, was dropped, or is gone

    async def _ask(self, connection: Connection) -> bool:
        """Ask one server once, and put down what is known of it then; whether it answered."""
        offers = self._under_way[connection] = []
        conversation = (
            None if self._hearing is None else Conversation(self._hearing, lambda: self._pairs(offers))
        )
        took_s: float | None = None
        answered = was_asked = False
        try:
            answered = await ask_peer(
                self._transport,
                connection,
                self._ledger,
                channel=self._channel,
                arch=self._arch,
                select=lambda heads: self._select(heads, offers),
                take=self._take,
                beside=conversation,
            )
            if conversation is not None and answered:
                self._told[connection.peer_id] = conversation.told
            was_asked = True
            if offers and self._wider is not None:
                self._wider.note_found()
            took_s = await round_trip(self._transport, connection)
        finally:  # also when time is up
            del self._under_way[connection]
            if was_asked:
                self._note(connection, tuple(offers) if answered else None, took_s)
        if answered:
            self._done.add(connection)
        self._changed.set()
        return answered

    def _note(
        self, connection: Connection, offers: tuple[str, ...] | None, round_trip_s: float | None = None
    ) -> None:
        """Put down what is known of a peer: what one of its servers offers, if that answers."""
        peer_id = connection.peer_id
        if offers is None:
            self._offers.pop(connection, None)
        else:
            self._offers[connection] = offers
        known = self._peers.get(peer_id, Peer(peer_id))
        before = () if self._is_watching else (*known.addresses, connection.address)
        # Where it was reached may be in no list: a link-local address is for who is on its link.
        here = [each for each in self._transport.connections() if each.peer_id == peer_id]
        reached = (each.address for each in sorted(here, key=lambda each: each.number))
        addresses = tuple(dict.fromkeys((*before, *reached, *self._transport.peer_addresses(peer_id))))
        answers = [offers for each, offers in self._offers.items() if each.peer_id == peer_id]
        self._peers[peer_id] = Peer(
            peer_id,
            addresses,
            self._transport.sources(peer_id) or known.sources,
            known.round_trip_s if round_trip_s is None else round_trip_s,
            tuple(dict.fromkeys(chain.from_iterable(answers))),
            self._ledger.words.get(peer_id, known.word),
            None if answers else self._ledger.failures.get(peer_id, "does not answer"),
            self._told.get(peer_id, known.told),
        )
        self._forget_manifests()

    def _forget(self, connection: Connection) -> None:
        """A connection has ended; with its last one a peer is lost."""
        peer_id = connection.peer_id
        self._done.discard(connection)
        if any(each.peer_id == peer_id for each in self._transport.connections() - {connection}):
            self._note(connection, None)
        else:
            self._offers.pop(connection, None)
            self._peers.pop(peer_id, None)
            self._ledger.words.pop(peer_id, None)
            self._told.pop(peer_id, None)
            self._forget_manifests()
        if self._wider is not None and not any(peer.offers for peer in self._peers.values()):
            self._wider.note_lost()

    def _forget_manifests(self) -> None:
        """Of those who are watched for days there may be ever new ones."""
        if self._is_watching:
            offered = set(chain(*self._offers.values(), *self._under_way.values()))
            for digest in self._manifests.keys() - offered:
                del self._manifests[digest]

    def _pairs(self, offers: Sequence[str]) -> Iterator[Pair]:
        found = (self._manifests[digest] for digest in offers if digest in self._manifests)
        return ((one.channel, one.arch) for one in found)

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
