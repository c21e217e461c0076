"""Roots as their keepers make them: files that are carried, signed on several machines, and checked anywhere."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.identity import SecretKey
from p2pboot.core.timestamps import format_time
from p2pboot.core.trustdocs.envelope import add_signature, unsigned
from p2pboot.core.trustdocs.root import Root
from p2pboot.store import keyfiles
from p2pboot.testing.manifests import key_of
from p2pboot.testing.processes import PYTHON
from tests.cli.conftest import Cli, Ran, key_file
from tests.terminals import terminal_with

KEYS = [key_of(f"root {number}") for number in range(5)]
PUBLISHER, OTHER, FRESH = (key_of(name) for name in ("publisher", "other publisher", "fresh"))


def ids(*keys: SecretKey) -> list[str]:
    return [key.public.keyid for key in keys]


@pytest.fixture
def files(tmp_path: Path) -> dict[SecretKey, Path]:
    """Each key's file."""
    return {key: key_file(tmp_path / f"key{number}.toml", key) for number, key in enumerate((*KEYS, OTHER))}


def make(
    cli: Cli, *more: str, out: str = "1.json", keys: Sequence[SecretKey] = KEYS, threshold: int = 3
) -> Ran:
    said = ["--name", "fleet", "--threshold", str(threshold), "--publish-key", *ids(PUBLISHER)]
    return cli("root", "init", *said, "--root-key", *ids(*keys), "--out", out, *more)


def sign(cli: Cli, name: str, files: dict[SecretKey, Path], *keys: SecretKey) -> Ran:
    options = [word for key in keys for word in ("--key", files[key])]
    return cli("root", "sign", name, *options, "--yes")


@pytest.fixture
def first(cli: Cli, files: dict[SecretKey, Path]) -> Path:
    """Version 1, signed by three of five."""
    assert make(cli).status == 0
    assert sign(cli, "1.json", files, *KEYS[:3]).status == 0
    return Path("1.json")


