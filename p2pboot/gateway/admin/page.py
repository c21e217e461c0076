"""The status page as HTML, made of the status document and of nothing else.

Templates escape whatever they are given: peers choose what they are called. The page is made of sections, each also
rendered alone: that is what a page that is open is told when it changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from p2pboot.core.amounts import duration_text, rate_text, size_text

SECTIONS: Final = ("summary", "problems", "releases", "peers")
"""In their order on the page."""


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
    made.filters |= {"size": size_text, "duration": duration_text, "rate": rate_text}
    return made


def whole(document: Mapping[str, Any]) -> bytes:
    """The page; blocking."""
    template = _environment().get_template("page.html")
    return template.render(document=document, sections=sections(document)).encode()


def sections(document: Mapping[str, Any]) -> dict[str, str]:
    """What is in each section, by its name; blocking."""
    return {name: _environment().get_template(f"{name}.html").render(document) for name in SECTIONS}
