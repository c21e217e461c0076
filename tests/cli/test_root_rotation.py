"""Taking publish keys away: whose manifests lose their threshold, and where numbers begin again."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pboot.core.identity import SecretKey
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import Floor, Role
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import sample, write_image
from p2pboot.testing.manifests import ALICE, BOB, CAROL, DAY_S, key_of
from p2pboot.testing.stores import offer
from tests.cli.conftest import NOW, Cli, key_file, manifest_bytes
from tests.store.samples import manifest

ROOT = key_of("root")
HIGHEST = 2**53 - 1
PAIR = ("--channel", "stable", "--arch", "arm64")


def ids(*keys: SecretKey) -> list[str]:
    return [key.public.keyid for key in keys]


def publish(
    state: Path, version: int, *keys: SecretKey, channel: str = "stable", created_at: int = NOW - 60
) -> None:
    """Have a node's state hold a manifest, as the head of its series, and remember it."""
    samples = (sample(1, seed=1), sample(2, seed=2, key="initramfs"))
    made = manifest(version, *samples, keys=keys, channel=channel, created_at=created_at)
    with Store.open(state) as store:
        offer(store, made, {one.artifact.key: one.data for one in samples})
        store.trust.accept(made)


def again(name: str, version: int, *keys: SecretKey, **said: object) -> Path:
    """A manifest of the same channel, signed anew."""
    Path(name).write_bytes(manifest_bytes(*keys, manifest_version=version, **said))  # type: ignore[arg-type]
    return Path(name)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def begin(cli: Cli, *keys: SecretKey, threshold: int = 1, more: tuple[object, ...] = ()) -> None:
    """Version 1, where these publish."""
    key_file(Path("root.toml"), ROOT)
    said = ["--publish-key", *ids(*keys), "--publish-threshold", str(threshold), *more]
    assert cli("root", "init", "--name", "fleet", *said, "--key", "root.toml", "--out", "1.json").status == 0


def removing(key: SecretKey, state: Path) -> tuple[str | Path, ...]:
    """The command that makes 2.json without a publish key."""
    return ("root", "remove-key", "publish", key.public.keyid, "1.json", "--state", state, "--out", "2.json")


def sign(cli: Cli, name: str) -> Root:
    done = cli("root", "sign", name, "--key", "root.toml", "--yes")
    assert done.status == 0, done.stderr
    return Root.parse(Path(name).read_bytes())


def test_a_stolen_key_that_signed_the_highest_number_is_removed_and_machines_boot_again(
    cli: Cli, state: Path
) -> None:
    begin(cli, ALICE, BOB)
    publish(state, 17, ALICE)
    publish(state, HIGHEST, ALICE)  # by the thief
    remove = removing(ALICE, state)
    refused = cli(*remove)
    assert refused.status == 1
    assert "machines would find nothing to boot any more for stable/arm64" in refused.error_line
    assert f"version {HIGHEST}" in refused.stderr
    assert not Path("2.json").exists()
    new = again("new.json", 18, BOB)
    done = cli(*remove, "--manifest", new)
    assert done.status == 0
    assert "stable/arm64: nothing below version 18 will be taken" in done.stderr
    root = sign(cli, "2.json")
    assert root.body.floors == (Floor("stable", "arm64", 18),)
    verify = ("--root", "2.json", *PAIR)
    remembering = cli("manifest", "verify", new, *verify, "--state", state)
    assert remembering.status == 0, remembering.stdout
    stolen = again("stolen.json", HIGHEST - 1, ALICE)
    assert cli("manifest", "verify", stolen, *verify).status == 1
    old = again("old.json", 3, BOB)  # for a machine without memory
    assert cli("manifest", "verify", old, *verify).status == 1
    assert cli("manifest", "verify", old, "--root", "1.json", *PAIR).status == 0


def test_what_was_signed_by_enough_of_those_who_stay_needs_nothing(cli: Cli, state: Path) -> None:
    begin(cli, ALICE, BOB, CAROL, threshold=2)
    publish(state, 17, ALICE, BOB)
    done = cli(*removing(CAROL, state))
    assert done.status == 0
    assert sign(cli, "2.json").body.floors == (Floor("stable", "arm64", 17),)


def test_a_threshold_that_is_lost_is_named_and_force_goes_on(cli: Cli, state: Path) -> None:
    begin(cli, ALICE, BOB, CAROL, threshold=2)
    publish(state, 17, ALICE, BOB)
    publish(state, 4, ALICE, CAROL, channel="testing")
    publish(state, 2, BOB, CAROL, channel="quiet")
    remove = removing(ALICE, state)
    refused = cli(*remove)
    assert "stable/arm64, testing/arm64;" in refused.error_line
    partly = cli(*remove, "--manifest", again("new.json", 18, BOB, CAROL))
    assert "for testing/arm64;" in partly.error_line
    low = cli(*remove, "--manifest", again("low.json", 18, BOB))  # too few of them
    assert "stable/arm64, testing/arm64;" in low.error_line
    assert cli(*remove, "--force", "--floor", "testing/arm64=5").status == 0
    assert sign(cli, "2.json").body.floors == (Floor("quiet", "arm64", 2), Floor("testing", "arm64", 5))