def test_who_signs_while_another_one_is_asked_loses_no_signature(
    cli: Cli, files: dict[SecretKey, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make(cli).status == 0
    load_key = keyfiles.load_key

    def one_signs_meanwhile(path: Path, **options: Any) -> SecretKey:
        monkeypatch.setattr(keyfiles, "load_key", load_key)
        assert sign(cli, "1.json", files, KEYS[1]).status == 0
        return load_key(path, **options)

    monkeypatch.setattr(keyfiles, "load_key", one_signs_meanwhile)
    assert sign(cli, "1.json", files, KEYS[0]).status == 0
    assert set(Root.parse(Path("1.json").read_bytes().strip()).signed_by) == set(ids(*KEYS[:2]))


def test_of_a_root_that_expired_it_is_said_which_step_is_next(
    cli: Cli, files: dict[SecretKey, Path], first: Path
) -> None:
    expires_at = Root.parse(first.read_bytes()).body.expires_at
    assert expires_at is not None
    assert "expired" not in cli("root", "verify", first, wall=lambda: expires_at - 1).stdout
    done = cli("root", "verify", first, wall=lambda: expires_at + 86_400)
    assert done.status == 0
    assert "it expired 1 d ago: make the next (p2pboot root set FILE --out NEW)" in done.stdout


def test_thirty_versions_are_signed_by_any_three_of_five_and_each_is_verified(
    cli: Cli, files: dict[SecretKey, Path], first: Path
) -> None:
    carried = [first]
    for version in range(2, 31):
        name = f"{version}.json"
        assert cli("root", "set", carried[-1], "--name", f"fleet {version}", "--out", name).status == 0
        for index in range(3):
            assert cli("root", "verify", *carried, name).status == 1  # it lacks signatures
            assert sign(cli, name, files, KEYS[(version + 2 * index) % 5]).status == 0
        carried.append(Path(name))
        done = cli("root", "verify", *reversed(carried), "--json")
        assert (done.status, done.document["version"]) == (0, version)
        assert done.document["fleet"] == Root.parse(first.read_bytes()).digest
    one_missing = [*carried[:9], *carried[10:]]
    assert "version 10 is missing" in cli("root", "verify", *one_missing).error_line


def test_signing_says_what_changes_and_whose_signatures_are_missing(
    cli: Cli, files: dict[SecretKey, Path], first: Path
) -> None:
    cli("root", "remove-key", "root", KEYS[0].public.keyid, first, "--out", "2.json")
    cli("root", "add-key", "root", OTHER.public.keyid, "2.json")
    done = sign(cli, "2.json", files, OTHER)
    assert f"  - root: key {KEYS[0].public.keyid}" in done.stderr
    assert f"  + root: key {OTHER.public.keyid}" in done.stderr
    assert "version 1's root keys: 0 of 3 signatures, 3 missing" in done.stderr
    assert "version 2's root keys: 1 of 3 signatures, 2 missing" in done.stderr
    sign(cli, "2.json", files, KEYS[0], KEYS[1])  # who is removed has a say in his removal
    last = sign(cli, "2.json", files, KEYS[2])
    digest = Root.parse(Path("2.json").read_bytes()).digest
    assert f"--root sha256:{digest}" in last.stderr
    assert cli("root", "verify", "2.json", first).status == 0


def test_copies_signed_in_parallel_are_put_together(
    cli: Cli, files: dict[SecretKey, Path], tmp_path: Path
) -> None:
    make(cli)
    for number, key in enumerate(KEYS[:3]):
        (tmp_path / f"copy{number}").write_bytes(Path("1.json").read_bytes())
        sign(cli, f"copy{number}", files, key)
    done = cli("root", "sign", "1.json", "--merge", "copy0", "--merge", "copy1", "--merge", "copy2")
    assert (done.status, cli("root", "verify", "1.json").status) == (0, 0)
    make(cli, "--on-expiry", "refuse", out="other.json")
    done = cli("root", "sign", "1.json", "--merge", "other.json")
    assert done.status == 1
    assert "that is no copy of it" in done.error_line


def test_nothing_is_signed_unread(cli: Cli, files: dict[SecretKey, Path], tmp_path: Path) -> None:
    make(cli)
    before = Path("1.json").read_bytes()
    done = cli("root", "sign", "1.json", "--key", files[KEYS[0]])
    assert done.status == 2
    assert "nobody can be asked" in done.error_line
    assert f"  + publish */*: key {PUBLISHER.public.keyid}" in done.stderr
    for answer, signatures in (("n", 0), ("y", 1)):
        command = [*PYTHON, "root", "sign", "1.json", "--key", str(files[KEYS[0]])]
        with terminal_with(command, tmp_path) as terminal:
            terminal.wait_for("Sign this with")
            terminal.type(f"{answer}\n")
            terminal.wait()
        assert len(Root.parse(Path("1.json").read_bytes()).signed_by) == signatures
        assert (Path("1.json").read_bytes() == before) is (signatures == 0)


def test_members_that_are_not_known_here_are_shown_before_they_are_signed(
    cli: Cli, files: dict[SecretKey, Path]
) -> None:
    make(cli)
    members = json.loads(Path("1.json").read_bytes())
    del members["signatures"]
    members["root"] = {"keys": "other"}
    members["roles"]["publish"][0]["also"] = ["x"]
    Path("new.json").write_bytes(unsigned(members))
    done = sign(cli, "new.json", files, KEYS[0])
    assert '  + other member: root: {"keys": "other"}' in done.stderr
    assert '  + publish */*: also: ["x"]' in done.stderr


def changed(raw: bytes, *keys: SecretKey, **said: object) -> bytes:
    members = {**json.loads(raw), **said}
    del members["signatures"]
    raw = unsigned(members)
    for key in keys:
        raw = add_signature(raw, key)
    return raw


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"version": 4}, "what it changes can not be shown"),
        ({"expires_at": "2020-01-01T00:00:00Z", "created_at": "2019-01-01T00:00:00Z"}, "expired at"),
        ({"created_at": format_time(int(time.time()) + 86_400), "expires_at": "never"}, "is dated"),
        ({"created_at": "2020-01-01T00:00:00Z"}, "before version 1"),
        ({"fleet": None}, "does not say of which fleet"),
        ({"fleet": "0" * 64}, "what it changes can not be shown"),  # the one beside it is another fleet's
    ],
    ids=["gap", "expired", "ahead", "behind", "no fleet", "another fleet"],
)
def test_what_nobody_must_sign_is_refused(
    cli: Cli, files: dict[SecretKey, Path], first: Path, said: dict[str, object], words: str
) -> None:
    cli("root", "set", first, "--out", "2.json")
    raw = changed(Path("2.json").read_bytes(), **said)
    if said.get("fleet", "") is None:
        members = json.loads(raw)
        del members["fleet"], members["signatures"]
        raw = unsigned(members)
    Path("2.json").write_bytes(raw)
    done = sign(cli, "2.json", files, KEYS[0])
    assert done.status == 1
    assert words in done.error_line
    assert Path("2.json").read_bytes() == raw


