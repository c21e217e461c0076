"""What `publish` and `status` make of a node's answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from p2pboot.cli.control import publish, status
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


def test_status_shows_what_is_ignored_and_nothing_expired_as_offered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ignored = {"channel": "stable", "arch": "x86_64", "path": "/srv/rootfs.filepart", "why": "unfinished"}
    answer = {
        "peer_id": "12D3",
        "addresses": [],
        "uptime_s": 5,
        "heads": [
            {**PUBLISHED, "expired": True},
            {**PUBLISHED, "arch": "arm64", "expired": False, "age_s": 5 * 86_400},
        ],
        "withheld": [{"channel": "stable", "arch": "x86_64", "reason": "expired", "text": "it expired"}],
        "fetching": [],
        "peers": [],
        "traffic": [
            {"peer": "12D4", "kind": "gossip", "sent": 1, "received": 1500},
            {"peer": "12D5", "kind": "gossip", "sent": 0, "received": 500},
            {"peer": "192.0.2.7", "kind": "http", "sent": 2_000_000, "received": 300},
        ],
        "ignored": [ignored],
        "problems": [UNFIT],
        "dropped_peers": {},
        "equivocations": 0,
        "dht": {
            "peers": 3,
            "values": 2,
            "providers": 7,
            "requests": {"ping": 4, "get_value": 5},
            "refused": {},
        },
        "store": {"used": 1_500_000, "limit": 4_000_000, "quota": "auto", "keep": 2},
    }
    answering(monkeypatch, answer)
    done = CliRunner().invoke(status, ["--state", str(tmp_path)])
    assert done.exit_code == 0
    assert "stable/x86_64 version" not in done.stdout
    assert "offers     stable/arm64 version 6.1, manifest version 3, 5 d old, until" in done.stdout
    assert "withheld   stable/x86_64: it expired" in done.stdout
    assert "ignored    stable/x86_64: /srv/rootfs.filepart: unfinished" in done.stdout
    assert "problem    testing/x86_64: no initramfs" in done.stdout
    assert (
        "store      1.5 MB of fetched artifacts; at most 4.0 MB, which leaves a tenth of the disk free"
        in done.stdout
    )
    assert (
        "hash table 3 peers known; 2 values and 7 provider records kept; 9 requests answered\n" in done.stdout
    )
    assert "bytes      gossip: 1 B sent, 2.0 kB received\n" in done.stdout
    assert "bytes      http: 2.0 MB sent, 300 B received\n" in done.stdout
