"""What passes the gate, and what is remembered of it, whoever brings it."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path

import pytest

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.core.verify import Outcome, Refused, Verdict
from p2pboot.errors import MachineError, UsageError
from p2pboot.store.auditlog import AuditLog
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.errors import NotRecorded
from p2pboot.store.gate import Gate
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import sample
from p2pboot.testing.manifests import ALICE, BOB, CREATED
from p2pboot.testing.stores import hold
from tests.store.samples import manifest

NOW = CREATED + 3600
PAIR = ("stable", "arm64")
TRUST = Trust(TrustPolicy((Publisher((ALICE.public.keyid,)),)))


def gate_of(store: Store, trust: Trust = TRUST) -> Gate:
    return Gate(store, Catalogue(store, trust, lambda: NOW))


def enter(gate: Gate, one: Manifest) -> str | None:
    return gate.enter(one, source="test").reason


def accepted(store: Store) -> int:
    return max((head.manifest_version for head in store.trust.heads_of(*PAIR)), default=0)


def test_what_is_taken_is_kept_and_nothing_older_is_taken_after_it(state: Path) -> None:
    with Store.open(state) as store:
        assert enter(gate_of(store), manifest(7)) is None
    with Store.open(state) as store:
        gate = gate_of(store)
        assert enter(gate, manifest(7)) is None  # the very same again
        assert enter(gate, manifest(6)) == "rollback"
        assert enter(gate, manifest(9, keys=(BOB,))) == "untrusted"
        assert accepted(store) == 7
        assert [row.manifest_version for row in store.manifests.pending()] == [7]
        assert enter(gate, manifest(8)) is None
        assert [row.manifest_version for row in store.manifests.pending()] == [8]  # it supersedes the other


def test_what_is_refused_leaves_nothing(store: Store) -> None:
    gate = gate_of(store)
    assert gate.consider(b"hello", source="test").reason == "malformed"
    assert gate.consider(manifest(1).raw, "nonsense", source="test").reason == "detached"
    question = gate.question("testing", "arm64")
    assert gate.consider(manifest(1).raw, source="test", question=question).reason == "channel"
    question = gate.question(min_version=5)
    assert gate.consider(manifest(1).raw, source="test", question=question).reason == "min_version"
    assert accepted(store) == 0
    assert store.manifests.pending() == []
    assert gate.consider(manifest(1).raw, source="test").ok


def test_two_of_one_number_are_kept_and_neither_half_passes_later(state: Path) -> None:
    first, second = manifest(3), manifest(3, text="another")
    with Store.open(state) as store:
        gate_of(store).contradiction(first, second)
    with Store.open(state) as store:
        for half in (first, second):
            verdict = gate_of(store).enter(half, source="test")
            assert verdict.reason == "equivocation"
            with pytest.raises(Refused, match="known to be signed twice"):
                verdict.raise_if_refused()
        assert accepted(store) == 0
        assert enter(gate_of(store), manifest(4)) is None


def test_the_second_of_one_number_is_evidence_and_the_first_stays(store: Store) -> None:
    gate, first, second = gate_of(store), manifest(3), manifest(3, text="another")
    assert enter(gate, first) is None
    assert enter(gate, second) == "equivocation"
    (evidence,) = store.trust.equivocations()
    assert (evidence.first, evidence.second) == (first.raw, second.raw)
    assert enter(gate, first) is None
    assert enter(gate, manifest(2)) == "rollback"


def trusting(*keys: SecretKey, threshold: int = 1) -> Trust:
    return Trust(TrustPolicy((Publisher(tuple(key.public.keyid for key in keys), threshold),)))


def test_another_publisher_in_between_lowers_nothing(state: Path) -> None:
    for trust, one, expected in (
        (trusting(ALICE), manifest(6), None),
        (trusting(BOB), manifest(1, keys=(BOB,)), None),
        (trusting(ALICE), manifest(5), "rollback"),
        (trusting(ALICE, BOB), manifest(5, keys=(BOB,)), "rollback"),
        (trusting(ALICE, BOB), manifest(6, keys=(ALICE, BOB)), "equivocation"),
        (
            trusting(ALICE, BOB, threshold=2),
            manifest(4, keys=(ALICE, BOB)),
            None,
        ),  # ALICE alone does not count
        (trusting(ALICE), manifest(5), "rollback"),
        (trusting(ALICE, BOB), manifest(7, keys=(BOB,)), None),
    ):
        with Store.open(state) as store:
            assert enter(gate_of(store, trust), one) == expected


def test_two_that_were_believed_apart_contradict_each_other_under_one_publisher(store: Store) -> None:
    one, other = manifest(6), manifest(6, keys=(ALICE, BOB), text="another")
    assert enter(gate_of(store, trusting(ALICE)), one) is None
    assert enter(gate_of(store, trusting(ALICE, BOB, threshold=2)), other) is None
    both = gate_of(store, trusting(ALICE, BOB))
    for each in (one, other):
        assert enter(both, each) == "equivocation"
    (evidence,) = store.trust.equivocations()
    assert {evidence.first, evidence.second} == {one.raw, other.raw}
    assert both.catalogue.wanted() == []
    assert enter(both, manifest(7)) is None


def test_what_was_overtaken_while_it_was_brought_is_not_settled(store: Store) -> None:
    gate, samples = gate_of(store), (sample(10, seed=1), sample(10, seed=2, key="initramfs"))
    one, newer = manifest(6, *samples), manifest(7)
    question = gate.question(*PAIR)
    for each in samples:
        hold(store, each.artifact, each.data)
    assert enter(gate, one) is None
    gate.settle(one, None, question=question)
    assert [row.manifest_version for row in store.manifests.current()] == [6]
    gate.settle(one, None, question=question)  # nothing new
    assert enter(gate, newer) is None
    with pytest.raises(Refused, match="manifest version 6 is older than 7"):
        gate.settle(one, None, question=question)
    expired = Gate(store, Catalogue(store, TRUST, lambda: newer.expires_at))
    with pytest.raises(Refused, match="expired"):
        expired.settle(newer, None, question=question)
    assert [row.manifest_version for row in store.manifests.current()] == [6]


def test_a_disk_that_fails_takes_nothing_and_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise MachineError("the disk is full", remedy="free some space")

    gate = gate_of(store)
    with monkeypatch.context() as patch:
        patch.setattr(store.trust, "accept", fail)
        with pytest.raises(NotRecorded, match="the disk is full"):
            gate.enter(manifest(1), source="test")
    assert store.manifests.pending() == []  # all of it or nothing
    with monkeypatch.context() as patch:
        patch.setattr(store.trust, "heads_of", fail)
        with pytest.raises(MachineError) as unread:
            gate.enter(manifest(1), source="test")
    assert not isinstance(unread.value, NotRecorded)
    assert enter(gate, manifest(1)) is None


def test_of_many_that_come_at_once_the_highest_stays(state: Path, store: Store) -> None:
    versions = [5, 2, 8, 1, 9, 4, 7, 3, 6]
    with Store.open(state) as other:
        gates = (gate_of(store), gate_of(other))
        threads = [
            threading.Thread(target=enter, args=(gates[version % 2], manifest(version)))
            for version in versions
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert accepted(store) == 9
    assert [row.manifest_version for row in store.manifests.pending()] == [9]


def test_a_stranger_costs_no_signature_check_and_a_verdict_lists_every_check(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, ours, stranger = gate_of(store), manifest(1), manifest(1, keys=(BOB,))

    def check(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a signature of a stranger is checked")

    monkeypatch.setattr("p2pboot.core.manifest.Candidate.check_signatures", check)
    for read, failed in (
        (gate.read(stranger.raw), "trust"),
        (gate.read(ours.raw, "testing", "arm64"), "channel"),
        (gate.read(ours.raw, "stable", "x86_64"), "arch"),
    ):
        assert isinstance(read, Verdict)
        assert read.failed is not None
        assert read.failed.name == failed
        assert {check.name for check in read.checks if check.outcome is Outcome.SKIPPED} >= {
            "signatures",
            "expiry",
        }


def test_what_is_published_here_needs_nobodys_trust(store: Store) -> None:
    gate = gate_of(store, Trust(TrustPolicy(), key=ALICE.public.keyid))
    with pytest.raises(UsageError):
        gate.consider(manifest(1).raw, source="test")
    assert gate.publish(manifest(2), None)
    assert [row.manifest_version for row in store.manifests.current()] == [2]
    assert gate.catalogue.trust.is_own(manifest(2))
    assert not gate.publish(manifest(1), None)
    assert not gate.publish(manifest(2, text="another"), None)
    assert gate.publish(manifest(2), None)
    assert enter(gate, manifest(2)) is None  # it came back from the mesh


def test_what_was_withdrawn_is_not_brought_back_by_the_mesh(store: Store) -> None:
    gate = gate_of(store)
    gate.publish(manifest(2), None)
    gate.catalogue.withdraw(PAIR, [manifest(2).signers])
    assert enter(gate, manifest(2)) is None
    assert store.manifests.row(manifest(2).digest) is None
    assert (
        enter(gate, manifest(3)) is None
    )  # another node's, with the same key: evidence, if there is one more
    assert store.manifests.row(manifest(3).digest) is not None
    assert gate.catalogue.wanted() == []


def test_the_clock_stands_where_a_trusted_publisher_was_last(store: Store) -> None:
    gate = gate_of(store)
    gate.catalogue.change_trust(dataclasses.replace(TRUST, key=BOB.public.keyid))
    assert enter(gate, manifest(1, created_at=NOW + 300)) is None
    clock = gate.question().clock
    assert (clock.now, clock.trusted) == (NOW + 300, True)  # clocks differ by so much
    gate.catalogue.change_trust(dataclasses.replace(TRUST, key=ALICE.public.keyid))
    assert gate.question().clock.now == NOW  # the own dates are readings of this very clock


def test_what_is_done_is_taken_down_once_and_by_whose_key(store: Store, tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.log", lambda: NOW)
    gate = Gate(store, Catalogue(store, TRUST, lambda: NOW), audit)
    for _ in range(2):
        enter(gate, manifest(7))
        enter(gate, manifest(7, text="another"))
        enter(gate, manifest(6))
    entries = [json.loads(line) for line in audit.path.read_text().splitlines()]
    assert [(one["event"], one["digest"], one.get("accepted")) for one in entries] == [
        ("accepted", manifest(7).digest, None),
        ("equivocation", manifest(7, text="another").digest, manifest(7).digest),
    ]
    assert all(one["signers"] == [ALICE.public.keyid] and one["source"] == "test" for one in entries)


def test_what_is_considered_and_refused_is_taken_down(store: Store, tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.log", lambda: NOW)
    gate = Gate(store, Catalogue(store, TRUST, lambda: NOW), audit)
    gate.consider(manifest(9, keys=(BOB,)).raw, source="a file")
    gate.consider(manifest(9).raw, source="a file")
    entries = [json.loads(line) for line in audit.path.read_text().splitlines()]
    assert [(one["event"], one.get("reason"), one["source"]) for one in entries] == [
        ("refused", "untrusted", "a file"),
        ("accepted", None, "a file"),
    ]


def test_what_this_machine_publishes_is_taken_down(store: Store, tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.log", lambda: NOW)
    gate = Gate(store, Catalogue(store, TRUST, lambda: NOW), audit)
    one = manifest(3, keys=(BOB,))
    assert gate.publish(one, None)
    assert gate.publish(one, None)  # its files were touched
    assert not gate.publish(manifest(2, keys=(BOB,)), None)
    (entry,) = (json.loads(line) for line in audit.path.read_text().splitlines())
    assert (entry["event"], entry["manifest_version"], entry["signers"]) == (
        "published",
        3,
        [BOB.public.keyid],
    )
