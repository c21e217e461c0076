"""Freshness statements of a state, for who signs or looks at them: `p2pboot freshness`, of a running node or of none.

What is to be vouched for is told with all that a signer needs; the key stays with whoever asks. What he signed is taken
through the gate like anybody's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any

from p2pboot.core.policy import Publisher
from p2pboot.core.problems import Code, Problem
from p2pboot.core.timestamps import format_time
from p2pboot.core.trustdocs.freshness import MAX_FRESHNESS, Freshness
from p2pboot.errors import Malformed, SignatureError, UsageError
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.manifests import HeadRow
from p2pboot.store.offering import newest_known
from p2pboot.store.store import Store
from p2pboot.store.trustgate import Fate, TrustGate

SOURCE = "freshness sign"  # who brought what was signed by hand, for people

_LOST = (Code.PUBLISHER_UNREACHABLE, Code.NO_PEERS)


class StatementDesk:
    """Everything blocks; any thread. All methods raise StoreError or MachineError.

    Args:
        store: the state.
        catalogue: of the same store.
        gate: of the same store.
    """

    def __init__(self, store: Store, catalogue: Catalogue, gate: TrustGate) -> None:
        self._store = store
        self._catalogue = catalogue
        self._gate = gate

    def answer(self, request: Mapping[str, object], problems: Iterable[Problem] = ()) -> dict[str, Any]:
        """Do what a request on the control socket says: `do` is "list" or "enter".

        Args:
            request: it.
            problems: of the node.

        Raises:
            UsageError: it makes no sense, or the statement is not taken.
        """
        match request.get("do"):
            case "list":
                return self.listed(problems)
            case "enter":
                return self.enter(request.get("document"))
        raise UsageError(f"unknown operation {request.get('do')!r} on freshness statements")

    def listed(self, problems: Iterable[Problem] = ()) -> dict[str, Any]:
        """What there is to vouch for, and what was said of it last.

        Args:
            problems: of the node: whoever is cut off from the publisher does not know what is new.

        Returns:
            `clock` (`now`, `trusted`) and `pairs`: what `_pair` says of each.
        """
        clock = self._catalogue.clock()
        standing = tuple(problems)
        newest = newest_known(self._store, self._catalogue.trust, clock.now)
        return {
            "clock": {"now": clock.now, "trusted": clock.trusted},
            "pairs": [self._pair(row, standing) for _, row in sorted(newest.items())],
        }

    def enter(self, document: object) -> dict[str, Any]:
        """Take a statement that somebody signed.

        Args:
            document: base64 of it.

        Raises:
            UsageError: it is not taken, and why.
        """
        try:
            raw = base64.b64decode(str(document), validate=True)
        except (ValueError, binascii.Error):
            raise UsageError("document: must be base64") from None
        if len(raw) > MAX_FRESHNESS:
            raise UsageError(f"document: has more than {MAX_FRESHNESS} bytes")
        judged = self._gate.take_freshness(raw, source=SOURCE)
        if judged.fate not in (Fate.NEWS, Fate.KNOWN):
            why = judged.why or {Fate.OLDER: "there is a later one"}.get(judged.fate, judged.fate.value)
            raise UsageError(
                f"the statement is not taken: {why}",
                remedy="`p2pboot freshness show` says what is known; sign again by the clock as it is now",
            )
        return {"fate": judged.fate.value}

    def _pair(self, row: HeadRow, problems: tuple[Problem, ...]) -> dict[str, Any]:
        """One channel and arch: `head`, for whom it is (`fleet`, `root_version`), who may say it, what was said."""
        publisher = self._catalogue.trust.publisher_for(*row.pair)
        statement = self._catalogue.statement(*row.pair)
        return {
            "channel": row.channel,
            "arch": row.arch,
            "head": {
                "manifest_version": row.manifest_version,
                "digest": row.digest,
                "signers": list(row.signers),
            },
            **_rule(publisher),
            "statement": None if statement is None else base64.b64encode(statement.raw).decode(),
            "lost": next(
                (
                    one.text
                    for one in problems
                    if one.code in _LOST and one.subject in ("/".join(row.pair), "network")
                ),
                None,
            ),
        }


def _rule(publisher: Publisher | None) -> dict[str, Any]:
    rule = None if publisher is None else publisher.freshness
    return {
        "fleet": None if publisher is None else publisher.fleet,
        "root_version": 0 if publisher is None else publisher.root_version,
        "keys": [] if rule is None else list(rule.keys),
        "required": rule is not None and rule.required,
        "max_age_s": None if rule is None else rule.max_age_s,
    }


def described(statement: Freshness, now: int | None) -> dict[str, Any]:
    """A statement as plain values.

    Args:
        statement: it.
        now: unix seconds by a clock that can be believed; None: nobody can tell how old it is.
    """
    body = statement.body
    return {
        "channel": body.channel,
        "arch": body.arch,
        "fleet": body.fleet,
        "head": {"manifest_version": body.head_version, "digest": body.head_digest},
        **said_of(statement, now),
        "digest": statement.digest,
    }


def said_of(statement: Freshness, now: int | None) -> dict[str, Any]:
    """What every document that shows a statement has of it, beside what it is of; arguments as for `described`."""
    body = statement.body
    return {
        "root_version": body.root_version,
        "created_at": format_time(body.created_at),
        "valid_until": format_time(body.valid_until),
        "age_s": None if now is None else max(now - body.created_at, 0),
        "minimum": body.minimum,
        "paused_since": None if body.paused_since is None else format_time(body.paused_since),
        "signers": list(body.signers),
    }


def kept(store: Store) -> list[Freshness]:
    """The newest statement of every fleet, channel and arch that a state remembers, whoever is trusted now."""
    found = []
    for raw in store.documents.statements():
        try:
            found.append(Freshness.parse(raw))
        except (Malformed, SignatureError):  # the disk changed it
            continue
    return found
