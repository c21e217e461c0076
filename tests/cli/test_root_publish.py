"""`p2pboot root publish` into a state that no node runs with: what is taken, what it takes away, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import Floor, PublishRole
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import content
from p2pboot.testing.manifests import DAY_S, key_of, signed_manifest
from p2pboot.testing.stores import offer
from p2pboot.testing.trustdocs import chain_of, next_root, root_body, signed_root
from tests.cli.conftest import NOW, Cli, Ran

FILES = {"kernel": content("kernel", 70_000), "initramfs": content("initramfs", 700)}
DATES: dict[str, Any] = {"created_at": NOW - 3600, "expires_at": NOW + 300 * DAY_S}


class Keeper:
    """Roots as files, and a state that is anchored at version 1."""

    def __init__(self, cli: Cli, directory: Path) -> None:
        self._cli = cli
        self._directory = directory
        self.state = directory / "state"
        Store.open(self.state).close()
        self.chain = chain_of(4, root_body(**DATES))
        self.first = self.file(self.chain[0])

    def file(self, root: Root) -> Path:
        path = self._directory / f"{root.version}-{root.digest[:8]}.json"
        path.write_bytes(root.raw + b"\n")
        return path

    def publish(self, *roots: Root, anchor: Root | None = None) -> Ran:
        named = self.first if anchor is None else self.file(anchor)
        files = [self.file(root) for root in roots]
        return self._cli("root", "publish", *files, "--state", self.state, "--root", named, "--json")

    def kept(self) -> list[bytes]:
        with Store.read(self.state) as store:
            return store.documents.roots(self.chain[0].digest)


@pytest.fixture
def keeper(cli: Cli, tmp_path: Path) -> Keeper:
    return Keeper(cli, tmp_path)


def test_a_chain_in_any_order_comes_into_force_and_is_known_from_then_on(keeper: Keeper) -> None:
    chain = keeper.chain
    done = keeper.publish(chain[2], chain[1])
    assert done.status == 0, done.stderr
    assert (done.document["before"], done.document["version"], done.document["digest"]) == (
        1,
        3,
        chain[2].digest,
    )
    assert (done.document["taken_away"], done.document["revoked"]) == ([], [])
    for again in (chain[2], chain[1]):
        done = keeper.publish(again)
        assert (done.status, done.document["before"], done.document["version"]) == (0, 3, 3)
    assert keeper.kept() == [root.raw for root in chain[:3]]


def test_a_version_that_is_missing_is_named_and_can_be_brought_alone_later(keeper: Keeper) -> None:
    chain = keeper.chain
    done = keeper.publish(chain[2])
    assert done.status == 1
    assert "root version 3 is not taken: the file of version 2 is missing; version 1 is in force" in (
        done.error_line
    )
    assert keeper.publish(chain[0]).status == 0
    # Somebody believes a later file without what is between: nobody can walk there from version 1.
    assert keeper.publish(chain[3], anchor=chain[3]).status == 0
    assert keeper.kept() == [chain[0].raw, chain[3].raw]
    done = keeper.publish(chain[1], anchor=chain[3])
    assert "the file of version 3 is missing; version 4 is in force" in done.error_line
    assert keeper.publish(chain[1], chain[2], anchor=chain[3]).document["version"] == 4
    assert keeper.kept() == [root.raw for root in chain]


def test_what_can_be_taken_of_a_chain_is_and_the_rest_is_refused(keeper: Keeper) -> None:
    chain = keeper.chain
    alone = next_root(chain[1], keys=[key_of("root 1")])
    done = keeper.publish(chain[1], alone)
    assert done.status == 1
    assert "root version 3 is not taken: root version 3 does not follow" in done.error_line
    assert "; version 2 is in force" in done.error_line
    assert keeper.kept() == [root.raw for root in chain[:2]]


def test_who_contradicts_or_belongs_to_others_is_refused(keeper: Keeper) -> None:
    chain = keeper.chain
    assert keeper.publish(chain[1]).status == 0
    done = keeper.publish(next_root(chain[0], name="another"))
    assert done.status == 1
    assert "two roots of version 2 are signed" in done.error_line
    for stranger in (
        signed_root(root_body(name="others", **DATES)),
        next_root(signed_root(root_body(name="others", **DATES))),
    ):
        done = keeper.publish(stranger)
        assert done.status == 1
        assert "of no fleet that is known here; nothing has changed" in done.error_line
    assert keeper.publish(chain[0]).document["version"] == 2


def test_roots_of_two_fleets_are_not_taken_together(keeper: Keeper) -> None:
    stranger = signed_root(root_body(name="another", **DATES))
    done = keeper.publish(stranger, keeper.chain[1])
    assert done.status == 2
    assert "roots of different fleets" in done.error_line
    assert keeper.publish(keeper.chain[0]).document["version"] == 1


def test_it_says_what_it_takes_away(keeper: Keeper) -> None:
    facts = {"arch": "x86_64", "created_at": NOW - 60, "expires_at": NOW + DAY_S}
    stable, testing = (
        signed_manifest(FILES, [key_of("publisher")], manifest_version=7, channel=channel, **facts)
        for channel in ("stable", "testing")
    )
    with Store.open(keeper.state) as store:
        for manifest in (stable, testing):
            offer(store, manifest, FILES)
    both = PublishRole((key_of("publisher").public.keyid,), channels=("stable", "testing"))
    first = signed_root(root_body(publish=(both,), **DATES))
    other = PublishRole((key_of("another").public.keyid,), channels=("stable",))
    rest = PublishRole((key_of("publisher").public.keyid,), channels=("testing",))
    second = next_root(first, publish=(other, rest), floors=(Floor("testing", "x86_64", 8),))
    done = keeper.publish(second, anchor=first)
    assert done.status == 0, done.stderr
    assert [
        (one["channel"], one["manifest_version"], one["reason"]) for one in done.document["taken_away"]
    ] == [
        ("stable", 7, "untrusted"),
        ("testing", 7, "floor"),
    ]
    with Store.read(keeper.state) as store:
        row = store.manifests.row(stable.digest)
        assert row is not None
        assert row.is_parked


def test_without_a_node_somebody_has_to_say_what_is_believed(keeper: Keeper, cli: Cli) -> None:
    done = cli("root", "publish", keeper.first, "--state", keeper.state)
    assert done.status == 3
    assert "no node is running" in done.error_line
    assert cli("root", "publish", "nothing.json", "--state", keeper.state).status == 2


def test_where_nobody_can_see_whether_a_node_runs_that_is_said(
    keeper: Keeper, cli: Cli, tmp_path: Path
) -> None:
    state = tmp_path / "loop"
    state.symlink_to(state)  # as a directory that this user may not enter, also for root
    done = cli("root", "publish", keeper.first, "--state", state)
    assert done.status == 4
    assert "reach the node at" in done.error_line
