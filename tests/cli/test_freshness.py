"""`p2pboot freshness` without a node: for files that are carried, and for a state that nobody uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pboot.core.manifest import Manifest
from p2pboot.core.timestamps import format_time
from p2pboot.core.trustdocs.envelope import add_signature
from p2pboot.core.trustdocs.freshness import SETTLE_S, Freshness
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import FreshnessRule, PublishRole, Role, RootBody
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import content
from p2pboot.testing.manifests import ALICE, BOB, CAROL, DAY_S, STRANGER, signed_manifest
from p2pboot.testing.stores import offer
from tests.cli.conftest import NOW, Cli, key_file, manifest_bytes

FILES = {"kernel": content("kernel", 70_000), "initramfs": content("initramfs", 700)}


@pytest.fixture
def key(bob_file: Path) -> Path:
    """The freshness key: Alice publishes."""
    return bob_file


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.json"
    path.write_bytes(manifest_bytes(ALICE))
    return path


def root_file(path: Path, *freshness: str) -> Path:
    rule = FreshnessRule(freshness) if freshness else None
    body = RootBody(
        name="test",
        version=1,
        created_at=NOW - 60,
        expires_at=None,
        on_expiry="warn",
        root=Role((CAROL.public.keyid,)),
        publish=(PublishRole((ALICE.public.keyid,), freshness=rule),),
    )
    path.write_bytes(add_signature(body.document(), CAROL))
    return path


def read(path: Path) -> Freshness:
    return Freshness.parse(path.read_bytes())


def test_a_statement_of_a_carried_manifest_is_written(
    cli: Cli, key: Path, manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "freshness.json"
    done = cli("freshness", "sign", "--key", key, "--manifest", manifest, "--out", out, wall=lambda: NOW)
    assert done.status == 0, done.stderr
    body = read(out).body
    assert (body.root_version, body.head_version, body.minimum) == (0, 7, 0)
    assert (body.created_at, body.valid_until, body.signers) == (NOW, NOW + DAY_S, (BOB.public.keyid,))
    shown = cli("freshness", "show", out, wall=lambda: NOW + 3 * 3600)
    assert f"signed     {format_time(NOW)}, 3 h ago by this machine's clock" in shown.stdout
    assert "minimum    manifest version 0" in shown.stdout
    dead = cli("freshness", "show", out, "--json", wall=lambda: 7).document
    assert (dead["clock"]["trusted"], dead["statements"][0]["age_s"]) == (False, None)


def test_what_was_vouched_for_an_hour_ago_is_insisted_on(
    cli: Cli, key: Path, manifest: Path, tmp_path: Path
) -> None:
    first, second, newer = (tmp_path / name for name in ("first", "second", "newer.json"))
    newer.write_bytes(manifest_bytes(ALICE, manifest_version=9))
    sign = ("freshness", "sign", "--key", key)
    begun = cli(*sign, "--manifest", manifest, "--out", first, wall=lambda: NOW)
    assert begun.status == 0
    assert "evidence against this key" in begun.stderr
    rest = ("--manifest", newer, "--previous", first, "--out", second)
    gone_on = cli(*sign, *rest, wall=lambda: NOW)
    assert gone_on.status == 0
    assert "evidence" not in gone_on.stderr
    assert (read(second).body.created_at, read(second).body.minimum) == (
        NOW + 1,
        0,
    )  # two of a second contradict
    assert cli(*sign, *rest, wall=lambda: NOW + SETTLE_S).status == 0
    assert (read(second).body.head_version, read(second).body.minimum) == (9, 7)
    assert cli(*sign, *rest, "--urgent", wall=lambda: NOW + 60).status == 0
    assert read(second).body.minimum == 9
    rest = ("--manifest", newer, "--previous", second, "--out", first)
    assert cli(*sign, *rest, "--minimum", "8", wall=lambda: NOW + 99).status == 2
    rest = ("--manifest", manifest, "--previous", second, "--out", first)
    assert "version 9 was vouched for already" in cli(*sign, *rest, wall=lambda: NOW + 99).error_line


def test_what_makes_no_statement_is_one_clear_line(
    cli: Cli, key: Path, manifest: Path, alice_file: Path
) -> None:
    sign = ("freshness", "sign", "--manifest", manifest)
    assert "no freshness key" in cli(*sign, "--key", alice_file).error_line
    assert "can not be believed" in cli(*sign, "--key", key, wall=lambda: 7).error_line
    assert "--valid" in cli(*sign, "--key", key, "--valid", "5s").error_line
    assert "both say" in cli(*sign, "--key", key, "--urgent", "--minimum", "1").error_line
    assert "belong to --manifest" in cli("freshness", "sign", "--key", key, "--out", "x").error_line
    assert str(manifest) in cli("freshness", "show", manifest).error_line


def test_a_root_says_for_which_fleet_and_who_may_say_it(
    cli: Cli, key: Path, manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "freshness.json"
    sign = ("freshness", "sign", "--key", key, "--manifest", manifest, "--out", out)
    root = root_file(tmp_path / "root.json", BOB.public.keyid)
    assert cli(*sign, "--root", root).status == 0
    assert (read(out).body.fleet, read(out).body.root_version) == (Root.parse(root.read_bytes()).digest, 1)
    other = root_file(tmp_path / "other.json", STRANGER.public.keyid)
    assert "the root does not name" in cli(*sign, "--root", other).error_line
    manifest.write_bytes(manifest_bytes(STRANGER))
    assert "not signed by enough" in cli(*sign, "--root", root).error_line


def test_a_state_is_vouched_for_where_no_node_runs(cli: Cli, key: Path, tmp_path: Path) -> None:
    dates = {"created_at": NOW - 60, "expires_at": NOW + DAY_S}
    with Store.open(tmp_path / "state") as store:
        for number in (1, 2):
            offer(store, signed_manifest(FILES, [ALICE], manifest_version=number, **dates), FILES)
    state = ("--state", tmp_path / "state")
    root = root_file(tmp_path / "root.json", BOB.public.keyid)
    assert cli("freshness", "show", *state, "--json").document["statements"] == []
    assert cli("freshness", "sign", "--key", key, *state).status == 3
    refused = cli(
        "freshness", "sign", "--key", key_file(tmp_path / "other", STRANGER), *state, "--root", root
    )
    assert "nobody named" in refused.error_line
    for minimum, at in ((0, NOW), (2, NOW + SETTLE_S)):
        done = cli("freshness", "sign", "--key", key, *state, "--root", root, "--json", wall=lambda at=at: at)
        assert done.status == 0, done.stderr
        (said,) = done.document["statements"]
        assert (said["head"]["manifest_version"], said["minimum"]) == (2, minimum)
    (shown,) = cli("freshness", "show", *state, "--root", root, "--json").document["statements"]
    assert shown["created_at"] == format_time(NOW + SETTLE_S)
    with Store.read(tmp_path / "state") as store:
        assert Manifest.parse(store.manifests.get(shown["head"]["digest"]).raw).manifest_version == 2  # type: ignore[union-attr]
