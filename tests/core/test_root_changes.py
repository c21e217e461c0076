"""What a root changes: nothing that is signed is left out, whatever it is called."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.jsonform import canonical
from p2pboot.core.trustdocs.changes import changes
from p2pboot.core.trustdocs.envelope import unsigned
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import Floor, FreshnessRule, PublishRole, Role, RootBody
from p2pboot.errors import Malformed
from p2pboot.testing.manifests import ALICE, BOB, CAROL, CREATED
from tests.vectors.trust import form

BODY = RootBody(
    name="fleet",
    version=1,
    created_at=CREATED,
    expires_at=None,
    root=Role((ALICE.public.keyid,)),
    publish=(
        PublishRole((BOB.public.keyid,), 1, ("stable",), None, FreshnessRule((CAROL.public.keyid,))),
        PublishRole((BOB.public.keyid,), 1, ("testing",), ("arm64",)),
    ),
    snapshots=Role((BOB.public.keyid,)),
    floors=(Floor("stable", "arm64", 3),),
)
PLACES: tuple[tuple[str | int, ...], ...] = (
    (),
    ("roles",),
    ("roles", "root"),
    ("roles", "publish", 0),
    ("roles", "publish", 0, "freshness"),
    ("roles", "publish", 1),
    ("roles", "snapshots"),
    ("floors", 0),
)
NAMES = st.sampled_from(
    ["x", "root", "root: threshold", "publish stable/*", "floor stable/arm64", "key", "other member"]
)
VALUES = st.sampled_from([None, "null", 1, True, False, "1", [], {}, [1], [True], {"a": None}, {"a": "null"}])


def with_members(added: list[tuple[tuple[str | int, ...], str, Any]]) -> Root:
    members = copy.deepcopy(BODY.members())
    for place, name, value in added:
        found: Any = members
        for step in place:
            found = found[step]
        found.setdefault(name, value)
    return Root.parse(unsigned(members))


ADDED = st.lists(st.tuples(st.sampled_from(PLACES), NAMES, VALUES), max_size=3)


@given(ADDED, ADDED)
def test_whatever_differs_in_what_is_signed_is_a_change(
    one: list[tuple[tuple[str | int, ...], str, Any]], other: list[tuple[tuple[str | int, ...], str, Any]]
) -> None:
    before, after = with_members(one), with_members(other)
    found = changes(before, after)
    assert bool(found) is (before.digest != after.digest)
    assert len({change.line for change in found}) == len(found)
    canonical([change.to_json() for change in found])


def test_each_part_is_said_in_a_line_of_its_own() -> None:
    lines = [change.line for change in changes(None, Root.parse(BODY.document()))]
    assert f"+ publish stable/* freshness: key {CAROL.public.keyid}" in lines
    assert "+ publish testing/arm64: threshold: 1" in lines
    assert "+ floor stable/arm64: manifest_version: 3" in lines
    assert "+ expires_at: never" in lines


def test_a_floor_among_the_roles_is_a_floor() -> None:
    floor = {"channel": "stable", "arch": "x86_64", "manifest_version": 5}
    plain = form.root()
    among = plain | {"roles": plain["roles"] | {"floors": [floor]}}
    found = Root.parse(form.document(among, form.R1, form.R2))
    assert found.body.floor("stable", "x86_64") == 5
    lines = [one.line for one in changes(Root.parse(form.document(plain, form.R1, form.R2)), found)]
    assert lines == ["+ floor stable/x86_64: manifest_version: 5"]
    with pytest.raises(Malformed, match="twice"):
        Root.parse(form.document(among | {"floors": [floor]}, form.R1, form.R2))
