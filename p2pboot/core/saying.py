"""Reads the freshness statements and yanks that count, and what time they make it: for who has no state."""

from __future__ import annotations

from p2pboot.core.clock import AcceptedTime, Clock, raised
from p2pboot.core.freshness import is_ahead
from p2pboot.core.policy import Policy, RootFacts
from p2pboot.core.trust import Pair
from p2pboot.core.trustdocs.freshness import Freshness, check_freshness, decode_freshness
from p2pboot.core.trustdocs.yank import Yank, check_yank, decode_yank
from p2pboot.errors import ManifestError, SignatureError

_HERE = ""
"""No state: what is read here is remembered nowhere."""


def read_statement(raw: bytes, policy: Policy, clock: Clock) -> Freshness:
    """Read a freshness statement that is to count.

    Raises:
        SignatureError: a signature is wrong, or nobody signed it who has a say.
        ManifestError: it is no statement, or dated later than this machine's clock.
    """
    found = decode_freshness(raw)
    publisher = policy.publisher_for(*found.claims.pair)
    if publisher is None or not publisher.may_vouch(found.claims.fleet, found.signers):
        raise SignatureError(
            f"the freshness statement of {'/'.join(found.claims.pair)} is not signed by who says here what is fresh",
            remedy="name who does: --freshness KEYID beside --trust, or the fleet's root: --root FILE",
        )
    statement = check_freshness(found)
    if is_ahead(statement, clock):
        raise ManifestError(
            f"the freshness statement of {'/'.join(statement.pair)} is dated later than this machine's clock",
            remedy="set this machine's clock; if it is right, the clock of who signed was ahead",
        )
    return statement


def read_yank(raw: bytes, policy: Policy) -> Yank:
    """Read a yank that is to count.

    Raises:
        SignatureError: a signature is wrong, or it lacks some of who may publish.
        Malformed: it is no yank.
    """
    found = decode_yank(raw)
    publisher = policy.publisher_for(*found.claims.pair)
    if publisher is None or not publisher.may_yank(found.claims.fleet, found.signers):
        raise SignatureError(
            f"the yank of {'/'.join(found.claims.pair)} is not signed by enough of who is trusted to publish there",
            remedy="get it from a node that took it, or have the others sign: p2pboot yank sign FILE --key PATH",
        )
    return check_yank(found)


def time_by(clock: Clock, policy: Policy, pair: Pair, statement: Freshness | None) -> Clock:
    """A moment that is no earlier than what is known to have been.

    By a clock that can be believed, nothing is from later than minutes ahead, and that tells clocks apart, not times.

    Args:
        clock: the moment before that was known.
        policy: whom to believe.
        pair: of what is judged.
        statement: the newest, by who has a say; None for none.
    """
    publisher = policy.publisher_for(*pair)
    root = None if publisher is None else publisher.root
    if root is not None:
        clock = _by_root(clock, root)
    if statement is None or clock.trusted:
        return clock
    until = None if root is None else root.expires_at
    at, signers = statement.body.created_at, statement.signed_by
    return raised(clock, AcceptedTime(at, *pair, signers, _HERE, until, "freshness statement"))


def time_by_roots(clock: Clock, policy: Policy) -> Clock:
    """A moment that is no earlier than any root that is believed.

    Args:
        clock: the moment before that was known.
        policy: whom to believe.
    """
    for publisher in policy.publishers:
        if publisher.root is not None:
            clock = _by_root(clock, publisher.root)
    return clock


def _by_root(clock: Clock, root: RootFacts) -> Clock:
    if clock.trusted and not clock.is_ahead(root.created_at):
        return clock
    kind = f"root, version {root.version},"
    return raised(clock, AcceptedTime(root.created_at, "", "", (), _HERE, root.expires_at, kind))
