"""The glossary and the map of the architecture name what exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
GLOSSARY = DOCS / "glossary.md"
ROWS = [
    [cell.strip() for cell in line.split(" | ")]
    for line in GLOSSARY.read_text().partition("## Planned")[0].splitlines()
    if line.startswith("| **")
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("| *"))
def test_what_the_glossary_names_is_there(row: list[str]) -> None:
    for name in re.findall(r"`([\w.]+)`", row[2]):
        module, _, last = name.rpartition(".")
        if last[0].isupper():
            assert hasattr(import_module(f"p2pboot.{module}"), last)
        else:
            import_module(f"p2pboot.{name}")


def test_every_row_has_a_word_a_meaning_and_a_place() -> None:
    assert len(ROWS) > 30
    assert all(len(row) == 4 and all(row[:3]) for row in ROWS)


ARCHITECTURE = (DOCS / "architecture.md").read_text()
STEPS = re.findall(r"`([\w/]+)\.py`((?:,?\s+`[\w.]+`(?!\.py))*)", ARCHITECTURE)
MODULES = sorted(
    {
        name
        for row in ARCHITECTURE.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)*)`", row.split(" | ")[0])
    }
)


@pytest.mark.parametrize(("path", "names"), STEPS)
def test_every_step_of_a_journey_is_there(path: str, names: str) -> None:
    module = import_module("p2pboot." + path.replace("/", "."))
    for name in re.findall(r"`([\w.]+)`", names):
        found: object = module
        for part in name.split("."):
            assert hasattr(found, part), f"{path}.py has no {name}"
            found = getattr(found, part)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_of_the_map_is_there(module: str) -> None:
    import_module(f"p2pboot.{module}")


def test_the_journeys_are_read() -> None:
    assert len(STEPS) > 25
    assert len(MODULES) > 60
