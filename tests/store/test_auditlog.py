from __future__ import annotations

import errno
import json
import os
import re
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.policy import Publisher
from p2pboot.core.problems import Code
from p2pboot.core.timestamps import format_time
from p2pboot.store import auditlog
from p2pboot.store.auditlog import ALL_BURST, ALL_PER_S, KEPT, PEER_BURST, REMEMBERED, AuditLog, Deed
from p2pboot.testing.manifests import NOW
from tests.fetch.world import KEY, manifest_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path, clock: Clock) -> AuditLog:
    return AuditLog(tmp_path / "audit.log", lambda: NOW, clock=clock)


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def refuse(log: AuditLog, source: str, digest: str, reason: str = "untrusted") -> bool:
    entry = log.refusal(reason, source, digest=digest)
    if entry is not None:
        log.write_refusal(entry)
    return entry is not None


def test_an_entry_says_when_what_and_by_whose_key(log: AuditLog) -> None:
    manifest = manifest_of(version=7)
    log.accepted(manifest, "a peer")
    assert entries(log.path) == [
        {
            "time": format_time(NOW),
            "event": "accepted",
            "channel": "stable",
            "arch": "x86_64",
            "version": manifest.version,
            "manifest_version": 7,
            "digest": manifest.digest,
            "signers": [KEY.public.keyid],
            "source": "a peer",
        }
    ]


def test_it_is_for_its_owner_only_and_grows(log: AuditLog) -> None:
    log.started("me", "key", [Publisher((KEY.public.keyid,), name="ops")])
    log.trust_changed([])
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    assert [one["event"] for one in entries(log.path)] == ["started", "trust-changed"]
    assert entries(log.path)[0]["trust"][0]["keys"] == [KEY.public.keyid]


def test_what_somebody_says_is_no_second_entry_and_has_a_bound(log: AuditLog) -> None:
    refuse(log, 'x"}\n{"event":"accepted"\u2028', "d" * 5000)
    (entry,) = entries(log.path)
    assert entry["event"] == "refused"
    assert len(entry["digest"]) == auditlog.MAX_WORD
    assert log.path.read_bytes().isascii()


def test_the_same_refusal_is_taken_down_once(log: AuditLog) -> None:
    assert [refuse(log, "peer", "a") for _ in range(3)] == [True, False, False]
    assert refuse(log, "peer", "a", reason="expired")


def test_one_peer_has_a_few_refusals_and_all_have_a_part_of_the_day(log: AuditLog, clock: Clock) -> None:
    assert sum(refuse(log, "peer", str(number)) for number in range(1000)) == PEER_BURST
    assert sum(refuse(log, f"peer {number}", "x") for number in range(5000)) == ALL_BURST - PEER_BURST
    assert "left_out" not in entries(log.path)[0]
    clock.now += 86_400
    assert sum(refuse(log, f"later {number}", "x") for number in range(5000)) == pytest.approx(
        ALL_BURST, abs=1
    )
    assert pytest.approx(240) == ALL_PER_S * 86_400
    assert entries(log.path)[PEER_BURST]["left_out"] == 1000 - PEER_BURST
    assert entries(log.path)[ALL_BURST]["left_out"] == 5000 - (ALL_BURST - PEER_BURST)


def test_whom_it_remembers_is_bounded(log: AuditLog) -> None:
    for number in range(3 * REMEMBERED):
        log.refusal("untrusted", f"peer {number}", digest=str(number))
    assert len(log._refusals._peers) == len(log._refusals._seen) == REMEMBERED


