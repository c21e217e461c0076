"""Trust policies: which publishers may publish what.

A *publisher* is a set of keys with a threshold: so many of them must have signed. For one (channel, arch)
there is at most one publisher, so "the newest manifest" always has one meaning. There is no default and no
trust on first use: without a publisher nothing is taken.

Publishers are named by the operator, or by a root that the operator believes (:mod:`p2pboot.core.trustdocs`): then a
newer root names others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Final, Protocol, Self

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import parse_keyid
from p2pboot.core.names import base_channel, check_name, normalise_arch
from p2pboot.core.trustdocs.chain import Anchor, Chain
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import NO_FLEET, REFUSE, FreshnessRule
from p2pboot.errors import ConfigError, NotFoundError, P2PBootError, UsageError

MAX_LIFETIME_S: Final = 400 * 86_400
"""For how long a manifest may be valid, unless the operator says otherwise: who holds machines on an old one is found
out when it expires, so one that never does would let him."""

MAX_PAIRS: Final = 64
"""Channels and architectures of one publisher, unless the operator says otherwise: a key can make up any number."""


@dataclass(frozen=True, slots=True)
class RootFacts:
    """What matters of the root that names a publisher; times in unix seconds.

    Args:
        anchor: the digest by which the operator named it, hex.
        fleet: the digest of version 1, hex; None as long as nobody said it.
        version: of the root in force.
        created_at: of the root in force.
        expires_at: likewise; None for never.
        refuses: whether nothing is taken once it expired.
    """

    anchor: str
    fleet: str | None
    version: int
    created_at: int
    expires_at: int | None
    refuses: bool


@dataclass(frozen=True, slots=True)
class Publisher:
    """Whom to believe, and about what.

    Args:
        keys: public keys as a person names them (key id, 64 hex digits, peer id); kept as sorted key ids.
        threshold: how many of them must have signed, 1 to their number.
        channels: what it may publish, not empty; None for every channel.
        archs: for which architectures, not empty; None for all.
        name: what to call it in messages.
        max_lifetime_s: seconds that its manifests may be valid for, from `created_at` to `expires_at`; None for any.
        quota_bytes: of artifacts that it may make a mirror hold; None for its equal part of what that may hold.
        max_pairs: channels and architectures that it may make a mirror follow, where `channels` names none.
        freshness: who says which of its manifests is the newest; None for nobody.
        root: what names it; None where the operator does.

    Raises:
        ConfigError: no key, one that is not, a threshold that can never be met, a name that is not allowed.
    """

    keys: tuple[str, ...]
    threshold: int = 1
    channels: tuple[str, ...] | None = None
    archs: tuple[str, ...] | None = None
    name: str | None = None
    max_lifetime_s: int | None = MAX_LIFETIME_S
    quota_bytes: int | None = None
    max_pairs: int = MAX_PAIRS
    freshness: FreshnessRule | None = None
    root: RootFacts | None = None

    def __post_init__(self) -> None:
        who = f"trust {self.name!r}" if self.name else "trust"
        try:
            keys = tuple(sorted({parse_keyid(key).keyid for key in self.keys}))
            channels = _unique(check_name(name, "channel") for name in self.channels or ())
            archs = _unique(normalise_arch(arch) for arch in self.archs or ())
        except ValueError as error:
            raise ConfigError(f"{who}: {error}") from None
        if self.channels == () or self.archs == ():
            raise ConfigError(
                f"{who}: an empty list of channels or archs trusts nothing",
                remedy="name some, or leave the list out to mean all",
            )
        if not keys:
            raise ConfigError(f"{who}: no key is given", remedy="name at least one public key")
        if not 1 <= self.threshold <= len(keys):
            raise ConfigError(
                f"{who}: {self.threshold} signatures can not come from {len(keys)} keys",
                remedy=f"set the threshold from 1 to {len(keys)}, or name more keys",
            )
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "channels", None if self.channels is None else channels)
        object.__setattr__(self, "archs", None if self.archs is None else archs)

    @property
    def fleet(self) -> str | None:
        """What its statements and yanks call the fleet; None as long as that is not known."""
        return NO_FLEET if self.root is None else self.root.fleet

    @property
    def root_version(self) -> int:
        """The version of the root that names it; 0 without one."""
        return 0 if self.root is None else self.root.version

    @property
    def shown(self) -> str:
        """What people are told it is: its name, or else its first key id."""
        return self.name or self.keys[0]

    def covers(self, channel: str, arch: str) -> bool:
        """Whether this publisher may publish for the channel and (canonical) architecture.

        Who may publish for a channel may roll out into it.
        """
        return (
            self.channels is None or channel in self.channels or base_channel(channel) in self.channels
        ) and (self.archs is None or arch in self.archs)

    def trusted_among(self, signers: Iterable[str]) -> tuple[str, ...]:
        """Return which of these key ids are this publisher's, each once, sorted."""
        return tuple(sorted(set(self.keys).intersection(signers)))

    def is_met_by(self, signers: Iterable[str]) -> bool:
        """Whether enough of these key ids are this publisher's."""
        return len(self.trusted_among(signers)) >= self.threshold

    def may_vouch(self, fleet: str, signers: Collection[str]) -> bool:
        """Whether these key ids say which of its manifests is the newest, in a statement for that fleet."""
        return self.freshness is not None and self.fleet == fleet and self.freshness.is_met_by(signers)

    def may_yank(self, fleet: str, signers: Collection[str]) -> bool:
        """Whether these key ids take back what it published, in a yank for that fleet."""
        return self.fleet == fleet and self.is_met_by(signers)


