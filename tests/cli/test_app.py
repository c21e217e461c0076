"""The boundary: every failure is one clear line and a status, and output goes where it belongs."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from p2pboot.cli import app, main
from p2pboot.cli.failures import explain
from p2pboot.errors import BlobMissing, ConfigError, KeyFileError, MachineError, NotFoundError, P2PBootError
from p2pboot.testing.waiting import HANG_S
from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (P2PBootError("x"), 1, "refused"),
        (ConfigError("x"), 2, "config"),
        (KeyFileError("x"), 2, "key_file"),
        (NotFoundError("x"), 3, "not_found"),
        (BlobMissing("x"), 1, "store"),
        (MachineError("x"), 4, "machine"),
        (click.UsageError("X."), 2, "usage"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 2, "usage"),
        (OSError(errno.ENOSPC, "No space left on device"), 4, "machine"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 4, "machine"),
        (MemoryError(), 4, "machine"),
        (ModuleNotFoundError("x", name="libp2p.host"), 4, "machine"),
        (ModuleNotFoundError("x", name="p2pboot.x"), 70, "internal"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (RuntimeError("x"), 70, "internal"),
        (ExceptionGroup("g", [RuntimeError("x"), ExceptionGroup("h", [NotFoundError("y")])]), 3, "not_found"),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), 130, "interrupted"),
        (ExceptionGroup("g", [RuntimeError("x")]), 70, "internal"),
    ],
    ids=repr,
)
def test_every_exception_has_a_status_and_a_word(error: BaseException, status: int, reason: str) -> None:
    failure = explain(error)
    assert failure is not None
    assert (failure.exit_status, failure.reason) == (status, reason)


def test_wrong_usage_is_one_line_that_names_the_help(cli: Cli) -> None:
    for args, said in (
        (("serv",), "did you mean serve?"),
        (("key", "sho"), "did you mean show?"),
        (("key", "show", "--kei"), "--kei"),
        (("manifest", "sign", "x"), "--key"),
        (("manifest", "show"), "FILE"),
        (("manifest", "show", "a", "b"), "b"),
        (("mirror", "--threshold", "many"), "many"),
    ):
        done = cli(*args)
        assert done.status == 2, args
        assert said in done.error_line
        assert "--help" in done.error_line
        assert done.stderr.count("\n") == 1


def test_endless_value_is_not_repeated_in_full(cli: Cli) -> None:
    line = cli("manifest", "build", "x", "--manifest-version", "9" * 5000).error_line
    assert "(5002 characters)" in line  # with its quotes
    assert len(line) < 400


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e309", "-1", "86401", "9" * 5000, "\udcff"])
def test_time_to_wait_is_a_number_of_seconds_up_to_a_day(cli: Cli, value: str) -> None:
    for command in (
        ("publish",),
        ("discover",),
        ("fetch", "-o", "out"),
        ("snapshot", "sync", "-o", "out", "latest"),
    ):
        done = cli(*command, f"--timeout={value}")
        assert done.status == 2, done.stderr
        assert "--timeout" in done.error_line


def test_failure_with_json_is_one_document_on_stdout_and_the_line_on_stderr(cli: Cli) -> None:
    done = cli("key", "show", "--json")
    assert done.status == 2
    assert done.document["ok"] is False
    assert done.document["exit_status"] == 2
    assert done.document["reason"] == "key_file"
    assert done.document["error"] in done.error_line
    assert done.document["remedy"] in done.error_line


def test_bug_is_one_line_without_traceback_unless_asked_for(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_options: object) -> None:
        raise RuntimeError("two\nlines \x1b[31m")

    monkeypatch.setattr("p2pboot.store.keyfiles.load_key", broken)
    done = cli("key", "show")
    assert done.status == 70
    assert "internal error: RuntimeError" in done.error_line
    assert "\x1b" not in done.stderr
    assert done.stderr.count("\n") == 1
    monkeypatch.setenv("P2PBOOT_DEBUG", "1")
    assert "Traceback" in cli("key", "show").stderr


def test_help_lists_every_command_with_a_summary(cli: Cli) -> None:
    done = cli("--help")
    assert done.status == 0
    for name in (
        "key",
        "manifest",
        "serve",
        "publish",
        "mirror",
        "discover",
        "fetch",
        "config",
        "status",
        "demo",
    ):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"  {name} ")]
        assert len(line.split()) > 2


@pytest.mark.parametrize(
    "words", [(), ("store",), ("config",), ("key",), ("manifest",), ("snapshot",), ("rollout",)]
)
def test_help_lists_commands_with_whole_sentences(cli: Cli, words: tuple[str, ...]) -> None:
    assert "..." not in cli(*words, "--help").stdout.partition("Commands:")[2]


def test_every_command_explains_itself(cli: Cli) -> None:
    context = click.Context(app.root)
    for name in app.root.list_commands(context):
        command = app.root.get_command(context, name)
        children = list(command.commands) if isinstance(command, click.Group) else []
        for words in [[name, child] for child in children] or [[name]]:
            done = cli(*words, "--help")
            assert done.status == 0, words
            assert "Usage: p2pboot" in done.stdout
            assert "\\" not in done.stdout, words  # click's mark for lines that stay takes a real backspace
            assert "\b" not in done.stdout, words


def test_the_examples_of_the_help_stand_on_lines_of_their_own(cli: Cli) -> None:
    lines = [line.strip() for line in cli("--help").stdout.splitlines()]
    assert "p2pboot key generate                            make this machine's identity" in lines
    assert sum(line.startswith("p2pboot ") for line in lines) == 3


def test_interrupt_during_the_imports_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_args: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "run", interrupted)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 130


def run_process(*args: str, stdout: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "p2pboot", *args],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        check=False,
    )


def test_reader_that_went_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run_process("config", "show", stdout=writing)
    finally:
        os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 1


def test_full_disk_under_stdout_is_the_machines_fault() -> None:
    with open("/dev/full", "wb") as full:
        done = run_process("config", "show", stdout=full.fileno())
    assert done.returncode == 4
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_interrupted_command_ends_with_130_and_says_nothing(tmp_path: Path) -> None:
    """A FIFO holds the command at a known point until the signal comes."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # What runs the tests may ignore the signal (nohup, a background job), and that is inherited.
    heeding = "import os, signal, sys; signal.signal(2, signal.SIG_DFL); os.execv(sys.executable, sys.orig_argv[3:])"
    command = [sys.executable, "-m", "p2pboot", "manifest", "show", str(fifo)]
    with (
        subprocess.Popen(
            [sys.executable, "-c", heeding, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        ) as process,
        fifo.open("wb"),  # returns when the command has opened it, and waits for its content
    ):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 130
    assert out == b""
    assert err.strip() == b""


def test_config_show_prints_what_is_in_force(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[provider]\nname = "box"\n')
    args = ("config", "show", "--config", "c.toml", "--no-mdns", "--max-upload", "2MB/s")
    done = cli(*args, "--json")
    assert done.document["provider"]["name"] == {"value": "box", "source": "file"}
    assert done.document["network"]["mdns"] == {"value": False, "source": "command line"}
    assert done.document["network"]["max_upload"] == {"value": 2_000_000, "source": "command line"}
    assert "# command line" in cli(*args).stdout


def test_a_configuration_file_that_an_editor_saved_is_read(cli: Cli, tmp_path: Path) -> None:
    text = '# für uns\n[provider]\nname = "box"'
    for saved in (text.encode("utf-8-sig"), text.replace("\n", "\r\n").encode("utf-8-sig")):
        (tmp_path / "c.toml").write_bytes(saved)
        done = cli("config", "show", "--config", "c.toml", "--json")
        assert done.document["provider"]["name"]["value"] == "box"
    for encoding, says in (("utf-16", "is saved as UTF-16"), ("latin-1", "is not UTF-8 text")):
        (tmp_path / "c.toml").write_bytes(text.encode(encoding))
        done = cli("config", "show", "--config", "c.toml")
        assert done.status == 2
        assert f"c.toml {says}" in done.error_line


def test_unknown_configuration_key_is_refused_with_a_suggestion(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[network]\nlisen = []\n")
    for command in (("config", "show"), ("serve", "."), ("mirror",)):
        done = cli(*command, "--config", "c.toml")
        assert done.status == 2
        assert "network.lisen" in done.error_line
        assert "did you mean listen?" in done.error_line


@pytest.mark.parametrize("args", [("mirror", "--channel", "c", "--arch", "arm64"), ("serve",)])
def test_node_without_what_it_needs_is_wrong_usage(cli: Cli, args: tuple[str, ...]) -> None:
    done = cli(*args)
    assert done.status == 2
    assert "; " in done.error_line


@pytest.mark.parametrize("option", ["--listen", "--bootstrap"])
def test_unparsable_multiaddr_is_refused_before_anything_starts(cli: Cli, option: str) -> None:
    done = cli("serve", ".", option, "/ip4/300.1.1.1/tcp/4001")
    assert done.status == 2
    assert "300.1.1.1" in done.error_line


@pytest.mark.parametrize(
    "args",
    [("status",), ("publish",), ("publish", "images"), ("rollout", "start", "stable"), ("rollout", "show")],
)
def test_no_running_node_is_not_found(cli: Cli, tmp_path: Path, args: tuple[str, ...]) -> None:
    done = cli(*args, "--state", tmp_path / "state", "--json")
    assert done.status == 3
    assert done.document["reason"] == "not_found"


def test_json_documents_are_not_escaped_beyond_need(cli: Cli) -> None:
    done = cli("config", "show", "--name", "Zürich", "--json")
    assert "Zürich" in done.stdout
    assert json.loads(done.stdout)


def test_reference_names_every_command() -> None:
    text = (ROOT / "docs/cli.md").read_text()
    context = click.Context(app.root)
    for name in app.root.list_commands(context):
        command = app.root.get_command(context, name)
        children = list(command.commands) if isinstance(command, click.Group) else []
        for words in [f"{name} {child}" for child in children] or [name]:
            assert f"`p2pboot {words}" in text, words
