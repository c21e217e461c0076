"""The trust documents that a node tells: what it keeps of chains, and what it believes of statements and yanks.

Asked by peers (`serving.heads`), by HTTP clients (`gateway.trusting`) and by the node itself, before it announces them.
Every document goes out as the bytes in which it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import dropwhile, takewhile
from typing import Final

from p2pboot.core.trust import Pair
from p2pboot.core.trustdocs.chain import claims_version, without_gaps
from p2pboot.core.trustdocs.rootreader import decode_root
from p2pboot.protocol.messages import MAX_DOCUMENTS_BYTES
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store

MAX_PAIRS: Final = 512
"""Channels and archs whose documents are asked for and listened to: what one publisher may have, several times."""


class OfferedDocuments:
    """A `serving.heads.Documents`; blocks on the disk, any thread.

    All methods raise StoreError or MachineError where the store can not be read.

    Args:
        store: where they are.
        catalogue: of the same store; its trust says which of them count.
        followed: the channels and archs that the operator wants, whether anything of them is here or not.
    """

    def __init__(
        self, store: Store, catalogue: Catalogue, followed: Callable[[], Iterable[Pair]] = tuple
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._followed = followed

    def roots(self, fleet: str, after: int = 0) -> list[bytes]:
        """The roots of a fleet above a version, ascending; no more than about what one reply holds.

        They follow each other without a gap: who names a version gets the next one first, or nothing, and who names
        none gets the part in which the root lies that he names. (Who was given later files may lack some between.)

        Args:
            fleet: the digest of version 1, or of any version that is here.
            after: the version; 0 for all.
        """
        found = self._store.documents.roots(fleet, after, max_bytes=MAX_DOCUMENTS_BYTES)
        whole = takewhile(lambda part: claims_version(part[0]) is not None, without_gaps(found))
        parts = list(whole)  # up to what the disk changed
        if after:
            return parts[0] if parts and claims_version(parts[0][0]) == after + 1 else []
        named = (part for part in parts if any(decode_root(raw).digest == fleet for raw in part))
        return next(named, parts[-1] if parts else [])

    def freshness(self, channel: str, arch: str) -> list[bytes]:
        """The newest statement that is believed, if the manifest that it names is here."""
        statement = self._catalogue.statement(channel, arch)
        if statement is None or not self._catalogue.has_trusted(statement.pair, statement.body.head_digest):
            return []
        return [statement.raw]

    def yanks(self, channel: str, arch: str, after: str | None = None) -> list[bytes]:
        """The yanks of a channel and arch that count now, the newest first.

        Args:
            channel: its yanks.
            arch: and of this (canonical) one.
            after: only those behind the yank of this content; none where that does not count here. None for all.
        """
        counting = {yank.raw: content for content, yank in self._catalogue.yanks(channel, arch).items()}
        publisher = self._catalogue.trust.publisher_for(channel, arch)
        if not counting or publisher is None or publisher.fleet is None:
            return []
        kept = self._store.documents.yanks(publisher.fleet, channel, arch)
        found = [raw for raw in kept if raw in counting]
        if after is None:
            return found
        return list(dropwhile(lambda raw: counting[raw] != after, found))[1:]

    def pairs(self) -> list[Pair]:
        """Of which channels and archs statements and yanks matter here: what is followed, published or known."""
        trust = self._catalogue.trust
        wanted = {*self._followed(), *trust.own}
        known = {row.pair for row in self._store.manifests.known()} | {
            row.pair for row in self._store.manifests.heads()
        }
        wanted |= {pair for pair in known if trust.publisher_for(*pair) is not None}
        return sorted(wanted)[:MAX_PAIRS]
