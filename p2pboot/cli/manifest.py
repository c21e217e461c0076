"""`p2pboot manifest`: build, sign, show and verify manifests, without a network."""

from __future__ import annotations

import click

from p2pboot.cli.build import build
from p2pboot.cli.options import Group
from p2pboot.cli.show import show
from p2pboot.cli.sign import sign
from p2pboot.cli.verify import verify


@click.group(cls=Group)
def manifest() -> None:
    """Manifests: build, sign, show, verify."""


for _command in (build, sign, show, verify):
    manifest.add_command(_command)
