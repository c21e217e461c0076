"""The trust documents of a state that count now: statements and yanks, read as often as somebody asks.

The disk may have changed them and the trust may have, so each is judged whenever it is read. That its signatures are
good is known by the digest of its bytes and remembered: what is offered is asked for with every request.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Final, NamedTuple

from cachetools import LRUCache

from p2pboot.core.manifest import Candidate, content_digest
from p2pboot.core.names import base_channel
from p2pboot.core.policy import Publisher
from p2pboot.core.trust import Pair, Trust
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.trustdocs.yank import Yank, YankBody
from p2pboot.errors import Malformed, SignatureError
from p2pboot.store.trustdocs import TrustDocuments

_REMEMBERED: Final = 256  # documents: of a large fleet one a pair; a statement has 4 KiB
_REMEMBERED_YANKS: Final = 8192
"""Yanks that were found good: those of 128 channels and archs, as many as two publishers may make a mirror follow.
Whoever has stolen a key may fill all of them with 64 KiB each, of which each takes 20 ms to check. What a yank says is
kept, a KiB or two, and not its bytes."""

_statement = lru_cache(_REMEMBERED)(Freshness.parse)


class _Said(NamedTuple):
    """What a yank says whose signatures are good."""

    digest: str
    signed_by: tuple[str, ...]
    body: YankBody


_good_yanks: LRUCache[bytes, _Said] = LRUCache(_REMEMBERED_YANKS)
_looking_up = threading.Lock()


def _yank(raw: bytes) -> Yank:
    """Read a yank that is kept here; raises as `Yank.parse` does."""
    key = hashlib.sha256(raw).digest()
    with _looking_up:
        said = _good_yanks.get(key)
    if said is not None:
        return Yank(raw=raw, digest=said.digest, signed_by=said.signed_by, body=said.body)
    yank = Yank.parse(raw)
    with _looking_up:
        _good_yanks[key] = _Said(yank.digest, yank.signed_by, yank.body)
    return yank


@lru_cache(_REMEMBERED)
def content_of(raw: bytes) -> str:
    """The digest of what a manifest that is kept here brings; "" where the disk damaged it."""
    try:
        return content_digest(Candidate.decode(raw).claims)
    except Malformed:
        return ""


def statement_of(documents: TrustDocuments, pair: Pair, publisher: Publisher | None) -> Freshness | None:
    """The newest freshness statement of a channel and arch whose signers have a say now; blocking.

    Args:
        documents: of the state.
        pair: its channel and arch.
        publisher: trusted for it; None for nobody.
    """
    if publisher is None or publisher.fleet is None:
        return None
    raw = documents.statement(publisher.fleet, *pair)
    with suppress(Malformed, SignatureError):  # the disk changed it: it comes again
        statement = None if raw is None else _statement(raw)
        if (
            statement is not None
            and statement.pair == pair
            and publisher.may_vouch(statement.body.fleet, statement.signed_by)
        ):
            return statement
    return None


def statements(documents: TrustDocuments, trust: Trust) -> Iterator[Freshness]:
    """All that are evidence of what time it is, the newest first: of those who have a say now, and not this machine's.

    Blocking; each is looked at only when it is asked for.
    """
    for raw in documents.statements(newest_first=True):
        with suppress(Malformed, SignatureError):
            statement = _statement(raw)
            if trust.tells_freshness(*statement.pair, statement.body.fleet, statement.signed_by):
                yield statement


def yank_counts(raw: bytes, publisher: Publisher) -> bool:
    """Whether a yank that is kept of a publisher's fleet still counts; not where the disk changed it."""
    with suppress(Malformed, SignatureError):
        yank = _yank(raw)
        return publisher.may_yank(yank.body.fleet, yank.signed_by)
    return False


def may_have_yanks(documents: TrustDocuments, pair: Pair, publisher: Publisher | None) -> bool:
    """Whether there may be yanks that count for a channel and arch; as quick as can be. Arguments as for `yank_of`."""
    if publisher is None or publisher.fleet is None:
        return False
    return any(documents.has_yanks(publisher.fleet, name, pair[1]) for name in _channels(pair))


def yank_of(documents: TrustDocuments, pair: Pair, publisher: Publisher | None, content: str) -> Yank | None:
    """The yank of one content that counts now for a channel and arch; blocking.

    Whatever else was yanked costs nothing: that is asked for each manifest, whenever anybody looks.

    Args:
        documents: of the state.
        pair: its channel and arch.
        publisher: trusted for it; None for nobody.
        content: what a manifest brings.
    """
    if publisher is None or publisher.fleet is None:
        return None
    for name in _channels(pair):
        raw = documents.yank(publisher.fleet, name, pair[1], content)
        yank = None if raw is None else _counting(raw, (name, pair[1]), publisher)
        if yank is not None and yank.body.content == content:
            return yank
    return None


def yanks_of(documents: TrustDocuments, pair: Pair, publisher: Publisher | None) -> dict[str, Yank]:
    """The yanks that count now for a channel and arch, by content; those of a channel count for its roll-outs.

    Arguments are those of `statement_of`; blocking.
    """
    found: dict[str, Yank] = {}
    if publisher is None or publisher.fleet is None:
        return found
    for name in _channels(pair):
        for raw in documents.yanks(publisher.fleet, name, pair[1]):
            yank = _counting(raw, (name, pair[1]), publisher)
            if yank is not None:
                found[yank.body.content] = yank
    return found


def _channels(pair: Pair) -> tuple[str, ...]:
    """Whose yanks count for a channel: its own, and of a roll-out those of where it goes."""
    channel = pair[0]
    into = base_channel(channel)
    return (channel,) if into == channel else (channel, into)


def _counting(raw: bytes, pair: Pair, publisher: Publisher) -> Yank | None:
    with suppress(Malformed, SignatureError):
        yank = _yank(raw)
        is_of_it = yank.pair == pair  # or who had the disk put it here
        if is_of_it and publisher.may_yank(yank.body.fleet, yank.signed_by):
            return yank
    return None
