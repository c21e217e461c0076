"""Limits, and what they make of each other."""

from __future__ import annotations

import pytest

from p2pboot.serving.limits import FULL_SLICE, PACED_SLICE, SMALLEST_SLICE, Limits


@pytest.mark.parametrize(
    ("total", "peer", "slice_bytes"),
    [
        (None, None, FULL_SLICE),
        (10**9, None, PACED_SLICE),
        (None, 10**9, PACED_SLICE),
        (10**9, 160_000, 20_000),
        (160_000, 10**9, 20_000),
        (1, None, SMALLEST_SLICE),
    ],
)
def test_slices_shrink_with_the_cap(total: int | None, peer: int | None, slice_bytes: int) -> None:
    assert Limits(upload_bytes_per_s=total, peer_upload_bytes_per_s=peer).slice_bytes == slice_bytes


def test_upload_limit_that_lets_nothing_through_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing through"):
        Limits(upload_bytes_per_s=0)
    with pytest.raises(ValueError, match="nothing through"):
        Limits(peer_upload_bytes_per_s=-1)


def test_memory_that_can_not_hold_one_read_is_refused() -> None:
    with pytest.raises(ValueError, match="one read"):
        Limits(peer_body_memory=1 << 20)
    with pytest.raises(ValueError, match="one read"):
        Limits(body_memory=16 << 20, peer_body_memory=32 << 20)
