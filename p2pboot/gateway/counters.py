"""What the gateway counts, but for bytes (`transport.traffic`); only ever grows."""

from __future__ import annotations

from collections import Counter
from dataclasses import field

from p2pboot.core.dataclass import dataclass


@dataclass(slots=True)
class GatewayCounters:
    """Keys are from closed sets, never a client's words."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By (kind of route, status)."""
    failures: int = 0
    """Requests that ended by a fault of ours."""
