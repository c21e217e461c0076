"""The units as systemd itself reads them: nothing that it does not know, and a sandbox that leaves little."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.systemd.machine import UNITS

SERVICES = sorted(UNITS.glob("*.service"))
THRESHOLD = "20"  # tenths: 2.0 at most; ten is a service without any sandbox


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here")
    return subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": "cat", "LC_ALL": "C.UTF-8"},
        check=False,
    )


def test_there_is_a_unit_and_a_socket_for_each_role() -> None:
    assert {path.name for path in UNITS.iterdir()} >= {
        f"p2pboot-{role}.{kind}" for role in ("publisher", "mirror") for kind in ("service", "socket")
    }


def test_systemd_knows_everything_that_the_units_say(tmp_path: Path) -> None:
    program = tmp_path / "p2pboot"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in (*SERVICES, *UNITS.glob("*.socket")):
        text = path.read_text().replace("/usr/bin/p2pboot", str(program))  # it is not installed here
        (tmp_path / path.name).write_text(text)
    done = analyze("verify", "--man=no", *map(str, sorted(tmp_path.glob("*.s[eo]*"))))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_the_sandbox_leaves_little(path: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={THRESHOLD}", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Overall exposure level for \S+: \d", done.stdout)


def test_a_unit_without_sandbox_would_be_found_out(tmp_path: Path) -> None:
    bare = tmp_path / "p2pboot-bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\n")
    assert analyze("security", "--offline=true", f"--threshold={THRESHOLD}", str(bare)).returncode != 0


def test_what_the_operator_closed_stays_closed(tmp_path: Path) -> None:
    tool = shutil.which("systemd-tmpfiles") or pytest.skip("systemd-tmpfiles is not installed here")
    if os.geteuid() != 0:
        pytest.skip("giving directories to root takes root")

    def create() -> list[str]:
        said = subprocess.run(
            [tool, f"--root={tmp_path}", "--create", str(UNITS / "p2pboot.tmpfiles")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stderr == ""
        return [oct((tmp_path / name).stat().st_mode)[-4:] for name in ("etc/p2pboot", "etc/p2pboot/keys")]

    (tmp_path / "etc").mkdir()
    assert create() == ["0755", "0700"]
    (tmp_path / "etc/p2pboot").chmod(0o750)
    assert create() == ["0750", "0700"]


def test_the_units_of_both_roles_differ_in_what_they_run_alone() -> None:
    publisher, mirror = (path.read_text().splitlines() for path in reversed(SERVICES))

    def settings(lines: list[str], role: str, command: str) -> list[str]:
        said = [line for line in lines if not line.startswith(("#", "Description="))]
        same = ((f"p2pboot {command} ", "COMMAND "), (f"-{command}(1)", "COMMAND(1)"), (role, "ROLE"))
        for old, new in same:
            said = [line.replace(old, new) for line in said]
        return said

    assert settings(publisher, "publisher", "serve") == settings(mirror, "mirror", "mirror")
