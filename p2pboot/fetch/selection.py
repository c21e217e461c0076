"""Which artifacts of a manifest a user means."""

from __future__ import annotations

from collections.abc import Sequence

from p2pboot.core.manifest import Artifact, Manifest
from p2pboot.core.names import output_file_name
from p2pboot.errors import UsageError


def select_artifacts(manifest: Manifest, names: Sequence[str]) -> tuple[Artifact, ...]:
    """Find the artifacts that a user named.

    Args:
        manifest: to choose from.
        names: keys (`kernel`, `dtbs/foo`) or file names (`foo.dtb`, `dtbs/foo.dtb`); none means all.

    Raises:
        UsageError: the manifest has no such artifact; lists what it has.
    """
    if not names:
        return tuple(manifest.artifacts.values())
    by_name: dict[str, Artifact] = {}
    for key, artifact in manifest.artifacts.items():
        file_name = output_file_name(key)
        for name in (file_name.rpartition("/")[2], file_name, key):
            by_name[name] = artifact
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise UsageError(
            f"the manifest has no artifact {', '.join(unknown)}",
            remedy=f"it has {', '.join(manifest.artifacts)}",
        )
    chosen = {by_name[name].key for name in names}
    return tuple(artifact for key, artifact in manifest.artifacts.items() if key in chosen)