class Policy(Protocol):
    """Whom to believe, for which channel and architecture."""

    @property
    def publishers(self) -> Sequence[Publisher]:
        """Everybody who may publish something."""

    @property
    def roots(self) -> Sequence[TrustedRoot]:
        """The roots that the operator believes, whether they are at hand or not."""

    def publisher_for(self, channel: str, arch: str) -> Publisher | None:
        """Return the one publisher that may publish for a channel and (canonical) architecture, if any."""

    def floor(self, channel: str, arch: str) -> int:
        """Return the lowest `manifest_version` taken of a channel and (canonical) architecture; 0 for any."""

    def with_chains(self, chains: Mapping[str, Chain]) -> Self:
        """Return the same with other roots in force, by the digest of the anchor; others stay as they are."""


@dataclass(frozen=True, slots=True)
class TrustedRoot:
    """A root that the operator believes, and what he says of all publishers that it names.

    Args:
        anchor: what he believes.
        chain: from there to the root in force; None as long as no root is at hand.
        name: what to call its publishers in messages; None for what the root calls itself.
        max_lifetime_s: as for `Publisher`.
        quota_bytes: as for `Publisher`.
        max_pairs: as for `Publisher`.
        channels: of what the root's publishers may publish only these are heeded; None for all.
        archs: likewise, canonical.
    """

    anchor: Anchor
    chain: Chain | None = None
    name: str | None = None
    max_lifetime_s: int | None = MAX_LIFETIME_S
    quota_bytes: int | None = None
    max_pairs: int = MAX_PAIRS
    channels: tuple[str, ...] | None = None
    archs: tuple[str, ...] | None = None

    @property
    def newest(self) -> Root | None:
        """The root in force; None as long as none is at hand."""
        return None if self.chain is None else self.chain.newest

    @property
    def fleet(self) -> str | None:
        """The digest of version 1; None as long as nobody said it."""
        return None if self.chain is None else self.chain.fleet

    def publishers(self) -> tuple[Publisher, ...]:
        """Whom the root in force names."""
        if self.chain is None:
            return ()
        body = self.chain.newest.body
        facts = RootFacts(
            self.anchor.digest,
            self.chain.fleet,
            body.version,
            body.created_at,
            body.expires_at,
            body.on_expiry == REFUSE,
        )
        return tuple(
            Publisher(
                role.keys,
                role.threshold,
                channels,
                archs,
                self.name or body.name,
                self.max_lifetime_s,
                self.quota_bytes,
                self.max_pairs,
                role.freshness,
                facts,
            )
            for role in body.publish
            if (channels := _common(role.channels, self.channels)) != ()
            and (archs := _common(role.archs, self.archs)) != ()
        )


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """All publishers that a node or client believes. May be empty: then nothing can be verified.

    Args:
        publishers: those whom the operator names, and those whom the roots name (see `of`).
        roots: whom the operator believes to name publishers.

    Raises:
        ConfigError: two publishers cover the same channel and architecture, or one root would twice.
    """

    publishers: tuple[Publisher, ...] = ()
    roots: tuple[TrustedRoot, ...] = ()

    @classmethod
    def of(cls, named: Iterable[Publisher], roots: Iterable[TrustedRoot] = ()) -> Self:
        """Put together whom the operator names and whom the roots name.

        Raises:
            ConfigError: two publishers cover the same channel and architecture.
        """
        roots = tuple(roots)
        return cls((*named, *(one for root in roots for one in root.publishers())), roots)

    @property
    def named(self) -> tuple[Publisher, ...]:
        """Those whom the operator names himself."""
        return tuple(one for one in self.publishers if one.root is None)

    @property
    def is_empty(self) -> bool:
        """Whether nobody can ever be believed."""
        return not self.publishers and not self.roots

    def with_chains(self, chains: Mapping[str, Chain]) -> Self:
        """The same with other roots in force.

        Args:
            chains: by the digest of the anchor; roots of others stay as they are.

        Raises:
            ConfigError: a root names a publisher of a channel and architecture that has one.
        """
        roots = (replace(one, chain=chains.get(one.anchor.digest, one.chain)) for one in self.roots)
        return self.of(self.named, roots)

    def floor(self, channel: str, arch: str) -> int:
        """Return the lowest `manifest_version` taken of a channel and (canonical) architecture; 0 for any.

        As the root says that names who publishes there: another fleet's has nothing to say about it.
        """
        publisher = self.publisher_for(channel, arch)
        facts = None if publisher is None else publisher.root
        if facts is None:
            return 0
        chains = (one.chain for one in self.roots if one.anchor.digest == facts.anchor)
        return max(
            (chain.newest.body.floor(channel, arch) for chain in chains if chain is not None), default=0
        )

    def __post_init__(self) -> None:
        for one, other in combinations(self.publishers, 2):
            if _overlap(_bases(one.channels), _bases(other.channels)) and _overlap(one.archs, other.archs):
                raise ConfigError(
                    f"two publishers are trusted for the same channel and arch:"
                    f" {one.shown} and {other.shown}",
                    remedy="put keys of one publisher into one entry, and give others their own channels",
                )
        for root, again in combinations(self.roots, 2):
            if root.anchor.digest == again.anchor.digest and (
                _overlap(_bases(root.channels), _bases(again.channels)) and _overlap(root.archs, again.archs)
            ):
                raise ConfigError(  # whether it is at hand yet or not: it will be
                    f"one root is trusted twice for the same channel and arch: {root.anchor.shown}",
                    remedy="name it once, by its file or by its digest, or give each entry its own channels",
                )

    def publisher_for(self, channel: str, arch: str) -> Publisher | None:
        """Return the one publisher that may publish for a channel and (canonical) architecture, if any."""
        return next((publisher for publisher in self.publishers if publisher.covers(channel, arch)), None)

    def accepts(self, channel: str, arch: str, signers: Iterable[str]) -> bool:
        """Whether these signers, if they really signed, may publish for a channel and (canonical) architecture."""
        publisher = self.publisher_for(channel, arch)
        return publisher is not None and publisher.is_met_by(signers)


