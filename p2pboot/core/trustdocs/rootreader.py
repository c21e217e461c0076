"""Reading a root from anyone: what stands on the wire, and every rule of the format that one document can break.

Who signed it, and whether that is enough, is not asked here (:mod:`.root`, :mod:`.chain`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from p2pboot.core.digests import is_digest
from p2pboot.core.identity import PublicKey
from p2pboot.core.manifest import fields
from p2pboot.core.names import ARCHS, base_channel
from p2pboot.core.trustdocs.envelope import MAX_DOCUMENT, Unchecked, decode
from p2pboot.core.trustdocs.rootbody import (
    DEFAULT_MAX_AGE_S,
    NEVER,
    REFUSE,
    SPEC,
    WARN,
    Floor,
    FreshnessRule,
    PublishRole,
    Role,
    RootBody,
)
from p2pboot.errors import Malformed

MAX_KEYS: Final = 32
MAX_PUBLISH_ROLES: Final = 64
MAX_FLOORS: Final = 512


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
