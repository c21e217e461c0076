"""`p2pboot explain`: what a problem's code means and what to do, out of docs/troubleshooting.md."""

from __future__ import annotations

import shutil
import textwrap

import click

from p2pboot.cli.options import Command, json_option
from p2pboot.cli.output import emit_json, say
from p2pboot.core.problems import Code
from p2pboot.errors import UsageError

_WIDEST = 100  # columns; longer lines are hard to read


@click.command(cls=Command)
@click.argument("code", required=False)
@json_option
def explain(code: str | None, as_json: bool) -> None:
    """Say what the problem CODE of a node means and what to do about it; without CODE, list all codes.

    Codes stand in the log and in `p2pboot status`. The text is that of docs/troubleshooting.md.
    """
    from p2pboot.node.troubleshooting import entries, plain

    known = entries()
    if code is None:
        if as_json:
            emit_json({one.code: {"severity": one.severity, "title": one.title} for one in known.values()})
            return
        width = max(map(len, Code))
        for one in known.values():
            say(f"{one.code:<{width}}  {one.severity:<7}  {one.title}")
        return
    if code not in set(Code):
        raise UsageError(f"no problem has the code {code!r}", remedy="`p2pboot explain` lists them all")
    entry = known[Code(code)]
    if as_json:
        emit_json(
            {
                "code": entry.code,
                "severity": entry.severity,
                "title": entry.title,
                "paragraphs": entry.paragraphs,
            }
        )
        return
    columns = min(shutil.get_terminal_size().columns, _WIDEST)
    say(f"{entry.code}: {entry.severity}: {entry.title}")
    for paragraph in map(plain, entry.paragraphs):
        say()
        for line in textwrap.wrap(paragraph, columns, break_on_hyphens=False, break_long_words=False):
            say(line)
