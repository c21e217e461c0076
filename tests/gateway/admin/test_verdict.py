from __future__ import annotations

from typing import Any

import pytest

from p2pboot.gateway.admin.verdict import verdict

HEAD = {"expired": False, "expires_in_s": 3600}
ARTIFACT = {"done": 1, "size": 4, "waiting_s": None}
ON_ITS_WAY = {"bytes_done": 1, "bytes_total": 4, "artifacts": [ARTIFACT]}


def of(**said: Any) -> tuple[str, str]:
    document: dict[str, Any] = {
        "problems": [],
        "heads": [],
        "fetching": [],
        "snapshots": None,
        "peers_total": 0,
        "clients": [],
    }
    found = verdict({**document, **said})
    return found.level, found.text


@pytest.mark.parametrize(
    ("said", "level", "text"),
    [
        ({}, "busy", "Nothing is offered here yet. 0 peers."),
        ({"heads": [{**HEAD, "expired": True}]}, "busy", "Nothing is offered here yet. 0 peers."),
        (
            {"heads": [HEAD], "peers_total": 1},
            "ok",
            "Working. 1 release is offered, the first of them for 1 h more. 1 peer.",
        ),
        ({"snapshots": {"held": 2}}, "ok", "Working. 2 snapshots are offered. 0 peers."),
        (
            {"fetching": [ON_ITS_WAY]},
            "busy",
            "Nothing is offered here yet. 1 release on the way, 1 B of 4 B. 0 peers.",
        ),
        (
            {
                "fetching": [
                    {**ON_ITS_WAY, "artifacts": [{**ARTIFACT, "waiting_s": 12}, {**ARTIFACT, "done": 4}]}
                ]
            },
            "busy",
            "Nothing is offered here yet. 1 release on the way, 1 B of 4 B; waiting for a peer, 12 s. 0 peers.",
        ),
        (
            {"heads": [HEAD], "problems": [{"severity": "warning"}, {"severity": "info"}]},
            "warning",
            "Working, with 1 warning. 1 release is offered, the first of them for 1 h more. 0 peers.",
        ),
        (
            {"heads": [HEAD], "problems": [{"severity": "error"}] * 2, "clients": [{}]},
            "error",
            "Not all is well: 2 errors. 1 release is offered, the first of them for 1 h more."
            " 0 peers, and 1 machine that booted lately.",
        ),
        ({"heads": [HEAD], "problems": [{"severity": "info"}]}, "ok", None),
    ],
)
def test_one_line_says_whether_it_works(said: dict[str, Any], level: str, text: str | None) -> None:
    found = of(**said)
    assert found[0] == level
    if text is not None:
        assert found[1] == text
