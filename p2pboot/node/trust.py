"""Whom a node believes: the operator's policy and, for what the node publishes itself, whoever signs that.

For one channel and architecture there is one publisher. Where the operator's policy names another one than signs
the node's own directory (a policy without channels covers everything), the directory wins: its manifests are the
node's own, and a counter of its own that it could not see in the mesh would start again at 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from p2pboot.core.policy import Publisher, TrustPolicy

Pair = tuple[str, str]  # (channel, arch)


class Offered(Protocol):
    """A manifest, or what a list says of one."""

    @property
    def channel(self) -> str:
        """The channel."""

    @property
    def arch(self) -> str:
        """The (canonical) architecture."""

    @property
    def signers(self) -> tuple[str, ...]:
        """Key ids, sorted."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The policy in force.

    Args:
        configured: by the operator.
        own: who signs what this node publishes, by channel and arch.
    """

    configured: TrustPolicy
    own: Mapping[Pair, tuple[str, ...]] = field(default_factory=dict)

    def policy_for(self, channel: str, arch: str) -> TrustPolicy:
        """The policy that counts for a channel and arch; it may name nobody for them."""
        signers = self.own.get((channel, arch))
        if signers is None or self.configured.accepts(channel, arch, signers):
            return self.configured
        return TrustPolicy(
            (Publisher(signers, len(signers), channels=(channel,), archs=(arch,), name="this node"),)
        )

    def publisher_for(self, channel: str, arch: str) -> Publisher | None:
        """The one publisher for a channel and arch, if any."""
        return self.policy_for(channel, arch).publisher_for(channel, arch)

    def takes(self, offered: Offered) -> bool:
        """Whether these signers, if they really signed, may publish for this channel and arch."""
        return self._accepts(offered.channel, offered.arch, offered.signers)

    def tells_time(self, channel: str, arch: str, signers: tuple[str, ...]) -> bool:
        """Whether the dates of these signers' manifests are evidence of what time it is.

        The node's own are not, also of what it publishes no more: they carry the reading of this very clock, which
        may have been wrong for a while.
        """
        return self._accepts(channel, arch, signers) and signers not in self.own.values()

    def is_own(self, offered: Offered) -> bool:
        """Whether it is of the very keys that sign this node's directory for this channel and arch."""
        return self.own.get((offered.channel, offered.arch)) == offered.signers

    def _accepts(self, channel: str, arch: str, signers: tuple[str, ...]) -> bool:
        return self.policy_for(channel, arch).accepts(channel, arch, signers)
