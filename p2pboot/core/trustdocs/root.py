"""The root: which keys may sign what for a fleet of machines, in versions that follow each other.

::

    {"created_at": "2026-01-01T00:00:00Z", "expires_at": "2027-01-01T00:00:00Z",   or "never"
     "fleet": "<64 hex>",                     from version 2 on: the digest of version 1
     "floors": [{"arch": "x86_64", "channel": "stable", "manifest_version": 7}],
     "name": "example fleet", "on_expiry": "warn",                                 or "refuse"
     "roles": {"publish": [{"archs": ["x86_64"], "channels": ["stable"], "keys": ["ed25519:…"], "threshold": 1,
                            "freshness": {"keys": ["ed25519:…"], "max_age_s": 604800, "required": false}}],
               "root": {"keys": ["ed25519:…"], "threshold": 2},
               "snapshots": {"keys": ["ed25519:…"], "threshold": 1}},
     "signatures": […], "spec": "p2pboot-root/1", "version": 1}

A root lists no signers: of five keys any three may sign, and which need not be known beforehand. So its identity is
the digest of its body, and two sets of signatures are one root.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from p2pboot.core.dataclass import dataclass
from p2pboot.core.digests import is_digest
from p2pboot.core.identity import PublicKey
from p2pboot.core.manifest import fields
from p2pboot.core.names import ARCHS, base_channel
from p2pboot.core.timestamps import format_time
from p2pboot.core.trustdocs.envelope import MAX_DOCUMENT, Document, Unchecked, decode, unsigned
from p2pboot.errors import Malformed, SignatureError, UsageError

SPEC: Final = "p2pboot-root/1"

NO_FLEET: Final = "0" * 64
"""What documents call the fleet where there is no root."""

DEFAULT_LIFETIME_S: Final = 365 * 86_400
DEFAULT_MAX_AGE_S: Final = 7 * 86_400
NEVER: Final = "never"
WARN: Final = "warn"
REFUSE: Final = "refuse"

MAX_KEYS: Final = 32
MAX_PUBLISH_ROLES: Final = 64
MAX_FLOORS: Final = 512


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
        """The document's members without its signatures: the reverse of what `read_root` reads."""
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
        try:
            raw = unsigned(self.members())
            decode_root(raw)
        except (Malformed, ValueError) as error:
            message = error.message if isinstance(error, Malformed) else str(error)
            raise UsageError(f"this can not be said in a root: {message}") from None
        return raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Root(Document):
    """A root whose form is good and whose signatures are valid; whether they are enough, :mod:`.chain` says."""

    body: RootBody

    @classmethod
    def parse(cls, raw: bytes) -> Root:
        """Read a root from anyone; it may still lack signatures.

        Raises:
            Malformed: no root, or not in its one form.
            SignatureError: a signature does not match.
        """
        found = decode_root(raw)
        found.check()
        return cls(raw=raw, digest=found.digest, signed_by=found.signers, body=found.claims)

    @property
    def version(self) -> int:
        """From 1 on."""
        return self.body.version

    @property
    def fleet(self) -> str | None:
        """The fleet that it says it is of; None where it does not say."""
        return self.digest if self.version == 1 else self.body.fleet

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Root) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)


def check_signers(root: Root, before: Root | None) -> None:
    """Check that a root is signed by those who may; arguments and errors as for `may_sign`."""
    may_sign(root.body, root.signed_by, None if before is None else before.body)


def may_sign(body: RootBody, signers: Collection[str], before: RootBody | None) -> None:
    """Check that a root is signed by those who may: its own root keys and, from version 2 on, those of the one before.

    Args:
        body: of the root to be judged.
        signers: the key ids whose signatures it bears, or claims to bear.
        before: the version before it, which is believed; None for version 1, or where that is not at hand.

    Raises:
        SignatureError: saying how many signatures are missing, or who has no say.
    """
    roles = [(body.version, body.root)] + ([] if before is None else [(before.version, before.root)])
    allowed = {key for _, role in roles for key in role.keys}
    if before is not None or body.version == 1:
        strangers = sorted(set(signers) - allowed)
        if strangers:
            raise SignatureError(
                f"root version {body.version} is signed by {strangers[0]}, which is no root key",
                remedy="leave that signature out: p2pboot root sign keeps only those that count",
            )
    for version, role in roles:
        count = len(set(role.keys).intersection(signers))
        if count < role.threshold:
            of = "its own" if version == body.version else f"version {version}'s"
            raise SignatureError(
                f"root version {body.version} has {count} signatures of {of} root keys, needed: {role.threshold}",
                remedy="let more of them sign it: p2pboot root sign FILE --key PATH",
            )


