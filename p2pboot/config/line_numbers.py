"""Where in a TOML text its keys stand, for messages: the parser itself does not tell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

_HEADER: Final = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]")
_ASSIGNMENT: Final = re.compile(
    r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_LONG_STRINGS: Final = ('"""', "'''")


def line_numbers(text: str) -> Mapping[tuple[str | int, ...], int]:
    """The line, from 1, of every table and key; the first where one stands twice.

    The text is one that parses as TOML. Places are as those of `config.load`: ("network", "listen"), and with the
    table's number for an array of tables, ("trust", 2, "keys"). Keys of inline tables are where the table is.
    """
    found: dict[tuple[str | int, ...], int] = {}
    counts: dict[str, int] = {}
    table: tuple[str | int, ...] = ()
    for number, line in _outside_strings(text):
        if (header := _HEADER.match(line)) is not None and "=" not in line.partition("]")[0]:
            names = _names(header[2])
            table = names
            if header[1] == "[[":
                counts[header[2]] = counts.get(header[2], 0) + 1
                found.setdefault(table, number)
                table = (*names, counts[header[2]])
            found.setdefault(table, number)
        elif (key := _ASSIGNMENT.match(line)) is not None:
            names = _names(key[1])
            for length in range(1, len(names) + 1):
                found.setdefault((*table, *names[:length]), number)
    return found


def _names(dotted: str) -> tuple[str | int, ...]:
    return tuple(name.strip().strip("\"'") for name in dotted.split("."))


def _outside_strings(text: str) -> Iterator[tuple[int, str]]:
    """The lines that do not begin inside of a string of several lines, with their numbers."""
    inside = ""
    for number, line in enumerate(text.split("\n"), start=1):
        if not inside:
            yield number, line
        rest = line
        while True:
            if inside:
                _inside, mark, rest = rest.partition(inside)
                if not mark:
                    break
                inside = ""
            opened = [(at, mark) for mark in _LONG_STRINGS if (at := rest.find(mark)) >= 0]
            if not opened or rest.lstrip().startswith("#"):
                break
            at, inside = min(opened)
            rest = rest[at + len(inside) :]
