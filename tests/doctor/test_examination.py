"""All checks in order, whatever becomes of one of them, and never longer than they may."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from p2pboot.doctor.examination import Examination, examine
from p2pboot.doctor.findings import Code, Finding, State, Step, ok
from p2pboot.errors import MachineError
from p2pboot.testing.network import MemoryNetwork
from tests.doctor.patients import patient, short


async def all_well(_self: object) -> Sequence[Finding]:
    return [ok(Code.DISK, "this", "is well")]


@pytest.fixture
def well(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An examination whose checks all are well, as long as nobody says otherwise."""
    for name in ("addresses", "ports", "multicast", "bootstrap", "address_book", "peers", "firewall"):
        monkeypatch.setattr(Examination, f"_{name}", all_well)
    for name in ("trust", "clock", "state", "room", "inotify"):
        monkeypatch.setattr(Examination, f"_{name}", all_well)
    return monkeypatch


async def examined(timeout_s: float = 45.0) -> tuple[list[Finding], list[Finding]]:
    told: list[Finding] = []
    async with MemoryNetwork().open("peer") as transport:
        findings, report = await examine(patient(transport), timeout_s, told.append)
    assert len(report["findings"]) == len(findings)
    return findings, told


async def test_each_finding_is_told_with_its_check(well: pytest.MonkeyPatch) -> None:
    findings, told = await examined()
    assert told == findings
    assert [finding.check for finding in findings] == list(Step)


async def test_a_check_that_hangs_is_given_up_and_the_others_are_made(
    autojump_clock: MockClock, well: pytest.MonkeyPatch
) -> None:
    async def hang(_self: object) -> Sequence[Finding]:
        await trio.sleep(3600)
        return []

    well.setattr(Examination, "_peers", hang)
    findings, _ = await examined()
    assert len(findings) == len(Step)
    assert [f.check for f in findings if (f.code, f.state) == (Code.OUT_OF_TIME, State.FAILED)] == [
        Step.PEERS
    ]


async def test_all_together_end_in_time(autojump_clock: MockClock, well: pytest.MonkeyPatch) -> None:
    async def slow(_self: object) -> Sequence[Finding]:
        await trio.sleep(3)
        return [ok(Code.DISK, "this", "is well")]

    for name in ("multicast", "bootstrap", "peers"):
        well.setattr(Examination, f"_{name}", slow)
    began = trio.current_time()
    findings, _ = await examined(timeout_s=5)
    assert trio.current_time() - began <= 5
    late = [finding.check for finding in findings if finding.code is Code.OUT_OF_TIME]
    # What waits for others leaves time for what comes after it.
    assert late == [Step.BOOTSTRAP, Step.ADDRESS_BOOK, Step.PEERS]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MachineError("the disk is gone", remedy="plug it in"), "the disk is gone"),
        (ExceptionGroup("tasks", [MachineError("the disk is gone")]), "the disk is gone"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (RuntimeError("a bug"), "internal error: RuntimeError: a bug"),
    ],
)
async def test_a_check_that_breaks_is_told_and_the_others_are_made(
    well: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    async def fail(_self: object) -> Sequence[Finding]:
        raise error

    well.setattr(Examination, "_state", fail)
    findings, _ = await examined()
    (broken,) = [finding for finding in findings if finding.check is Step.STATE]
    assert short([broken]) == [(Code.CHECK_BROKEN, State.FAILED)]
    assert said in broken.text
    assert len(findings) == len(Step)
