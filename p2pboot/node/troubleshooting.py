"""The entries of ``docs/troubleshooting.md`` for the program itself: what a problem's code means, and what to do.

The document is written once. A wheel carries it beside this module; in a source tree it is read where it lies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.problems import SEVERITIES, Code, Severity
from p2pboot.errors import MachineError, machine_error

NAME: Final = "troubleshooting.md"
_PART: Final = "\n## Problems of a node\n"
_HEADING: Final = re.compile(r"^### (.+)\n", re.MULTILINE)
_TITLE: Final = re.compile(r"\*(\w+): (.+)\.\*")  # *Warning: nobody is connected.*
_LINK: Final = re.compile(r"\[([^]]+)\]\([^)]*\)")


@dataclass(frozen=True, slots=True)
class Entry:
    """What the document says of one code.

    Args:
        code: of the problem.
        title: what it is, in a few words.
        paragraphs: Markdown, each on one line: what it looks like, what it means, what to do.
    """

    code: Code
    title: str
    paragraphs: tuple[str, ...]

    @property
    def severity(self) -> Severity:
        """How bad a problem of this code is."""
        return SEVERITIES[self.code]


def plain(paragraph: str) -> str:
    """A paragraph without Markdown's marks for links and strong words; what is code stays between backticks."""
    return _LINK.sub(r"\1", paragraph).replace("**", "")


@cache
def entries() -> Mapping[Code, Entry]:
    """All entries, by code; read once. Blocks.

    Raises:
        MachineError: the document is not there, or lacks an entry.
    """
    path = _path()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise machine_error(error, f"read {path}") from error
    return parse(text)


def parse(text: str) -> Mapping[Code, Entry]:
    """Read the entries out of the document.

    Raises:
        MachineError: a code has none, or not in the form that all have.
    """
    _, _, after = text.partition(_PART)
    part, _, _ = after.partition("\n## ")
    pieces = _HEADING.split(part)[1:]  # heading, text, heading, text, …
    found = dict(zip(pieces[::2], pieces[1::2], strict=True))
    return {code: _entry(code, found.get(code.value, "")) for code in Code}


def _entry(code: Code, text: str) -> Entry:
    head, *paragraphs = (" ".join(block.split()) for block in text.strip().split("\n\n"))
    title = _TITLE.fullmatch(head)
    if title is None or title[1].lower() != SEVERITIES[code] or not paragraphs:
        raise MachineError(f"{NAME} says nothing of {code}", remedy="install p2pboot again")
    return Entry(code, title[2], tuple(paragraphs))


def _path() -> Path:
    """Beside this module, where it was installed from a wheel; else in the source tree's `docs`."""
    installed = Path(__file__).with_name(NAME)
    return installed if installed.exists() else Path(__file__).parents[2] / "docs" / NAME
