"""What `publish` makes of a node's answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from p2pboot.cli.control import publish
from p2pboot.node import control

PUBLISHED = {
    "channel": "stable",
    "arch": "x86_64",
    "version": "6.1",
    "manifest_version": 3,
    "digest": "ab" * 32,
    "expires_at": "2026-12-25T17:27:49Z",
    "unchanged": False,
}
WITHDRAWN = {
    "channel": "beta",
    "arch": "arm64",
    "version": "5",
    "manifest_version": 2,
    "expires_at": "2026-12-24T00:00:00Z",
}
UNFIT = {
    "code": "unpublishable",
    "subject": "testing/x86_64",
    "text": "no initramfs",
    "remedy": "put it there",
    "since": 1,
}
TAKEN_BACK = {
    "code": "withdrawn",
    "subject": "beta/arm64",
    "text": "its files are gone",
    "remedy": "wait",
    "since": 1,
}
ANSWER = {"ok": True, "published": [PUBLISHED], "withdrawn": [WITHDRAWN], "problems": [UNFIT, TAKEN_BACK]}


def answering(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> None:
    monkeypatch.setattr(control, "request", lambda *_args: answer)


def test_publish_says_what_was_published_withdrawn_and_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answering(monkeypatch, ANSWER)
    done = CliRunner().invoke(publish, ["--state", str(tmp_path)])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"published: stable/x86_64 version 6.1, manifest version 3, sha256:{'ab' * 32}",
        "withdrawn: beta/arm64 version 5, manifest version 2: mirrors keep it until 2026-12-24T00:00:00Z",
    ]
    assert done.stderr.splitlines() == [
        "p2pboot: warning: testing/x86_64: no initramfs (put it there)"
    ]  # and what is withdrawn only once


def test_publish_gives_a_script_all_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answering(monkeypatch, ANSWER)
    done = CliRunner().invoke(publish, ["--state", str(tmp_path), "--json"])
    assert json.loads(done.stdout) == ANSWER
