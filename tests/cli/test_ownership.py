"""Directories and keys that others own or may write: one line with the remedy, before anything is made there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2pboot.store import inputs
from p2pboot.testing.manifests import ALICE
from tests.cli.conftest import Cli

NOBODY = f"/ip4/127.0.0.1/tcp/1/p2p/{ALICE.public.peer_id}"
FETCH = (
    "fetch",
    "--channel",
    "stable",
    "--arch",
    "x86_64",
    "--trust",
    ALICE.public.keyid,
    "--no-mdns",
    "--bootstrap",
    NOBODY,
    "-o",
    "out",
)


@pytest.mark.parametrize("what", ["open to all", "a link"])
def test_fetch_refuses_a_state_that_is_not_its_own(cli: Cli, tmp_path: Path, what: str) -> None:
    state, victim = tmp_path / "out/.p2pboot", tmp_path / "victim"
    victim.mkdir(mode=0o700)
    state.parent.mkdir(mode=0o755)
    if what == "a link":
        state.symlink_to(victim)
    else:
        state.mkdir()
        state.chmod(0o777)
    done = cli(*FETCH)
    assert done.status == 4
    assert "out/.p2pboot" in done.error_line
    assert "; " in done.error_line
    assert not list(victim.iterdir())
    assert what == "a link" or not list(state.iterdir())


def test_fetch_refuses_an_output_directory_where_others_replace_files(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o777)
    done = cli(*FETCH)
    assert done.status == 4
    assert "chmod go-w out" in done.error_line
    assert not list((tmp_path / "out").iterdir())


PIPED = {
    "manifest show": ("manifest", "show", "pipe"),
    "manifest verify": ("manifest", "verify", "pipe", "--trust", ALICE.public.keyid),
    "manifest sign": ("manifest", "sign", "pipe", "--key", "alice.toml"),
    "detached": ("manifest", "verify", "m.json", "--trust", ALICE.public.keyid),
    "key import": ("key", "import", "pipe", "--key", "new.toml"),
    "password": ("key", "import", "alice.toml", "--key", "new.toml", "--password-file", "pipe"),
    "key export": ("key", "export", "--key", "alice.toml", "-o", "pipe"),
    "config": ("config", "show", "--config", "pipe"),
    "snapshot publish": ("snapshot", "publish", "pipe", "--store", "s", "--timetoke-root", "00" * 32),
    "snapshot verify": ("snapshot", "verify", "pipe", "--public-key", ALICE.public.hex),
    "key": ("key", "show", "--key", "pipe"),
    "state": ("state", "recover", "--state", "."),
}


@pytest.mark.parametrize("what", PIPED)
def test_no_command_waits_for_a_pipe_that_nobody_is_at(
    cli: Cli, tmp_path: Path, alice_file: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "COMING_S", 0.01)
    for name in ("pipe", "m.json.sig", "state.sqlite3"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "m.json").touch()
    done = cli(*PIPED[what])
    assert done.status == 2
    assert done.error_line
