"""The alerts: that Prometheus' own tool takes them, and that what they ask for is told in a scrape."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.core.problems import SEVERITIES, Code, Severity
from p2pboot.gateway.measures import measures

ROOT = Path(__file__).parents[2]
RULES = ROOT / "packaging/prometheus/alerts.yml"
UNIT_TESTS = RULES.with_name("alerts.test.yml")
TROUBLESHOOTING = ROOT / "docs/troubleshooting.md"

OF_PROMETHEUS = {"up": frozenset[str]()}
OF_EVERY_SERIES = frozenset({"job", "instance"})
LABELS = {one.name: frozenset(one.labels) for one in measures()} | OF_PROMETHEUS
LABELS |= {
    f"{one.name}_{part}": frozenset({"le"} if part == "bucket" else ())
    for one in measures()
    if one.kind == "histogram"
    for part in ("bucket", "sum", "count")
}
# What is found by numbers instead, and the alert that does:
BY_NUMBERS = {
    Code.EXPIRED: "P2pbootExpired",
    Code.EXPIRING: "P2pbootExpiring",
    Code.NEARLY_FULL: "P2pbootStoreNearlyFull",
    Code.POISONERS: "P2pbootPoisoners",
    Code.DAMAGED: "P2pbootDamage",
}


def alerts() -> dict[str, str]:
    """The text of each alert by its name."""
    blocks = re.split(r"^      - alert: ", RULES.read_text(), flags=re.MULTILINE)[1:]
    return {block.split("\n", 1)[0]: block for block in blocks}


def expression(block: str) -> str:
    found = re.search(
        r"^        expr: (?:\|-\n)?(.*?)^        (?=for:|labels:)", block, re.MULTILINE | re.DOTALL
    )
    assert found is not None
    return found[1]


def asked(query: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Each metric that a query names, with the labels that it is asked for."""
    for name, matchers in re.findall(r"\b((?:p2pboot|process)_\w+|up)\b(?:\{([^}]*)\})?", query):
        yield name, frozenset(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))


def grouped(query: str) -> frozenset[str]:
    """The labels by which a query groups or joins."""
    lists = re.findall(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)", query)
    return frozenset(name for names in lists for name in re.findall(r"\w+", names))


def check(query: str) -> None:
    """That a query asks for nothing that no scrape has."""
    found = list(asked(query))
    assert found, f"{query} asks for no metric"
    every: frozenset[str] = OF_EVERY_SERIES
    for name, labels in found:
        assert name in LABELS, f"there is no metric {name}"
        assert labels <= LABELS[name] | OF_EVERY_SERIES, f"{name} has not the labels {labels}"
        every |= LABELS[name]
    assert grouped(query) <= every, query


def promtool(*arguments: str | Path, cwd: Path = RULES.parent) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed")
    return subprocess.run([tool, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)


def test_promtool_takes_the_rules() -> None:
    checked = promtool("check", "rules", RULES.name)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(alerts())} rules found" in checked.stdout


def test_promtool_takes_the_example_of_how_nodes_are_asked_with_the_rules_that_it_names() -> None:
    checked = promtool("check", "config", "scrape.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "alerts.yml" in checked.stdout
    assert "job_name: p2pboot\n" in RULES.with_name("scrape.yml").read_text()  # by which the alerts ask


def test_each_alert_is_given_when_it_should_be_and_not_else() -> None:
    tested = promtool("test", "rules", UNIT_TESTS.name)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("name", alerts())
def test_the_unit_tests_have_each_alert_given_and_not_given(name: str) -> None:
    found = re.search(
        rf"^  - name: {name}\n(.*?)(?=^  - name: |\Z)", UNIT_TESTS.read_text(), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    text = found[1]
    assert f"alertname: {name}\n        exp_alerts:\n          - exp_labels:" in text
    assert "good:4080" in text.split("alert_rule_test:")[0]  # promtool takes no alert that is not expected
    assert "good:4080" not in text.split("alert_rule_test:")[1]
    if re.search(r"^        for: ", alerts()[name], re.MULTILINE):
        assert f"alertname: {name}\n        exp_alerts: []" in text


def test_alerts_that_ask_for_something_else_fail_their_unit_tests(tmp_path: Path) -> None:
    text = RULES.read_text()
    for block in alerts().values():
        asks = expression(block)
        text = text.replace(
            asks, f"|-\n          ({asks.removeprefix('|-').strip()}) and on () vector(1) == 2\n"
        )
    (tmp_path / RULES.name).write_text(text.replace("expr: |-\n|-", "expr: |-"))
    (tmp_path / UNIT_TESTS.name).write_text(UNIT_TESTS.read_text())
    tested = promtool("test", "rules", UNIT_TESTS.name, cwd=tmp_path)
    assert tested.returncode != 0
    said = tested.stdout + tested.stderr
    assert not [name for name in alerts() if f"alertname: {name}, " not in said]


@pytest.mark.parametrize("name", alerts())
def test_an_alert_asks_for_what_a_scrape_has(name: str) -> None:
    check(expression(alerts()[name]))


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_what_is_wrong_and_leads_to_what_to_do(name: str) -> None:
    block = alerts()[name]
    assert re.search(r"severity: (critical|warning)$", block, re.MULTILINE)
    for annotation in ("summary", "description", "runbook"):
        assert re.search(rf"^          {annotation}: \S", block, re.MULTILINE)
    runbook = re.search(r'runbook: "?docs/troubleshooting\.md#([^"\n]+)', block)
    assert runbook is not None
    headings = re.findall(r"^###? (.+)$", TROUBLESHOOTING.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    if "{{" not in runbook[1]:
        assert runbook[1] in anchors
    else:  # one of the problem's code
        assert runbook[1] == "{{ $labels.code }}"
        assert {code.value for code in Code if matches(expression(block), code)} <= anchors


def matches(query: str, code: Code) -> bool:
    """Whether a query is one for problems of this code."""
    values = {"code": code.value, "severity": SEVERITIES[code].value}
    for name, matchers in re.findall(r"\b(\w+)\{([^}]*)\}", query):
        said = re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', matchers)
        if name == "p2pboot_problem" and all(
            bool(re.fullmatch(pattern if "~" in how else re.escape(pattern), values[label]))
            != how.startswith("!")
            for label, how, pattern in said
        ):
            return True
    return False


@pytest.mark.parametrize("code", Code)
def test_every_problem_alarms_once(code: Code) -> None:
    found = [name for name, block in alerts().items() if matches(expression(block), code)]
    if code in BY_NUMBERS:
        assert BY_NUMBERS[code] in alerts()
        assert not found
    elif SEVERITIES[code] is Severity.INFO:
        assert found in ([], ["P2pbootPortUnreachable"])
    else:
        assert len(found) == 1
