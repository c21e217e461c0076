"""`p2pboot store`: what the store takes, whether it is intact, mending it, and carrying a release by hand."""

from __future__ import annotations

import click

from p2pboot.cli.options import LazyGroup

_COMMANDS = {
    "export": "p2pboot.cli.exporting:export",
    "import": "p2pboot.cli.exporting:import_",
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def store() -> None:
    """The store: what takes how much, whether it is intact, and releases carried by hand."""
