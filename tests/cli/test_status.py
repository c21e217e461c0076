"""What `status` makes of a node's answer: for people, for scripts, once and again and again."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from p2pboot.cli import status_watch
from p2pboot.cli.status import status
from p2pboot.cli.status_lines import has_colours, lines_of, rows_of, terminal_columns
from p2pboot.cli.status_watch import JsonLines, Pages, Screen, follow, is_terminal
from p2pboot.core.problems import Code, Problem
from p2pboot.core.timestamps import parse_time
from p2pboot.errors import NotFoundError
from p2pboot.node import control

NOW = "2026-11-26T12:00:00Z"
DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"
KEY = "ed25519:" + "ab" * 32
Document = dict[str, Any]


def problem(
    code: Code = Code.EXPIRED, subject: str = "stable/x86_64", remedy: str | None = "mend it"
) -> Document:
    since = parse_time(NOW) - 7200
    return Problem(code, subject, f"what {code} looks like", remedy, since).to_json()


def head(**changes: Any) -> Document:
    return {
        "channel": "stable",
        "arch": "x86_64",
        "version": "6.1-18",
        "manifest_version": 7,
        "publisher": "acme",
        "age_s": 5 * 86_400,
        "expires_in_s": 25 * 86_400 + 3600,
        "expired": False,
        "artifacts": [],
        **changes,
    }


def artifact(**changes: Any) -> Document:
    return {
        "name": "rootfs",
        "size": 1_000_000_000,
        "done": 250_000_000,
        "rate": 0,
        "left_s": None,
        "waiting_s": None,
        "from": [],
        **changes,
    }


def peer(**changes: Any) -> Document:
    return {
        "peer_id": "12D3KooWDxwJzBJA9Ux6wfpKWuxd57hoeRPjcfKpvwF27PQzwhe8",
        "name": None,
        "path": "lan",
        "publisher": False,
        "rtt_ms": 0.4213,
        "rate_sent": 0,
        "rate_received": 8_400_000,
        "holds": ["stable/x86_64 #7"],
        **changes,
    }


def document(**changes: Any) -> Document:
    nothing = {"lan": [0, 0], "mesh": [0, 0], "publisher": [0, 0], "http": [0, 0]}
    flows = {"interval_s": 5, "samples": 60, "received": nothing, "sent": nothing}
    return {
        "schema": 1,
        "version": "1.2",
        "name": "rack-7",
        "role": "mirror",
        "peer_id": "12D3KooWAP8SjLSKk9sVvPvaFMAmmsGB7Etz5Kg9R1xzsNHCaqQS",
        "now": NOW,
        "uptime_s": 3 * 86_400,
        "admin": "http://127.0.0.1:4080/",
        "http": ["http://192.0.2.1"],
        "addresses": ["/ip4/192.0.2.1/tcp/4001"],
        "mesh": {"private": False, "swarm_key_fingerprint": None},
        "dht": None,
        "problems": [],
        "heads": [head()],
        "fetching": [],
        "withheld": [],
        "ignored": [],
        "peers_total": 1,
        "peers": [peer()],
        "flows": flows,
        "clients": [],
        "store": {"used": 1_500_000, "limit": 4_000_000, "quota": "auto"},
        "snapshots": None,
        "scrub": None,
        "dropped_peers": {},
        "equivocations": 0,
        **changes,
    }


def lines(columns: int | None = None, coloured: bool = False, **changes: Any) -> list[str]:
    return lines_of(rows_of(document(**changes)), columns, coloured=coloured)


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: Document, *args: str) -> Result:
    monkeypatch.setattr(control, "request", lambda *_args: answer)
    return CliRunner().invoke(status, ["--state", str(tmp_path), *args], standalone_mode=False)


# -- what is said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "working: offers 1 release, 1 peer, nothing wrong"),
        (
            {"problems": [problem(Code.QUOTA), problem(Code.PORT_UNREACHABLE)], "peers_total": 300},
            "working: offers 1 release, 300 peers, 1 warning, 1 note",
        ),
        (
            {
                "problems": [problem(Code.UNPUBLISHABLE), problem(Code.QUOTA)],
                "fetching": [head(bytes_done=1)],
            },
            "WORKING IN PART: offers 1 release, fetching stable/x86_64, 1 peer, 1 error, 1 warning",
        ),
        (
            {"heads": [head(expired=True)], "problems": [problem()]},
            "NOT WORKING: nothing is offered, 1 peer, 1 error",
        ),
        ({"heads": [head(publisher=None)]}, "not ready: nothing is offered, 1 peer, nothing wrong"),
        (
            {"heads": [], "snapshots": {"held": 2, "bytes": 7}},
            "working: offers 2 snapshots, 1 peer, nothing wrong",
        ),
    ],
)
def test_the_first_line_says_whether_it_works(changes: Document, said: str) -> None:
    if "fetching" in changes:
        changes["fetching"] = [head(bytes_done=0, bytes_total=0, artifacts=[])]
    assert lines(**changes)[0] == said


def test_problems_come_first_with_remedy_and_where_more_is_said() -> None:
    found = lines(problems=[problem(), problem(Code.SHARED_KEY, "network", None)])
    assert found[1:7] == [
        "error      stable/x86_64: what expired looks like",
        "  remedy   mend it",
        "  see      docs/troubleshooting.md#expired (p2pboot explain expired); for 2 h",
        "warning    network: what shared-key looks like",
        "  see      docs/troubleshooting.md#shared-key (p2pboot explain shared-key); for 2 h",
        "offers     stable/x86_64 version 6.1-18, manifest version 7, signed by acme, 5 d old, expires in 25 d 1 h",
    ]


def test_what_is_held_and_not_offered_is_said_once() -> None:
    withheld = {"channel": "stable", "arch": "x86_64", "reason": "expired", "text": "it expired"}
    found = lines(heads=[head(expired=True), head(arch="arm64", publisher=KEY)], withheld=[withheld])
    assert [line for line in found if "stable/" in line and not line.startswith("peer")] == [
        "offers     stable/arm64 version 6.1-18, manifest version 7, signed by ed25519:abababab…, 5 d old, expires in"
        " 25 d 1 h",
        "withheld   stable/x86_64: it expired",
    ]


def test_a_fetch_shows_each_artifact_and_is_honest_when_nothing_comes() -> None:
    sources = [{**peer(name="m"), "rate": rate} for rate in (3_000_000, 2_000_000, 0, 1_000_000, 500_000)]
    artifacts = [
        artifact(rate=6_500_000, left_s=115, **{"from": sources}),
        artifact(name="kernel", waiting_s=12),
        artifact(name="dtbs", done=0),
        artifact(name="empty", size=0, done=0),
    ]
    found = lines(fetching=[head(bytes_done=500, bytes_total=1000, artifacts=artifacts)])
    at = next(number for number, line in enumerate(found) if line.startswith("fetching"))
    given = "m …7PQzwhe8 3.0 MB/s, m …7PQzwhe8 2.0 MB/s, m …7PQzwhe8 1.0 MB/s, …"
    assert found[at : at + 5] == [
        "fetching   stable/x86_64 version 6.1-18, manifest version 7, signed by acme: 50 % of 1.0 kB",
        f"  rootfs   [#####---------------] 25 % of 1.0 GB, 6.5 MB/s, 1 min 55 s left, from {given}",
        "  kernel   [#####---------------] 25 % of 1.0 GB, waiting for a peer, 12 s",
        "  dtbs     [--------------------] 0 % of 1.0 GB",
        "  empty    [####################] 100 % of 0 B",
    ]


def test_each_peer_has_one_line_with_the_path_it_takes() -> None:
    other = peer(
        peer_id="12D3KooWother678",
        name="mirror-2",
        path="mesh",
        publisher=True,
        rtt_ms=None,
        rate_sent=1500,
        rate_received=0,
        holds=[],
    )
    found = [line for line in lines(peers=[peer(), other], peers_total=300) if line.startswith("peer ")]
    assert found == [
        "peer       …7PQzwhe8           LAN        0.421 ms  in   8.4 MB/s  out      0 B/s  stable/x86_64 #7",
        "peer       mirror-2 …other678  mesh              -  in      0 B/s  out   1.5 kB/s  - (publisher)",
        "peer       … and 298 more",
        "peer id    12D3KooWAP8SjLSKk9sVvPvaFMAmmsGB7Etz5Kg9R1xzsNHCaqQS",
    ]


def test_where_bytes_came_from_and_went_to() -> None:
    received = {"lan": [800, 0], "mesh": [0, 199], "publisher": [1, 0], "http": [0, 0]}
    nothing: Document = {"lan": [], "mesh": [], "publisher": [], "http": []}
    flows = {"interval_s": 5, "samples": 60, "received": received, "sent": nothing}
    assert (
        "bytes      last 5 min: received 1.0 kB (LAN 80 %, mesh 20 %, publisher < 1 %); sent nothing"
        in lines(flows=flows)
    )
    assert not [line for line in lines(flows={**flows, "samples": 0}) if line.startswith("bytes")]


def test_clients_that_booted_lately_are_named_and_many_are_counted() -> None:
    one = {
        "address": "192.0.2.7",
        "via": "http",
        "channel": "stable",
        "arch": "x86_64",
        "version": "6.1",
        "last_at": "2026-11-26T11:58:00Z",
        "bytes": 230_000_000,
        "done": True,
    }
    found = [
        line for line in lines(clients=[one, *[{**one, "done": False}] * 20]) if line.startswith("client")
    ]
    assert found[0] == (
        "client     192.0.2.7 (http) stable/x86_64 version 6.1: 230.0 MB, all it boots from, 2 min ago"
    )
    assert "all it boots from" not in found[1]
    assert (len(found), found[-1]) == (9, "client     … and 13 more")


def test_the_rest_says_what_the_node_is() -> None:
    changes: Document = {
        "mesh": {"private": True, "swarm_key_fingerprint": "f00d"},
        "dht": {
            "peers": 3,
            "values": 2,
            "providers": 7,
            "requests": {"ping": 4, "get": 5},
            "refused": {"a": 1},
        },
        "ignored": [{"channel": "stable", "arch": "x86_64", "path": "/srv/x.part", "why": "unfinished"}],
        "dropped_peers": {"12D3": "it lied"},
        "equivocations": 2,
        "snapshots": {"held": 2, "bytes": 1000},
    }
    found = lines(**changes)
    assert found[found.index(next(one for one in found if one.startswith("store"))) :] == [
        "store      1.5 MB of fetched artifacts; at most 4.0 MB, which leaves a tenth of the disk free",
        "snapshots  2, 1.0 kB",
        "node       rack-7, mirror, p2pboot 1.2, up 3 d",
        "peer id    12D3KooWAP8SjLSKk9sVvPvaFMAmmsGB7Etz5Kg9R1xzsNHCaqQS",
        "page       http://127.0.0.1:4080/",
        "http       http://192.0.2.1",
        "address    /ip4/192.0.2.1/tcp/4001",
        "mesh       private; its swarm key has the fingerprint f00d",
        "hash table 3 peers known; 2 values and 7 provider records kept; 9 requests answered, 1 refused",
        "ignored    stable/x86_64: /srv/x.part: unfinished",
        "dropped    12D3: it lied",
        "ALARM      2 pairs of contradicting manifests from a trusted key are kept",
    ]
    store = {"used": 0, "limit": None, "quota": None}
    assert "store      0 B of fetched artifacts; no limit" in lines(admin=None, store=store)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "nothing was read over yet"),
        ({"running": True}, "reading what is held: 25 % of 4.0 kB"),
        ({"last_finished_at": "2026-11-26T10:00:00Z"}, "all that is held was read over, 2 h ago"),
        ({"damaged": 3, "mended": 1}, "nothing was read over yet; 3 damaged, 1 mended since the start"),
    ],
)
def test_what_scrubbing_came_to(changes: Document, said: str) -> None:
    nothing = {"running": False, "last_finished_at": None, "damaged": 0, "mended": 0}
    scrub = {**nothing, "read_bytes": 1000, "total_bytes": 4000, **changes}
    assert f"scrub      {said}" in lines(scrub=scrub)


def test_the_sample_in_the_documentation_is_what_is_printed() -> None:
    part = DOCUMENT.read_text(encoding="utf-8").split("\n## How a node is\n")[1]
    _, *sample, rest = part.split("```console\n")[1].split("\n```")[0].splitlines()
    assert rest == "…"
    slow = problem(Code.NOT_MIRRORED, "stable/arm64", "see what that peer says of itself: `p2pboot status`")
    slow |= {"text": "no peer delivers rootfs: peer 12D3KooW… is slow", "since": parse_time(NOW) - 12}
    artifacts = [
        artifact(name="kernel", size=12_000_000, done=12_000_000),
        artifact(size=3_100_000_000, done=1_180_000_000, waiting_s=12),
    ]
    fetching = head(
        arch="arm64",
        version="6.2",
        manifest_version=8,
        artifacts=artifacts,
        bytes_done=1_192_000_000,
        bytes_total=3_112_000_000,
    )
    idle = {"rate_sent": 0, "rate_received": 0}
    one = peer(name="acme", publisher=True, holds=["stable/arm64 #8"], rtt_ms=0.42, **idle)
    other = peer(
        peer_id="12D3KooWAP8SjLSKk9sVvPvaFMAmmsGB7Etz5Kg9R1xzsNHCaqQS",
        name="mirror-2",
        path="mesh",
        rtt_ms=12.3,
        **idle | {"rate_sent": 8_400_000},
    )
    nothing = {"lan": [0], "mesh": [0], "publisher": [0], "http": [0]}
    flows = {
        "interval_s": 5,
        "samples": 60,
        "received": {**nothing, "lan": [960_000_000], "mesh": [240_000_000]},
        "sent": {**nothing, "http": [2_500_000_000]},
    }
    client = {
        "address": "192.0.2.7",
        "via": "http",
        "channel": "stable",
        "arch": "x86_64",
        "version": "6.1-18",
        "last_at": "2026-11-26T11:58:00Z",
        "bytes": 230_000_000,
        "done": True,
    }
    printed = lines(
        problems=[slow],
        fetching=[fetching],
        peers=[one, other],
        peers_total=2,
        flows=flows,
        clients=[client],
        store={"used": 1_500_000_000, "limit": 4_000_000_000, "quota": 4_000_000_000},
    )
    assert printed[: len(sample)] == sample


# -- how it is written


@pytest.mark.parametrize("columns", [40, 59, 60, 80, 132])
def test_lines_fit_the_terminal_and_lose_nothing(columns: int) -> None:
    changes: Document = {"problems": [problem(subject="x" * 200)], "heads": [head(version="v" * 128)]}
    wrapped, whole = lines(columns, **changes), lines(**changes)
    assert max(map(len, wrapped)) <= columns
    assert "".join("".join(wrapped).split()) == "".join("".join(whole).split())
    assert all(line[0] == " " or line.split()[0] in {one.split()[0] for one in whole} for line in wrapped)


def test_what_peers_call_themselves_can_not_move_the_cursor() -> None:
    nasty = "\x1b[2J\x9b31m\u202egood\r\n"
    changes: Document = {
        "peers": [peer(name=nasty, holds=[nasty])],
        "heads": [head(version=nasty, publisher=nasty)],
        "problems": [{**problem(), "text": nasty, "remedy": nasty, "subject": nasty}],
        "dropped_peers": {nasty: nasty},
    }
    for columns in (None, 40, 80):
        assert all(line.isprintable() for line in lines(columns, **changes))


def test_colours_stand_in_the_labels_alone() -> None:
    found = lines(80, coloured=True, problems=[problem(), problem(Code.QUOTA)])
    assert found[0] == "\x1b[33m\x1b[1mWORKING IN PART: offers 1 release, 1 peer, 1 error, 1 warning\x1b[0m"
    assert found[1] == "\x1b[31m\x1b[1merror\x1b[0m      stable/x86_64: what expired looks like"
    assert [line for line in found if "\x1b" in line][2].startswith("\x1b[33m\x1b[1mwarning\x1b[0m ")
    assert sum("\x1b" in line for line in found) == 3


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_and_width_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "77")
    assert (has_colours(Terminal()), has_colours(io.StringIO())) == (True, False)
    assert (terminal_columns(Terminal()), terminal_columns(io.StringIO())) == (77, None)
    assert (is_terminal(Terminal()), is_terminal(io.StringIO())) == (True, False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colours(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not has_colours(Terminal())
    assert not is_terminal(Terminal())


# -- the command


def test_scripts_get_the_document_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer = document(problems=[problem()])
    assert json.loads(run(monkeypatch, tmp_path, answer, "--json").stdout) == answer


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0),
        ({"problems": [problem(Code.QUOTA)]}, 0),
        ({"problems": [problem()]}, 1),
        ({"heads": []}, 1),
    ],
)
def test_check_ends_with_1_when_something_is_to_be_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: Document, expected: int
) -> None:
    answer = document(**changes)
    assert run(monkeypatch, tmp_path, answer, "--check").return_value == expected
    assert run(monkeypatch, tmp_path, answer, "--check", "--json").return_value == expected
    plain = run(monkeypatch, tmp_path, answer)
    assert plain.return_value == 0
    assert plain.stdout.splitlines() == lines(**changes)


def test_check_is_not_for_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = run(monkeypatch, tmp_path, document(), "--check", "--watch")
    assert "leave out --watch" in str(done.exception)


# -- again and again


class Node:
    """Answers from a script: a document, or None while it is away; then the user presses Ctrl-C."""

    def __init__(self, *answers: Document | None) -> None:
        self._answers: Iterator[Document | None] = iter(answers)
        self._left = len(answers)

    def ask(self) -> Document:
        self._left -= 1
        answer = next(self._answers)
        if answer is None:
            raise NotFoundError("no node is running", remedy="start one")
        return answer

    def wait(self) -> None:
        if not self._left:
            raise KeyboardInterrupt


def watched(show: status_watch.Show, *answers: Document | None) -> None:
    node = Node(*answers)
    with pytest.raises(KeyboardInterrupt):
        follow(node.ask, show, node.wait)


def test_on_a_terminal_it_is_drawn_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "8")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    watched(Screen(out), document(), None, None, document(heads=[]))
    first, away, _, last = out.getvalue().split("\x1b[H")[1:]
    assert first.startswith("working: offers 1 release")
    assert first.count("\n") == 7  # and the cursor's line
    assert "… and 7 lines more" in first
    assert all(line.endswith("\x1b[K") for line in first.split("\n")[:-1])  # nothing stays of what was there
    assert away.startswith("NOT RUNNING: no node is running")
    assert "  remedy   start one" in away
    assert "asked 1 times" in away
    assert last.startswith("not ready: nothing is offered")
    assert out.getvalue().count("\x1b[2J") == 1
    assert all(part.endswith("\x1b[J") for part in (first, away, last))


def test_elsewhere_it_is_appended(capsys: pytest.CaptureFixture[str]) -> None:
    watched(Pages(), document(), None, None, document(now="2026-11-26T12:00:06Z"))
    out, err = capsys.readouterr()
    first, second = out.split("\n\n")
    assert first.splitlines()[:2] == [
        f"at         {NOW}",
        "working: offers 1 release, 1 peer, nothing wrong",
    ]
    assert second.splitlines()[0] == "at         2026-11-26T12:00:06Z"
    assert err == "p2pboot: warning: no node is running; waiting for it\n"


def test_for_scripts_each_line_is_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    watched(JsonLines(), document(), None, None, document())
    away = {"ok": False, "error": "no node is running", "remedy": "start one"}
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        document(),
        away,
        document(),
    ]


def test_a_node_that_was_never_there_is_an_error() -> None:
    with pytest.raises(NotFoundError):
        follow(Node(None).ask, Pages(), lambda: None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_watch_in_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(time, "sleep", lambda _s: os.kill(os.getpid(), number))
    done = run(monkeypatch, tmp_path, document(), "--watch", "--json")
    assert (done.exception, done.return_value) == (None, 0)
    assert json.loads(done.stdout.splitlines()[0]) == document()
    assert signal.getsignal(signal.SIGTERM) is before


TRUST: Document = {
    "clock_trusted": True,
    "roots": [
        {
            "anchor": "ab" * 32,
            "name": "ops",
            "version": 3,
            "expires_in_s": 86_400 * 200,
            "on_expiry": "refuse",
        },
        {"anchor": "cd" * 32, "name": None, "version": None, "expires_in_s": None, "on_expiry": None},
    ],
    "pairs": [
        {
            "channel": "stable",
            "arch": "x86_64",
            "max_age_s": 604_800,
            "statement": {
                "created_at": "2026-11-26T09:00:00Z",
                "age_s": 3 * 3600,
                "head": 7,
                "minimum": 6,
                "paused_since": None,
            },
            "yanks": 1,
            "yanked_at": "2026-11-20T09:00:00Z",
            "yank_reason": "it does not boot",
        },
        {"channel": "beta", "arch": "x86_64", "max_age_s": 604_800, "statement": None, "yanks": 0},
        {"channel": "dev", "arch": "x86_64", "max_age_s": None, "statement": None, "yanks": 0},
    ],
    "rollouts": [
        {
            "into": "stable",
            "arch": "x86_64",
            "version": "6.2",
            "percent": 50,
            "fraction": 0.25,
            "end": "2026-11-27T12:00:00Z",
            "paused_since": "2026-11-26T11:00:00Z",
            "ended": None,
        },
        {"into": "beta", "arch": "x86_64", "ended": "promoted"},
    ],
    "evidence": 1,
}


def test_what_roots_and_statements_say_is_a_line_each() -> None:
    lines = lines_of(rows_of(document(trust=TRUST)), None, coloured=False)
    for said in (
        "root       ops, version 3, expires in 200 d, and nothing is taken then",
        f"root       sha256:{'cd' * 32}: not known here yet; any node of the fleet has it",
        "vouched    stable/x86_64 manifest version 7 3 h ago, nothing below 6",
        "vouched    beta/x86_64: nobody has shown a freshness statement",
        "yanked     stable/x86_64, 1 so far, last 2026-11-20T09:00:00Z: it does not boot",
        "rollout    into stable/x86_64 of version 6.2: 25% of the machines, of 50 % by 2026-11-27T12:00:00Z; paused"
        " since 2026-11-26T11:00:00Z",
        "ALARM      1 pair of documents that can not both be honest: p2pboot evidence list",
    ):
        assert said in lines, said
    assert not [line for line in lines if "dev/x86_64" in line]
    assert not [
        line for line in lines_of(rows_of(document()), None, coloured=False) if line.startswith("root")
    ]
