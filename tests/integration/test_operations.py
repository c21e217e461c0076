"""What real nodes write down of what they do, and what Prometheus would read of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.events import Event
from p2pboot.store.auditlog import Deed
from p2pboot.testing.processes import Mesh
from p2pboot.testing.waiting import wait_until

JOURNAL_LINE = re.compile(r"<[3-7]>(?:([a-z-]+): )?\S.*")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_nodes_log_is_json_from_the_first_line_that_its_settings_rule(mesh: Mesh, artifacts: Path) -> None:
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts, "--log-format", "json", "--http", "127.0.0.1:0")
    publisher.wait_for_head(1)
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address, "--log-format", "json")
    mirror.wait_for_head(1)
    publisher.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "settings-reloaded" in publisher.log.read_text(), "a reload")
    assert (publisher.stop(), mirror.stop()) == (0, 0)
    said = lines(publisher.log)
    assert {one["event"] for one in said} <= {event.value for event in Event}
    (published,) = (one for one in said if one["event"] == "published")
    assert (published["channel"], published["manifest_version"]) == ("stable", 1)
    assert "http-listening" in {one["event"] for one in said}
    assert said[-1]["event"] == "node-ending"
    assert {"held", "node-ending"} <= {one["event"] for one in lines(mirror.log)}


def test_a_nodes_log_is_for_the_journal_where_standard_error_is_that(
    mesh: Mesh, artifacts: Path, monkeypatch: Any
) -> None:
    log = mesh.directory / "publisher" / "log"
    log.parent.mkdir()
    log.touch()
    found = os.stat(log)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    publisher = mesh.serve(artifacts)
    publisher.wait_for_head(1)
    assert publisher.stop() == 0
    said = log.read_text().splitlines()
    assert [line for line in said if not JOURNAL_LINE.fullmatch(line)] == []
    assert any(line.startswith("<6>published: stable/x86_64: publishing version") for line in said)


def test_publisher_and_mirror_take_down_what_they_did(mesh: Mesh, artifacts: Path) -> None:
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    publisher.wait_for_head(1)
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address)
    mirror.wait_for_head(1)
    assert (publisher.stop(), mirror.stop()) == (0, 0)
    for node, deed in ((publisher, Deed.PUBLISHED), (mirror, Deed.ACCEPTED)):
        path = node.state / "audit.log"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        started, done = lines(path)
        assert started["event"] == Deed.STARTED
        assert (done["event"], done["signers"], done["manifest_version"]) == (deed, [trust], 1)


def test_a_real_nodes_metrics_are_those_of_the_page_and_promtool_finds_nothing_to_say(
    mesh: Mesh, artifacts: Path
) -> None:
    publisher = mesh.serve(artifacts, "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    publisher.wait_for_head(1)
    with urllib.request.urlopen(f"{publisher.status()['admin'].rstrip('/')}/metrics") as reply:
        text = reply.read().decode()
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    documented = dict(re.findall(r"^\| `(\w+)` \| (\w+) \| ", page, re.MULTILINE))
    assert dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE)) == documented
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
