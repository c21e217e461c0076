"""What a survey hears of whom to believe, of what is fresh, and of what was taken back; nothing is remembered.

`HeadSearch` asks the same for one channel and arch, and decides by it. A survey looks at all that anybody offers, and
shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import trio

from p2pboot.core.clock import Clock
from p2pboot.core.dataclass import dataclass
from p2pboot.core.freshness import supersedes
from p2pboot.core.manifest import Manifest
from p2pboot.core.names import base_channel
from p2pboot.core.policy import Policy
from p2pboot.core.saying import time_by
from p2pboot.core.trust import Pair
from p2pboot.core.trustdocs.chain import TwoRoots, claims_version
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.verify import Question
from p2pboot.fetch.asking.listing import Documents
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.fetch.asking.rooting import BadRoots, Roots
from p2pboot.fetch.asking.statements import Statements
from p2pboot.fetch.asking.yankpages import take_all_yanks
from p2pboot.protocol.client import PeerBusy, PeerRefused, ask_freshness
from p2pboot.transport.interface import Connection

MAX_PAIRS = 64
"""Of which anything is heard; strangers can make up any number."""

PAIRS_PER_PEER = 8


@dataclass(frozen=True, slots=True)
class Told:
    """What one peer told of trust.

    Args:
        root_version: the newest that it showed beyond what was known before; None for none.
        statements: its freshness statements that count or counted.
    """

    root_version: int | None = None
    statements: tuple[Freshness, ...] = ()


class Hearing:
    """What was heard during one survey.

    Args:
        policy: whom the operator believes.
        now: the time, unix seconds.
        at_hand: gives a manifest that was found, by its digest.
    """

    def __init__(
        self, policy: Policy, now: Callable[[], float], at_hand: Callable[[str], Manifest | None]
    ) -> None:
        self.roots = Roots(policy)
        self._now = now
        self._at_hand = at_hand
        self._pairs: dict[Pair, Statements] = {}

    @property
    def policy(self) -> Policy:
        """Whom to believe by the newest roots that anybody has shown."""
        return self.roots.policy

    def question(self, question: Question) -> Question:
        """A question about a channel and arch, by what was heard besides.

        Args:
            question: names both; of its policy the heard one takes the place.
        """
        heard = self._pairs.get((question.channel or "", question.arch or ""))
        if heard is None:
            return replace(question, policy=self.policy)
        found = heard.question(self.policy, self._at_hand)
        statement, kept = found.freshness.statement, question.freshness.statement
        if statement is None or (kept is not None and not supersedes(statement, kept)):
            statement = kept
        return replace(
            question,
            policy=self.policy,
            clock=time_by(question.clock, self.policy, heard.pair, statement),
            yanks={**question.yanks, **found.yanks},
            freshness=replace(question.freshness, statement=statement),
        )

    def of(self, pair: Pair) -> Statements | None:
        """What is heard of a channel and arch; None where it is too many."""
        if pair not in self._pairs and len(self._pairs) < MAX_PAIRS:
            question = Question(self.policy, self.clock, channel=pair[0], arch=pair[1])
            self._pairs[pair] = Statements(question)
        return self._pairs.get(pair)

    @property
    def clock(self) -> Clock:
        """The machine's, to tell what is dated later."""
        return Clock(int(self._now()))


class Conversation:
    """A `listing.Beside` for one peer, once.

    Args:
        hearing: where all of it comes together.
        pairs: the channels and archs that the peer has offered manifests of, until now.
    """

    def __init__(self, hearing: Hearing, pairs: Callable[[], Iterable[Pair]]) -> None:
        self._hearing = hearing
        self._pairs = pairs
        self.told = Told()

    def queries(self, connection: Connection) -> Sequence[Documents]:
        """The roots."""
        return self._hearing.roots.queries(connection)

    async def take(self, requests: RequestStream, answers: Sequence[tuple[bytes, ...] | None]) -> None:
        """Walk as far as the peer knows the way."""
        try:
            await self._hearing.roots.follow(requests, answers)
        except TwoRoots as error:  # who only looks stops nothing, and shows who has the second one
            raise BadRoots(error.message) from None
        versions = [claims_version(page[-1]) for page in answers if page]
        newest = max((each for each in versions if each is not None), default=None)
        self.told = replace(self.told, root_version=newest)

    async def finish(self, requests: RequestStream) -> None:
        """Ask for statements and yanks of what it offers and somebody is trusted to publish."""
        for pair in list(dict.fromkeys(self._pairs()))[:PAIRS_PER_PEER]:
            publisher, heard = self._hearing.policy.publisher_for(*pair), self._hearing.of(pair)
            if publisher is None or heard is None:
                continue
            if publisher.freshness is not None:
                await self._take_statements(requests, heard)
            await self._take_yanks(requests, (base_channel(pair[0]), pair[1]), heard)

    async def _take_yanks(self, requests: RequestStream, pair: Pair, heard: Statements) -> None:
        async def take(page: Sequence[bytes]) -> bool:
            return await trio.to_thread.run_sync(heard.take_yanks, page, self._hearing.policy)

        try:
            await take_all_yanks(requests, pair, take)
        except PeerBusy:
            raise
        except PeerRefused:  # a node of an earlier release
            return

    async def _take_statements(self, requests: RequestStream, heard: Statements) -> None:
        documents = await _ask(requests, ask_freshness(*heard.pair))
        take = heard.take_statements
        await trio.to_thread.run_sync(take, documents, self._hearing.policy, self._hearing.clock)
        told = tuple(one for one in heard.all if one.raw in documents)
        self.told = replace(self.told, statements=(*self.told.statements, *told))


async def _ask(requests: RequestStream, query: Documents) -> tuple[bytes, ...]:
    try:
        return await requests.ask(query)
    except PeerBusy:
        raise
    except PeerRefused:  # a node of an earlier release
        return ()