def test_a_key_without_a_say_and_a_nodes_own_key_do_not_sign(
    cli: Cli, files: dict[SecretKey, Path], first: Path, tmp_path: Path
) -> None:
    cli("root", "set", first, "--out", "2.json")
    assert "is no root key of version 1 or version 2" in sign(cli, "2.json", files, OTHER).error_line
    (tmp_path / "keys").mkdir()
    key_file(tmp_path / "keys/node.toml", KEYS[4])
    done = sign(cli, "2.json", files, KEYS[0])
    assert "is the identity of a node" in done.error_line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--freshness-key", *ids(PUBLISHER)], "says what is fresh, and publishes"),
        (["--snapshot-key", *ids(KEYS[0])], "has another role"),
        (["--freshness-required"], "nobody says what is fresh"),
        (["--publish-threshold", "2"], "would have 1 keys, and needs 2"),
        (["--expires-in", "11y"], "between 1 second and 10 years"),
        (["--floor", "stable=3"], "CHANNEL/ARCH=N"),
        (["--arch", "vax"], "architecture 'vax' is not known"),
    ],
)
def test_a_root_that_contradicts_itself_is_not_made(cli: Cli, options: list[str], words: str) -> None:
    done = make(cli, *options)
    assert done.status == 2
    assert words in done.error_line
    assert not Path("1.json").exists()


def test_signatures_without_a_say_are_left_out(cli: Cli, files: dict[SecretKey, Path], first: Path) -> None:
    Path("x.json").write_bytes(add_signature(first.read_bytes(), OTHER))
    assert cli("root", "verify", "x.json").status == 1
    assert sign(cli, "x.json", files, KEYS[3]).status == 0
    assert cli("root", "verify", "x.json").status == 0


def test_how_many_of_several_root_keys_must_sign_is_said(cli: Cli) -> None:
    said = ("--name", "fleet", "--publish-key", *ids(PUBLISHER), "--root-key", *ids(*KEYS), "--out", "1.json")
    done = cli("root", "init", *said)
    assert done.status == 2
    assert "--threshold 3" in done.error_line


def test_two_publishers_of_one_pair_are_not_made(cli: Cli, first: Path) -> None:
    more = ("--add-publisher", "--publish-key", OTHER.public.keyid, "--channel", "stable", "--out", "2.json")
    done = cli("root", "set", first, *more)
    assert done.status == 2
    assert "two roles cover one channel and arch" in done.error_line


def test_a_draft_that_was_made_with_a_wrong_clock_gets_the_right_date(
    cli: Cli, files: dict[SecretKey, Path], first: Path
) -> None:
    year_s = 365 * 86_400
    assert (
        cli("root", "set", first, "--out", "2.json", wall=lambda: int(time.time()) + 4 * year_s).status == 0
    )
    assert "is dated" in sign(cli, "2.json", files, KEYS[0]).error_line
    assert cli("root", "set", "2.json").status == 0
    assert sign(cli, "2.json", files, KEYS[0]).status == 0
    assert cli("root", "set", first, "--out", "3.json", wall=lambda: 0).status == 0  # a dead clock
    made = Root.parse(Path("3.json").read_bytes())
    assert made.body.created_at == Root.parse(first.read_bytes()).body.created_at


def test_scripts_are_told_what_was_made_and_what_is_missing(cli: Cli, files: dict[SecretKey, Path]) -> None:
    made = make(cli, "--floor", "stable/amd64=7", "--json").document
    assert (made["version"], made["complete"], made["fleet"]) == (1, False, made["digest"])
    assert made["floors"] == [{"channel": "stable", "arch": "x86_64", "manifest_version": 7}]
    options = [word for key in KEYS[:3] for word in ("--key", files[key])]
    done = cli("root", "sign", "1.json", *options, "--yes", "--json").document
    assert (done["complete"], [one["missing"] for one in done["missing"]]) == (True, [0])
    after = cli(
        "root", "add-key", "snapshots", OTHER.public.keyid, "1.json", "--out", "2.json", "--json"
    ).document
    assert (after["complete"], [one["missing"] for one in after["missing"]]) == (False, [3, 3])


def test_a_draft_of_version_1_may_say_anything_else(cli: Cli) -> None:
    make(cli)
    assert cli("root", "add-key", "publish", OTHER.public.keyid, "1.json").status == 0
    assert cli("root", "remove-key", "publish", PUBLISHER.public.keyid, "1.json").status == 0


