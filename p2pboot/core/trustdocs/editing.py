"""The next version of a root: what `p2pboot root init`, `set`, `add-key` and `remove-key` make of what they are told.

Versions that nobody has signed yet are changed in place; of one that is signed the next version is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import (
    DEFAULT_LIFETIME_S,
    Floor,
    FreshnessRule,
    PublishRole,
    Role,
    RootBody,
    with_floor,
)
from p2pboot.errors import UsageError

ROLES: Final = ("root", "publish", "freshness", "snapshots")


@dataclass(frozen=True, slots=True)
class Which:
    """Which of several publish roles is meant: the one that covers these; the only one where nothing is said.

    Args:
        channels: names.
        archs: canonical.
    """

    channels: tuple[str, ...] = ()
    archs: tuple[str, ...] = ()

    def index_in(self, body: RootBody) -> int:
        """Its place among the root's publish roles.

        Raises:
            UsageError: none or several are meant.
        """
        found = [
            index
            for index, role in enumerate(body.publish)
            if _covers(role.channels, self.channels) and _covers(role.archs, self.archs)
        ]
        if len(found) == 1:
            return found[0]
        there = ", ".join(role.shown for role in body.publish) or "none"
        if not found:
            raise UsageError(
                f"no publish role covers {self.shown}: there is {there}",
                remedy="name one that there is (--channel, --arch), or add another: root set --add-publisher",
            )
        raise UsageError(
            f"several publish roles are meant: {there}", remedy="say which one: --channel NAME, --arch ARCH"
        )

    @property
    def shown(self) -> str:
        """For people."""
        return f"{','.join(self.channels) or '*'}/{','.join(self.archs) or '*'}"


def draft_of(root: Root, now: int, lifetime_s: int | None) -> RootBody:
    """What is to be changed: the root itself as long as nobody signed it, else the next version.

    Args:
        root: version 1 or a later one, complete where anybody signed it.
        now: unix seconds.
        lifetime_s: how long the new one is valid, seconds; 0 for ever; None for as long as it was.
    """
    body = root.body
    if lifetime_s is None:
        lifetime_s = 0 if body.expires_at is None else body.expires_at - body.created_at
    expires_at = now + lifetime_s if lifetime_s else None
    if not root.signed_by:
        return replace(body, created_at=now, expires_at=expires_at)
    return replace(body, version=body.version + 1, fleet=root.fleet, created_at=now, expires_at=expires_at)


def first_version(name: str, root: Role, publish: Sequence[PublishRole], now: int) -> RootBody:
    """Version 1, valid for a year; what else it says is added to it."""
    return RootBody(
        name=name,
        version=1,
        created_at=now,
        expires_at=now + DEFAULT_LIFETIME_S,
        root=root,
        publish=tuple(publish),
    )


def add_key(body: RootBody, role: str, keyid: str, which: Which) -> RootBody:
    """The same with one more key in a role.

    Raises:
        UsageError: it is there already, or the role is not.
    """

    def added(keys: tuple[str, ...], shown: str) -> tuple[str, ...]:
        if keyid in keys:
            raise UsageError(
                f"{keyid} is a key of {shown} already", remedy="nothing is to be done; root show lists them"
            )
        return tuple(sorted((*keys, keyid)))

    if role == "snapshots" and body.snapshots is None:
        return replace(body, snapshots=Role((keyid,)))
    if role == "freshness":
        index = which.index_in(body)
        if body.publish[index].freshness is None:
            return _with_publish(body, index, freshness=FreshnessRule((keyid,)))
    return _with_keys(body, role, which, added)


def remove_key(body: RootBody, role: str, keyid: str, which: Which) -> RootBody:
    """The same without a key in a role.

    Raises:
        UsageError: it is not there, it is the last one, or too few would be left for the threshold.
    """

    def removed(keys: tuple[str, ...], shown: str) -> tuple[str, ...]:
        if keyid not in keys:
            raise UsageError(f"{keyid} is no key of {shown}", remedy="root show lists them")
        if keys == (keyid,):
            raise UsageError(f"{keyid} is the only key of {shown}", remedy=_WITHOUT[role])
        return tuple(key for key in keys if key != keyid)

    return _with_keys(body, role, which, removed)


_WITHOUT: Final = {
    "root": "add another one first: p2pboot root add-key root KEYID FILE",
    "publish": "add another one first: p2pboot root add-key publish KEYID FILE",
    "freshness": "add another one first, or do without: p2pboot root set FILE --no-freshness",
    "snapshots": "add another one first, or do without: p2pboot root set FILE --no-snapshots",
}


def _with_keys(
    body: RootBody, role: str, which: Which, change: Callable[[tuple[str, ...], str], tuple[str, ...]]
) -> RootBody:
    if role == "root":
        return replace(body, root=replace(body.root, keys=change(body.root.keys, "the role root")))
    if role == "snapshots":
        keys = () if body.snapshots is None else body.snapshots.keys
        threshold = 1 if body.snapshots is None else body.snapshots.threshold
        return replace(body, snapshots=Role(change(keys, "the role snapshots"), threshold))
    index = which.index_in(body)
    publisher = body.publish[index]
    if role == "publish":
        keys = change(publisher.keys, f"the role publish {publisher.shown}")
        return _with_publish(body, index, keys=keys)
    rule = publisher.freshness or FreshnessRule(())
    keys = change(rule.keys, f"the role freshness of {publisher.shown}")
    return _with_publish(body, index, freshness=replace(rule, keys=keys))


def _with_publish(body: RootBody, index: int, **said: object) -> RootBody:
    roles = list(body.publish)
    roles[index] = replace(roles[index], **said)  # type: ignore[arg-type]
    return replace(body, publish=tuple(roles))


def with_publish_role(body: RootBody, role: PublishRole, index: int | None = None) -> RootBody:
    """The same with another publish role: in place of one, or as one more."""
    roles = list(body.publish)
    if index is None:
        roles.append(role)
    else:
        roles[index] = role
    return replace(body, publish=tuple(roles))


def check_thresholds(body: RootBody) -> None:
    """See that every threshold can be met.

    Raises:
        UsageError: saying which can not, and what to do.
    """
    named = [("root", "--threshold", body.root)]
    named += [
        (f"publish {one.shown}", "--publish-threshold", Role(one.keys, one.threshold)) for one in body.publish
    ]
    if body.snapshots is not None:
        named.append(("snapshots", "--snapshot-threshold", body.snapshots))
    for name, option, role in named:
        if not 1 <= role.threshold <= len(role.keys):
            raise UsageError(
                f"the role {name} would have {len(role.keys)} keys, and needs {role.threshold}",
                remedy=f"add a key first, or set another threshold first: p2pboot root set FILE {option}"
                f" {max(len(role.keys), 1)}",
            )


def with_floors(body: RootBody, floors: Sequence[tuple[str, str, int]]) -> RootBody:
    """The same with these floors; 0 takes one away."""
    for channel, arch, number in floors:
        body = with_floor(body, Floor(channel, arch, number))
    return replace(body, floors=tuple(one for one in body.floors if one.manifest_version > 0))


def _covers(of: tuple[str, ...] | None, asked: Sequence[str]) -> bool:
    return of is None or set(asked).issubset(of)
