"""What one channel and architecture has to publish: the artifacts of a directory, found and not yet hashed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.names import DTB_PREFIX
from p2pboot.publish.chosen import CHOSEN_NAME
from p2pboot.publish.layout import Ignored

CMDLINE_FILE: Final = "cmdline"
MAX_IGNORED: Final = 100
"""How many ignored names are listed for a directory; of the rest there is the number."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The artifacts of one channel and architecture.

    Args:
        channel: its name.
        arch: one of :data:`p2pboot.core.names.ARCHS`.
        directory: where the files lie.
        files: path of each artifact by key, sorted; kernel and initramfs are there, or a UKI. Device trees are here
            only if each is an artifact of its own.
        cmdline: content of the file ``cmdline`` without one final newline; None if there is no such file.
        archived: path of every device tree by its name below ``dtbs/``, sorted, if they can only be published all in
            one archive; else nothing.
        ignored: what lies there and is no artifact, at most :data:`MAX_IGNORED`.
        more_ignored: how many more there are, by reason.
    """

    channel: str
    arch: str
    directory: Path
    files: Mapping[str, Path]
    cmdline: str | None
    archived: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    ignored: tuple[Ignored, ...] = ()
    more_ignored: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def device_trees(self) -> dict[str, Path]:
        """Path of every device tree by its name below ``dtbs/``, however they are published."""
        single = {key: path for key, path in self.files.items() if key.startswith(DTB_PREFIX)}
        return {
            **{f"{key.removeprefix(DTB_PREFIX)}.dtb": path for key, path in single.items()},
            **self.archived,
        }

    @property
    def sources(self) -> set[Path]:
        """Every file and directory that what is published was taken from."""
        files = {*self.files.values(), *self.archived.values()}
        paths = {*files, self.directory, *(path.parent for path in files)}
        if self.cmdline is not None:
            paths.add(self.directory / CMDLINE_FILE)
        chosen = self.directory / CHOSEN_NAME
        if os.path.lexists(chosen):
            paths.add(chosen)
        return paths


def recently_changed(tree: Tree, now_ns: int, quiet_s: float) -> bool:
    """Whether something in a tree changed less than ``quiet_s`` seconds ago: a copy may still be running.

    Args:
        tree: from :func:`p2pboot.publish.scan.scan_each`.
        now_ns: the wall clock, nanoseconds since 1970.
        quiet_s: how long it must have been quiet.

    Times that lie further ahead than that (a clock that was wrong) do not count, or it would never be quiet.
    """
    for path in tree.sources:
        try:
            status = path.stat()
        except OSError:
            return True  # it was there a moment ago
        if any(abs(now_ns - at) < quiet_s * 1e9 for at in (status.st_mtime_ns, status.st_ctime_ns)):
            return True
    return False