def test_what_is_rolled_out_is_named_and_stops_nobody(cli: Cli, state: Path) -> None:
    begin(cli, ALICE, BOB)
    publish(state, 17, BOB)
    publish(state, 3, ALICE, channel="stable.next")  # machines have the channel's
    done = cli(*removing(ALICE, state))
    assert done.status == 0
    assert "stable.next/arm64: version 3" in done.stderr


def test_what_is_remembered_of_those_who_stay_binds_what_they_sign_anew(cli: Cli, state: Path) -> None:
    begin(cli, ALICE, BOB)
    publish(state, 17, ALICE)
    with Store.open(state) as store:  # its files are gone
        store.trust.accept(manifest(19, keys=(BOB,), created_at=NOW - 60))
    remove = (
        *("root", "remove-key", "publish", ALICE.public.keyid, "1.json"),
        "--state",
        state,
        "--out",
        "2.json",
    )
    assert cli(*remove, "--manifest", again("low.json", 18, BOB)).status == 1
    assert cli(*remove, "--manifest", again("new.json", 20, BOB)).status == 0
    assert sign(cli, "2.json").body.floors == (Floor("stable", "arm64", 20),)


@pytest.mark.parametrize("option", ["--publish-threshold 2", "--channel stable --new-channel other"])
def test_whatever_takes_the_right_away_is_looked_at(cli: Cli, state: Path, option: str) -> None:
    begin(cli, ALICE, BOB, more=("--channel", "stable"))
    publish(state, 17, ALICE)
    done = cli("root", "set", "1.json", "--out", "2.json", *option.split(), "--state", state)
    assert done.status == 1
    assert "nothing to boot any more for stable/arm64" in done.error_line
    unknown = cli("root", "set", "1.json", "--out", "2.json", *option.split())
    assert unknown.status == 2
    assert "what is published is not known here" in unknown.error_line


def test_what_is_only_remembered_is_named_too(cli: Cli, state: Path) -> None:
    begin(cli, ALICE, BOB)
    manifest_file = again("17.json", 17, ALICE)
    verified = cli("manifest", "verify", manifest_file, "--root", "1.json", *PAIR, "--state", state)
    assert verified.status == 0
    remove = removing(ALICE, state)
    assert "nothing to boot any more for stable/arm64" in cli(*remove).error_line


def test_what_was_built_with_a_publishers_state_counts_for_it(cli: Cli, state: Path) -> None:
    begin(cli, ALICE, BOB)
    write_image(Path("images"), {"vmlinuz": 1000, "initrd.img": 1000})
    remove = removing(ALICE, state)
    for key, status in ((ALICE, 1), (BOB, 0)):
        path = key_file(Path("key.toml"), key)
        built = cli("manifest", "build", "images", *PAIR, "--key", path, "--state", state, "-o", "m.json")
        assert built.status == 0, built.stderr
        assert cli(*remove).status == status


def test_what_expired_endangers_nothing(cli: Cli, state: Path) -> None:
    begin(cli, ALICE, BOB)
    publish(state, 17, ALICE, created_at=NOW - 40 * DAY_S)
    done = cli(*removing(ALICE, state))
    assert done.status == 0
    assert sign(cli, "2.json").body.floors == ()


def test_a_number_that_nobody_reaches_is_no_floor(cli: Cli, state: Path) -> None:
    begin(cli, ALICE, BOB, CAROL)
    publish(state, 17, ALICE)
    publish(state, HIGHEST, BOB)
    remove = removing(ALICE, state)
    refused = cli(*remove)
    assert refused.status == 2
    assert f"version {HIGHEST} is signed by {BOB.public.keyid}" in refused.error_line
    assert "--floor stable/arm64=N" in refused.error_line
    cli(*remove, "--force", "--floor", "stable/arm64=18")
    both = cli(
        "root", "remove-key", "publish", BOB.public.keyid, "2.json", "--manifest", again("n.json", 18, CAROL)
    )
    assert both.status == 0
    assert sign(cli, "2.json").body.floors == (Floor("stable", "arm64", 18),)


def test_the_keys_and_numbers_that_machines_trust_already_go_on(cli: Cli, state: Path) -> None:
    publish(state, 17, ALICE, BOB)
    Path("mirror.toml").write_text(
        f"[snapshots]\ntrust = {ids(CAROL)}\n"
        f"[[trust]]\nkeys = {ids(ALICE, BOB, CAROL)}\nthreshold = 2\nchannels = ['stable']\n"
        f"[[trust]]\nkeys = {ids(key_of('other'))}\nchannels = ['testing']\n"
    )
    key_file(Path("root.toml"), ROOT)
    said = ("--name", "fleet", "--from-trust", "mirror.toml", "--state", state, "--key", "root.toml")
    done = cli("root", "init", *said, "--out", "1.json")
    assert done.status == 0, done.stderr
    root = Root.parse(Path("1.json").read_bytes())
    assert [(one.keys, one.threshold, one.channels) for one in root.body.publish] == [
        (tuple(sorted(ids(ALICE, BOB, CAROL))), 2, ("stable",)),
        (tuple(ids(key_of("other"))), 1, ("testing",)),
    ]
    assert root.body.snapshots == Role(tuple(ids(CAROL)))
    assert root.body.floors == (Floor("stable", "arm64", 17),)
    verify = ("--root", "1.json", *PAIR, "--state", state)
    assert cli("manifest", "verify", again("old.json", 16, ALICE, BOB), *verify).status == 1
    assert cli("manifest", "verify", again("new.json", 18, BOB, CAROL), *verify).status == 0
