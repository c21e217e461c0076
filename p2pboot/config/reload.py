"""What a reload changes: the part that a running node takes over, and the part that needs a restart."""

from __future__ import annotations

from dataclasses import replace

from p2pboot.config.keys import KEYS
from p2pboot.config.load import TRUST
from p2pboot.config.settings import NodeSettings


def diff_settings(old: NodeSettings, new: NodeSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Compare two loads of the same configuration.

    Returns:
        Dotted keys whose change a running node applies (and "trust"), and those whose change needs a restart.
    """
    changed = [key for key in KEYS if key.of(old) != key.of(new)]
    applied = [key.dotted for key in changed if key.live]
    if old.trust != new.trust:
        applied.append(TRUST)
    return tuple(applied), tuple(key.dotted for key in changed if not key.live)


def live_part(old: NodeSettings, new: NodeSettings) -> NodeSettings:
    """The settings in force in a running node after a reload: the new ones where it takes them, else the old."""
    return replace(
        old,
        provider=replace(new.provider, directory=old.provider.directory),
        network=replace(old.network, max_upload=new.network.max_upload),
        trust=new.trust,
        store=replace(
            old.store, quota_bytes=new.store.quota_bytes, max_artifact_bytes=new.store.max_artifact_bytes
        ),
    )
