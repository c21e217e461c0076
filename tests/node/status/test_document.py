"""The status document and its description: each has what the other has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2pboot.node.control import MAX_ANSWER
from p2pboot.node.status import SCHEMA, RunningNode, describe_node
from tests.node.status.filled import FLEET, FRESH, filled, running

DESCRIPTION = (Path(__file__).parents[3] / "docs" / "status.md").read_text()
MAPS = {"dht.requests", "dht.refused", "refused", "dropped_peers", "bytes_sent"}
"""Objects whose members are not named one by one."""


def described() -> set[str]:
    """The keys that the tables name."""
    rows = (line for line in DESCRIPTION.splitlines() if line.startswith("| `"))
    return {key for row in rows for key in re.findall(r"`([^`]+)`", row.split(" | ")[0])}


def keys_of(value: Any, path: str = "") -> Iterator[str]:
    """The key of everything in a document, as the tables write it."""
    if path in MAPS:
        yield f"{path}.*"
        return
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from keys_of(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner, f"{path}[]")


def of_lists(keys: set[str]) -> set[str]:
    """A list is in the tables by what is in it."""
    return {key for key in keys if f"{key}[]" not in keys}


def full_set(document: dict[str, Any]) -> set[str]:
    keys = of_lists(set(keys_of(document)))
    # What is there in place of something else, and what is likewise there of everything that is brought in.
    keys |= {"fetching[].artifacts[].held_of[]"}
    return keys - {"fetching[].artifacts[].held_of"}


def likewise(keys: set[str]) -> set[str]:
    """`fetching[]` has all that `heads[]` has."""
    return keys | {key.replace("heads[]", "fetching[]", 1) for key in keys}


def paths(keys: set[str]) -> set[str]:
    """All keys that these lead through: lists and objects on the way."""
    return {key[:end] for key in keys for end in (*_ends(key), len(key))}


def _ends(key: str) -> Iterator[int]:
    for number, character in enumerate(key):
        if character in ".[":
            yield number
        if character == "]":
            yield number + 1


def test_every_key_of_a_document_is_described_and_the_other_way_round(tmp_path: Path) -> None:
    document = describe_node(*filled(tmp_path))
    assert full_set(document) == likewise(described())


def test_a_document_is_plain_json(tmp_path: Path) -> None:
    document = describe_node(*filled(tmp_path))
    assert json.loads(json.dumps(document)) == document
    assert document["schema"] == SCHEMA


def test_a_node_that_knows_nothing_has_every_key_as_well(tmp_path: Path) -> None:
    """A reader needs no `if` but for what the description says may be null."""
    full, store, catalogue = filled(tmp_path)
    bare = describe_node(RunningNode(peer_id=full.peer_id, uptime_s=0.0), store, catalogue)
    whole = describe_node(full, store, catalogue)
    assert bare.keys() == whole.keys()
    assert bare["flows"].keys() == whole["flows"].keys()


@pytest.mark.parametrize("key", ["peers", "heads", "fetching", "store", "problems", "withheld", "traffic"])
def test_what_scripts_have_read_so_far_is_still_there(tmp_path: Path, key: str) -> None:
    assert describe_node(*filled(tmp_path))[key]


def test_the_fullest_document_fits_into_an_answer(tmp_path: Path) -> None:
    full, store, catalogue = filled(tmp_path)
    most = running(dict(full.on_their_way), peers=1000, clients=64)
    document = describe_node(most, store, catalogue)
    assert (document["peers_total"], len(document["peers"])) == (1000, 256)
    assert len(json.dumps(document)) < MAX_ANSWER // 8


def test_what_roots_and_statements_say_is_there(tmp_path: Path) -> None:
    trust = describe_node(*filled(tmp_path))["trust"]
    (root,) = trust["roots"]
    assert (root["name"], root["version"], root["fleet"], root["expires_in_s"]) == ("ops", 1, FLEET, 3600)
    assert root["publishers"][0]["freshness_keys"] == [FRESH.public.keyid]
    pairs = {(one["channel"], one["arch"]): one for one in trust["pairs"]}
    said = pairs["stable", "x86_64"]
    assert (said["statement"]["head"], said["statement"]["minimum"], said["statement"]["age_s"]) == (1, 1, 60)
    assert pairs["old", "x86_64"]["statement"] is None
    assert trust["evidence"] == 0
    (rollout,) = trust["rollouts"]
    assert (rollout["into"], rollout["fraction"], rollout["ended"]) == ("stable", 0.25, None)


def test_a_peer_with_a_lower_number_than_is_known_is_behind(tmp_path: Path) -> None:
    node, store, catalogue = filled(tmp_path)
    numbers = {("stable", "x86_64"): 1, ("old", "x86_64"): 1, ("unheard", "x86_64"): 1}
    shown = [replace(node.shown[0], numbers=numbers)]
    (peer,) = describe_node(replace(node, shown=shown), store, catalogue)["peers"]
    assert peer["behind"] == 1  # version 2 of stable is on its way
