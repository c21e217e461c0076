"""Walks with peers from the roots that are believed to the newest ones: whom to believe, as far as anybody here knows.

Peers only carry. Each is asked for all that came after what this machine knew before the search, not after what others
just said: so two roots of one version show, whoever has them.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.policy import Policy, TrustedRoot
from p2pboot.core.trustdocs.chain import (
    MAX_CHAIN,
    MAX_CHAIN_BYTES,
    Chain,
    TwoRoots,
    claims_version,
    follow,
)
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootreader import decode_root
from p2pboot.errors import Malformed, RemoteProtocolError, SignatureError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.protocol.client import Query, ask_roots
from p2pboot.transport.interface import Connection

MAX_CONTRADICTIONS = 16
"""Kept of one search; one proves it."""


class BadRoots(RemoteProtocolError):
    """A peer sent what is no root, or one that does not follow from the one before."""


@dataclass(frozen=True, slots=True)
class Contradicted:
    """Two roots of one version that are signed well, the first of which counts here.

    Args:
        anchor: of the root that is believed, its digest.
        error: both of them.
        source: the peer that showed the second.
    """

    anchor: str
    error: TwoRoots
    source: str


class Roots:
    """The roots in force during one search. It only grows; nothing is written.

    Args:
        policy: whom the operator believes, with the roots that this machine remembers.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        """The policy with the newest roots that anybody has shown."""
        self.contradictions: list[Contradicted] = []
        """What contradicts what this machine remembered before."""
        self.undecided: Contradicted | None = None
        """Two of which nothing says which is the right one: that ended the search."""
        self._remembered = {one.anchor.digest: _known_before(one) for one in policy.roots}
        self._walked: dict[tuple[Connection, str], int] = {}
        self._lock = trio.Lock()

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to ask peers for."""
        return bool(self.policy.roots)

    @property
    def grown(self) -> tuple[tuple[TrustedRoot, Chain], ...]:
        """The roots that are newer, or better known, than what was remembered; with their chains."""
        found = ((one, one.chain) for one in self.policy.roots)
        return tuple(
            (one, chain)
            for one, chain in found
            if chain is not None and chain != self._remembered[one.anchor.digest][1]
        )

    def queries(self, connection: Connection) -> list[Query[tuple[bytes, ...]]]:
        """What to ask a peer first: one for each root."""
        anchors = (one.anchor.digest for one in self.policy.roots)
        return [ask_roots(self._fleet(anchor), self._after(connection, anchor)) for anchor in anchors]

    async def follow(self, requests: RequestStream, pages: Sequence[tuple[bytes, ...] | None]) -> bool:
        """Walk with one peer as far as it knows the way.

        Args:
            requests: with the peer.
            pages: its answers to `queries`; None where it has none.

        Returns:
            Whether another root is in force now, or the first one.

        Raises:
            TwoRoots: nothing says which of two is the right one.
            BadRoots: it sent what no honest peer does.
            PeerRefused, RemoteProtocolError: see `RequestStream.ask`.
        """
        before = self.policy
        for trusted, page in zip(before.roots, pages, strict=True):
            if page:
                await self._walk_with(requests, trusted.anchor.digest, page)
        return self.policy is not before

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        for key in [key for key in self._walked if key[0] == connection]:
            del self._walked[key]

    async def _walk_with(self, requests: RequestStream, anchor: str, page: tuple[bytes, ...]) -> None:
        after = self._after(requests.connection, anchor)
        count = size = 0
        unconnected: list[bytes] = []  # as long as they do not lead to what is believed
        while page:
            count, size = count + len(page), size + sum(map(len, page))
            if count > MAX_CHAIN or size > MAX_CHAIN_BYTES:
                raise BadRoots(
                    f"it sent more than {MAX_CHAIN} roots, or than {MAX_CHAIN_BYTES} bytes of them"
                )
            trusted, documents = self._trusted(anchor), list(page)
            if trusted.fleet is None:
                unconnected += page
                if await trio.to_thread.run_sync(_names, page, anchor):
                    documents = unconnected
                elif trusted.chain is None:
                    documents = []  # nothing to go on from yet
            if documents:
                await self._take(requests, anchor, documents)
            last = claims_version(page[-1])
            if last is None:
                raise BadRoots("it sent what is no root")
            if last <= after:
                return  # to ask for it again brings nothing else
            after = last
            if self._trusted(anchor).fleet is not None:
                unconnected.clear()
                self._walked[requests.connection, anchor] = after
            page = await requests.ask(ask_roots(self._fleet(anchor), after))

    async def _take(self, requests: RequestStream, anchor: str, documents: Sequence[bytes]) -> None:
        async with self._lock:
            trusted = self._trusted(anchor)
            try:
                # Up to 32 signatures of a thousand roots: not in the event loop.
                followed = await trio.to_thread.run_sync(follow, trusted.anchor, trusted.chain, documents)
            except TwoRoots as error:
                found = Contradicted(anchor, error, requests.peer_id)
                if not self._was_known(anchor, error.first):
                    self.undecided = found
                    raise
                if len(self.contradictions) < MAX_CONTRADICTIONS:
                    self.contradictions.append(found)
                return
            if followed.chain is not None and followed.chain != trusted.chain:
                self.policy = self.policy.with_chains({anchor: followed.chain})
            if followed.lie is not None:
                raise BadRoots(f"it sent a root that is none: {followed.lie.message}")

    def _was_known(self, anchor: str, root: Root) -> bool:
        """Whether a root counted before this search: what is remembered, and what the operator named."""
        return root.version <= self._remembered[anchor][0] or root.digest == anchor

    def _trusted(self, anchor: str) -> TrustedRoot:
        return next(one for one in self.policy.roots if one.anchor.digest == anchor)

    def _fleet(self, anchor: str) -> str:
        return self._trusted(anchor).fleet or anchor

    def _after(self, connection: Connection, anchor: str) -> int:
        return self._walked.get((connection, anchor), self._begins(anchor))

    def _begins(self, anchor: str) -> int:
        """After which version to ask: all from 1 on where it is not known what the fleet is called."""
        chain = self._remembered[anchor][1]
        return 0 if chain is None or chain.fleet is None else chain.newest.version


def _known_before(trusted: TrustedRoot) -> tuple[int, Chain | None]:
    return 0 if trusted.chain is None else trusted.chain.newest.version, trusted.chain


def _names(documents: Sequence[bytes], digest: str) -> bool:
    """Whether a root is among the documents; no signature is checked for that."""
    return any(_digest(raw) == digest for raw in documents)


def _digest(raw: bytes) -> str | None:
    try:
        return decode_root(raw).digest
    except (Malformed, SignatureError):
        return None
