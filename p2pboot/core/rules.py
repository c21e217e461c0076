"""What stands against a trusted manifest by its root, the root's floor, a yank or its expiry: each rule once, pure.

Who takes a manifest (:mod:`.verify`) and who offers one (`store.offering`) ask the same, and say it in the same words.
How old it may be is the rule of :mod:`.freshness`, in the same form.
"""

from __future__ import annotations

from typing import Final, Protocol

from p2pboot.core.dataclass import dataclass
from p2pboot.core.policy import Policy, RootFacts
from p2pboot.core.timestamps import format_time
from p2pboot.core.trustdocs.yank import Yank
from p2pboot.core.verdict import Check, failed
from p2pboot.core.withheld import Why

NEWER_ROOT: Final = "ask the fleet's owners for a newer root, and see that nodes of the fleet can be reached"


_WHY: Final = {
    "root": Why.ROOT_EXPIRED,
    "trust": Why.UNTRUSTED,
    "floor": Why.FLOOR,
    "yank": Why.YANKED,
    "expiry": Why.EXPIRED,
    "freshness": Why.STALE,
}


class Numbered(Protocol):
    """A manifest, or what is known of one."""

    @property
    def channel(self) -> str:
        """The channel."""

    @property
    def arch(self) -> str:
        """The (canonical) architecture."""

    @property
    def manifest_version(self) -> int:
        """Its number."""

    @property
    def digest(self) -> str:
        """Its manifest digest, hex."""


class Dated(Numbered, Protocol):
    """The same, and when it ends."""

    @property
    def expires_at(self) -> int:
        """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a manifest may not be used.

    Args:
        check: which check of a verdict it fails, a key of `core.verdict.CHECKS`.
        text: one line for a person, which stays true, whoever reads it and when.
        remedy: one line, for who wants to take a manifest.
        moment: what of it only the moment says, to be put behind the text; "" for nothing.
    """

    check: str
    text: str
    remedy: str
    moment: str = ""

    @property
    def why(self) -> Why:
        """What others are told, in a word for programs."""
        return _WHY[self.check]

    @property
    def failed(self) -> Check:
        """The same as a check."""
        return failed(self.check, self.text + self.moment, self.remedy)


def is_over(root: RootFacts, now: int) -> bool:
    """Whether a root has expired, unix seconds; what that means, it says itself."""
    return root.expires_at is not None and now >= root.expires_at


def root_over(root: RootFacts | None, now: int) -> Objection | None:
    """A root that expired, and says that nothing is taken then.

    Args:
        root: that names the publisher; None where the operator does.
        now: unix seconds.
    """
    if root is None or not root.refuses or root.expires_at is None or not is_over(root, now):
        return None
    return Objection(
        "root",
        f"root version {root.version} expired at {format_time(root.expires_at)}, and nothing is taken under a root that"
        " expired",
        NEWER_ROOT,
        f"; now is {format_time(now)}",
    )


def below_floor(manifest: Numbered, policy: Policy) -> Objection | None:
    """What a key signed before it was removed: stopped on machines without memory, too."""
    number, lowest = manifest.manifest_version, policy.floor(manifest.channel, manifest.arch)
    if number >= lowest:
        return None
    return Objection(
        "floor",
        f"manifest version {number} is below {lowest}, the lowest that the root takes",
        "look for a provider that has a newer one",
    )


def taken_back(manifest: Numbered, yank: Yank | None) -> Objection | None:
    """What its publisher yanked.

    Args:
        manifest: it.
        yank: that counts for its channel and arch, of what it brings (`core.manifest.content_digest`); None for none.
    """
    if yank is None:
        return None
    why = f": {yank.body.reason}" if yank.body.reason else ""
    return Objection(
        "yank",
        f"manifest version {manifest.manifest_version} was yanked by its publisher at"
        f" {format_time(yank.body.created_at)}{why}",
        "wait for a newer manifest: whoever yanks publishes what was there before under a new number",
    )


def expired(manifest: Dated, now: int) -> Objection | None:
    """What would hold machines on an old image for ever (freeze attack).

    Args:
        manifest: it.
        now: unix seconds.
    """
    if now < manifest.expires_at:
        return None
    return Objection(
        "expiry",
        f"manifest version {manifest.manifest_version} expired at {format_time(manifest.expires_at)}",
        "ask the publisher for a renewed manifest, or look for another provider",
        f", now is {format_time(now)}",
    )
