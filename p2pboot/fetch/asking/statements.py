"""What peers tell of one channel and arch beside manifests: freshness statements and yanks. Nothing here asks.

All that comes is judged by the trust in force, and again when another root is: what a key said counts for as long as
the key does. A statement counts once the manifest that it names is at hand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from p2pboot.core.clock import Clock
from p2pboot.core.freshness import contradict, is_ahead, supersedes
from p2pboot.core.manifest import Manifest
from p2pboot.core.names import base_channel
from p2pboot.core.policy import Policy
from p2pboot.core.saying import time_by
from p2pboot.core.trustdocs.freshness import Freshness, check_freshness, decode_freshness
from p2pboot.core.trustdocs.yank import MAX_YANKS, Yank, check_yank, decode_yank
from p2pboot.core.verify import Question
from p2pboot.errors import Malformed, RemoteProtocolError, SignatureError

MAX_STATEMENTS = 256
"""Kept of one search, the newest: of more peers than are followed, so that none of them drives out what others said."""

STATEMENTS_PER_PEER = 8
"""Looked at of one peer: it has one of each fleet that it follows."""
COUNTING_PER_PEER = 2
"""Kept of them: who has a stolen key makes up any number that name what nobody has."""

MAX_NAMED = 64
"""Manifests that are at hand because statements name them."""


class BadDocument(RemoteProtocolError):
    """A peer sent what is no trust document, or not what was signed."""


class Statements:
    """What counts of what was heard of one channel and arch.

    Args:
        question: what decides before anybody was asked, with what this machine remembers.
    """

    def __init__(self, question: Question) -> None:
        self._asked = question
        self._taking = threading.Lock()  # what several peers told is looked at in threads
        self.channel, self.arch = question.channel or "", question.arch or ""
        self._statements: dict[str, Freshness] = {}  # by digest, whose signers had a say when they came
        self._yanks: dict[str, Yank] = {**question.yanks}
        self._told: dict[str, tuple[str, ...]] = {}  # by peer, the digests of its statements
        self._named: dict[str, Manifest] = {}  # by digest, that statements name
        self.heard: list[Freshness] = []
        """Statements that count or counted, in the order of coming."""
        self.new_yanks: list[Yank] = []
        """Yanks that were not remembered before."""

    @property
    def pair(self) -> tuple[str, str]:
        """The channel and arch."""
        return self.channel, self.arch

    @property
    def all(self) -> tuple[Freshness, ...]:
        """The statements whose signers had a say when they came, whether their manifests are at hand or not."""
        return tuple(self._statements.values())

    def take_statements(
        self, documents: Sequence[bytes], policy: Policy, clock: Clock, peer_id: str = ""
    ) -> None:
        """Look at what one peer has; blocks for some milliseconds at most.

        Raises:
            BadDocument: it is none.
        """
        with self._taking:
            self._take_statements(documents, policy, clock, peer_id)

    def _take_statements(
        self, documents: Sequence[bytes], policy: Policy, clock: Clock, peer_id: str
    ) -> None:
        publisher = policy.publisher_for(*self.pair)
        # Those of a key that has no say any more would drive out what is said by the one after it.
        statements = {
            digest: one
            for digest, one in self._statements.items()
            if publisher is not None and publisher.may_vouch(one.body.fleet, one.signed_by)
        }
        told: list[str] = []
        for raw in documents[:STATEMENTS_PER_PEER]:
            if len(told) >= COUNTING_PER_PEER:
                break
            try:
                found = decode_freshness(raw)
                if (
                    publisher is None
                    or found.claims.pair != self.pair
                    or not publisher.may_vouch(found.claims.fleet, found.signers)
                ):
                    continue
                if found.digest in statements:
                    told.append(found.digest)
                    continue
                statement = check_freshness(found)
            except (Malformed, SignatureError) as error:
                raise BadDocument(f"it sent a freshness statement that is none: {error.message}") from None
            if not is_ahead(statement, clock):
                told.append(statement.digest)
                statements[statement.digest] = statement
        self._told[peer_id] = tuple(told)
        newest = sorted(statements.values(), key=lambda one: (-one.body.created_at, one.digest))
        self._statements = {one.digest: one for one in newest[:MAX_STATEMENTS]}

    def take_yanks(self, documents: Sequence[bytes], policy: Policy) -> bool:
        """The same of yanks.

        Returns:
            Whether any of them counts, or what it takes back is taken back already.

        Raises:
            BadDocument: it is none.
        """
        with self._taking:
            return self._take_yanks(documents, policy)

    def _take_yanks(self, documents: Sequence[bytes], policy: Policy) -> bool:
        counts = False
        publisher = policy.publisher_for(*self.pair)
        # Those of a key that has no say any more are in nobody's way.
        yanks = {content: yank for content, yank in self._yanks.items() if self._counts(yank, policy)}
        for raw in documents[:MAX_YANKS]:
            if len(yanks) >= MAX_YANKS:
                break
            try:
                found = decode_yank(raw)
                if found.claims.content in yanks:
                    counts = True
                    continue
                if (
                    publisher is None
                    or found.claims.channel not in (self.channel, base_channel(self.channel))
                    or found.claims.arch != self.arch
                    or not publisher.may_yank(found.claims.fleet, found.signers)
                ):
                    continue
                yank = check_yank(found, trusted=publisher.keys)
            except (Malformed, SignatureError) as error:
                raise BadDocument(f"it sent a yank that is none: {error.message}") from None
            yanks[yank.body.content] = yank
            self.new_yanks.append(yank)
            counts = True
        self._yanks = yanks
        return counts

    def lacking(
        self, at_hand: Callable[[str], Manifest | None], policy: Policy, peer_id: str = ""
    ) -> tuple[Freshness, ...]:
        """The statements that would count if the manifests were at hand that they name.

        Those come first that this peer told, since it has what they name if it is honest; then the newest.
        """
        counting, told = self._newest(at_hand, policy), self._told.get(peer_id, ())
        lacking = (
            one
            for one in self._statements.values()
            if supersedes(one, counting) and self._at_hand(one, at_hand) is None
        )
        return tuple(sorted(lacking, key=lambda one: one.digest not in told))

    def note_named(self, manifest: Manifest) -> None:
        """A manifest that is not offered, and signed by those who are trusted now, is at hand."""
        if len(self._named) < MAX_NAMED:
            self._named[manifest.digest] = manifest

    def question(self, policy: Policy, at_hand: Callable[[str], Manifest | None]) -> Question:
        """What decides now.

        Args:
            policy: whom to believe.
            at_hand: gives a manifest that was found, by its digest.
        """
        statement = self._newest(at_hand, policy)
        if statement is not None and statement not in self.heard:
            self.heard.append(statement)
        return replace(
            self._asked,
            policy=policy,
            clock=time_by(self._asked.clock, policy, self.pair, statement),
            yanks={content: yank for content, yank in self._yanks.items() if self._counts(yank, policy)},
            freshness=replace(self._asked.freshness, statement=statement),
        )

    def _newest(self, at_hand: Callable[[str], Manifest | None], policy: Policy) -> Freshness | None:
        """Which statement counts: the latest of all; of two that contradict each other the one that allows less."""
        newest: Freshness | None = None
        publisher = policy.publisher_for(*self.pair)
        version = None if publisher is None else publisher.root_version
        for one in self._counting(at_hand, policy):
            if newest is None:
                newest = one
            elif contradict(one, newest, version) and one.body.minimum != newest.body.minimum:
                newest = max(one, newest, key=lambda each: each.body.minimum)
            elif supersedes(one, newest):
                newest = one
        return newest

    def _counting(self, at_hand: Callable[[str], Manifest | None], policy: Policy) -> Iterable[Freshness]:
        publisher, remembered = policy.publisher_for(*self.pair), self._asked.freshness.statement
        if publisher is None:
            return
        if remembered is not None and publisher.may_vouch(remembered.body.fleet, remembered.signed_by):
            yield remembered  # what it names was at hand when it was taken
        for one in self._statements.values():
            named = self._at_hand(one, at_hand)
            if (
                named is not None
                and publisher.is_met_by(named.signers)
                and publisher.may_vouch(one.body.fleet, one.signed_by)
            ):
                yield one

    def _at_hand(self, one: Freshness, at_hand: Callable[[str], Manifest | None]) -> Manifest | None:
        named = at_hand(one.body.head_digest) or self._named.get(one.body.head_digest)
        if named is None or (named.channel, named.arch) != self.pair:
            return None
        return named if named.manifest_version == one.body.head_version else None

    def named(self, one: Freshness) -> Manifest | None:
        """The manifest that a statement names, where it is at hand and not offered."""
        return self._named.get(one.body.head_digest)

    def _counts(self, yank: Yank, policy: Policy) -> bool:
        publisher = policy.publisher_for(*self.pair)
        return publisher is not None and publisher.may_yank(yank.body.fleet, yank.signed_by)
