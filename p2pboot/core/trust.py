"""Whom this machine believes: the operator's policy and, for what it publishes itself, whoever signs that.

For one channel and architecture there is one publisher. Where the operator's policy names another one than signs
the node's own directory (a policy without channels covers everything), the directory wins: its manifests are the
node's own, and a counter of its own that it could not see in the mesh would start again at 1. Under a *root* the
directory wins nothing: the node's own keys count as far as the root, or the operator beside it, names them, and while
the root is not at hand they do not count. Who publishes nothing, such as a boot client, has the operator's policy and
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Protocol

from p2pboot.core.dataclass import dataclass
from p2pboot.core.policy import Publisher, TrustedRoot, TrustPolicy
from p2pboot.core.trustdocs.chain import Chain
from p2pboot.core.trustdocs.rootbody import FreshnessRule

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


class Listed(Offered, Protocol):
    """What a list of manifests says of one."""

    @property
    def manifest_version(self) -> int:
        """Its number."""

    @property
    def digest(self) -> str:
        """Its identity, 64 lowercase hex digits."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The trust in force; a `core.policy.Policy`.

    Args:
        configured: by the operator.
        own: who signs what this node publishes, by channel and arch.
        key: key id of this node's own key; None where it has none.
        vouching: key ids that say what is fresh of what this node publishes, where the operator names nobody else.
    """

    configured: TrustPolicy
    own: Mapping[Pair, tuple[str, ...]] = field(default_factory=dict)
    key: str | None = None
    vouching: tuple[str, ...] = ()

    def publishing(self, pair: Pair, signers: tuple[str, ...]) -> Trust:
        """The same, with what this node publishes for one pair signed by these keys."""
        return replace(self, own={**self.own, pair: signers})

    @property
    def publishers(self) -> tuple[Publisher, ...]:
        """Everybody who may publish something."""
        own = () if self.roots else self.own.items()
        return (*self.configured.publishers, *(self._itself(*one) for one in own))

    def publisher_for(self, channel: str, arch: str) -> Publisher | None:
        """The one publisher for a channel and arch, if any."""
        signers = self.own.get((channel, arch))
        said = self.configured.publisher_for(channel, arch)
        if signers is None or (said is not None and said.root is not None):
            return said
        if said is None or not said.is_met_by(signers):
            return said if self.roots else self._itself((channel, arch), signers)
        return said if said.freshness is not None else replace(said, freshness=self._own_freshness())

    @property
    def roots(self) -> tuple[TrustedRoot, ...]:
        """The roots that the operator believes."""
        return self.configured.roots

    def floor(self, channel: str, arch: str) -> int:
        """The lowest `manifest_version` taken of a channel and arch; 0 for any."""
        return self.configured.floor(channel, arch)

    def with_chains(self, chains: Mapping[str, Chain]) -> Trust:
        """The same with other roots in force; see `TrustPolicy.with_chains`."""
        return replace(self, configured=self.configured.with_chains(chains))

    def revokes(self, pair: Pair, signers: tuple[str, ...]) -> bool:
        """Whether there is a root, and these signers of this node's directory have no say for a channel and arch."""
        publisher = self.configured.publisher_for(*pair)
        return bool(self.roots) and (publisher is None or not publisher.is_met_by(signers))

    def takes(self, offered: Offered) -> bool:
        """Whether these signers, if they really signed, may publish for this channel and arch."""
        return self._accepts(offered.channel, offered.arch, offered.signers)

    def tells_time(self, channel: str, arch: str, signers: tuple[str, ...]) -> bool:
        """Whether the dates of these signers' manifests are evidence of what time it is.

        The node's own are not, also of what it publishes no more: they carry the reading of this very clock, which
        may have been wrong for a while.
        """
        is_own = self.key in signers or signers in self.own.values()
        return not is_own and self._accepts(channel, arch, signers)

    def tells_freshness(self, channel: str, arch: str, fleet: str, signers: tuple[str, ...]) -> bool:
        """The same of their freshness statements for a fleet."""
        publisher = self.publisher_for(channel, arch)
        is_own = not set(self.vouching).isdisjoint(signers)
        return publisher is not None and not is_own and publisher.may_vouch(fleet, signers)

    def is_own(self, offered: Offered) -> bool:
        """Whether it is of the very keys that sign this node's directory for this channel and arch."""
        return self.own.get((offered.channel, offered.arch)) == offered.signers

    def _accepts(self, channel: str, arch: str, signers: Iterable[str]) -> bool:
        publisher = self.publisher_for(channel, arch)
        return publisher is not None and publisher.is_met_by(signers)

    def _itself(self, pair: Pair, signers: tuple[str, ...]) -> Publisher:
        channel, arch = pair
        return Publisher(
            signers,
            len(signers),
            channels=(channel,),
            archs=(arch,),
            name="this node",
            max_lifetime_s=None,
            freshness=self._own_freshness(),
        )

    def _own_freshness(self) -> FreshnessRule | None:
        return FreshnessRule(self.vouching) if self.vouching else None
