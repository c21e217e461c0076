"""Rollback and equivocation: how a manifest stands to the one that was accepted before.

The attacks: an old, rightly signed manifest is offered again to bring back a hole that was closed
(rollback); one publisher signs two different manifests under one number to show each half of the machines
another image (equivocation).
"""

from __future__ import annotations

import enum
from collections.abc import Collection

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Manifest


@dataclass(frozen=True, slots=True)
class AcceptedHead:
    """What a verifier remembers per (channel, arch): the highest version it ever accepted.

    Args:
        manifest_version: its counter.
        digest: its manifest digest, hex.
        signers: its signers' key ids.
    """

    manifest_version: int
    digest: str
    signers: tuple[str, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> AcceptedHead:
        """Return what to remember of a manifest that is being accepted."""
        return cls(manifest.manifest_version, manifest.digest, manifest.signers)

    def binds(self, trusted_keys: Collection[str]) -> bool:
        """Whether this memory still counts under these trusted keys.

        It survives a change of keys, and ends only when none of the trusted keys is among its signers: then
        it is another publisher's, whose numbers say nothing about this one's.
        """
        return not set(self.signers).isdisjoint(trusted_keys)


class VersionStanding(enum.Enum):
    """How a manifest's version stands to the head."""

    NEWER = "newer"
    SAME = "same"
    OLDER = "older"
    EQUIVOCATION = "equivocation"
    BELOW_MINIMUM = "below minimum"


def judge_version(
    head: AcceptedHead | None, manifest: Manifest, trusted_keys: Collection[str], min_version: int = 0
) -> VersionStanding:
    """Compare a manifest with the head of its channel and arch.

    Only for a manifest that the trusted keys have signed: anybody can write any number, so a stranger's
    manifest is neither a rollback nor an equivocation.

    Args:
        head: what was accepted before, or None.
        manifest: what is offered now.
        trusted_keys: key ids of the publisher that is trusted for this channel and arch.
        min_version: the lowest version that the operator takes.
    """
    if manifest.manifest_version < min_version:
        return VersionStanding.BELOW_MINIMUM
    if head is None or not head.binds(trusted_keys) or manifest.manifest_version > head.manifest_version:
        return VersionStanding.NEWER
    if manifest.manifest_version < head.manifest_version:
        return VersionStanding.OLDER
    return VersionStanding.SAME if manifest.digest == head.digest else VersionStanding.EQUIVOCATION
