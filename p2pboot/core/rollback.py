"""Rollback and equivocation: how a manifest stands to the one that was accepted before.

The attacks: an old, rightly signed manifest is offered again to bring back a hole that was closed
(rollback); one publisher signs two different manifests under one number to show each half of the machines
another image (equivocation).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import Publisher


@dataclass(frozen=True, slots=True)
class AcceptedHead:
    """What a verifier remembers per (signers, channel, arch): the highest version it ever accepted.

    Args:
        manifest_version: its counter.
        digest: its manifest digest, hex.
        signers: its signers' key ids, sorted.
    """

    manifest_version: int
    digest: str
    signers: tuple[str, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> AcceptedHead:
        """Return what to remember of a manifest that is being accepted."""
        return cls(manifest.manifest_version, manifest.digest, manifest.signers)


def binding(heads: Iterable[AcceptedHead], publisher: Publisher | None) -> tuple[AcceptedHead, ...]:
    """Which of the heads of one channel and arch bind now: the highest whose signers the publisher's threshold takes.

    So memory survives a change of keys as long as the old signers count, what another publisher did in between
    lowers nothing, and what does not count now may count again.

    Args:
        heads: everything remembered, whoever signed it.
        publisher: trusted now for that channel and arch; None for nobody, whom nothing binds.

    Returns:
        None or one; or several, all of one version, which contradict each other: keys that were different publishers'
        when they were believed are one publisher's now.
    """
    counting = [] if publisher is None else [head for head in heads if publisher.is_met_by(head.signers)]
    highest = max((head.manifest_version for head in counting), default=0)
    return tuple(head for head in counting if head.manifest_version == highest)


class VersionStanding(enum.Enum):
    """How a manifest's version stands to the head."""

    NEWER = "newer"
    SAME = "same"
    OLDER = "older"
    EQUIVOCATION = "equivocation"


def judge_version(heads: Sequence[AcceptedHead], manifest: Manifest) -> VersionStanding:
    """Compare a manifest with what binds of its channel and arch.

    Only for a manifest that the trusted keys have signed: anybody can write any number, so a stranger's
    manifest is neither a rollback nor an equivocation.

    Args:
        heads: as `binding` returns them.
        manifest: what is offered now.
    """
    if not heads or manifest.manifest_version > heads[0].manifest_version:
        return VersionStanding.NEWER
    if manifest.manifest_version < heads[0].manifest_version:
        return VersionStanding.OLDER
    is_known = {head.digest for head in heads} == {manifest.digest}
    return VersionStanding.SAME if is_known else VersionStanding.EQUIVOCATION
