"""What a root says, as values: its roles, its floors, and the members that are signed.

The format is shown in :mod:`.root`; :mod:`.rootreader` makes these values of a document, and the tools of the fleet's
owners (:mod:`.editing`) the next ones of them. Nothing here is read from strangers, and nothing is checked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.timestamps import format_time
from p2pboot.core.trustdocs.envelope import drafted

SPEC: Final = "p2pboot-root/1"

NO_FLEET: Final = "0" * 64
"""What documents call the fleet where there is no root."""

DEFAULT_LIFETIME_S: Final = 365 * 86_400
DEFAULT_MAX_AGE_S: Final = 7 * 86_400
NEVER: Final = "never"
WARN: Final = "warn"
REFUSE: Final = "refuse"


@dataclass(frozen=True, slots=True)
class Role:
    """Keys, and how many of them must sign.

    Args:
        keys: key ids, sorted.
        threshold: 1 to their number.
    """

    keys: tuple[str, ...]
    threshold: int = 1

    def is_met_by(self, signers: Iterable[str]) -> bool:
        """Whether enough of these key ids are the role's."""
        return len(set(self.keys).intersection(signers)) >= self.threshold


@dataclass(frozen=True, slots=True)
class FreshnessRule:
    """Who says what the newest manifest is, and how much depends on it.

    Args:
        keys: key ids, sorted; one of them suffices.
        required: whether nothing is taken without a statement that is young enough.
        max_age_s: how old a statement may be, seconds.
    """

    keys: tuple[str, ...]
    required: bool = False
    max_age_s: int = DEFAULT_MAX_AGE_S

    def is_met_by(self, signers: Collection[str]) -> bool:
        """Whether these key ids, and nobody else, signed who may."""
        return bool(signers) and set(self.keys).issuperset(signers)


@dataclass(frozen=True, slots=True)
class PublishRole:
    """Who may publish what.

    Args:
        keys: key ids, sorted.
        threshold: how many of them must sign.
        channels: names, sorted; None for all.
        archs: canonical, sorted; None for all.
        freshness: who says what is new; None for nobody.
    """

    keys: tuple[str, ...]
    threshold: int = 1
    channels: tuple[str, ...] | None = None
    archs: tuple[str, ...] | None = None
    freshness: FreshnessRule | None = None

    @property
    def shown(self) -> str:
        """What of it is published, for people."""
        return f"{_names(self.channels)}/{_names(self.archs)}"


@dataclass(frozen=True, slots=True)
class Floor:
    """The lowest ``manifest_version`` that is taken of a channel and arch."""

    channel: str
    arch: str
    manifest_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RootBody:
    """What a root says; times in unix seconds. Every field has passed the rules of the format."""

    name: str
    version: int
    created_at: int
    expires_at: int | None
    """None: never."""
    on_expiry: str = WARN
    root: Role
    publish: tuple[PublishRole, ...] = ()
    snapshots: Role | None = None
    floors: tuple[Floor, ...] = ()
    fleet: str | None = None
    """The digest of version 1; None in version 1 itself, and where it was left out."""

    def floor(self, channel: str, arch: str) -> int:
        """The lowest version taken of a channel and arch; 0 for any."""
        found = (one.manifest_version for one in self.floors if (one.channel, one.arch) == (channel, arch))
        return next(found, 0)

    def members(self) -> dict[str, Any]:
        """The document's members without its signatures: the reverse of what `rootreader` reads."""
        roles: dict[str, Any] = {
            "root": _role_members(self.root),
            "publish": [_publish_members(one) for one in self.publish],
        }
        if self.snapshots is not None:
            roles["snapshots"] = _role_members(self.snapshots)
        members: dict[str, Any] = {
            "spec": SPEC,
            "name": self.name,
            "version": self.version,
            "created_at": format_time(self.created_at),
            "expires_at": NEVER if self.expires_at is None else format_time(self.expires_at),
            "on_expiry": self.on_expiry,
            "roles": roles,
            "floors": [
                {"channel": one.channel, "arch": one.arch, "manifest_version": one.manifest_version}
                for one in self.floors
            ],
        }
        return members if self.fleet is None else members | {"fleet": self.fleet}

    def document(self) -> bytes:
        """The document that waits for its signatures.

        Raises:
            UsageError: it breaks a rule of the format; the message names the member.
        """
        from p2pboot.core.trustdocs.rootreader import decode_root  # which makes bodies, and comes after them

        return drafted(self.members(), decode_root, "a root")


def with_floor(body: RootBody, floor: Floor) -> RootBody:
    """The same with this floor, which replaces another of its channel and arch."""
    pair = (floor.channel, floor.arch)
    others = [one for one in body.floors if (one.channel, one.arch) != pair]
    return replace(body, floors=tuple(sorted((*others, floor), key=lambda one: (one.channel, one.arch))))


def _role_members(role: Role) -> dict[str, Any]:
    return {"keys": sorted(role.keys), "threshold": role.threshold}


def _publish_members(role: PublishRole) -> dict[str, Any]:
    members: dict[str, Any] = {"keys": sorted(role.keys), "threshold": role.threshold}
    if role.channels is not None:
        members["channels"] = sorted(role.channels)
    if role.archs is not None:
        members["archs"] = sorted(role.archs)
    if role.freshness is not None:
        rule = role.freshness
        members["freshness"] = {
            "keys": sorted(rule.keys),
            "required": rule.required,
            "max_age_s": rule.max_age_s,
        }
    return members


def _names(names: tuple[str, ...] | None) -> str:
    return "*" if names is None else ",".join(names)
