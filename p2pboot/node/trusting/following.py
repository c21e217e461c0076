"""Sync of trust documents: roots before anything else of a round, statements and yanks after the manifests.

Who has a new root judges manifests by it, and a statement counts with the manifest that it names at hand.
The first document that no honest node sends ends the round and the connection, and for a while nothing more of trust is
asked of that peer: whoever carries can leave things out, and must not be able to do more.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import trio
from cachetools import LRUCache

from p2pboot.core.events import Event
from p2pboot.core.policy import TrustedRoot
from p2pboot.core.trust import Pair
from p2pboot.core.trustdocs.chain import MAX_CHAIN, MAX_CHAIN_BYTES, Chain
from p2pboot.core.trustdocs.freshness import decode_freshness
from p2pboot.core.trustdocs.rootreader import decode_root
from p2pboot.core.trustdocs.yank import MAX_YANKS
from p2pboot.errors import Malformed, P2PBootError, RemoteProtocolError, SignatureError
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.fetch.asking.yankpages import take_all_yanks
from p2pboot.node.trusting.gaps import Gaps
from p2pboot.node.trusting.offered import OfferedDocuments
from p2pboot.protocol.client import PeerRefused, ask_freshness, ask_roots
from p2pboot.protocol.messages import Status
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.trustgate import Fate, Judged, TrustGate
from p2pboot.transport.interface import Connection, Gossip, StreamReset

log = logging.getLogger(__name__)

DISTRUSTED_S: Final = 600.0
"""For how long who sent what no honest node sends, or much that leads nowhere, is asked for nothing of trust."""
LONG_WALK_BYTES: Final = 1024 * 1024
"""Of a chain that may well lack the root which is believed: a hundred versions take less."""
STATEMENTS_PER_REPLY: Final = 8
"""There is one of each fleet; more are not looked at."""
BYTES_PER_ROUND: Final = 4 * 1024 * 1024
"""Of statements and yanks together; what one peer sends beyond has to wait. A hundred pairs take a few hundred KiB."""
HELD_BYTES: Final = 2 * MAX_CHAIN_BYTES
"""Of all walks together that have not come to the root which is believed: each holds what it was given until then."""
POKE_S: Final = 10.0
"""Between two rounds that are begun because of what gossip brought: whoever sends it costs no more."""
_REMEMBERED: Final = 256
_COUNTING: Final = frozenset({Fate.NEWS, Fate.KNOWN, Fate.OLDER})
"""Of a yank whose signers have a say: it is news, here already, or the content is yanked by another one."""


class Liar(RemoteProtocolError):
    """The peer sent a trust document that no honest node sends; the message says what is wrong with it."""


class Following:
    """Asks peers for roots, freshness statements and yanks, in the rounds of `node.syncing`.

    Args:
        transport: the node's network.
        gate: by which they get in.
        catalogue: of the same store.
        documents: what is told already, and of which channels and archs.
        poisoned: is told who sent what no honest node sends, and what it was.
        again: begins a round with every peer.
    """

    def __init__(
        self,
        transport: Gossip,
        gate: TrustGate,
        catalogue: Catalogue,
        documents: OfferedDocuments,
        *,
        poisoned: Callable[[str, str], None],
        again: Callable[[], None] = lambda: None,
    ) -> None:
        self._transport = transport
        self._gate = gate
        self._catalogue = catalogue
        self._documents = documents
        self._poisoned = poisoned
        self.again = again
        self._older: set[Connection] = set()  # whose ends know nothing of trust documents
        self._asked_history: dict[Connection, set[str]] = {}  # for what came before the first root here
        self._done: dict[
            Connection, int
        ] = {}  # of the pairs, as a round goes on; a whole one ends where it began
        self._distrusted: LRUCache[str, float] = LRUCache(_REMEMBERED)  # peer id, until when
        self._early: LRUCache[str, Pair] = LRUCache(_REMEMBERED)  # manifests that statements wait for
        self.gaps = Gaps(catalogue)
        self._held_bytes = 0
        self._poked_at = float("-inf")
        self._said: LRUCache[str, None] = LRUCache(_REMEMBERED)

    # -- the parts of a round ----------------------------------------------------------------------------------------

    async def ask_roots(self, requests: RequestStream) -> None:
        """Ask a peer for what comes after the roots in force, of each fleet.

        Raises:
            Liar: it sent what does not follow; it is hung up on.
            RemoteProtocolError: see `RequestStream.ask`.
        """
        for trusted in self._catalogue.trust.roots:
            if self._may_ask(requests.connection):
                await self._asking(requests, partial(self._walk, requests, trusted))

    async def ask_statements(self, requests: RequestStream) -> None:
        """Ask a peer for the statements and yanks of all that matters here; raises as `ask_roots` does."""
        if not self._may_ask(requests.connection):
            return
        size = 0
        pairs = await trio.to_thread.run_sync(self._documents.pairs)
        # A round that was cut short, by its time or by its bytes, is gone on with in the next one.
        done = self._done.get(requests.connection, 0) % max(len(pairs), 1)
        for pair in pairs[done:] + pairs[:done]:
            self._done[requests.connection] = done = done + 1
            publisher = self._catalogue.trust.publisher_for(*pair)
            if publisher is None or publisher.fleet is None:
                continue
            if publisher.freshness is not None:
                size += await self._asking(requests, partial(self._ask_freshness, requests, pair))
            size += await self._asking(requests, partial(self._ask_yanks, requests, pair))
            if size > BYTES_PER_ROUND or not self._may_ask(requests.connection):
                return

    def ended(self, connection: Connection) -> None:
        """A connection is over: who comes again may have been brought up to date meanwhile."""
        self._older.discard(connection)
        self._asked_history.pop(connection, None)
        self._done.pop(connection, None)

    async def reconcile(self) -> None:
        """Ask again for the statements whose manifests have come."""
        come = await trio.to_thread.run_sync(self._which_have_come, list(self._early.items()))
        for digest in come:
            self._early.pop(digest, None)
        if come:
            self._transport.forget_seen()  # gossip may bring them again, too
            self.again()

    def _which_have_come(self, early: list[tuple[str, Pair]]) -> list[str]:
        return [digest for digest, pair in early if self._catalogue.has_trusted(pair, digest)]

    def poke(self) -> None:
        """Gossip brought what needs something before it: ask everybody, but not too often."""
        if trio.current_time() >= self._poked_at + POKE_S:
            self._poked_at = trio.current_time()
            self.again()

    async def wait_for_manifest(self, raw: bytes) -> None:
        """A statement came before its time; where its manifest is missing, it is asked for again once that is here."""
        try:
            body = decode_freshness(raw).claims
            if await trio.to_thread.run_sync(self._catalogue.has_trusted, body.pair, body.head_digest):
                return  # its date has not come
        except P2PBootError:
            return
        self._early[body.head_digest] = body.pair

    # -- one question ------------------------------------------------------------------------------------------------

    def _may_ask(self, connection: Connection) -> bool:
        until = self._distrusted.get(connection.peer_id, float("-inf"))
        return connection not in self._older and trio.current_time() >= until

    async def _asking(self, requests: RequestStream, ask: Callable[[], Awaitable[int]]) -> int:
        """Ask, and take the answer of a release that does not know the question for what it is: no fault.

        Returns:
            The bytes of the documents that came.
        """
        try:
            return await ask()
        except PeerRefused as error:
            if error.status is Status.BAD_REQUEST:
                self._older.add(requests.connection)
            elif error.status is Status.BUSY:
                raise
        except StreamReset:
            raise
        except RemoteProtocolError as error:
            await self._drop(requests.connection, error.message)
            raise
        return 0

    async def _drop(self, connection: Connection, what: str) -> None:
        self._poisoned(connection.peer_id, what)
        self._rest(connection)
        await self._transport.hang_up(connection)

    def _rest(self, connection: Connection) -> None:
        self._distrusted[connection.peer_id] = trio.current_time() + DISTRUSTED_S

    async def _walk(self, requests: RequestStream, trusted: TrustedRoot) -> int:
        """Walk one chain with one peer, page by page, until nothing more comes."""
        chain = trusted.chain
        name = trusted.fleet or trusted.anchor.digest
        is_history = self._lacks_history(trusted, requests.connection)
        newest = 0 if chain is None or is_history else chain.newest.version
        # The version that is known comes along: a peer that has another one is found out.
        after = max(newest - 1, 0)
        held: list[bytes] = []
        count = size = mine = 0
        try:
            while True:
                page = await requests.ask(ask_roots(name, after))
                if not page and newest > 1 and after == newest - 1:
                    page = await requests.ask(ask_roots(name, newest))  # who began there has nothing before
                if not page:
                    if size > LONG_WALK_BYTES and len(held) == count:
                        # It led nowhere. To look at it costs seconds, and whoever made it up has more of it.
                        self._rest(requests.connection)
                    return size
                count, size = count + len(page), size + sum(map(len, page))
                if count > MAX_CHAIN or size > MAX_CHAIN_BYTES:
                    raise Liar(f"more than {MAX_CHAIN} roots or {MAX_CHAIN_BYTES} bytes of them")
                # A root of many names takes 12 ms: not in the event loop.
                last, is_there = await trio.to_thread.run_sync(_ascending, page, after, trusted.anchor.digest)
                held += page
                judged: Judged | None = Judged(Fate.OLDER)
                # What came before the first root here can be believed when it leads there, and not a page of it.
                leads = chain is None or not is_history or last >= chain.roots[0].version
                if is_there or (chain is not None and leads):
                    judged = await self._take_roots(held, trusted, requests.peer_id)
                if judged is None:
                    return size
                if judged.lies or judged.fate is Fate.BAD:
                    raise Liar(f"a root that does not follow: {judged.why}")
                if judged.fate is Fate.OLDER:  # what is believed, or what was in force here once, comes later
                    self._held_bytes, mine = self._held_bytes + size - mine, size
                    if self._held_bytes > HELD_BYTES:
                        return size  # others walk as well; in the next round
                    after = last
                    continue
                if judged.fate not in (Fate.NEWS, Fate.KNOWN) or last <= newest:
                    return size  # the peer has what is known here, or something else
                chain, held, after = _in_force(self._catalogue, trusted), [], last
        finally:
            self._held_bytes -= mine

    def _lacks_history(self, trusted: TrustedRoot, connection: Connection) -> bool:
        """Whether to ask for all that there is: for what came before, once, or for what the fleet is called."""
        if trusted.chain is None or trusted.chain.roots[0].version == 1:
            return False
        asked = self._asked_history.setdefault(connection, set())
        lacks = trusted.fleet is None or trusted.anchor.digest not in asked
        asked.add(trusted.anchor.digest)
        return lacks

    async def _take_roots(self, raw: Sequence[bytes], trusted: TrustedRoot, peer_id: str) -> Judged | None:
        take = partial(self._gate.take_roots, raw, anchor=trusted.anchor.digest, source=peer_id)
        judged = await self.judged(take, "a root", peer_id)
        await self.note_gap(judged, raw[-1])
        return judged

    async def note_gap(self, judged: Judged | None, raw: bytes) -> None:
        """Remember a root, or the last of several, that came before its time: versions are missing in between."""
        if judged is not None and judged.fate is Fate.EARLY:
            await trio.to_thread.run_sync(self.gaps.note, raw, trio.current_time())

    async def _ask_freshness(self, requests: RequestStream, pair: Pair) -> int:
        known = set(await trio.to_thread.run_sync(self._documents.freshness, *pair))
        found = await requests.ask(ask_freshness(*pair))
        for raw in found[:STATEMENTS_PER_REPLY]:
            if raw not in known:
                take = partial(self._gate.take_freshness, raw, pair=pair, source=requests.peer_id)
                judged = await self.judged(take, "a freshness statement", requests.peer_id)
                if judged is not None and judged.fate is Fate.EARLY:
                    await self.wait_for_manifest(raw)
                _check(judged, "a freshness statement")
        return sum(map(len, found))

    async def _ask_yanks(self, requests: RequestStream, pair: Pair) -> int:
        known = set(await trio.to_thread.run_sync(self._documents.yanks, *pair))
        if len(known) >= MAX_YANKS:
            return 0  # nobody takes more

        async def take(page: Sequence[bytes]) -> bool:
            counts = False
            for raw in page:
                fate = Fate.KNOWN if raw in known else await self._take_yank(raw, pair, requests.peer_id)
                counts = counts or fate in _COUNTING
            return counts

        return await take_all_yanks(requests, pair, take)

    async def _take_yank(self, raw: bytes, pair: Pair, peer_id: str) -> Fate | None:
        take = partial(self._gate.take_yank, raw, pair=pair, source=peer_id)
        judged = await self.judged(take, "a yank", peer_id)
        _check(judged, "a yank")
        return None if judged is None else judged.fate

    async def judged(self, take: Callable[[], Judged], what: str, peer_id: str) -> Judged | None:
        """Have the gate judge something in a thread; None where this node's own disk or settings do not let it."""
        try:
            return await trio.to_thread.run_sync(take)
        except P2PBootError as error:
            if error.message not in self._said:  # each peer brings it, in each round
                self._said[error.message] = None
                log.error(
                    "%s can not be taken: %s",
                    what,
                    error,
                    extra=Event.TASK_FAILED(task=f"take {what}", peer=peer_id),
                )
            return None


def _check(judged: Judged | None, what: str) -> None:
    if judged is not None and judged.fate is Fate.BAD:
        raise Liar(f"{what} that is none: {judged.why}")


def _in_force(catalogue: Catalogue, trusted: TrustedRoot) -> Chain | None:
    found = (one.chain for one in catalogue.trust.roots if one.anchor.digest == trusted.anchor.digest)
    return next(found, None)


def _ascending(page: Sequence[bytes], after: int, digest: str) -> tuple[int, bool]:
    """See that each root of a page is the next one: nothing else is looked at any further.

    Returns:
        The version of the last; and whether one has a digest, whoever signed it.
    """
    version, is_there = after, False
    for index, raw in enumerate(page):
        try:
            one = decode_root(raw)
            found = one.claims.version
        except (Malformed, SignatureError) as error:
            raise Liar(f"a root that is none: {error.message}") from None
        if found != version + 1 and (index or found <= after):
            raise Liar(f"root version {found} after version {version}")
        version, is_there = found, is_there or one.digest == digest
    return version, is_there
