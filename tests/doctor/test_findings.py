"""Every code stays, is explained to who meets it, and leads to a status that scripts may rely on."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from p2pboot.doctor.findings import (
    FORMAT,
    Code,
    Finding,
    State,
    Step,
    failed,
    findings_of,
    ok,
    raise_if_unwell,
    report_of,
    warning,
)
from p2pboot.errors import ExitStatus, P2PBootError
from p2pboot.transport.interface import DialFailure

PAGE = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")


def test_every_code_has_an_entry_that_says_what_it_means() -> None:
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", PAGE.partition("## Codes")[2], re.MULTILINE))
    assert set(rows) == {code.value for code in Code}
    assert all(len(text) > 20 for text in rows.values())


def test_every_check_is_listed_in_its_order() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", PAGE.partition("## Codes")[0], re.MULTILINE) == list(Step)


def test_whatever_becomes_of_a_dial_has_a_code() -> None:
    assert {failure.value for failure in DialFailure} <= {code.value for code in Code}


@pytest.mark.parametrize(
    ("step", "status"),
    [
        (Step.PORTS, ExitStatus.MACHINE),
        (Step.CLOCK, ExitStatus.MACHINE),
        (Step.BOOTSTRAP, ExitStatus.NOT_FOUND),
        (Step.PEERS, ExitStatus.NOT_FOUND),
        (Step.TRUST, ExitStatus.REFUSED),
    ],
)
def test_the_first_that_failed_decides_about_the_exit_status(step: Step, status: ExitStatus) -> None:
    fine = warning(Code.MULTICAST_ALONE, "eth0", "nobody answers")
    first = replace(failed(Code.OTHER, "subject", "what was seen", "what to do"), check=step)
    later = replace(first, check=Step.TRUST if step is not Step.TRUST else Step.DISK)
    report = reported([fine, first, later])
    with pytest.raises(P2PBootError) as raised:
        raise_if_unwell(report, [fine, first, later])
    assert raised.value.exit_status == status
    assert raised.value.message == f"{step}: subject: what was seen (and 1 more)"
    assert raised.value.remedy == "what to do"
    assert raised.value.details == report


def test_warnings_are_no_failure() -> None:
    raise_if_unwell({}, [warning(Code.OTHER, "it", "is strange"), ok(Code.DISK, "disk", "fine")])


def test_a_report_comes_back_as_what_was_found() -> None:
    findings = [
        ok(Code.ADDRESSES, "this machine", "all"),
        replace(failed(Code.NOBODY, "p", "t", "r"), check=Step.PEERS),
    ]
    report = json.loads(json.dumps(reported(findings)))
    assert findings_of(report) == findings
    assert report["format"] == FORMAT == 1
    assert report["ok"] is False
    assert report["counts"] == {"ok": 1, "warning": 0, "failed": 1, "skipped": 0}
    assert report["findings"][1] == {
        **{"check": "peers", "code": "nobody", "state": "failed"},
        **{"subject": "p", "text": "t", "remedy": "r"},
    }


def reported(findings: list[Finding]) -> dict[str, object]:
    return report_of(findings, by="client", peer_id="12D3", took_s=1.23, version="1")


def test_states_are_told_apart() -> None:
    assert {state.value for state in State} == {"ok", "warning", "failed", "skipped"}
