"""Scanning an artifacts directory of which all can be published."""

from __future__ import annotations

from pathlib import Path

from p2pboot.publish.scan import Tree, scan_each


def scan(directory: Path, channel: str | None = None, arch: str | None = None) -> list[Tree]:
    """Find what a directory has to publish; raise the first thing that is wrong with it."""
    found = scan_each(directory, channel, arch)
    for unfit in found.unfit:
        raise unfit.error
    for fault in found.faults:
        raise fault
    return list(found.trees)
