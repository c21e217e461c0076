"""Every problem has a word that stays, a severity, and an entry for who meets it."""

import re
from pathlib import Path

import pytest

from p2pboot.core.problems import SEVERITIES, Code, Problem, Severity

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
PART = PAGE.split("## Problems of a node\n")[1].split("\n## ")[0]
ENTRIES = dict(re.findall(r"^### (.+)\n\n((?:(?!^###).*\n)+)", PART, re.MULTILINE))


def test_every_code_has_an_entry_and_no_entry_is_without_a_code() -> None:
    assert set(ENTRIES) == {code.value for code in Code}
    assert re.findall(r"^### (.+)$", PART, re.MULTILINE) == list(ENTRIES)  # each once


@pytest.mark.parametrize("code", Code)
def test_an_entry_says_how_bad_it_is_what_it_looks_like_and_what_to_do(code: Code) -> None:
    text = ENTRIES[code.value]
    assert re.match(rf"\*{code_severity(code)}: [^\n]+\.\*\n\n", text)
    assert len(text) > 200
    assert "`" in text or '"' in text  # words of the program, or a command


def code_severity(code: Code) -> str:
    return Problem(code, "subject", "text").severity.value.capitalize()


def test_every_code_has_a_severity() -> None:
    assert set(SEVERITIES) == set(Code)
    assert set(SEVERITIES.values()) == set(Severity)


def test_as_json_a_problem_tells_its_severity_and_where_more_is_said() -> None:
    problem = Problem(Code.QUOTA, "stable/x86_64", "no room", "make some", since=7)
    assert problem.to_json() == {
        "code": "quota",
        "subject": "stable/x86_64",
        "text": "no room",
        "remedy": "make some",
        "since": 7,
        "severity": "warning",
        "link": "docs/troubleshooting.md#quota",
    }


def test_the_most_severe_comes_first() -> None:
    codes = (Code.STILL_CHANGING, Code.QUOTA, Code.EXPIRED, Code.CLOCK)
    problems = [Problem(code, subject, "text") for code in codes for subject in ("b", "a")]
    assert [(one.subject, one.code) for one in sorted(problems, key=lambda one: one.order)] == [
        ("a", Code.CLOCK),
        ("a", Code.EXPIRED),
        ("b", Code.CLOCK),
        ("b", Code.EXPIRED),
        ("a", Code.QUOTA),
        ("b", Code.QUOTA),
        ("a", Code.STILL_CHANGING),
        ("b", Code.STILL_CHANGING),
    ]
