"""A node looks itself, one examination at a time; what is said to it is read with care."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pboot.config.settings import NodeSettings
from p2pboot.doctor import examination
from p2pboot.doctor.patient import Patient
from p2pboot.errors import P2PBootError, UsageError
from p2pboot.node.examining import Examining
from p2pboot.store.store import Store
from p2pboot.testing.network import MemoryNetwork

SETTINGS = NodeSettings()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Patient, float]]:
    """Who was examined, and for how long at most."""
    patients: list[tuple[Patient, float]] = []

    async def examine(patient: Patient, timeout_s: float) -> tuple[list[Any], dict[str, Any]]:
        patients.append((patient, timeout_s))
        await trio.sleep(5)
        return [], {"by": "node"}

    monkeypatch.setattr(examination, "examine", examine)
    return patients


async def test_one_at_a_time(
    autojump_clock: MockClock, store: Store, asked: list[tuple[Patient, float]]
) -> None:
    async with MemoryNetwork().open("node") as transport, trio.open_nursery() as nursery:
        examining = Examining(transport, store, lambda: 0)
        nursery.start_soon(examining.answer, SETTINGS, {})
        await trio.sleep(1)
        with pytest.raises(P2PBootError, match="examined already"):
            await examining.answer(SETTINGS, {})
        await trio.sleep(5)
        said = {"timeout": 3, "channel": "stable", "arch": "amd64"}
        assert await examining.answer(SETTINGS, said) == {"report": {"by": "node"}}
    assert len(asked) == 2
    patient, timeout_s = asked[1]
    assert (patient.channel, patient.arch, patient.is_node, patient.store) == (
        "stable",
        "x86_64",
        True,
        store,
    )
    assert timeout_s == 3


async def test_one_that_is_given_up_makes_room(
    autojump_clock: MockClock, store: Store, asked: list[tuple[Patient, float]]
) -> None:
    async with MemoryNetwork().open("node") as transport:
        examining = Examining(transport, store, lambda: 0)
        with trio.move_on_after(1):
            await examining.answer(SETTINGS, {})
        await examining.answer(SETTINGS, {})
    assert len(asked) == 2


@pytest.mark.parametrize(
    "said",
    [
        {"timeout": "soon"},
        {"timeout": True},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": 121},
        {"timeout": float("nan")},
        {"timeout": None},
        {"channel": 7},
        {"arch": ["x86_64"]},
        {"arch": "mips"},
    ],
)
async def test_what_makes_no_sense_is_refused(
    store: Store, asked: list[tuple[Patient, float]], said: dict[str, Any]
) -> None:
    async with MemoryNetwork().open("node") as transport:
        with pytest.raises(UsageError):
            await Examining(transport, store, lambda: 0).answer(SETTINGS, said)
    assert asked == []