def test_a_draft_is_changed_in_place_and_what_is_signed_never(
    cli: Cli, files: dict[SecretKey, Path], first: Path
) -> None:
    signed = first.read_bytes()
    done = cli("root", "set", first, "--name", "other")
    assert "is signed, and stays as it is" in done.error_line
    assert cli("root", "set", first, "--name", "other", "--out", first).status == 2
    cli("root", "set", first, "--name", "other", "--out", "2.json")
    cli("root", "add-key", "freshness", FRESH.public.keyid, "2.json")
    cli("root", "set", "2.json", "--freshness-required", "--max-age", "9d")
    draft = Root.parse(Path("2.json").read_bytes())
    assert (draft.version, draft.body.name, draft.fleet) == (2, "other", Root.parse(signed).digest)
    rule = draft.body.publish[0].freshness
    assert rule is not None
    assert (rule.keys, rule.required, rule.max_age_s) == (tuple(ids(FRESH)), True, 9 * 86_400)
    sign(cli, "2.json", files, KEYS[0])
    done = cli("root", "set", "2.json", "--name", "third", "--out", "3.json")  # two signatures are missing
    assert done.status == 1
    assert "have it signed by all first" in done.error_line
    other = cli("root", "set", first, "--name", "third", "--out", "2.json")
    assert "2.json exists, and is version 2 of 'other'" in other.error_line
    assert first.read_bytes() == signed


def test_a_root_role_that_could_not_sign_any_more_is_not_made(cli: Cli, first: Path) -> None:
    name = "2.json"
    for key in KEYS[:2]:
        done = cli(
            "root", "remove-key", "root", key.public.keyid, first if key is KEYS[0] else name, "--out", name
        )
        assert done.status == 0
    done = cli("root", "remove-key", "root", KEYS[2].public.keyid, name)
    assert done.status == 2
    assert "root set FILE --threshold 2" in done.error_line
    done = cli("root", "remove-key", "publish", PUBLISHER.public.keyid, name)
    assert "is the only key" in done.error_line
    assert "root add-key publish" in done.error_line


def test_a_chain_begins_with_version_1_or_where_it_is_believed(
    cli: Cli, files: dict[SecretKey, Path], first: Path
) -> None:
    cli("root", "set", first, "--out", "2.json")
    sign(cli, "2.json", files, *KEYS[2:])
    cli("root", "set", "2.json", "--out", "3.json")
    sign(cli, "3.json", files, *KEYS[2:])
    digest = Root.parse(Path("2.json").read_bytes()).digest
    assert cli("root", "verify", "3.json", "2.json").status == 1
    done = cli("root", "verify", "3.json", "2.json", "--root", f"sha256:{digest}", "--json")
    assert (done.status, [one["version"] for one in done.document["roots"]]) == (0, [2, 3])
    assert cli("root", "verify", "3.json", "--root", f"sha256:{digest}").status == 3
    shown = cli("root", "show", "3.json", "--json").document
    assert (shown["version"], [one["missing"] for one in shown["missing"]]) == (3, [0, 0])


def test_two_roots_of_one_version_are_told_apart(cli: Cli, files: dict[SecretKey, Path], first: Path) -> None:
    for name in ("one", "two"):
        cli("root", "set", first, "--name", name, "--out", f"{name}.json")
        done = cli("root", "sign", f"{name}.json", "--key", files[KEYS[0]], "--yes")
        assert done.status == 0
        assert ("one.json is another version 2, and you signed it, too" in done.stderr) is (name == "two")
        assert sign(cli, f"{name}.json", files, KEYS[1], KEYS[2]).status == 0
    done = cli("root", "verify", first, "one.json", "two.json")
    assert done.status == 1
    assert "two roots of version 2 are signed" in done.error_line
    cli("root", "set", "one.json", "--name", "three", "--out", "3.json")
    ambiguous = sign(cli, "3.json", files, KEYS[0])
    assert ambiguous.status == 2
    assert "one.json and two.json are both version 2, and differ" in ambiguous.error_line
    assert cli("root", "sign", "3.json", "--key", files[KEYS[0]], "--yes", "--from", "one.json").status == 0


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_a_root_that_was_changed_on_the_way_is_not_signed(
    cli: Cli, files: dict[SecretKey, Path], first: Path, at: float
) -> None:
    raw = bytearray(first.read_bytes())
    raw[int(len(raw) * at)] ^= 1
    Path("x.json").write_bytes(raw)
    done = sign(cli, "x.json", files, KEYS[3])
    assert done.status == 1
    assert "x.json" in done.error_line


def test_without_a_home_with_a_tight_umask_and_read_only_inputs(
    cli: Cli, files: dict[SecretKey, Path], first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    medium = tmp_path / "medium"
    medium.mkdir()
    (medium / "1.json").write_bytes(first.read_bytes())
    medium.chmod(0o500)
    umask = os.umask(0o077)
    try:
        assert cli("root", "set", medium / "1.json", "--out", "2.json").status == 0
        done = cli("root", "sign", "2.json", "--from", medium / "1.json", "--key", files[KEYS[0]], "--yes")
        assert done.status == 0
    finally:
        os.umask(umask)
        medium.chmod(0o700)
    assert stat.S_IMODE(Path("2.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(first.stat().st_mode) == 0o644
