"""A small mesh whose nodes come and go, as `benchmarks.mesh` has it; three hundred take minutes."""

from __future__ import annotations

import pytest

from benchmarks import mesh
from p2pboot.core.addressbook import Bounds
from p2pboot.fetch.asking import acquainting, neighbours, remembering


def test_nobody_is_isolated_when_a_third_goes_and_comes_back_without_any_bootstrap(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, number in {"FULL_MESH": 6, "FEWEST": 3, "MOST": 5, "FAR": 1}.items():
        monkeypatch.setattr(neighbours, name, number)
    monkeypatch.setattr(acquainting, "FULL_MESH", 6)
    monkeypatch.setattr(remembering, "KEPT", Bounds(proved=5, said=4, of_origin=2))
    began, gone, back = mesh.simulate(14, settle_s=4.0, gone_s=1.0)
    assert (began.nodes, gone.nodes, back.nodes) == (14, 10, 14)
    for look in (began, back):
        assert (look.parts, look.isolated) == (1, 0)
    assert gone.isolated == 0
    assert 5 <= back.kept <= 9  # however many there are
