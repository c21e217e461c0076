"""What a root changes: every signed difference to the version before, for people to read before they sign.

Nothing that is signed is left out: members that this program does not know are compared as JSON, so that nobody signs
what he was not shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from p2pboot.core.dataclass import dataclass
from p2pboot.core.trustdocs.root import Root

Place = tuple[str, ...]
"""Where something stands, in words: ("publish stable/x86_64", "threshold")."""

_PRESENT: Final = True  # what stands for a key that is there


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Args:
        place: where.
        before: what stood there, None for nothing; True stands for a key that was there. Members that this program does
            not know are JSON text.
        after: what stands there now, likewise.
    """

    place: Place
    before: Any
    after: Any

    @property
    def line(self) -> str:
        """One line for a person, that begins with +, - or ~."""
        place = ": ".join(self.place)
        if self.before is None:
            return f"+ {place}{_after_colon(self.after)}"
        if self.after is None:
            return f"- {place}{_after_colon(self.before)}"
        return f"~ {place}: {_shown(self.before)} -> {_shown(self.after)}"

    def to_json(self) -> dict[str, Any]:
        """For scripts; null is what is not there."""
        return {"place": list(self.place), "before": self.before, "after": self.after}


def changes(before: Root | None, after: Root) -> tuple[Change, ...]:
    """Every difference between two roots but for their signatures.

    Args:
        before: the version before; None: all of `after` is new.
        after: the root that is to be signed.
    """
    old = {} if before is None else dict(_facts(before.raw))
    new = dict(_facts(after.raw))
    places = [*new, *(place for place in old if place not in new)]
    return tuple(
        Change(place, old.get(place), new.get(place))
        for place in sorted(places, key=lambda one: (_ORDER.get(one[0].partition(" ")[0], len(_ORDER)), one))
        if old.get(place) != new.get(place)
    )


_ORDER: Final = {
    name: index
    for index, name in enumerate(
        (
            "name",
            "version",
            "fleet",
            "created_at",
            "expires_at",
            "on_expiry",
            "root",
            "publish",
            "snapshots",
            "floor",
        )
    )
}
_KNOWN: Final = frozenset(
    {"spec", "name", "version", "fleet", "created_at", "expires_at", "on_expiry", "signatures"}
)

_TYPED: Final = frozenset({"threshold", "required", "max_age_s", "manifest_version"})


def _facts(raw: bytes) -> Iterator[tuple[Place, Any]]:
    members = msgspec.json.decode(raw)
    for name, value in members.items():
        if name == "roles":
            yield from _roles(value)
        elif name == "floors":
            for one in value:
                yield from _floor(one)
        elif name not in _KNOWN:
            yield ("other member", name), _given("", value)
        elif name not in ("spec", "signatures"):
            yield (name,), value


def _roles(roles: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    for name, role in roles.items():
        if name == "publish":
            for one in role:
                yield from _role(f"publish {_names(one, 'channels')}/{_names(one, 'archs')}", one)
        elif name == "floors":
            for one in role:
                yield from _floor(one)
        elif name in ("root", "snapshots"):
            yield from _role(name, role)
        else:
            yield ("other role", name), _given("", role)


def _role(place: str, role: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    for name, value in role.items():
        if name == "keys":
            for keyid in value:
                yield (place, f"key {keyid}"), _PRESENT
        elif name == "freshness" and isinstance(value, Mapping):
            yield from _role(f"{place} freshness", value)
        elif name not in ("channels", "archs"):
            yield (place, name), _given(name, value)


def _floor(floor: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    place = f"floor {floor['channel']}/{floor['arch']}"
    for name, value in floor.items():
        if name not in ("channel", "arch"):
            yield (place, name), _given(name, value)


def _given(name: str, value: Any) -> Any:
    """What a member holds: as it is where its type is known, else as JSON: null is not nothing, and 1 is not true."""
    return value if name in _TYPED else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _names(role: Mapping[str, Any], member: str) -> str:
    return ",".join(sorted(role[member])) if member in role else "*"


def _after_colon(value: Any) -> str:
    return "" if value is _PRESENT else f": {_shown(value)}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
