"""Shells complete commands, options and files with the scripts that `p2pboot completion` prints: real shells do it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.test_startup import SLOW, modules_of

ROOT = Path(__file__).parents[2]

# What each shell does when somebody presses TAB behind "$@", from a script: no terminal is needed.
_TAB = {
    "bash": """
        eval "$(p2pboot completion bash)"
        compopt() { echo "files: $*"; }  # bash's own may only be called while it completes
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        _p2pboot_completion p2pboot
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "zsh": """
        compdef() {}
        _describe() { print -rl -- ${completions_with_descriptions%%:*} }
        compadd() { print -rl -- $completions }
        _path_files() { echo "files: $*" }
        eval "$(p2pboot completion zsh)"
        words=("$@")
        CURRENT=$#
        _p2pboot_completion
    """,
    "fish": """
        p2pboot completion fish | source
        complete --do-complete "$argv" | string replace --regex '\\t.*' ''
    """,
}


@pytest.fixture(params=list(_TAB))
def shell(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A shell that is here, with the program in its path."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed here")
    program = tmp_path / "bin" / "p2pboot"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m p2pboot "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HOME", str(tmp_path))  # where fish keeps its history
    monkeypatch.chdir(tmp_path)
    return str(request.param)


def tab(shell: str, *words: str) -> list[str]:
    """What the shell offers for the last of the words of a command line."""
    arguments = words if shell == "fish" else (shell, *words)  # the others take the first as their own name
    done = subprocess.run(
        [shell, "-c", _TAB[shell], *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def test_a_command_is_completed(shell: str) -> None:
    offered = tab(shell, "p2pboot", "st")
    assert {"status", "state"} <= set(offered)
    assert all(word.startswith("st") for word in offered)


def test_a_command_of_a_group_is_completed(shell: str) -> None:
    assert tab(shell, "p2pboot", "key", "gen") == ["generate"]


def test_an_option_is_completed(shell: str) -> None:
    assert tab(shell, "p2pboot", "fetch", "--boot") == ["--bootstrap"]


def test_a_word_out_of_few_is_completed(shell: str) -> None:
    assert tab(shell, "p2pboot", "completion", "z") == ["zsh"]


def test_a_file_is_left_to_the_shell(shell: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").touch()
    offered = tab(shell, "p2pboot", "manifest", "show", "mani")
    if shell == "fish":
        assert offered == ["manifest.json"]
    else:
        assert offered[0].startswith("files: ")


def test_a_shell_that_is_not_known_is_wrong_usage(cli: Cli) -> None:
    done = cli("completion", "tcsh")
    assert done.status == 2
    assert "bash" in done.error_line


def test_completing_loads_nothing_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_P2PBOOT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "p2pboot fetch --")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert modules_of(tmp_path) & SLOW == set()
