"""What the node thinks of manifests, and what gossip is told."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from p2pboot.core.clock import Clock
from p2pboot.core.manifest import MAX_MANIFEST, Candidate, Manifest
from p2pboot.core.policy import TrustPolicy
from p2pboot.errors import MachineError
from p2pboot.node.judging import Judge, Opinion
from p2pboot.node.trust import Trust
from p2pboot.store.store import Store
from p2pboot.testing.manifests import DAY_S, NOW
from p2pboot.transport.interface import Forwarding
from tests.node.world import PAIR, signed, trusting

ACCEPT, IGNORE, REJECT = Forwarding.ACCEPT, Forwarding.IGNORE, Forwarding.REJECT
TRUST = Trust(TrustPolicy(trusting("publisher")))


def judge_of(store: Store, trust: Trust = TRUST) -> Judge:
    return Judge(store, trust, lambda: Clock(NOW))


async def said(judge: Judge, raw: bytes) -> tuple[Opinion, Forwarding]:
    judgement = await judge.judge(raw, source="peer", topic=PAIR)
    return judgement.opinion, judgement.gossip_verdict


def with_bad_signature(manifest: Manifest) -> bytes:
    signature = Candidate.decode(manifest.raw).signatures[0].sig
    flipped = ("A" if signature[10] != "A" else "B").join((signature[:10], signature[11:]))
    return manifest.raw.replace(signature.encode(), flipped.encode())


async def test_new_and_trusted_is_accepted_and_so_is_the_current_head_again(store: Store) -> None:
    judge = judge_of(store)
    assert await said(judge, signed(3).raw) == (Opinion.NEWER, ACCEPT)
    assert await said(judge, signed(3).raw) == (Opinion.CURRENT, ACCEPT)
    assert await said(judge, signed(4).raw) == (Opinion.NEWER, ACCEPT)
    head = store.trust.head(*PAIR)
    assert head is not None
    assert head.manifest_version == 4
    assert store.manifests.get(signed(4).digest) is not None  # kept, so that it can be resumed
    assert not judge.refused


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"hello", (Opinion.MALFORMED, REJECT)),
        (b"{" * MAX_MANIFEST, (Opinion.MALFORMED, REJECT)),
        (signed(9).raw + b" ", (Opinion.MALFORMED, REJECT)),
        (signed(9).raw + b" " * MAX_MANIFEST, (Opinion.MALFORMED, REJECT)),
        (with_bad_signature(signed(9)), (Opinion.BAD_SIGNATURE, REJECT)),
        (signed(9, pair=("testing", "x86_64")).raw, (Opinion.WRONG_TOPIC, REJECT)),
        (signed(9, pair=("stable", "arm64")).raw, (Opinion.WRONG_TOPIC, REJECT)),
        (signed(9, "stranger").raw, (Opinion.UNTRUSTED, IGNORE)),
        (with_bad_signature(signed(9, "stranger")), (Opinion.UNTRUSTED, IGNORE)),  # and not worth a check
        (signed(9, expires_at=NOW).raw, (Opinion.EXPIRED, IGNORE)),
        (signed(9, created_at=NOW + 3600).raw, (Opinion.NOT_YET_VALID, IGNORE)),
        (signed(2).raw, (Opinion.OLDER, IGNORE)),
        (signed(3, seed="twin").raw, (Opinion.EQUIVOCATION, IGNORE)),
    ],
    ids=lambda value: value[0].value if isinstance(value, tuple) else "",
)
async def test_only_what_no_honest_node_sends_is_rejected(
    store: Store, raw: bytes, expected: tuple[Opinion, Forwarding]
) -> None:
    judge = judge_of(store)
    await judge.judge(signed(3).raw, source="peer")
    assert await said(judge, raw) == expected
    assert judge.refused == {expected[0].value: 1}
    head = store.trust.head(*PAIR)
    assert head is not None
    assert head.digest == signed(3).digest


async def test_a_manifest_by_sync_has_no_topic_to_fit(store: Store) -> None:
    judgement = await judge_of(store).judge(signed(1, pair=("testing", "arm64")).raw, source="peer")
    assert judgement.opinion is Opinion.NEWER


async def test_equivocation_is_kept_as_evidence_and_a_higher_version_resumes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, twin = signed(3), signed(3, seed="twin")
    with Store.open(tmp_path / "state") as store:
        judge = judge_of(store)
        await judge.judge(first.raw, source="peer")
        for _ in range(3):
            await judge.judge(twin.raw, source="liar")
    alarms = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(alarms) == 1
    assert "liar" in alarms[0].getMessage()
    with Store.open(tmp_path / "state") as store:  # a restart forgets neither
        (evidence,) = store.trust.equivocations()
        assert (evidence.first, evidence.second) == (first.raw, twin.raw)
        judge = judge_of(store)
        assert await said(judge, twin.raw) == (Opinion.EQUIVOCATION, IGNORE)
        assert await said(judge, first.raw) == (Opinion.CURRENT, ACCEPT)
        assert await said(judge, signed(4, seed="twin").raw) == (Opinion.NEWER, ACCEPT)


def broken(*_args: object, **_options: object) -> None:
    raise MachineError("the disk is full")


@pytest.mark.parametrize("part", ["manifests.put", "trust.accept"])
async def test_a_full_disk_does_not_stop_gossip(
    store: Store, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    judge = judge_of(store)
    owner, method = part.split(".")
    with monkeypatch.context() as patch:
        patch.setattr(getattr(store, owner), method, broken)
        assert await said(judge, signed(3).raw) == (Opinion.NOT_RECORDED, ACCEPT)
        assert await said(judge, with_bad_signature(signed(3))) == (Opinion.BAD_SIGNATURE, REJECT)
    assert await said(judge, signed(3).raw) == (Opinion.NEWER, ACCEPT)  # with room again it is taken


async def test_a_disk_that_can_not_be_read_punishes_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = judge_of(store)
    monkeypatch.setattr(store.trust, "head", broken)
    assert await said(judge, signed(3).raw) == (Opinion.UNDECIDED, IGNORE)


async def test_evidence_that_can_not_be_kept_changes_no_verdict(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = judge_of(store)
    await judge.judge(signed(3).raw, source="peer")
    monkeypatch.setattr(store.trust, "record_equivocation", broken)
    assert await said(judge, signed(3, seed="twin").raw) == (Opinion.EQUIVOCATION, IGNORE)


async def test_another_publisher_starts_anew_and_one_that_adds_a_key_does_not(store: Store) -> None:
    judge = judge_of(store)
    await judge.judge(signed(7).raw, source="peer")
    await judge.change_trust(Trust(TrustPolicy(trusting("publisher", "second"))))
    assert (await said(judge, signed(6, "second").raw))[0] is Opinion.OLDER
    await judge.change_trust(Trust(TrustPolicy(trusting("other"))))
    assert (await said(judge, signed(1, "other").raw))[0] is Opinion.NEWER
    assert (await said(judge, signed(8).raw))[0] is Opinion.UNTRUSTED


async def test_nobody_is_trusted_without_a_policy(store: Store) -> None:
    assert await said(judge_of(store, Trust(TrustPolicy())), signed(1).raw) == (Opinion.UNTRUSTED, IGNORE)


async def test_a_newer_one_that_has_expired_is_not_accepted_as_the_head(store: Store) -> None:
    judge = judge_of(store)
    await judge.judge(signed(3).raw, source="peer")
    old = signed(5, created_at=NOW - 9 * DAY_S, expires_at=NOW - 1)
    assert await said(judge, old.raw) == (Opinion.EXPIRED, IGNORE)
    assert await said(judge, signed(4).raw) == (Opinion.NEWER, ACCEPT)
