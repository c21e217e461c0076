"""Gossip of trust documents: joins their topics, judges what comes, and says what is in force here.

One topic for the roots of each fleet, one for the freshness statements and one for the yanks of each channel and arch.
When and how often something is announced is `node.announcing`'s, as it is for manifests.
"""

from __future__ import annotations

from functools import partial
from typing import Final, NamedTuple

import trio

from p2pboot.core.trust import Pair
from p2pboot.node.announcing import Announcer
from p2pboot.node.reconciling import Changes
from p2pboot.node.trusting.following import Following
from p2pboot.node.trusting.offered import OfferedDocuments
from p2pboot.protocol.messages import freshness_topic, roots_topic, yanks_topic
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.trustgate import Fate, Judged, TrustGate
from p2pboot.transport.interface import Forwarding, Gossip

ANNOUNCED_YANKS: Final = 16
"""Of one channel and arch, the newest: who missed more asks for them by sync."""

MAX_TOPICS: Final = 128
"""Of trust documents together: peers keep no more than 256 of one peer, and those of manifests are among them. What is
beyond comes by sync."""

ROOTS: Final = "roots"
FRESHNESS: Final = "freshness"
YANKS: Final = "yanks"

_PASSED_ON: Final = frozenset(
    {Fate.NEWS, Fate.KNOWN}
)  # also the same again, or announcements die at the first hop


class Subject(NamedTuple):
    """What one topic is about.

    Args:
        kind: of the documents.
        fleet: as its documents call it; of roots whose fleet nobody said yet, the digest that the operator gave.
        pair: the channel and arch; None of roots.
    """

    kind: str
    fleet: str
    pair: Pair | None = None

    @property
    def topic(self) -> str:
        """The topic's name."""
        if self.pair is None:
            return roots_topic(self.fleet)
        name = freshness_topic if self.kind == FRESHNESS else yanks_topic
        return name(self.fleet, *self.pair)


class Carrying:
    """Speaks and listens on the topics of trust documents.

    Args:
        transport: the node's network.
        gate: by which documents get in.
        catalogue: of the same store.
        documents: what is told.
        following: asks for what comes before what gossip brought.
        interval_s: seconds between two announcements of one document; None where there is no gossip.
    """

    def __init__(
        self,
        transport: Gossip,
        gate: TrustGate,
        catalogue: Catalogue,
        documents: OfferedDocuments,
        following: Following,
        *,
        interval_s: float | None,
    ) -> None:
        self._gate = gate
        self._catalogue = catalogue
        self._documents = documents
        self._following = following
        self._subjects: set[Subject] = set()  # as of the last look
        self._announcer: Announcer[Subject] | None = None
        if interval_s is not None:
            self._announcer = Announcer(
                transport,
                topic=lambda subject: subject.topic,
                hear=self._hear,
                heads=self._tell,
                topics=lambda held: held | self._subjects,
                interval_s=interval_s,
            )

    async def reconcile(self) -> None:
        """Keep, listen for, announce and ask for what matters now.

        Raises:
            P2PBootError: what is held can not be read or written.
        """
        await trio.to_thread.run_sync(self._gate.keep_roots)
        if self._announcer is not None:
            await self._announcer.reconcile()
        await self._following.reconcile()

    async def run(self, changes: Changes) -> None:
        """Do so after every change, and repeat announcements, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(changes.follow, self.reconcile, "trust documents are not passed on")
            if self._announcer is not None:
                nursery.start_soon(self._announcer.run)

    def _tell(self) -> list[tuple[Subject, bytes]]:
        """What is in force here, the roots first; blocking. Also looks which topics matter now."""
        trust = self._catalogue.trust
        told: list[tuple[Subject, bytes]] = []
        subjects: set[Subject] = set()
        for trusted in trust.roots:
            subject = Subject(ROOTS, trusted.fleet or trusted.anchor.digest)
            subjects.add(subject)
            if trusted.newest is not None:
                told.append((subject, trusted.newest.raw))
        for pair in self._documents.pairs():
            publisher = trust.publisher_for(*pair)
            if publisher is None or publisher.fleet is None:
                continue
            if len(subjects) + 2 > MAX_TOPICS:
                break
            yanks = Subject(YANKS, publisher.fleet, pair)
            subjects.add(yanks)
            told += [(yanks, raw) for raw in self._documents.yanks(*pair)[:ANNOUNCED_YANKS]]
            if publisher.freshness is not None:
                freshness = Subject(FRESHNESS, publisher.fleet, pair)
                subjects.add(freshness)
                told += [(freshness, raw) for raw in self._documents.freshness(*pair)]
        self._subjects = subjects
        return told

    async def _hear(self, subject: Subject, peer_id: str, raw: bytes) -> Forwarding:
        judged = await self._judge(subject, peer_id, raw)
        if judged is None:  # the own disk's fault
            return Forwarding.IGNORE
        if judged.fate is Fate.BAD:
            return Forwarding.REJECT
        return Forwarding.ACCEPT if judged.fate in _PASSED_ON else Forwarding.IGNORE

    async def _judge(self, subject: Subject, peer_id: str, raw: bytes) -> Judged | None:
        following = self._following
        if subject.pair is None:
            anchor = self._anchor(subject.fleet)
            take = partial(self._gate.take_roots, [raw], anchor=anchor, source=peer_id)
            judged = await following.judged(take, "a root", peer_id)
            await following.note_gap(judged, raw)
            if judged is not None and judged.fate in (Fate.EARLY, Fate.UNTRUSTED):
                following.poke()  # versions are missing in between
            if judged is not None and judged.fate is Fate.KNOWN and not self._is_in_force(raw):
                # Older, or the same with other signatures, of which anybody makes any number.
                return Judged(Fate.OLDER)
            return judged
        if subject.kind == YANKS:
            take = partial(self._gate.take_yank, raw, pair=subject.pair, source=peer_id)
            return await following.judged(take, "a yank", peer_id)
        take = partial(self._gate.take_freshness, raw, pair=subject.pair, source=peer_id)
        judged = await following.judged(take, "a freshness statement", peer_id)
        if judged is not None and judged.fate is Fate.EARLY:
            await following.wait_for_manifest(raw)
        return judged

    def _is_in_force(self, raw: bytes) -> bool:
        return any(one.newest is not None and one.newest.raw == raw for one in self._catalogue.trust.roots)

    def _anchor(self, fleet: str) -> str | None:
        """By which digest the operator named the root of a fleet."""
        found = (
            one.anchor.digest
            for one in self._catalogue.trust.roots
            if fleet in (one.fleet, one.anchor.digest)
        )
        return next(found, None)
