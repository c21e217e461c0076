"""How what was found is shown, and what becomes of it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from p2pboot.cli.output import warn
from p2pboot.cli.peers import judge_all, round_trip_of, survey_document, survey_lines
from p2pboot.cli.watching import Documents, Lines, Screen
from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.fetch.asking.hearing import Hearing, Told
from p2pboot.fetch.asking.reasons import PeerWord
from p2pboot.fetch.asking.survey import Peer, Survey
from p2pboot.protocol.withheld import WithheldHead
from p2pboot.testing.manifests import ALICE, BOB, NOW, key_of
from p2pboot.testing.trustdocs import statement_of
from p2pboot.transport.interface import PeerSource
from tests.fetch.world import manifest_of

TRUST = TrustPolicy((Publisher((ALICE.public.keyid,)),))
ONE, TWO = manifest_of(version=1), manifest_of(version=2)
STRANGERS = manifest_of(channel="testing", key=BOB)
AT = "2027-01-15T08:00:00Z"
ID = key_of("peer").public.peer_id
ADDRESS = f"/ip4/192.0.2.7/tcp/4001/p2p/{ID}"
PEER = Peer(ID, (ADDRESS,), (PeerSource.ADDRESS_BOOK, PeerSource.LAN), 0.0123, (ONE.digest,))
FAR = f"/ip6/2001:db8:1234:5678:9abc:def0:1234:5678/tcp/4001/p2p/{ID}"


def survey_of(*peers: Peer, unreached: Mapping[str, str] | None = None) -> Survey:
    manifests: dict[str, Manifest] = {each.digest: each for each in (ONE, TWO, STRANGERS)}
    heard = Hearing(TRUST, lambda: NOW, manifests.get)
    return Survey({peer.peer_id: peer for peer in peers}, manifests, {}, dict(unreached or {}), {}, heard)


def lines_of(survey: Survey) -> list[str]:
    return list(survey_lines(survey, judge_all(survey, NOW), NOW))


def test_what_a_peer_has_of_trust_is_said_and_how_old_it_is() -> None:
    told = Told(30, (statement_of(ONE, created_at=NOW - 2 * 3600),))
    survey = survey_of(replace(PEER, told=told))
    shown = lines_of(survey)
    assert "  root       version 30" in shown
    assert any(line.startswith("  fresh      stable/x86_64: ") for line in shown)
    document: Any = survey_document(survey, {})
    (peer,) = document["providers"]
    assert (peer["root_version"], peer["freshness"][0]["head_version"]) == (30, 1)


@pytest.mark.parametrize(
    ("took_s", "shown"),
    [
        (None, "-"),
        (0.0, "0.00 ms"),
        (0.000_42, "0.42 ms"),
        (0.009_999, "10.0 ms"),
        (0.0123, "12.3 ms"),
        (0.099_96, "100 ms"),
        (2.0, "2000 ms"),
    ],
)
def test_round_trips_have_three_digits(took_s: float | None, shown: str) -> None:
    assert round_trip_of(replace(PEER, round_trip_s=took_s)) == shown


def test_a_row_says_who_it_is_how_it_was_found_and_how_far_it_is() -> None:
    head, row, address, *offer = lines_of(survey_of(PEER))
    assert head.split() == ["PEER", "SOURCE", "ROUND", "TRIP"]
    assert row.split() == [ID, "address", "book", "12.3", "ms"]
    assert head.index("SOURCE") == row.index("address book")
    assert address.strip() == ADDRESS
    assert offer[1].split() == ["digest", f"sha256:{ONE.digest}"]
    assert offer[-1].strip() == "this trust takes it"
    assert max(map(len, (head, row, *offer))) <= 100


def test_a_manifest_is_described_where_it_comes_first_and_named_elsewhere() -> None:
    other = replace(PEER, peer_id=key_of("other").public.peer_id)
    shown = lines_of(survey_of(PEER, other))
    assert sum("signed by" in line for line in shown) == 1
    assert sum(ONE.digest in line for line in shown) == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"offers": (STRANGERS.digest,)}, "this trust refuses it"),
        ({"offers": (), "failure": "opens no stream"}, "opens no stream"),
        ({"offers": (), "sources": ()}, "offers nothing"),
        ({"offers": (), "word": PeerWord((), ("a/b",))}, "but a/b"),
    ],
)
def test_what_is_to_be_said_of_a_peer_is_said(changed: dict[str, object], said: str) -> None:
    peer = replace(PEER, **changed)  # type: ignore[arg-type]
    assert said in "\n".join(lines_of(survey_of(peer)))


def test_who_did_not_answer_is_no_provider() -> None:
    mute = replace(PEER, peer_id=key_of("mute").public.peer_id, offers=(), failure="does not answer")
    document: Any = survey_document(survey_of(PEER, mute), {})
    (provider,), (other,) = document["providers"], document["other_peers"]
    assert provider["sources"] == ["address-book", "lan"]
    assert provider["round_trip_ms"] == 12.3
    assert provider["manifests"][0]["accepted"] is None
    assert provider["failure"] is None
    assert (other["peer_id"], other["failure"]) == (mute.peer_id, "does not answer")


WITHHELD = PeerWord((WithheldHead("stable", "x86_64", "expired", "it expired"),))
HISTORY = [
    ([], []),
    ([PEER], [f"found      {ID}  address book  12.3 ms  {ADDRESS}", f"offers     {ID}  stable/x86_64"]),
    ([replace(PEER, round_trip_s=1.0, sources=(PeerSource.LAN,))], []),
    (
        [replace(PEER, offers=(TWO.digest,))],
        [f"offers     {ID}  stable/x86_64", f"withdrew   {ID}  stable/x86_64"],
    ),
    ([replace(PEER, offers=(TWO.digest,), failure="no answer")], [f"fails      {ID}  no answer"]),
    ([replace(PEER, offers=(TWO.digest,))], [f"answers    {ID}  no answer"]),
    (
        [replace(PEER, offers=(), word=WITHHELD)],
        [f"withholds  {ID}  stable/x86_64: it expired", f"withdrew   {ID}  stable/x86_64"],
    ),
    ([], [f"lost       {ID}  address book"]),
    ([PEER], [f"found      {ID}", f"offers     {ID}"]),
]


def test_a_log_has_a_line_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    log = Lines(lambda: NOW)
    for peers, expected in HISTORY:
        log.show(survey_of(*peers))
        shown = capsys.readouterr().out.splitlines()
        assert len(shown) == len(expected)
        for line, beginning in zip(shown, expected, strict=True):
            assert line.startswith(f"{AT}  {beginning}")


def test_a_script_gets_a_document_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    log = Documents(lambda: NOW)
    for peers, _ in HISTORY:
        log.show(survey_of(*peers))
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["event"] for one in events] == ["found", *["changed"] * 4, "lost", "found"]
    assert {one["at"] for one in events} == {AT}
    assert {one["peer"]["peer_id"] for one in events} == {ID}
    (offer,) = events[0]["peer"]["manifests"]
    assert (offer["digest"], offer["accepted"]) == (ONE.digest, True)


def test_a_manifest_that_is_not_taken_any_more_is_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    now = NOW
    log = Lines(lambda: now)
    log.show(survey_of(PEER))
    now = ONE.expires_at + 1
    capsys.readouterr()
    log.show(survey_of(PEER))
    assert "this trust refuses it: " in capsys.readouterr().out


def test_nobody_is_said_beside_the_events(capsys: pytest.CaptureFixture[str]) -> None:
    Documents(lambda: NOW).nobody("no provider answered")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "p2pboot: warning: no provider answered\n")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "7")


@pytest.mark.usefixtures("small")
def test_a_terminal_shows_the_whole_as_far_as_there_is_room(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(lambda: NOW, [ADDRESS])
    screen.show(survey_of())
    screen.nobody("no provider answered; look")
    screen.show(survey_of(unreached={ADDRESS: "no route", FAR: "nobody named this one"}))
    drawn = capsys.readouterr().out
    assert "no provider answered; look" in drawn
    assert "not reached: no route" in drawn
    assert "nobody named" not in drawn
    screen.show(survey_of(replace(PEER, addresses=(FAR,))))
    first, *rest = capsys.readouterr().out.removeprefix("\x1b[H\x1b[J").splitlines()
    assert first.startswith("1 peer,")
    assert rest[:3] == ["", *lines_of(survey_of(PEER))[:2]]
    assert rest[3] == "… and 5 lines more"  # the address would take two of the rows
    screen.show(survey_of(replace(PEER, addresses=(FAR,))))
    assert capsys.readouterr().out == ""  # nothing flickers where nothing changed
    screen.show(survey_of(replace(PEER, addresses=("\x1b[31m",))))
    assert "\x1b[31m" not in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_a_terminal_has_a_place_for_what_is_logged_meanwhile(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        screen = Screen(lambda: NOW, [])
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        with screen.in_use():
            warn("one")
            logging.getLogger("p2pboot.test").warning("another")
            screen.show(survey_of())
        said = capsys.readouterr()
        assert said.err == ""
        assert said.out.splitlines()[1:3] == ["p2pboot: warning: one", "another"]
        warn("afterwards")
        assert "afterwards" in capsys.readouterr().err
        assert handler.stream is sys.stderr
    finally:
        logging.getLogger().removeHandler(handler)
