"""Finds the newest manifest that may be trusted, among all peers that can be reached in a short while.

A client without memory is only as safe as the best-informed peer that it hears, so it asks everybody: for manifests,
and in the same conversation for what says whom to believe, how new what is offered has to be, and what was taken back.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

import trio

from p2pboot.core.manifest import Manifest
from p2pboot.core.names import base_channel
from p2pboot.core.policy import Policy
from p2pboot.core.verify import Question
from p2pboot.fetch.asking.listing import Documents, ask_peer
from p2pboot.fetch.asking.offers import MANIFESTS_PER_PEER, Offers
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.fetch.asking.rooting import Roots
from p2pboot.fetch.asking.rounds import GRACE_S, Rounds
from p2pboot.fetch.asking.yankpages import take_all_yanks
from p2pboot.fetch.choosing.manifest import Found
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import Stall
from p2pboot.protocol.client import ManifestReply, ask_freshness, ask_yanks
from p2pboot.protocol.messages import Head
from p2pboot.transport.interface import Connection, Transport

__all__ = ["MANIFESTS_PER_PEER", "HeadSearch"]

_LOOK_S = 1.0
"""How often whoever watches is told that there is nothing yet."""

Pair = tuple[str, str]  # (channel, arch)
Prefer = Callable[[Sequence[Found]], Manifest | None]


def first_of(found: Sequence[Found]) -> Manifest | None:
    """What would be taken of what was asked for first, whatever there is beside it."""
    return found[0].candidate()


class HeadSearch:
    """Asks every peer for the manifests of one channel and arch, until enough is known.

    Args:
        transport: whoever is or gets connected is asked.
        question: what is looked for; names a channel and an arch.
        ledger: liars are dropped in it; its progress is told of peers whose detached signature is wrong.
        suggest: is told, whenever that changes, which manifest would be taken if nothing more came; None: none.
        beside: further channels and archs, each with its own question, that are asked for in the same conversations;
            nobody waits for them. What was found of them, `found_of` tells.
        prefer: which of all that was found would be taken; the question's comes first, then those beside it.
    """

    def __init__(
        self,
        transport: Transport,
        question: Question,
        ledger: Ledger,
        suggest: Callable[[Manifest | None], None] = lambda _manifest: None,
        *,
        beside: Sequence[Question] = (),
        prefer: Prefer = first_of,
    ) -> None:
        self._transport = transport
        self._ledger = ledger
        self._suggest = suggest
        self._prefer = prefer
        self._offers = {_pair_of(each): Offers(each, ledger) for each in (question, *beside)}
        self._main = self._offers[_pair_of(question)]
        self._pair = _pair_of(question)
        self._rounds = Rounds(transport, ledger, self._ask, will_do_at=self._will_do_at)
        self.roots = Roots(question.policy)
        """The roots in force by what was heard."""
        self._stall = Stall(ledger.progress)

    @property
    def question(self) -> Question:
        """What decides now of what is looked for."""
        return self._main.question

    @property
    def offers(self) -> Sequence[Offers]:
        """What was found, of each channel and arch: first of the question's, then of those beside it."""
        return tuple(self._offers.values())

    def found_of(self, channel: str, arch: str) -> Found:
        """What was found of a channel and arch that was asked for."""
        asked = frozenset(connection.peer_id for connection in self._rounds.asked)
        return self._offers[channel, arch].found(asked)

    async def run(self, timeout_s: float, settle: Callable[[], Awaitable[None]]) -> Found:
        """Ask until everybody answered, a short grace after the first usable answer, or the timeout (see `Rounds`).

        It goes on to the timeout while what is known of how new it is may well be held back.

        Args:
            timeout_s: seconds at most.
            settle: returns when no further peer is expected to connect.

        Raises:
            TwoRoots: there are two roots of one version, and nothing says which is the right one.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._say_why_nothing_comes)
            nursery.start_soon(self._say_what_is_waited_for)
            await self._rounds.run(timeout_s, settle)
            nursery.cancel_scope.cancel()
        await self._judge()  # who was being asked may just have told something
        return self._found()

    def _found(self) -> Found:
        return self.found_of(*self._pair)

    async def _say_why_nothing_comes(self) -> None:
        began = trio.current_time()
        while not self._main:
            await trio.sleep(_LOOK_S)
            now, peers = trio.current_time(), len(self._transport.peers())
            self._stall.look(now, 0.0 if self._main else now - began, peers, self._why_nothing)

    async def _say_what_is_waited_for(self) -> None:
        """Once it takes longer than it would if nobody could hold us back."""
        while True:
            await trio.sleep(_LOOK_S)
            if self._main.is_held_back and trio.current_time() >= self._main.first_offer + GRACE_S:
                self._ledger.progress.note(
                    "nobody has shown a freshness statement yet that is as new as it should be, or what it demands:"
                    " peers are asked on until the timeout (--accept-stale takes what there is)"
                )
                return

    def _why_nothing(self) -> str:
        why = self._found().why() if self._rounds.asked else "no peer was reached"
        return f"no manifest for {'/'.join(self._pair)} yet" + (f": {why}" if why else "")

    def _will_do_at(self) -> float:
        """Where all that came is refused, somebody slow may have a better one."""
        if self._main.is_usable:
            return -math.inf
        return math.inf if self._main.is_held_back else self._main.first_offer + GRACE_S

    async def _ask(self, connection: Connection) -> None:
        channel, arch = self._pair
        await ask_peer(
            self._transport,
            connection,
            self._ledger,
            channel=channel,
            arch=arch,
            select=partial(self._select, connection),
            take=partial(self._take, connection),
            also=[pair for pair in self._offers if pair != self._pair],
            beside=_Beside(self),
        )

    def _select(self, connection: Connection, heads: Sequence[Head]) -> Iterator[Head]:
        if not self.roots.policy.publishers:
            return  # nobody is known to believe yet
        for (channel, arch), offers in self._offers.items():
            yield from offers.select(
                connection, [head for head in heads if (head.channel, head.arch) == (channel, arch)]
            )

    async def _take(self, connection: Connection, head: Head, reply: ManifestReply) -> None:
        await self._offers[head.channel, head.arch].take(connection, head, reply)
        await self.look_again()

    async def look_again(self) -> None:
        """Judge by what is known now, and say what follows from that."""
        await self._judge()
        if self._main:
            self._stall.look(trio.current_time(), 0.0, len(self._transport.peers()), self._why_nothing)
        self._rounds.note_usable(self._main.is_usable)
        self._suggest(self._prefer([self.found_of(*pair) for pair in self._offers]))

    async def _judge(self) -> None:
        for offers in self._offers.values():
            await offers.look_again(self.roots.policy)

    def ask_all_again(self) -> None:
        """Another root is in force: what was passed over may count now."""
        self._rounds.ask_all_again()


class _Beside:
    """What is asked of one peer beside manifests, once: roots, then freshness statements and yanks of each pair.

    Of a roll-out's channel statements are asked for with the others; its yanks are those of the channel that it goes
    into.
    """

    def __init__(self, search: HeadSearch) -> None:
        self._search = search
        self._of_roots = 0
        self._stating: list[Offers] = []

    def queries(self, connection: Connection) -> Sequence[Documents]:
        roots = self._search.roots.queries(connection)
        self._of_roots = len(roots)
        self._stating = [each for each in self._search.offers if _may_have_statements(each, self._policy)]
        yanks = {
            (base_channel(each.statements.channel), each.statements.arch) for each in self._search.offers
        }
        self._yanked = sorted(yanks)
        return [
            *roots,
            *(ask_freshness(*each.statements.pair) for each in self._stating),
            *(ask_yanks(*pair) for pair in self._yanked),
        ]

    @property
    def _policy(self) -> Policy:
        return self._search.roots.policy

    async def take(self, requests: RequestStream, answers: Sequence[tuple[bytes, ...] | None]) -> None:
        if await self._search.roots.follow(requests, answers[: self._of_roots]):
            self._search.ask_all_again()
        rest = answers[self._of_roots :]
        statements, yanks = rest[: len(self._stating)], rest[len(self._stating) :]
        for offers, documents in zip(self._stating, statements, strict=True):
            if documents:
                args = documents, self._policy, offers.question.clock, requests.peer_id
                await trio.to_thread.run_sync(offers.statements.take_statements, *args)
        for pair, documents in zip(self._yanked, yanks, strict=True):
            if documents:
                await take_all_yanks(requests, pair, partial(self._take_yanks, pair), documents)
        await self._search.look_again()

    async def _take_yanks(self, pair: Pair, page: Sequence[bytes]) -> bool:
        counts = False
        for offers in self._search.offers:
            if base_channel(offers.statements.channel) == pair[0]:
                take = offers.statements.take_yanks
                counts = await trio.to_thread.run_sync(take, page, self._policy) or counts
        return counts

    async def finish(self, requests: RequestStream) -> None:
        for offers in self._stating:
            await offers.take_named(requests)
        await self._search.look_again()


def _may_have_statements(offers: Offers, policy: Policy) -> bool:
    """Whether anybody is known, or may come to be known, who says what is fresh."""
    publisher = policy.publisher_for(*offers.statements.pair)
    return (
        bool(policy.roots)
        if publisher is None
        else publisher.freshness is not None or publisher.root is not None
    )


def _pair_of(question: Question) -> Pair:
    assert question.channel is not None  # noqa: S101 - a search is for one channel and arch
    assert question.arch is not None  # noqa: S101
    return question.channel, question.arch
