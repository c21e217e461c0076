"""Trust policies: which publishers may publish what.

A *publisher* is a set of keys with a threshold: so many of them must have signed. For one (channel, arch)
there is at most one publisher, so "the newest manifest" always has one meaning. There is no default and no
trust on first use: without a publisher nothing is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Final, Protocol

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import parse_keyid
from p2pboot.core.names import check_name, normalise_arch
from p2pboot.errors import ConfigError, UsageError

MAX_LIFETIME_S: Final = 400 * 86_400
"""For how long a manifest may be valid, unless the operator says otherwise: who holds machines on an old one is found
out when it expires, so one that never does would let him."""

MAX_PAIRS: Final = 64
"""Channels and architectures of one publisher, unless the operator says otherwise: a key can make up any number."""


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
    def shown(self) -> str:
        """What people are told it is: its name, or else its first key id."""
        return self.name or self.keys[0]

    def covers(self, channel: str, arch: str) -> bool:
        """Whether this publisher may publish for the channel and (canonical) architecture."""
        return (self.channels is None or channel in self.channels) and (
            self.archs is None or arch in self.archs
        )

    def trusted_among(self, signers: Iterable[str]) -> tuple[str, ...]:
        """Return which of these key ids are this publisher's, each once, sorted."""
        return tuple(sorted(set(self.keys).intersection(signers)))

    def is_met_by(self, signers: Iterable[str]) -> bool:
        """Whether enough of these key ids are this publisher's."""
        return len(self.trusted_among(signers)) >= self.threshold


class Policy(Protocol):
    """Whom to believe, for which channel and architecture."""

    @property
    def publishers(self) -> Sequence[Publisher]:
        """Everybody who may publish something."""

    def publisher_for(self, channel: str, arch: str) -> Publisher | None:
        """Return the one publisher that may publish for a channel and (canonical) architecture, if any."""


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """All publishers that a node or client believes. May be empty: then nothing can be verified.

    Raises:
        ConfigError: two publishers cover the same channel and architecture.
    """

    publishers: tuple[Publisher, ...] = ()

    def __post_init__(self) -> None:
        for one, other in combinations(self.publishers, 2):
            if _overlap(one.channels, other.channels) and _overlap(one.archs, other.archs):
                raise ConfigError(
                    f"two publishers are trusted for the same channel and arch:"
                    f" {one.shown} and {other.shown}",
                    remedy="put keys of one publisher into one entry, and give others their own channels",
                )

    def publisher_for(self, channel: str, arch: str) -> Publisher | None:
        """Return the one publisher that may publish for a channel and (canonical) architecture, if any."""
        return next((publisher for publisher in self.publishers if publisher.covers(channel, arch)), None)

    def accepts(self, channel: str, arch: str, signers: Iterable[str]) -> bool:
        """Whether these signers, if they really signed, may publish for a channel and (canonical) architecture."""
        publisher = self.publisher_for(channel, arch)
        return publisher is not None and publisher.is_met_by(signers)


def publisher_ids(policy: TrustPolicy) -> frozenset[str]:
    """Peer ids of the trusted keys: who has one of them for its node is the publisher itself."""
    return frozenset(parse_keyid(key).peer_id for publisher in policy.publishers for key in publisher.keys)


def no_trust() -> UsageError:
    """The error of every command that would use a manifest and was not told whom to trust."""
    return UsageError(
        "no trusted key is given",
        remedy="name the publisher's key: --trust ed25519:<64 hex digits> (its p2pboot key show prints it)",
    )


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def _overlap(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> bool:
    """Whether two sets of names have a member in common; None is the set of all."""
    if one is None or other is None:
        return True
    return not set(one).isdisjoint(other)
