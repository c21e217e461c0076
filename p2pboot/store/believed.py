"""The trust documents of a state that count now: statements and yanks, read as often as somebody asks.

The disk may have changed them and the trust may have, so each is judged whenever it is read. That its signatures are
good is known by its bytes and remembered: what is offered is asked for with every request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Final

from p2pboot.core.manifest import Candidate, content_digest
from p2pboot.core.names import base_channel
from p2pboot.core.policy import Publisher
from p2pboot.core.trust import Pair, Trust
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.trustdocs.yank import Yank
from p2pboot.errors import Malformed, SignatureError
from p2pboot.store.trustdocs import TrustDocuments

_REMEMBERED: Final = (
    256  # documents: two a pair of a large fleet; a statement has 4 KiB, a yank as a rule less
)

_statement = lru_cache(_REMEMBERED)(Freshness.parse)
_yank = lru_cache(_REMEMBERED)(Yank.parse)


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


def yanks_of(documents: TrustDocuments, pair: Pair, publisher: Publisher | None) -> dict[str, Yank]:
    """The yanks that count now for a channel and arch, by content; those of a channel count for its roll-outs.

    Arguments are those of `statement_of`; blocking.
    """
    found: dict[str, Yank] = {}
    if publisher is None or publisher.fleet is None:
        return found
    channel, arch = pair
    for name in {channel, base_channel(channel)}:
        for raw in documents.yanks(publisher.fleet, name, arch):
            with suppress(Malformed, SignatureError):
                yank = _yank(raw)
                is_of_it = yank.pair == (name, arch)  # or who had the disk put it here
                if is_of_it and publisher.may_yank(yank.body.fleet, yank.signed_by):
                    found[yank.body.content] = yank
    return found
