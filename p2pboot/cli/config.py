"""`p2pboot config`: what is in force, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from p2pboot.cli.options import Group, json_option
from p2pboot.cli.output import emit_json, say
from p2pboot.cli.settings import node_options, overrides_of


@click.group(cls=Group)
def config() -> None:
    """Settings: show what is in force."""


@config.command()
@node_options
@json_option
def show(config_path: Path | None, as_json: bool, **params: Any) -> None:
    """Print every setting in force and where it came from; takes the flags of serve and mirror.

    The output is itself a configuration file.
    """
    from p2pboot.config.load import load
    from p2pboot.config.show import as_document, as_toml

    loaded = load(overrides_of(params), config_path)
    if as_json:
        emit_json(as_document(loaded))
    else:
        say(as_toml(loaded).rstrip("\n"))
