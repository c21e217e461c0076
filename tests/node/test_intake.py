"""What the node makes of manifests that it hears of, and what gossip is told."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.core.manifest import MAX_MANIFEST, Candidate, Manifest, sign_detached
from p2pboot.core.policy import TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.errors import MachineError
from p2pboot.node.intake import Intake
from p2pboot.node.refusals import Refusals
from p2pboot.protocol.messages import Head
from p2pboot.store.auditlog import AuditLog
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.gate import Gate
from p2pboot.store.store import Store
from p2pboot.testing.manifests import DAY_S, NOW, key_of
from p2pboot.transport.interface import Forwarding
from tests.node.world import PAIR, signed, trusting

ACCEPT, IGNORE, REJECT = Forwarding.ACCEPT, Forwarding.IGNORE, Forwarding.REJECT
TRUST = Trust(TrustPolicy(trusting("publisher")))


class Desk:
    """An intake, and what a test asks of it."""

    def __init__(self, store: Store, trust: Trust = TRUST, audit: AuditLog | None = None) -> None:
        self.catalogue = Catalogue(store, trust, lambda: NOW)
        self.own: list[tuple[int, bool]] = []
        refusals = Refusals(follows=lambda _pair: True, counts=lambda *_: True, report=lambda _problems: None)
        self.intake = Intake(Gate(store, self.catalogue, audit), refusals=refusals, own=self, syncs=True)

    async def saw_own(self, manifest: Manifest, *, usable: bool) -> None:
        self.own.append((manifest.manifest_version, usable))

    async def said(self, raw: bytes, source: str = "peer") -> tuple[str, Forwarding]:
        """Why it was refused, or "taken", and what gossip is told."""
        before = self.intake.refused.copy()
        forwarding = await self.intake.hear(PAIR, source, raw)
        (reason,) = (self.intake.refused - before) or ("taken",)
        return reason, forwarding


def listed(manifest: Manifest) -> Head:
    return Head(
        manifest.channel,
        manifest.arch,
        manifest.signers,
        manifest.manifest_version,
        manifest.digest,
        len(manifest.raw),
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state") as opened:
        yield opened


def with_bad_signature(manifest: Manifest) -> bytes:
    signature = Candidate.decode(manifest.raw).signatures[0].sig
    flipped = ("A" if signature[10] != "A" else "B").join((signature[:10], signature[11:]))
    return manifest.raw.replace(signature.encode(), flipped.encode())


async def test_new_and_trusted_is_accepted_and_so_is_the_current_head_again(store: Store) -> None:
    desk = Desk(store)
    assert await desk.said(signed(3).raw) == ("taken", ACCEPT)
    assert await desk.said(signed(3).raw) == ("taken", ACCEPT)
    assert await desk.said(signed(4).raw) == ("taken", ACCEPT)
    (head,) = store.trust.heads_of(*PAIR)
    assert head.manifest_version == 4
    assert store.manifests.get(signed(4).digest) is not None  # kept, so that it can be resumed
    assert not desk.intake.refused


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"hello", ("malformed", REJECT)),
        (b"{" * MAX_MANIFEST, ("malformed", REJECT)),
        (signed(9).raw + b" ", ("malformed", REJECT)),
        (signed(9).raw + b" " * MAX_MANIFEST, ("malformed", REJECT)),
        (with_bad_signature(signed(9)), ("signature", REJECT)),
        (signed(9, pair=("testing", "x86_64")).raw, ("wrong_topic", REJECT)),
        (signed(9, pair=("stable", "arm64")).raw, ("wrong_topic", REJECT)),
        (signed(9, "stranger").raw, ("untrusted", IGNORE)),
        (with_bad_signature(signed(9, "stranger")), ("untrusted", IGNORE)),  # and not worth a check
        (signed(9, expires_at=NOW).raw, ("expired", IGNORE)),
        (signed(9, created_at=NOW + 3600).raw, ("not_yet_valid", IGNORE)),
        (signed(2).raw, ("rollback", IGNORE)),
        (signed(3, seed="twin").raw, ("equivocation", IGNORE)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
async def test_only_what_no_honest_node_sends_is_rejected(
    store: Store, raw: bytes, expected: tuple[str, Forwarding]
) -> None:
    desk = Desk(store)
    await desk.said(signed(3).raw)
    assert await desk.said(raw) == expected
    assert desk.intake.refused == {expected[0]: 1}
    (head,) = store.trust.heads_of(*PAIR)
    assert head.digest == signed(3).digest


async def test_a_manifest_by_sync_has_no_topic_to_fit_and_brings_its_detached_signature(store: Store) -> None:
    desk, manifest = Desk(store), signed(1, pair=("testing", "arm64"))
    good = sign_detached(manifest.raw, key_of("publisher"))
    for text in ("nonsense", good):
        await desk.intake.take(listed(manifest), manifest.raw, text, "peer")
    assert store.manifests.get(manifest.digest) == (manifest.raw, good)
    assert not desk.intake.refused


async def test_what_is_chosen_of_a_list_is_trusted_and_news_or_evidence(store: Store) -> None:
    desk = Desk(store)
    await desk.said(signed(3).raw)
    twin = signed(3, seed="twin")
    heads = [listed(one) for one in (signed(2), signed(3), twin, signed(4), signed(9, "stranger"))]
    chosen = await desk.intake.choose(heads, "peer")
    assert [head.manifest_version for head in chosen] == [3, 3, 4]  # of the third, the artifacts are missing
    await desk.said(twin.raw)
    assert listed(twin) not in await desk.intake.choose(heads, "peer")  # it was looked at


async def test_the_publisher_is_told_what_its_key_signed_elsewhere(store: Store) -> None:
    desk = Desk(store, Trust(TrustPolicy(), {PAIR: signed(1).signers}))
    found = (signed(3), signed(3, seed="twin"), signed(5, expires_at=NOW), signed(2), signed(4, "other"))
    for manifest in found:
        await desk.said(manifest.raw)
    assert desk.own == [(3, True), (3, True), (5, False)]
    assert desk.catalogue.wanted() == []  # what is published here is not mirrored


async def test_equivocation_is_kept_as_evidence_and_a_higher_version_resumes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, twin = signed(3), signed(3, seed="twin")
    with Store.open(tmp_path / "state") as store:
        desk = Desk(store)
        await desk.said(first.raw)
        for _ in range(3):
            await desk.said(twin.raw, "liar")
    alarms = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(alarms) == 1
    assert "liar" in alarms[0].getMessage()
    with Store.open(tmp_path / "state") as store:  # a restart forgets neither
        (evidence,) = store.trust.equivocations()
        assert (evidence.first, evidence.second) == (first.raw, twin.raw)
        desk = Desk(store)
        assert await desk.said(twin.raw) == ("equivocation", IGNORE)
        assert await desk.said(first.raw) == ("taken", ACCEPT)
        assert await desk.said(signed(4, seed="twin").raw) == ("taken", ACCEPT)


def broken(*_args: object, **_options: object) -> None:
    raise MachineError("the disk is full")


@pytest.mark.parametrize("part", ["manifests.put", "trust.accept"])
async def test_a_full_disk_does_not_stop_gossip(
    store: Store, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    desk = Desk(store)
    owner, method = part.split(".")
    with monkeypatch.context() as patch:
        patch.setattr(getattr(store, owner), method, broken)
        assert await desk.said(signed(3).raw) == ("not_recorded", ACCEPT)
        assert await desk.said(with_bad_signature(signed(3))) == ("signature", REJECT)
    assert await desk.said(signed(3).raw) == ("taken", ACCEPT)  # with room again it is taken


async def test_a_disk_that_can_not_be_read_punishes_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(store)
    monkeypatch.setattr(store.trust, "heads_of", broken)
    assert await desk.said(signed(3).raw) == ("undecided", IGNORE)


async def test_evidence_that_can_not_be_kept_changes_no_verdict(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(store)
    await desk.said(signed(3).raw)
    monkeypatch.setattr(store.trust, "record_equivocation", broken)
    assert await desk.said(signed(3, seed="twin").raw) == ("equivocation", IGNORE)


async def test_another_publisher_starts_anew_and_one_that_adds_a_key_does_not(store: Store) -> None:
    desk = Desk(store)
    await desk.said(signed(7).raw)
    desk.catalogue.change_trust(Trust(TrustPolicy(trusting("publisher", "second"))))
    assert (await desk.said(signed(6, "second").raw))[0] == "rollback"
    desk.catalogue.change_trust(Trust(TrustPolicy(trusting("other"))))
    assert (await desk.said(signed(1, "other").raw))[0] == "taken"
    assert (await desk.said(signed(8).raw))[0] == "untrusted"


async def test_nobody_is_trusted_without_a_policy(store: Store) -> None:
    assert await Desk(store, Trust(TrustPolicy())).said(signed(1).raw) == ("untrusted", IGNORE)


async def test_a_newer_one_that_has_expired_is_not_accepted_as_the_head(store: Store) -> None:
    desk = Desk(store)
    await desk.said(signed(3).raw)
    old = signed(5, created_at=NOW - 9 * DAY_S, expires_at=NOW - 1)
    assert await desk.said(old.raw) == ("expired", IGNORE)
    assert await desk.said(signed(4).raw) == ("taken", ACCEPT)


async def test_what_is_refused_is_taken_down_once_of_each_peer(store: Store, tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.log", lambda: NOW)
    desk = Desk(store, audit=audit)
    stranger, forged = signed(9, "stranger"), with_bad_signature(signed(9))
    for _ in range(3):
        await desk.said(signed(3).raw, "honest")
        await desk.said(signed(2).raw, "honest")
        await desk.said(forged, "liar")
        await desk.intake.choose([listed(stranger)], "other")
    entries = [json.loads(line) for line in audit.path.read_text().splitlines()]
    assert [(one["event"], one["source"], one.get("reason")) for one in entries] == [
        ("accepted", "honest", None),
        ("refused", "honest", "rollback"),
        ("refused", "liar", "signature"),
        ("refused", "other", "untrusted"),
    ]
    assert entries[1]["signers"] == list(signed(2).signers)
    assert entries[3]["signers"] == list(stranger.signers)
    assert entries[3]["digest"] == stranger.digest


async def test_an_audit_log_that_can_not_be_written_refuses_nothing(store: Store, tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "missing" / "audit.log", lambda: NOW)
    desk = Desk(store, audit=audit)
    assert await desk.said(signed(3).raw) == ("taken", ACCEPT)
    assert await desk.said(signed(2).raw) == ("rollback", IGNORE)
    assert len([*audit.problems()]) == 1
