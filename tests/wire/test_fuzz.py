"""A few inputs of the fuzzer in every run; `make fuzz` tries many."""

from __future__ import annotations

import pytest

from tests.wire.fuzz import TARGETS, fuzz


@pytest.mark.parametrize("target", TARGETS)
def test_made_up_bytes_are_taken_or_refused(target: str) -> None:
    counts = fuzz(100, 1, [target])
    assert counts[f"{target}, taken"]
    assert counts[f"{target}, refused"]
