"""Yanks on machines that have no node: others sign what was prepared."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pboot.core.keyformats import render_key_toml
from p2pboot.core.trustdocs.rootbody import NO_FLEET
from p2pboot.core.trustdocs.yank import Yank, YankBody
from p2pboot.testing.manifests import ALICE, BOB, NOW
from tests.cli.conftest import Cli

DRAFT = YankBody(
    fleet=NO_FLEET,
    channel="stable",
    arch="x86_64",
    content="c" * 64,
    reason="does not mount its root",
    created_at=NOW,
).document()


@pytest.fixture
def keys(tmp_path: Path) -> list[str]:
    paths = [tmp_path / "alice.toml", tmp_path / "bob.toml"]
    for path, key in zip(paths, (ALICE, BOB), strict=True):
        path.write_text(render_key_toml(key))
        path.chmod(0o600)
    return [str(path) for path in paths]


def test_signatures_are_added_in_place_and_what_is_signed_is_shown(
    cli: Cli, tmp_path: Path, keys: list[str]
) -> None:
    file = tmp_path / "stable.yank"
    file.write_bytes(DRAFT)
    for key in keys:
        ran = cli("yank", "sign", str(file), "--key", key)
        assert ran.status == 0
        assert "stable/x86_64, for good" in ran.stderr
        assert "does not mount its root" in ran.stderr
    signed = Yank.parse(file.read_bytes())
    assert set(signed.signed_by) == {ALICE.public.keyid, BOB.public.keyid}
    assert cli("yank", "sign", str(file), "--key", keys[0]).status == 0
    assert file.read_bytes() == signed.raw  # signing twice changes nothing


@pytest.mark.parametrize("raw", [b"", b"{}", DRAFT.replace(b"stable", b"Stable"), b'{"spec":' * 10_000])
def test_what_is_no_yank_is_not_signed(cli: Cli, tmp_path: Path, keys: list[str], raw: bytes) -> None:
    file = tmp_path / "stable.yank"
    file.write_bytes(raw)
    ran = cli("yank", "sign", str(file), "--key", keys[0])
    assert ran.status == 1
    assert "this is no yank" in ran.stderr
    assert file.read_bytes() == raw


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("stable", "--back-to", "1", "--leave-none"), "exclude each other"),
        (("stable", "--prepare", "a", "--document", "b"), "exclude each other"),
        (("stable", "--back-to", "0"), "not in the range"),
        (("stable", "--timeout", "nan"), "not a number of seconds"),
        (("sign", "nothing"), "missing option"),
        ((), "Usage"),
    ],
)
def test_wrong_usage_asks_nobody(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    ran = cli("yank", *arguments)
    assert ran.status == 2
    assert said in ran.stdout + ran.stderr


def test_without_a_node_it_says_so(cli: Cli, tmp_path: Path) -> None:
    for command in (("stable",), ("list", "stable"), ("release", "list"), ("--leave-none", "stable")):
        ran = cli("yank", *command, "--state", str(tmp_path))
        assert ran.status == 3
        assert "no node is running" in ran.stderr
