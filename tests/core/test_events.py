"""Every line of the log has an event's name, and the page of the log has every event."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.core.events import RESERVED, Event, event_of, fields_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/logs.md").read_text()
ROWS = re.findall(
    r"^\| `([\w-]+)` \| (.*?) \| (.+?) \|$", PAGE.partition("## The audit log")[0], re.MULTILINE
)
TOLD = frozenset({"info", "warning", "error", "exception", "critical", "log"})
NOT_LOGS = ("testing", "demo")  # the former is there for tests, the latter prints


def calls() -> Iterator[tuple[Path, ast.Call]]:
    """Every call that logs at a level which is seen without --verbose."""
    for path in (ROOT / "p2pboot").rglob("*.py"):
        if path.relative_to(ROOT / "p2pboot").parts[0] in NOT_LOGS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "logger"), attr=attr)) if (
                    attr in TOLD
                ):
                    yield path, node


def said(call: ast.Call) -> tuple[str, frozenset[str]] | None:
    """The event that a call names, and its fields."""
    for keyword in call.keywords:
        match keyword:
            case ast.keyword(
                arg="extra",
                value=ast.Call(
                    func=ast.Attribute(value=ast.Name(id="Event"), attr=name), args=[], keywords=fields
                ),
            ):
                return name, frozenset(field.arg or "**" for field in fields)
    return None


CALLS = [*calls()]


def test_there_are_calls() -> None:
    assert len(CALLS) > 50


@pytest.mark.parametrize(
    ("path", "call"), CALLS, ids=lambda one: getattr(one, "lineno", getattr(one, "name", ""))
)
def test_each_line_has_a_name(path: Path, call: ast.Call) -> None:
    found = said(call)
    assert found is not None, f"{path}:{call.lineno}: say what it is about: extra=Event.…(…)"
    name, fields = found
    assert name in Event.__members__
    assert not fields & RESERVED


def test_the_page_has_each_event_with_its_fields() -> None:
    fields: dict[str, set[str]] = defaultdict(set)
    for _, call in CALLS:
        found = said(call)
        if found is not None:
            fields[Event[found[0]].value] |= found[1]
    fields[Event.SUPPRESSED.value] |= {"lines", "causes"}  # of `cli.logs`, by the logger's whole name
    fields[Event.OTHER.value] |= set()
    documented = {name: set(re.findall(r"`(\w+)`", names)) for name, names, _ in ROWS}
    assert documented == dict(fields)
    assert documented.keys() == {one.value for one in Event}


def test_a_record_without_an_event_is_about_something_else() -> None:
    assert event_of(object()) is Event.OTHER
    assert fields_of(object()) == {}


def test_a_field_without_a_value_is_left_out() -> None:
    assert list(Event.HELD(channel="stable", arch=None).values()) == [Event.HELD, {"channel": "stable"}]
