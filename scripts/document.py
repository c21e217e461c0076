"""Writes what follows from declarations: the example file, and tables of the pages of configuration and metrics.

`make document` runs it; a test fails while the files are not what it would write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from p2pboot.config.setting import Setting
from p2pboot.config.settings import SETTINGS, TABLES
from p2pboot.config.show import toml
from p2pboot.config.trust import PUBLISHER
from p2pboot.gateway.measures import SECTIONS, Measure

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "configuration.md"
EXAMPLE = DOCS / "p2pboot.example.toml"
METRICS = DOCS / "metrics.md"
_WIDTH = 110  # columns, from which on a list has a line for each item
_EXAMPLE_HEAD = """\
# A configuration with every key. All keys are optional; what is left out has the default that
# `p2pboot config show` prints. Relative paths start at this file's directory.
"""


def example() -> str:
    """The example file: every key with a value that is allowed, and what it is."""
    sections = [(f"[{table}]", _of_table(table)) for table in TABLES]
    of_keys = [one for name, one in PUBLISHER.items() if name != "root"]
    sections += [("[[trust]]", of_keys), ("[[trust]]", [PUBLISHER["root"]])]
    parts = [_EXAMPLE_HEAD]
    for head, settings in sections:
        lines = [head]
        for one in settings:
            value = one.default if one.example is None else one.example
            lines += [f"# {one.help}", f"{one.name} = {_value(one.name, value)}"]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def with_tables(page: str) -> str:
    """The page with the first table below the heading of each section made anew.

    Raises:
        ValueError: a section has no such heading with a table.
    """
    for table in TABLES:
        rows = (
            (f"`{one.name}`", _flag(one), _default(one), one.text, "reload" if one.live else "restart")
            for one in _of_table(table)
        )
        page = _replace(page, f"### `[{table}]`", ("key", "flag", "default", "meaning", "SIGHUP"), rows)
    publisher = ((f"`{one.name}`", _default(one), one.text) for one in PUBLISHER.values())
    return _replace(page, "### `[[trust]]`", ("key", "default", "meaning"), publisher)


def with_metrics(page: str) -> str:
    """The page of the metrics with the first table below the heading of each section made anew.

    Raises:
        ValueError: a section has no such heading with a table.
    """
    for heading, measures in SECTIONS.items():
        rows = ((f"`{one.name}`", one.kind, _labels(one), one.text, one.bound) for one in measures)
        page = _replace(page, f"## {heading}", ("name", "type", "labels", "meaning", "series"), rows)
    return page


def _labels(measure: Measure) -> str:
    return ", ".join(f"`{name}`" for name in measure.labels)


def _replace(page: str, heading: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    table = "".join(f"| {' | '.join(row)} |\n" for row in (head, *rows))
    first, rest = table.split("\n", 1)
    table = f"{first}\n|{'---|' * len(head)}\n{rest}"
    found = re.compile(rf"({re.escape(heading)}\n(?:(?![|#]).*\n)*)(?:\|.*\n)+")
    page, count = found.subn(lambda match: match[1] + table, page)
    if count != 1:
        raise ValueError(f"the page has {count} sections with a table below the heading {heading}, not one")
    return page


def _of_table(table: str) -> list[Setting]:
    return [one for one in SETTINGS.values() if one.table == table]


def _flag(one: Setting) -> str:
    return f"`{one.option}`" + (f" of `{one.command}`" if one.command else "")


def _default(one: Setting) -> str:
    return one.default_words or ("not set" if one.default is None else f"`{toml(one.default)}`")


def _value(name: str, value: object) -> str:
    text = toml(value)
    if isinstance(value, list) and len(f"{name} = {text}") > _WIDTH:
        return "[\n" + "".join(f"  {toml(item)},\n" for item in value) + "]"
    return text


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
    EXAMPLE.write_text(example())
    METRICS.write_text(with_metrics(METRICS.read_text()))
