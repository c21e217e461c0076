"""`p2pboot explain`."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from p2pboot.cli.explaining import explain
from p2pboot.core.problems import Code
from p2pboot.errors import UsageError


def test_a_code_is_explained_in_lines_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    done = CliRunner().invoke(explain, ["no-peers"])
    assert done.exit_code == 0
    first, second, *rest = done.stdout.splitlines()
    assert (first, second) == ("no-peers: warning: nobody is connected", "")
    assert "p2pboot doctor" in " ".join(rest)
    assert max(map(len, rest)) <= 60


def test_without_a_code_all_are_listed() -> None:
    lines = CliRunner().invoke(explain, []).stdout.splitlines()
    assert [line.split()[0] for line in lines] == [code.value for code in Code]
    assert "quota                  warning  what is kept leaves no room for a next version" in lines


def test_scripts_get_it_too() -> None:
    one = json.loads(CliRunner().invoke(explain, ["expired", "--json"]).stdout)
    assert (one["code"], one["severity"]) == ("expired", "error")
    assert one["paragraphs"]
    every = json.loads(CliRunner().invoke(explain, ["--json"]).stdout)
    assert set(every) == {code.value for code in Code}


def test_a_word_that_is_no_code_is_wrong_usage() -> None:
    done = CliRunner().invoke(explain, ["nonsense"])
    assert isinstance(done.exception, UsageError)
    assert done.exception.remedy == "`p2pboot explain` lists them all"
