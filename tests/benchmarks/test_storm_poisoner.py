"""What the poisoner of the storms says; what it gives is nothing but wrong bytes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.storm import poisoner
from p2pboot.core.changes import Change, ChangeRing, Form
from p2pboot.core.pieces import PieceSet


def partial(*held: int) -> Any:
    return SimpleNamespace(
        held=PieceSet.of(8, held), table=SimpleNamespace(count=8), changes=ChangeRing(100), digest="d"
    )


def test_fellows_claim_what_each_of_them_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = poisoner._Claims(partial(0, 1)), poisoner._Claims(partial(1, 2, 3))
    for claims, pid in ((ours, 1), (theirs, 2), (ours, 1)):
        monkeypatch.setattr("os.getpid", lambda pid=pid: pid)
        claims.exchange(tmp_path, "table")
    assert list(ours.held) == [0, 1, 2, 3]
    assert ours.changes.since(100) == (Change(Form.HELD, range(2, 4)),)
    assert list(theirs.held) == [0, 1, 2, 3]
    assert list(ours.partial.held) == [0, 1]  # what it really has stays