def publisher_ids(policy: Policy) -> frozenset[str]:
    """Peer ids of the trusted keys: who has one of them for its node is the publisher itself."""
    return frozenset(parse_keyid(key).peer_id for publisher in policy.publishers for key in publisher.keys)


def check_apart(policy: Policy, keys: Mapping[str, str]) -> None:
    """Refuse a node whose own keys are root keys: those lie in drawers, and not on machines that the world talks to.

    Args:
        policy: with the roots in force.
        keys: key ids, by what each is called in the configuration.

    Raises:
        ConfigError: one of them is a root key.
    """
    for root in (trusted.newest for trusted in policy.roots if trusted.newest is not None):
        for what, keyid in keys.items():
            if keyid in root.body.root.keys:
                raise ConfigError(
                    f"{what}: {keyid} is a root key of {root.body.name!r}, and such a key is no node's",
                    remedy="give the node a key of its own, and keep the root key on no machine that is connected",
                )


def no_trust(policy: Policy | None = None) -> P2PBootError:
    """The error of every command that would use a manifest, and does not know whom to trust.

    Args:
        policy: names no publisher; None where none was given.
    """
    if policy is not None and policy.roots:
        shown = ", ".join(one.anchor.shown for one in policy.roots if one.chain is None)
        if not shown:
            return NotFoundError(
                "the root in force names nobody who may publish anything",
                remedy="have its owners add who may: p2pboot root add-key",
            )
        return NotFoundError(
            f"the root {shown} is not known here, and nobody who was asked has it",
            remedy="give its file (--root FILE), or ask a node of the fleet: --bootstrap MULTIADDR",
        )
    return UsageError(
        "no trusted key is given",
        remedy="name the publisher's key: --trust ed25519:<64 hex digits> (its p2pboot key show prints it);"
        " or the root of the fleet: --root FILE",
    )


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def _common(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """What two sets of names have in common; None is the set of all."""
    if one is None or other is None:
        return other if one is None else one
    return tuple(name for name in one if name in other)


def _bases(channels: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The channels that are covered: who may publish for one may roll out into it."""
    return None if channels is None else tuple(base_channel(name) for name in channels)


def _overlap(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> bool:
    """Whether two sets of names have a member in common; None is the set of all."""
    if one is None or other is None:
        return True
    return not set(one).isdisjoint(other)
