"""`p2pboot doctor` as a user runs it: what it says, and what the shell gets to know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2pboot.doctor.findings import Step
from p2pboot.testing.manifests import ALICE
from tests.cli.conftest import Cli

QUIET = ("--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--dht", "off", "--timeout", "2")
NOBODY = ("--bootstrap", "/ip4/127.0.0.1/tcp/1")


def codes(document: dict[str, Any], state: str) -> set[str]:
    return {one["code"] for one in document["findings"] if one["state"] == state}


def test_a_document_has_every_check_and_the_status_is_that_of_the_first_that_failed(
    cli: Cli, tmp_path: Path
) -> None:
    done = cli("doctor", *QUIET, *NOBODY, "--state", tmp_path / "state", "--json")
    assert done.status == done.document["exit_status"] == 3
    assert done.document["ok"] is False
    assert done.document["format"] == 1
    assert done.document["by"] == "client"
    assert "refused" in codes(done.document, "failed")
    assert {one["check"] for one in done.document["findings"]} == {step.value for step in Step}
    assert "/ip4/127.0.0.1/tcp/1" in done.error_line
    assert not (tmp_path / "state").exists()


def test_a_clock_of_1970_is_named(cli: Cli) -> None:
    done = cli("doctor", *QUIET, *NOBODY, "--json", wall=lambda: 0)
    assert "clock-behind" in codes(done.document, "failed")


def test_a_person_reads_a_line_for_each_finding_and_what_to_do(cli: Cli) -> None:
    done = cli("doctor", *QUIET, *NOBODY)
    lines = done.stdout.splitlines()
    assert any(line.startswith("failed   bootstrap") and line.endswith("[refused]") for line in lines)
    assert any(line.strip().startswith("→ a machine is there, and nothing listens") for line in lines)


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (("--node", "--state", "none"), 3, "no node is running"),
        (("--node", "--state", "none", *NOBODY), 2, "network.bootstrap"),
        (("--node", "--state", "none", "--trust", ALICE.public.keyid), 2, "leave out"),
        (("--timeout", "0"), 2, "--timeout"),
        (("--timeout", "121"), 2, "--timeout"),
        (("--bootstrap", "junk"), 2, "--bootstrap"),
        (("--swarm-key", "none.key", *QUIET), 2, "none.key"),
    ],
)
def test_what_can_not_work_is_refused_in_a_line(
    cli: Cli, args: tuple[str, ...], status: int, said: str
) -> None:
    done = cli("doctor", *args, "--json")
    assert done.status == status
    assert said in done.error_line
    assert done.document["exit_status"] == status
