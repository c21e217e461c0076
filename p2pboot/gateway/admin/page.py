"""The status page as HTML, made of the status document and of nothing else.

Templates escape whatever they are given: peers choose what they are called. The page is made of sections, each also
rendered alone: that is what a page that is open is told when it changes. Everything in it is bounded, whatever the
document holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from p2pboot.core.amounts import duration_text, rate_text, size_text
from p2pboot.core.identity import parse_keyid
from p2pboot.core.timestamps import clock_text
from p2pboot.gateway.admin.assets import assets
from p2pboot.gateway.admin.drawing import HEIGHT, INTERVALS, graph, piece_map
from p2pboot.node.overview import CLASS_WORDS, PATH_WORDS, overview
from p2pboot.node.troubleshooting import Entry

SECTIONS: Final = (
    "summary",
    "problems",
    "fetching",
    "releases",
    "trust",
    "peers",
    "flows",
    "clients",
    "store",
    "node",
)
"""In their order on the page."""

MAX_PROBLEMS: Final = 64
MAX_RELEASES: Final = 64
MAX_ARTIFACTS: Final = 512
MAX_ON_THEIR_WAY: Final = 64
"""Shown of each list; /status has all."""

_MARKS: Final = re.compile(r"`([^`]+)`|\*\*(.+?)\*\*|\[([^]]+)\]\(([^)]*)\)")


@lru_cache(1)
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("p2pboot.gateway.admin"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "size": size_text,
        "duration": duration_text,
        "rate": rate_text,
        "rfc3339": clock_text,
        "inline": inline,
    }
    made.tests["keyid"] = _is_keyid
    made.globals |= {
        "overview": overview,
        "piece_map": piece_map,
        "graph": graph,
        "asset": lambda name: f"/static/{name}?{assets()[name].digest[:16]}",
        "PATH_WORDS": PATH_WORDS,
        "CLASS_WORDS": CLASS_WORDS,
        "HEIGHT": HEIGHT,
        "INTERVALS": INTERVALS,
        "MAX_PROBLEMS": MAX_PROBLEMS,
        "MAX_RELEASES": MAX_RELEASES,
        "MAX_ARTIFACTS": MAX_ARTIFACTS,
        "MAX_ON_THEIR_WAY": MAX_ON_THEIR_WAY,
    }
    return made


def _is_keyid(publisher: str | None) -> bool:
    """Whether a publisher is called by its key: the operator gave it no name."""
    try:
        parse_keyid(publisher or "")
    except ValueError:
        return False
    return True


def whole(document: Mapping[str, Any]) -> bytes:
    """The page; blocking."""
    made = {name: Markup(text) for name, text in sections(document).items()}  # noqa: S704 - escaped by its template
    return _environment().get_template("page.html").render(document, sections=made).encode()


def sections(document: Mapping[str, Any]) -> dict[str, str]:
    """What is in each section, by its name; blocking."""
    return {
        name: _environment().get_template(f"{name}.html").render({**document, "document": document})
        for name in SECTIONS
    }


def entry_page(entry: Entry) -> bytes:
    """The page of one kind of problem; blocking."""
    return _environment().get_template("problem.html").render(entry=entry).encode()


def inline(text: str) -> Markup:
    """A line of our own documentation: Markdown's code and strong words as HTML, links as their text."""
    made, last = Markup(), 0
    for mark in _MARKS.finditer(text):
        made += escape(text[last : mark.start()])
        code, strong, label, _ = mark.groups()
        if code is not None:
            made += Markup("<code>{}</code>").format(code)
        elif strong is not None:
            made += Markup("<strong>{}</strong>").format(inline(strong))
        else:
            made += inline(label)
        last = mark.end()
    return made + escape(text[last:])
