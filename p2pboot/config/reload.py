"""What a reload changes: the part that a running node takes over, and the part that needs a restart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from p2pboot.config.settings import SETTINGS, NodeSettings, with_values
from p2pboot.config.trust import TRUST

if TYPE_CHECKING:
    from p2pboot.core.policy import TrustedRoot


def diff_settings(old: NodeSettings, new: NodeSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Compare two loads of the same configuration.

    Returns:
        Dotted keys whose change a running node applies (and "trust"), and those whose change needs a restart.
    """
    changed = [key for key in SETTINGS.values() if key.of(old) != key.of(new)]
    applied = [key.dotted for key in changed if key.live]
    if (old.trust, _anchors(old)) != (new.trust, _anchors(new)):
        applied.append(TRUST)
    return tuple(applied), tuple(key.dotted for key in changed if not key.live)


def live_part(old: NodeSettings, new: NodeSettings) -> NodeSettings:
    """The settings in force in a running node after a reload: the new ones where it takes them, else the old."""
    taken = {key.dotted: key.of(new) for key in SETTINGS.values() if key.live}
    return with_values(replace(old, trust=new.trust, roots=new.roots), taken)


def _anchors(settings: NodeSettings) -> tuple[TrustedRoot, ...]:
    """The roots as the operator said them, whatever is in force of them by now."""
    return tuple(replace(root, chain=None) for root in settings.roots)
