"""The glossary names what exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

GLOSSARY = Path(__file__).parent.parent / "docs" / "glossary.md"
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
