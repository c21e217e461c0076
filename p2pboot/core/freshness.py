"""How old what is offered may be: the check of a manifest against the newest freshness statement. Pure.

A statement never makes anybody take a manifest: trust, expiry, rollback, floor and yank are judged beside it, and all
of them must pass.
"""

from __future__ import annotations

from typing import Final

from p2pboot.core.amounts import duration_text
from p2pboot.core.clock import Clock
from p2pboot.core.dataclass import dataclass
from p2pboot.core.rules import Numbered, Objection
from p2pboot.core.timestamps import format_time
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.trustdocs.rootbody import FreshnessRule
from p2pboot.core.verdict import Check, failed, noted, passed, skipped

NAME: Final = "freshness"
_ELSEWHERE: Final = (
    "look for a peer that has heard of its publisher lately, or take it all the same: --accept-stale"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for beside the rule.

    Args:
        statement: the newest one that is believed; None where none is known.
        accept_stale: whether what is too old is taken all the same.
        require_clock: whether nothing is taken while the clock can not be believed.
        applies: False for a node that takes something in: what it offers is judged, and a statement counts only where
            the manifest is that it names.
    """

    statement: Freshness | None = None
    accept_stale: bool = False
    require_clock: bool = False
    applies: bool = True


def supersedes(new: Freshness, old: Freshness | None) -> bool:
    """Whether a statement counts in place of another of its channel and arch: the later one, however they came.

    Of two of one second the one with the lower digest, so that everybody who has heard of both has the same.
    """
    if old is None:
        return True
    if new.body.created_at != old.body.created_at:
        return new.body.created_at > old.body.created_at
    return new.digest < old.digest


def contradict(one: Freshness, other: Freshness, root_version: int | None = None) -> bool:
    """Whether two statements of one fleet, channel and arch that one key signed can not both be honest.

    They are of one second, or the later one lowers the minimum, which only a newer root can make right.

    Args:
        one: a statement.
        other: another one.
        root_version: that of the root in force: nothing later excuses anything, since whoever signs can name any. None
            where it is not known.
    """
    a, b = sorted((one.body, other.body), key=lambda body: body.created_at)
    if (a.fleet, a.pair) != (b.fleet, b.pair) or one.digest == other.digest:
        return False
    if not set(one.signed_by) & set(other.signed_by):
        return False
    by = b.root_version if root_version is None else min(b.root_version, root_version)
    return a.created_at == b.created_at or (b.minimum < a.minimum and by <= a.root_version)


def is_ahead(statement: Freshness, clock: Clock) -> bool:
    """Whether a statement is dated later than a clock that can be believed allows."""
    return clock.is_ahead(statement.body.created_at)


def paused_since(statement: Freshness | None) -> int | None:
    """Since when a roll-out is paused as a statement has it, unix seconds; None while it goes on, or nobody said."""
    return None if statement is None else statement.body.paused_since


def is_overdue(statement: Freshness, clock: Clock) -> bool:
    """Whether a statement should have been renewed by now; never by a clock that can not be believed."""
    return clock.trusted and clock.now >= statement.body.valid_until


def check_freshness_of(manifest: Numbered, rule: FreshnessRule | None, asked: Asked, clock: Clock) -> Check:
    """Judge how old a manifest may be.

    Args:
        manifest: trusted.
        rule: of its publisher; None where nobody is named who says what is new.
        asked: the newest statement, and what the operator takes all the same.
        clock: the moment to judge by.
    """
    if asked.require_clock and not clock.trusted:
        return failed(
            NAME,
            "this machine's clock can not be believed, so nobody can tell how old anything is",
            "set this machine's clock, or leave --require-clock out",
        )
    if not asked.applies:
        return skipped(NAME, "judged where it is offered or used")
    if rule is None:
        return skipped(NAME, "nobody is named who says how old the newest manifest is")
    statement, lack = asked.statement, _lack(manifest, rule, asked.statement, clock)
    if lack is not None:
        if lack.is_refused and not asked.accept_stale:
            return lack.objection.failed
        return noted(NAME, lack.found + lack.moment + _accepted(asked, needed=lack.is_refused))
    assert statement is not None  # noqa: S101 - else it would be what is lacking
    return _standing(manifest, statement, clock)


def too_old(
    manifest: Numbered, rule: FreshnessRule | None, statement: Freshness | None, clock: Clock
) -> Objection | None:
    """What stands against a manifest by how old it may be; None where nothing does, or nobody says what is new.

    Arguments are those of `check_freshness_of`; `statement` is the newest that is believed.
    """
    lack = None if rule is None else _lack(manifest, rule, statement, clock)
    return lack.objection if lack is not None and lack.is_refused else None


@dataclass(frozen=True, slots=True)
class _Lack:
    """What is wrong with how old a manifest is.

    Args:
        found: one line, which stays true.
        is_refused: whether that is to be refused.
        moment: what only the moment adds.
        why: that it is refused, where what was found does not say so.
    """

    found: str
    is_refused: bool
    moment: str = ""
    why: str = ""

    @property
    def objection(self) -> Objection:
        return Objection(NAME, self.found + self.why, _ELSEWHERE, self.moment)


def _lack(manifest: Numbered, rule: FreshnessRule, statement: Freshness | None, clock: Clock) -> _Lack | None:
    if statement is None or statement.pair != (manifest.channel, manifest.arch):
        return _unvouched("nobody showed a statement of what the newest manifest is", rule)
    body, number = statement.body, manifest.manifest_version
    if (
        number == body.head_version and manifest.digest != body.head_digest
    ):  # one of the two was not published
        return _unvouched(f"the newest statement is of another manifest with version {number}", rule)
    said = f"the newest statement is of {format_time(body.created_at)}"
    if number < body.minimum:
        return _Lack(f"{said}, and takes nothing below version {body.minimum}; this is {number}", True)
    if clock.trusted and _age_s(statement, clock) > rule.max_age_s:
        moment = f"; that is {_ago(statement, clock)}"
        return _Lack(f"{said}; at most {duration_text(rule.max_age_s)} are taken", rule.required, moment)
    return None


def _unvouched(found: str, rule: FreshnessRule) -> _Lack:
    return _Lack(found, rule.required, why=", and one is required")


def _standing(manifest: Numbered, statement: Freshness, clock: Clock) -> Check:
    """Say how old what may be taken is."""
    body = statement.body
    said = f"the newest statement is of {format_time(body.created_at)}"
    if not clock.trusted:
        return noted(
            NAME, f"{said}; this machine's clock can not be believed, so how old that is nobody can tell"
        )
    said = f"{said}, {_ago(statement, clock)}"
    if is_overdue(statement, clock):
        return noted(NAME, f"{said}; it was to be renewed by {format_time(body.valid_until)}")
    behind = body.head_version - manifest.manifest_version
    if behind > 0:
        return noted(NAME, f"{said}; the newest is version {body.head_version}, and mirrors are being filled")
    return passed(NAME, said)


def _age_s(statement: Freshness, clock: Clock) -> int:
    return max(clock.now - statement.body.created_at, 0)


def _ago(statement: Freshness, clock: Clock) -> str:
    return f"{duration_text(_age_s(statement, clock))} ago by this machine's clock"


def _accepted(asked: Asked, *, needed: bool) -> str:
    return "; taken all the same, as was asked for (--accept-stale)" if needed and asked.accept_stale else ""
