"""`p2pboot config`: what is in force, and why."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.options import FILE, Group, json_option, verbosity_options
from p2pboot.cli.output import QUIET, emit_json, say
from p2pboot.cli.settings import node_options, overrides_of

if TYPE_CHECKING:
    from p2pboot.config.check import Checked, Flaw


@click.group(cls=Group)
def config() -> None:
    """Settings: show what is in force, check a file."""


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


@config.command()
@click.argument("file", type=FILE, required=False)
@verbosity_options
@json_option
def check(file: Path | None, as_json: bool) -> None:
    """Look through FILE: everything that is wrong with it, by line, and with what it names. Nothing is changed.

    With --quiet only errors and warnings are told. Without FILE those are looked at that `p2pboot init` writes
    for this user: publisher.toml and mirror.toml.
    """
    from p2pboot.config.check import check_file, refuse

    checked = [_with_ports(check_file(path)) for path in ([file] if file is not None else _written_by_init())]
    is_quiet = QUIET in click.get_current_context().meta
    if not as_json:
        for one in checked:
            for flaw in one.flaws:
                if flaw.severity != "note" or not is_quiet:
                    say(_line(one.path, flaw))
            if one.ok and not is_quiet:
                say(f"{one.path}: {_summary(one)}")
    refuse(checked)
    if as_json:
        emit_json({"ok": True, "files": [one.to_json() for one in checked]})


def _with_ports(checked: Checked) -> Checked:
    """With what is known of other programs that have the ports; a node that runs has its own."""
    from p2pboot.config.check import Flaw
    from p2pboot.doctor.holders import holders_of

    flaws = list(checked.flaws)
    for key, port in checked.ports():
        holders = [holder for holder in holders_of(port) if not holder.name.startswith("p2pboot")]
        if holders:
            who = " and ".join(map(str, holders))
            text = f"{key}: {who} listens on port {port}: unless that is this node, it can not start"
            flaws.append(Flaw("warning", key, None, text, "end the other program, or choose another port"))
    return replace(checked, flaws=tuple(flaws))


def _written_by_init() -> list[Path]:
    from p2pboot.config.locations import Locations
    from p2pboot.errors import ConfigError

    locations = Locations.of_this_user()
    paths = [path for role in locations.ROLES if os.path.lexists(path := locations.config(role))]
    if not paths:
        raise ConfigError(
            f"there is no configuration in {locations.config_directory}",
            remedy="name the file: p2pboot config check FILE; `p2pboot init` writes one",
        )
    return paths


def _line(path: Path, flaw: Flaw) -> str:
    where = f"{path}:{flaw.line}" if flaw.line else str(path)
    remedy = f"{' -' if flaw.message.endswith('?') else ';'} {flaw.remedy}" if flaw.remedy else ""
    return f"{where}: {flaw.severity}: {flaw.message}{remedy}"


def _summary(checked: Checked) -> str:
    settings = checked.settings
    assert settings is not None  # noqa: S101 - there are no errors in it
    parts = []
    if settings.provider.directory is not None:
        parts.append(f"publishes {settings.provider.directory} as {settings.provider.name}")
    if settings.snapshots.directory is not None:
        parts.append(f"serves the snapshots in {settings.snapshots.directory}")
    if pairs := settings.followed():
        parts.append(f"follows {', '.join(f'{channel}/{arch}' for channel, arch in pairs)}")
    if settings.gateway.http is not None:
        parts.append(f"HTTP at {settings.gateway.http}")
    word = "usable" if any(flaw.severity == "warning" for flaw in checked.flaws) else "fine"
    return f"{word}: " + ("; ".join(parts) or "nothing is published or followed")