# -- reading ---------------------------------------------------------------------------------------------------------


class _Role(msgspec.Struct, frozen=True):
    keys: list[str]
    threshold: int


class _Freshness(msgspec.Struct, frozen=True):
    keys: list[str]
    required: bool = False
    max_age_s: int = DEFAULT_MAX_AGE_S


class _Publish(msgspec.Struct, frozen=True):
    keys: list[str]
    threshold: int
    channels: list[str] | msgspec.UnsetType = msgspec.UNSET
    archs: list[str] | msgspec.UnsetType = msgspec.UNSET
    freshness: _Freshness | msgspec.UnsetType = msgspec.UNSET


class _Floor(msgspec.Struct, frozen=True):
    channel: str
    arch: str
    manifest_version: int


class _Roles(msgspec.Struct, frozen=True):
    root: _Role
    publish: list[_Publish] = []
    snapshots: _Role | msgspec.UnsetType = msgspec.UNSET
    floors: list[_Floor] = []


class _Root(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    version: int
    created_at: str
    expires_at: str
    on_expiry: str = WARN
    roles: _Roles
    floors: list[_Floor] = []
    fleet: str | msgspec.UnsetType = msgspec.UNSET


_DECODER: Final = msgspec.json.Decoder(_Root)


def decode_root(raw: bytes) -> Unchecked[RootBody]:
    """Stage one of reading a root: see `envelope.decode`.

    Raises:
        Malformed: naming the member and what is wrong with it.
        SignatureError: a signature is none.
    """
    return decode(raw, SPEC, _DECODER, _read, max_bytes=MAX_DOCUMENT)


def _read(wire: _Root) -> RootBody:
    created_at = fields.check_time("created_at", wire.created_at)
    expires_at = None if wire.expires_at == NEVER else fields.check_time("expires_at", wire.expires_at)
    if expires_at is not None and expires_at <= created_at:
        raise Malformed("expires_at: must be later than created_at")
    if wire.on_expiry not in (WARN, REFUSE):
        raise Malformed(f"on_expiry: {wire.on_expiry[:40]!r} is neither {WARN!r} nor {REFUSE!r}")
    # A floor that stands among the roles is none the less meant: what takes away is not passed over.
    floors = [*wire.floors, *wire.roles.floors]
    if len(wire.roles.publish) > MAX_PUBLISH_ROLES or len(floors) > MAX_FLOORS:
        raise Malformed(f"more than {MAX_PUBLISH_ROLES} publish roles or {MAX_FLOORS} floors")
    version = fields.check_integer("version", wire.version)
    snapshots = wire.roles.snapshots
    body = RootBody(
        name=fields.check_text("name", wire.name, max_bytes=fields.MAX_NAME_BYTES),
        version=version,
        created_at=created_at,
        expires_at=expires_at,
        on_expiry=wire.on_expiry,
        root=_role("roles.root", wire.roles.root),
        publish=tuple(
            _publish(f"roles.publish[{index}]", one) for index, one in enumerate(wire.roles.publish)
        ),
        snapshots=None if isinstance(snapshots, msgspec.UnsetType) else _role("roles.snapshots", snapshots),
        floors=tuple(_floor(f"floors[{index}]", one) for index, one in enumerate(floors)),
        fleet=_fleet(version, wire.fleet),
    )
    _check_roles(body)
    return body


def _fleet(version: int, said: str | msgspec.UnsetType) -> str | None:
    if isinstance(said, msgspec.UnsetType):
        return None
    if version == 1 or not is_digest(said):
        raise Malformed("fleet: the digest of version 1, 64 lowercase hex digits, from version 2 on")
    return said


def _check_roles(body: RootBody) -> None:
    """Roles are apart: whoever gets hold of a key that is in daily use has not the key that replaces it."""
    _check_apart(body.publish)
    daily = {key for one in body.publish for key in one.keys}
    fresh = {key for one in body.publish if one.freshness is not None for key in one.freshness.keys}
    others = daily | fresh | set(() if body.snapshots is None else body.snapshots.keys)
    for key in body.root.keys:
        if key in others:
            raise Malformed(f"roles.root: {key} has another role, and a root key has none")
    for key in sorted(fresh & daily):
        raise Malformed(f"roles.publish: {key} says what is fresh, and publishes: one key must not do both")
    pairs = [(one.channel, one.arch) for one in body.floors]
    if len(set(pairs)) != len(pairs):
        raise Malformed("floors: one channel and arch stands there twice")


def _check_apart(roles: Iterable[PublishRole]) -> None:
    """Refuse two roles of one channel and arch; who may publish for a channel may roll out into it.

    By name and not pair by pair: a stranger's document may have 64 roles of hundreds of channels.
    """
    by_name: dict[tuple[str | None, str], PublishRole] = {}
    for role in roles:
        channels = {None} if role.channels is None else {base_channel(name) for name in role.channels}
        for arch in role.archs or ARCHS:
            others = [by_name.get((None, arch))] + [by_name.get((name, arch)) for name in channels]
            if role.channels is None:
                others += [one for (_, named), one in by_name.items() if named == arch]
            other = next((one for one in others if one is not None and one is not role), None)
            if other is not None:
                raise Malformed(
                    f"roles.publish: two roles cover one channel and arch: {other.shown} and {role.shown}"
                )
            by_name |= dict.fromkeys(((name, arch) for name in channels), role)


def _role(place: str, wire: _Role | _Publish) -> Role:
    keys = _keys(f"{place}.keys", wire.keys)
    if not 1 <= wire.threshold <= len(keys):
        raise Malformed(f"{place}.threshold: {wire.threshold} signatures can not come from {len(keys)} keys")
    return Role(keys, wire.threshold)


def _publish(place: str, wire: _Publish) -> PublishRole:
    role = _role(place, wire)
    rule = None
    if not isinstance(wire.freshness, msgspec.UnsetType):
        rule = FreshnessRule(
            _keys(f"{place}.freshness.keys", wire.freshness.keys),
            wire.freshness.required,
            fields.check_integer(f"{place}.freshness.max_age_s", wire.freshness.max_age_s),
        )
    return PublishRole(
        role.keys,
        role.threshold,
        None if isinstance(wire.channels, msgspec.UnsetType) else _channels(place, wire.channels),
        None if isinstance(wire.archs, msgspec.UnsetType) else _archs(place, wire.archs),
        rule,
    )


def _keys(place: str, keys: Sequence[str]) -> tuple[str, ...]:
    if not 1 <= len(keys) <= MAX_KEYS:
        raise Malformed(f"{place}: {len(keys)} keys, must be 1 to {MAX_KEYS}")
    for index, keyid in enumerate(keys):
        try:
            PublicKey.from_keyid(keyid)
        except ValueError as error:
            raise Malformed(f"{place}[{index}]: {error}") from None
    if len(set(keys)) != len(keys):
        raise Malformed(f"{place}: one key stands there twice")
    return tuple(sorted(keys))


def _channels(place: str, names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        fields.check_channel(f"{place}.channels", name)
    return _some(f"{place}.channels", names)


def _archs(place: str, names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        fields.check_arch(f"{place}.archs", name)
    return _some(f"{place}.archs", names)


def _some(place: str, names: Sequence[str]) -> tuple[str, ...]:
    if not names or len(set(names)) != len(names):
        raise Malformed(f"{place}: must name at least one, and none twice; leave it out to mean all")
    return tuple(sorted(names))


def _floor(place: str, wire: _Floor) -> Floor:
    return Floor(
        fields.check_channel(f"{place}.channel", wire.channel),
        fields.check_arch(f"{place}.arch", wire.arch),
        fields.check_integer(f"{place}.manifest_version", wire.manifest_version),
    )


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
