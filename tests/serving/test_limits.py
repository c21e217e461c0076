"""Limits, and what they make of each other."""

from __future__ import annotations

import pytest

from p2pboot.serving.limits import Limits


def test_memory_that_can_not_hold_one_read_is_refused() -> None:
    with pytest.raises(ValueError, match="one read"):
        Limits(peer_body_memory=1 << 20)
    with pytest.raises(ValueError, match="one read"):
        Limits(body_memory=16 << 20, peer_body_memory=32 << 20)
