"""Machines and users without what is usually there: a home, a name, a current directory, open streams."""

from __future__ import annotations

import logging
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.testing.manifests import ALICE
from tests.cli.conftest import Cli, key_file, manifest_bytes

ROOT = Path(__file__).parents[2]
NOBODY_TO_ASK = ("--no-mdns", "--bootstrap", "/ip4/127.0.0.1/tcp/1", "--timeout", "1")


def nobody(_uid: int) -> pwd.struct_passwd:
    raise KeyError("uid not found")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Commands set up the logging of their process, and here that is the tests'."""
    root, own = logging.getLogger(), logging.getLogger("p2pboot")
    handlers, levels = list(root.handlers), (root.level, own.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


@pytest.fixture(params=["unset", "empty", "relative"])
def homeless(request: pytest.FixtureRequest, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line of a user with an arbitrary uid, as containers have it: no HOME, no passwd entry."""
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.delenv("HOME")
    if request.param != "unset":
        monkeypatch.setenv("HOME", "" if request.param == "empty" else "home")
    return cli


@pytest.mark.parametrize(
    ("status", "args"),
    [
        (0, ("--help",)),
        (0, ("key", "generate", "--key", "new.toml")),
        (0, ("key", "show", "--key", "alice.toml")),
        (0, ("config", "show")),
        (0, ("config", "show", "--json")),
        (0, ("manifest", "verify", "m.json", "--trust", ALICE.public.keyid)),
        (0, ("manifest", "verify", "m.json", "--trust", ALICE.public.keyid, "--state", "s")),
        (0, ("manifest", "show", "m.json")),
        (3, ("discover", *NOBODY_TO_ASK)),
        (3, ("fetch", "--channel", "c", "--arch", "arm64", "--trust", ALICE.public.keyid, "-o", "o", *NOBODY_TO_ASK)),
        (3, ("doctor", "--listen", "/ip4/127.0.0.1/tcp/0", *NOBODY_TO_ASK)),
        (3, ("status", "--state", "s")),
    ],
)  # fmt: skip
def test_what_needs_no_home_works_without(
    homeless: Cli, tmp_path: Path, status: int, args: tuple[str, ...]
) -> None:
    key_file(tmp_path / "alice.toml", ALICE)
    (tmp_path / "m.json").write_bytes(manifest_bytes())
    done = homeless(*args)
    assert done.status == status, done.stderr
    assert "internal error" not in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("status",),
        ("doctor", "--node"),
        ("publish",),
        ("rollout", "show"),
        ("state", "recover"),
        ("serve", "images"),
        ("mirror", "--channel", "c", "--arch", "arm64", "--trust", ALICE.public.keyid),
        ("manifest", "build", "images", "--channel", "stable", "--arch", "arm64", "--key", "k.toml"),
    ],
)
def test_what_needs_a_state_asks_for_one_and_makes_nothing(
    homeless: Cli, tmp_path: Path, args: tuple[str, ...]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("vmlinuz", "initrd.img"):
        (images / name).write_bytes(name.encode())
    key_file(tmp_path / "k.toml", ALICE)
    before = sorted(tmp_path.rglob("*"))
    done = homeless(*args)
    assert done.status == 2
    assert "no state directory is known" in done.error_line
    assert "--state DIR" in done.error_line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_tilde_without_a_home_is_refused(homeless: Cli) -> None:
    done = homeless("status", "--state", "~/state")
    assert done.status == 2
    assert "home directory that is not known" in done.error_line


def test_a_state_in_the_file_needs_no_home(homeless: Cli, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[store]\nstate = "here"\n')
    done = homeless("status", "--config", "c.toml")
    assert done.status == 3
    assert "here" in done.error_line


def test_a_relative_state_home_counts_for_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert f"{tmp_path}/home/.local/state/p2pboot" in cli("status").error_line


@pytest.mark.parametrize("name", ["", "...", "(none)", "a b", "é", "x" * 64, "\udcff", "tab\there", "-"])
def test_any_host_name_will_do(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    done = cli("config", "show", "--json")
    assert done.status == 0, done.stderr
    shown = done.document["provider"]["name"]["value"]
    assert shown
    assert shown.isprintable()


def run_in_shell(script: str, directory: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a shell line in which "$@" is the program."""
    return subprocess.run(
        ["/bin/sh", "-c", script, "sh", sys.executable, "-m", "p2pboot"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        check=False,
    )


@pytest.mark.parametrize(
    ("status", "script"),
    [
        (0, '"$@" key show --key k.toml >&-'),
        (0, '"$@" key show --key k.toml --json >&- 2>&- <&-'),
        (0, '"$@" key generate --key other.toml 2>&-'),
        (2, '"$@" key show --key none.toml >&-'),
        (2, '"$@" key show --key none.toml 2>&-'),
        (2, '"$@" key import - --key other.toml <&-'),
        (1, '"$@" manifest show - <&-'),
        (0, '"$@" manifest verify m.json --state s --trust ' + ALICE.public.keyid + " <&- >&- 2>&-"),
    ],
)
def test_closed_streams_change_no_result(tmp_path: Path, status: int, script: str) -> None:
    key_file(tmp_path / "k.toml", ALICE)
    (tmp_path / "m.json").write_bytes(manifest_bytes())
    done = run_in_shell(script, tmp_path)
    assert done.returncode == status, done.stderr
    assert b"internal error" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_is_said_goes_into_no_file_that_was_opened_instead(tmp_path: Path) -> None:
    """A database that got the number of standard error would be written into by whoever logs."""
    (tmp_path / "m.json").write_bytes(manifest_bytes())
    judge = f'"$@" manifest verify m.json --state s --trust {ALICE.public.keyid}'
    assert run_in_shell(f"{judge} <&- >&- 2>&-", tmp_path).returncode == 0
    assert run_in_shell(judge, tmp_path).returncode == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"judged at" in path.read_bytes()]


def test_a_current_directory_that_was_removed_is_named_where_it_matters(tmp_path: Path) -> None:
    key_file(tmp_path / "k.toml", ALICE)
    gone = 'mkdir gone && cd gone && rmdir ../gone && "$@"'
    for args in (f"key show --key {tmp_path}/k.toml", "config show", "--help"):
        done = run_in_shell(f"{gone} {args}", tmp_path)
        assert done.returncode == 0, done.stderr
    done = run_in_shell(f"{gone} publish images --state s", tmp_path)
    assert done.returncode == 4
    assert b"the current directory does not exist any more" in done.stderr


@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "no_SUCH.locale"},
        {"TERM": ""},
        {"TMPDIR": "/nonexistent"},
        {"COLUMNS": "x"},
    ],
)
def test_an_unusual_environment_changes_nothing(tmp_path: Path, env: dict[str, str]) -> None:
    key_file(tmp_path / "k.toml", ALICE)
    for args in ("config show --name Zürich", "key show --key k.toml", "--help"):
        done = run_in_shell(f'"$@" {args}', tmp_path, **env)
        assert done.returncode == 0, done.stderr