def test_a_full_file_makes_room_and_the_oldest_goes(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log", lambda: NOW, max_bytes=200)
    for number in range(60):
        log.note(Deed.PUBLISHED, number=number)
    files = sorted(tmp_path.iterdir())
    assert [one.name for one in files] == [
        "audit.log",
        *(f"audit.log.{number}" for number in range(1, KEPT + 1)),
    ]
    assert all(one.stat().st_size < 300 for one in files)
    numbers = [entry["number"] for one in [*files[:0:-1], files[0]] for entry in entries(one)]
    assert numbers == list(range(numbers[0], 60))
    assert numbers[0] > 0


def test_a_file_that_was_moved_away_is_begun_anew(log: AuditLog) -> None:
    log.note(Deed.PUBLISHED, number=1)
    moved = log.path.rename(log.path.with_suffix(".old"))
    log.note(Deed.PUBLISHED, number=2)
    assert [one["number"] for one in entries(moved)] == [1]
    assert [one["number"] for one in entries(log.path)] == [2]


@pytest.fixture
def small_files() -> Iterator[None]:
    """As on a full disk: a write of this process ends in the middle, and the next fails."""
    import signal

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_ends_nothing_leaves_no_half_line_and_is_told(
    log: AuditLog, request: pytest.FixtureRequest
) -> None:
    log.note(Deed.PUBLISHED, word="x" * 20)
    request.getfixturevalue("small_files")
    log.note(Deed.PUBLISHED, word="y" * 100)
    log.note(Deed.PUBLISHED, word="z" * 100)
    assert [one["word"] for one in entries(log.path)] == ["x" * 20]
    (problem,) = log.problems()
    assert problem.code is Code.AUDIT_LOG
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    )
    log.note(Deed.PUBLISHED, word="after")
    assert [(one["event"], one.get("count")) for one in entries(log.path)[1:]] == [
        ("lost", 2),
        ("published", None),
    ]
    assert not [*log.problems()]


@pytest.mark.parametrize("obstacle", ["link", "pipe", "directory"])
def test_what_is_no_file_is_not_written_and_nobody_is_waited_for(log: AuditLog, obstacle: str) -> None:
    other = log.path.with_name("other")
    match obstacle:
        case "link":
            other.write_text("")
            log.path.symlink_to(other)
        case "pipe":
            os.mkfifo(log.path)
        case "directory":
            log.path.mkdir()
    log.note(Deed.PUBLISHED)
    assert len([*log.problems()]) == 1
    assert obstacle != "link" or not other.read_text()


def test_what_was_mended_is_noticed_before_the_next_deed(log: AuditLog) -> None:
    log.path.mkdir()
    log.note(Deed.PUBLISHED)
    log.note(Deed.PUBLISHED)
    log.retry()
    assert len([*log.problems()]) == 1
    log.path.rmdir()
    log.retry()
    log.retry()
    assert not [*log.problems()]
    assert [(one["event"], one["count"]) for one in entries(log.path)] == [("lost", 2)]


def test_an_error_of_the_disk_is_told(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail)
    log.note(Deed.PUBLISHED)
    (problem,) = log.problems()
    assert os.strerror(errno.EIO) in problem.text


def test_refusals_do_not_command_the_disk(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    refuse(log, "peer", "x")
    assert not synced
    log.note(Deed.ACCEPTED)
    assert len(synced) == 1


def fifty(log: AuditLog, who: str) -> None:
    for number in range(50):
        log.note(Deed.PUBLISHED, who=who, number=number)


def test_threads_and_processes_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    program = (
        "import sys; from pathlib import Path; from p2pboot.store.auditlog import AuditLog, Deed;"
        "log = AuditLog(Path(sys.argv[1]), lambda: 1, max_bytes=20_000);"
        "[log.note(Deed.PUBLISHED, who=sys.argv[2], number=n) for n in range(100)]"
    )
    log = AuditLog(path, lambda: NOW, max_bytes=20_000)
    with subprocess.Popen([sys.executable, "-c", program, str(path), "other"]) as other:
        threads = [threading.Thread(target=fifty, args=(log, who)) for who in "ab"]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert other.wait() == 0
    found = [entry for one in tmp_path.iterdir() for entry in entries(one)]
    assert len(found) == 200
    for who in ("a", "b", "other"):
        assert sorted(one["number"] for one in found if one["who"] == who) == [
            *range(50 if who != "other" else 100)
        ]


def test_the_page_of_the_log_has_everything_that_is_taken_down() -> None:
    page = (Path(__file__).parents[2] / "docs/logs.md").read_text().partition("## The audit log")[2]
    assert re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE) == [deed.value for deed in Deed]
