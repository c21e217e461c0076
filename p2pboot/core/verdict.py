"""The verdict on a manifest: every check that was made, with its outcome, in a fixed order.

Only the result is here; :mod:`p2pboot.core.verify` makes it. A person reads the first failed check and its
remedy, a script finds each check under its name (:data:`CHECKS`).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Manifest
from p2pboot.core.manifest.facts import facts
from p2pboot.errors import ManifestError

CHECKS: Final = {
    "structure": "malformed",
    "signatures": "signature",
    "canonical": "malformed",
    "root": "root_expired",
    "trust": "untrusted",
    "channel": "channel",
    "arch": "arch",
    "equivocation": "equivocation",
    "rollback": "rollback",
    "floor": "floor",
    "yank": "yanked",
    "min_version": "min_version",
    "clock": None,
    "created_at": "not_yet_valid",
    "expiry": "expired",
    "lifetime": "lifetime",
    "freshness": "stale",
    "provider": None,
    "detached": "detached",
}
"""Every check in order, with the word that is the verdict's reason when it is the first to fail.

Equivocation stands before what time alone makes wrong: it is evidence, and must not hide behind "expired".
"""

_STATED: Final = (
    "version",
    "manifest_version",
    "channel",
    "arch",
    "created_at",
    "expires_at",
    "signers",
    "provider",
    "artifacts",
)


class Outcome(enum.StrEnum):
    """How a check came out."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"  # it does not apply, or a failure before it made it meaningless
    NOTED = "noted"  # nothing wrong, but a person should know


@dataclass(frozen=True, slots=True)
class Check:
    """One question that was asked.

    Args:
        name: a key of :data:`CHECKS`.
        outcome: how it came out.
        detail: what was found, one line for a person.
        remedy: what to do about a failure, one line; None otherwise.
    """

    name: str
    outcome: Outcome
    detail: str
    remedy: str | None = None


def passed(name: str, detail: str) -> Check:
    """A check that came out well."""
    return Check(name, Outcome.PASSED, detail)


def failed(name: str, detail: str, remedy: str) -> Check:
    """A check that came out badly, and what to do about it."""
    return Check(name, Outcome.FAILED, detail, remedy)


def skipped(name: str, detail: str) -> Check:
    """A check that does not apply, and why."""
    return Check(name, Outcome.SKIPPED, detail)


def noted(name: str, detail: str, remedy: str | None = None) -> Check:
    """A check that finds nothing wrong, and something that a person should know."""
    return Check(name, Outcome.NOTED, detail, remedy)


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks of one manifest.

    Args:
        checks: one for each of :data:`CHECKS`, in that order.
        manifest: what was judged, if it is a manifest at all, taken or not: use what
            :meth:`raise_if_refused` returns where only a good one may go on.
    """

    checks: tuple[Check, ...]
    manifest: Manifest | None

    @property
    def ok(self) -> bool:
        """Whether it may be used: no check failed."""
        return self.failed is None

    @property
    def failed(self) -> Check | None:
        """The first check that failed."""
        return next((check for check in self.checks if check.outcome is Outcome.FAILED), None)

    @property
    def reason(self) -> str | None:
        """A stable word for why it is refused (a value of :data:`CHECKS`); None if it is taken."""
        failed = self.failed
        return None if failed is None else CHECKS[failed.name]

    @property
    def digest(self) -> str | None:
        """The manifest digest, hex; None if it is no manifest."""
        return None if self.manifest is None else self.manifest.digest

    def raise_if_refused(self) -> Manifest:
        """Return the manifest if it may be used.

        Raises:
            Refused: it may not; carries this verdict.
        """
        if self.failed is not None or self.manifest is None:
            raise Refused(self)
        return self.manifest

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as plain values for a JSON document."""
        manifest = self.manifest
        return {
            "ok": self.ok,
            "reason": self.reason,
            "digest": self.digest,
            "manifest": None if manifest is None else facts(manifest, *_STATED),
            "checks": [asdict(check) for check in self.checks],
        }


class Refused(ManifestError):
    """A manifest that may not be used; says why in one line, and carries the whole verdict.

    Args:
        verdict: with a failed check.
        aside: what belongs beside it, for people; "" for nothing.
        details: of the aside, for programs.
    """

    def __init__(
        self, verdict: Verdict, *, aside: str = "", details: Mapping[str, object] | None = None
    ) -> None:
        failed = [check for check in verdict.checks if check.outcome is Outcome.FAILED]
        also = f" (also failed: {', '.join(check.name for check in failed[1:])})" if failed[1:] else ""
        beside = f" ({aside})" if aside else ""
        super().__init__(
            f"manifest refused: {failed[0].detail}{also}{beside}", remedy=failed[0].remedy, details=details
        )
        self.verdict = verdict
