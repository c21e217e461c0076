"""Which artifacts of a manifest a user means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from p2pboot.core.devicetrees import ENDINGS
from p2pboot.core.manifest import Artifact, Manifest
from p2pboot.core.names import DTB_ARCHIVE, DTB_PREFIX, output_file_name
from p2pboot.errors import UsageError

_ALL_TREES: Final = DTB_PREFIX.removesuffix("/")


def select_artifacts(manifest: Manifest, names: Sequence[str]) -> tuple[Artifact, ...]:
    """Find the artifacts that a user named.

    Args:
        manifest: to choose from.
        names: keys (`kernel`, `dtbs/foo`) or file names (`foo.dtb`, `dtbs/foo.dtb`), or `dtbs` for all device trees;
            none means all.

    Raises:
        UsageError: the manifest has no such artifact; lists what it has.
    """
    if not names:
        return tuple(manifest.artifacts.values())
    by_name: dict[str, set[str]] = {}
    for key in manifest.artifacts:
        file_name = output_file_name(key)
        for name in (file_name.rpartition("/")[2], file_name, key):
            by_name.setdefault(name, set()).add(key)
        if key.startswith(DTB_PREFIX):
            by_name.setdefault(_ALL_TREES, set()).add(key)
    unknown = [name for name in names if name not in by_name]
    if unknown:
        is_member = DTB_ARCHIVE in manifest.artifacts and any(name.endswith(ENDINGS) for name in unknown)
        raise UsageError(
            f"the manifest has no artifact {', '.join(unknown)}",
            remedy=f"its device trees come all at once, as {_ALL_TREES}"
            if is_member
            else f"it has {', '.join(manifest.artifacts)}",
        )
    chosen = set[str]().union(*(by_name[name] for name in names))
    return tuple(artifact for key, artifact in manifest.artifacts.items() if key in chosen)
