import json
from typing import Any

import pytest

from p2pboot.core.clock import AcceptedTime, Clock, effective_now
from p2pboot.core.freshness import Asked
from p2pboot.core.manifest import Manifest, content_digest, sign_detached, unsigned
from p2pboot.core.manifest import add_signature as sign_manifest
from p2pboot.core.policy import Publisher, TrustedRoot, TrustPolicy
from p2pboot.core.rollback import AcceptedHead
from p2pboot.core.trust import Trust
from p2pboot.core.trustdocs.chain import Anchor, begin
from p2pboot.core.trustdocs.envelope import add_signature
from p2pboot.core.trustdocs.freshness import Freshness, FreshnessBody
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import NO_FLEET, Floor, FreshnessRule, PublishRole, Role, RootBody
from p2pboot.core.trustdocs.yank import Yank, YankBody
from p2pboot.core.verify import (
    CHECKS,
    MAX_AHEAD_S,
    Check,
    Outcome,
    Question,
    Refused,
    Verdict,
    clock_problem,
    judge,
    verify,
)
from p2pboot.errors import ExitStatus, ManifestError, UsageError
from p2pboot.testing.manifests import ALICE, BOB, CAROL, STRANGER
from tests.core.manifests import CREATED, EXPIRES, body, manifest

A, B, C = (key.public.keyid for key in (ALICE, BOB, CAROL))
TRUST_ALICE = TrustPolicy((Publisher((A,)),))
NOW = Clock(CREATED + 3600)


def verdict_on(found: Manifest | bytes, **changes: Any) -> Verdict:
    raw = found.raw if isinstance(found, Manifest) else found
    question, detached = asked(**changes)
    return verify(raw, question, detached)


def asked(*, detached: str | None = None, **changes: Any) -> tuple[Question, str | None]:
    values: dict[str, Any] = {"policy": TRUST_ALICE, "clock": NOW} | changes
    return Question(**values), detached


def outcomes(verdict: Verdict) -> dict[str, str]:
    return {check.name: check.outcome.value for check in verdict.checks}


def failures(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.checks if check.outcome is Outcome.FAILED]


def test_a_good_manifest_is_taken_and_every_check_is_listed_in_order() -> None:
    found = manifest()
    verdict = verdict_on(
        found,
        channel="stable",
        arch="x86_64",
        heads=(AcceptedHead.of(manifest(manifest_version=6)),),
        detached=sign_detached(found.raw, ALICE),
    )
    assert verdict.ok
    assert verdict.reason is None
    assert verdict.raise_if_refused() == found
    assert list(outcomes(verdict)) == list(CHECKS)
    assert {name for name, outcome in outcomes(verdict).items() if outcome != "passed"} == OF_A_ROOT


OF_A_ROOT = {"root", "floor", "yank", "freshness"}
"""Checks that say nothing where the operator names the keys himself."""


def rooted(**said: Any) -> TrustPolicy:
    """A policy of a root that names ALICE, and BOB to say what is fresh."""
    rule = said.pop("freshness", None)
    role = PublishRole((A,), channels=said.pop("channels", None), freshness=rule)
    facts: dict[str, Any] = {"name": "fleet", "version": 1, "created_at": CREATED, "expires_at": None, **said}
    root = RootBody(root=Role((C,)), publish=(role,), **facts)
    anchor = Anchor.of_root(Root.parse(add_signature(root.document(), CAROL)))
    return TrustPolicy.of((), (TrustedRoot(anchor, begin(anchor)),))


def yank_of(found: Manifest) -> dict[str, Yank]:
    body = YankBody(
        fleet=NO_FLEET,
        channel="stable",
        arch="x86_64",
        content=content_digest(found),
        reason="it does not boot",
        created_at=CREATED,
    )
    return {body.content: Yank.parse(add_signature(body.document(), ALICE))}


REFUSALS: dict[str, tuple[Manifest | bytes, dict[str, Any]]] = {
    "malformed": (manifest().raw + b"\n", {}),
    "signature": (unsigned(body()), {}),
    "untrusted": (manifest([STRANGER]), {}),
    "channel": (manifest(), {"channel": "testing"}),
    "arch": (manifest(), {"arch": "arm64"}),
    "not_yet_valid": (manifest(), {"clock": Clock(CREATED - MAX_AHEAD_S - 1)}),
    "expired": (manifest(), {"clock": Clock(EXPIRES)}),
    "lifetime": (
        manifest(),
        {"policy": TrustPolicy((Publisher((A,), max_lifetime_s=EXPIRES - CREATED - 1),))},
    ),
    "min_version": (manifest(), {"min_version": 8}),
    "root_expired": (
        manifest(),
        {"policy": rooted(expires_at=CREATED + 1, on_expiry="refuse"), "clock": Clock(CREATED + 1)},
    ),
    "floor": (manifest(), {"policy": rooted(floors=(Floor("stable", "x86_64", 8),))}),
    "yanked": (manifest(), {"yanks": yank_of(manifest())}),
    "stale": (manifest(), {"policy": rooted(freshness=FreshnessRule((B,), required=True))}),
    "rollback": (manifest(), {"heads": (AcceptedHead(8, "0" * 64, (A,)),)}),
    "equivocation": (manifest(), {"heads": (AcceptedHead(7, "0" * 64, (A,)),)}),
    "detached": (manifest(), {"detached": sign_detached(manifest().raw, STRANGER)}),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_each_refusal_has_its_word_its_line_and_its_remedy(reason: str) -> None:
    found, changes = REFUSALS[reason]
    verdict = verdict_on(found, **changes)
    assert not verdict.ok
    assert verdict.reason == reason
    assert len(failures(verdict)) == 1
    assert list(outcomes(verdict)) == list(CHECKS)
    with pytest.raises(Refused) as caught:
        verdict.raise_if_refused()
    refused = caught.value
    assert isinstance(refused, ManifestError)
    assert refused.exit_status is ExitStatus.REFUSED
    assert refused.verdict is verdict
    assert refused.remedy
    assert verdict.failed is not None
    assert verdict.failed.detail in refused.message
    assert "\n" not in refused.message + refused.remedy


def test_lifetime_is_the_publishers_limit_and_a_node_has_none_for_itself() -> None:
    at_the_limit = TrustPolicy((Publisher((A,), max_lifetime_s=EXPIRES - CREATED),))
    assert outcomes(verdict_on(manifest(), policy=at_the_limit))["lifetime"] == "passed"
    for policy in (TrustPolicy((Publisher((A,), max_lifetime_s=None),)), TrustPolicy((Publisher((B,)),))):
        assert outcomes(verdict_on(manifest(), policy=policy))["lifetime"] == "skipped"
    assert Trust(TrustPolicy(), {("stable", "x86_64"): (A,)}).publishers[0].max_lifetime_s is None


def test_age_is_told() -> None:
    verdict = verdict_on(manifest(), clock=Clock(CREATED + 5 * 86_400))
    check = next(one for one in verdict.checks if one.name == "created_at")
    assert check.detail.endswith(", 5 days ago")


def test_every_reason_is_tried() -> None:
    assert set(REFUSALS) == {reason for reason in CHECKS.values() if reason is not None}


def test_everything_that_is_wrong_is_reported_at_once() -> None:
    verdict = verdict_on(
        manifest([STRANGER]),
        channel="testing",
        arch="arm64",
        clock=Clock(EXPIRES + 1),
        min_version=9,
        detached="",
    )
    assert failures(verdict) == ["trust", "channel", "arch", "min_version", "expiry", "detached"]
    assert verdict.reason == "untrusted"
    with pytest.raises(Refused, match=r"also failed: channel, arch, min_version, expiry, detached"):
        verdict.raise_if_refused()


def test_nothing_in_a_document_is_believed_before_its_signatures_and_form_are() -> None:
    for name, raw in (
        ("structure", manifest().raw[:-1]),
        ("signatures", unsigned(body())),
        ("canonical", manifest().raw.replace(b"my-provider", b"ny-provider", 1)),
    ):
        verdict = verdict_on(raw, channel="testing", clock=Clock(EXPIRES), detached="x")
        assert failures(verdict) == [name]
        assert verdict.manifest is None
        assert verdict.digest is None
        after = list(outcomes(verdict).values())[list(CHECKS).index(name) + 1 :]
        assert set(after) == {"skipped"}


@pytest.mark.parametrize("head", [AcceptedHead(8, "0" * 64, (A,)), AcceptedHead(7, "0" * 64, (A,))])
def test_a_strangers_number_is_neither_rollback_nor_equivocation(head: AcceptedHead) -> None:
    """Else anybody could raise the alarm against a publisher, or fill the disk with evidence."""
    for found, changes in (
        (manifest([STRANGER]), {}),
        (manifest(), {"channel": "testing"}),
        (manifest(), {"arch": "arm64"}),
    ):
        results = outcomes(verdict_on(found, heads=(head,), **changes))
        assert (results["rollback"], results["equivocation"]) == ("skipped", "skipped")


def test_equivocation_does_not_hide_behind_an_expiry() -> None:
    head = AcceptedHead(7, "0" * 64, (A,))
    verdict = verdict_on(manifest(), heads=(head,), clock=Clock(EXPIRES), min_version=8)
    assert failures(verdict) == ["equivocation", "min_version", "expiry"]
    assert verdict.reason == "equivocation"


def test_memory_of_keys_that_are_no_longer_trusted_does_not_bind() -> None:
    verdict = verdict_on(
        manifest([BOB]),
        policy=TrustPolicy(
            (
                Publisher(
                    (
                        B,
                        C,
                    )
                ),
            )
        ),
        heads=(AcceptedHead(9, "0" * 64, (A,)),),
    )
    assert verdict.ok
    assert outcomes(verdict)["rollback"] == "skipped"


def test_the_minimum_itself_is_taken() -> None:
    assert verdict_on(manifest(), min_version=7).ok
    assert verdict_on(manifest(), min_version=8).reason == "min_version"


def test_the_same_manifest_again_is_taken() -> None:
    assert verdict_on(manifest(), heads=(AcceptedHead.of(manifest()),)).ok


# --- trust ---


@pytest.mark.parametrize(
    ("signers", "threshold", "ok"),
    [
        ([ALICE], 1, True),
        ([ALICE], 2, False),
        ([ALICE, BOB], 2, True),
        ([ALICE, STRANGER], 2, False),
        ([ALICE, BOB, STRANGER], 2, True),
        ([ALICE, BOB, STRANGER], 3, False),
    ],
)
def test_only_trusted_keys_count_towards_the_threshold(signers: Any, threshold: int, ok: bool) -> None:
    verdict = verdict_on(manifest(signers), policy=TrustPolicy((Publisher((A, B, C), threshold),)))
    assert verdict.ok is ok
    assert failures(verdict) == ([] if ok else ["trust"])


def test_a_publisher_is_believed_only_for_its_channels_and_archs() -> None:
    policy = TrustPolicy(
        (Publisher((A,), channels=("stable",), archs=("x86_64",)), Publisher((B,), 1, ("testing",)))
    )
    assert verdict_on(manifest([ALICE]), policy=policy).ok
    assert verdict_on(manifest([BOB]), policy=policy).reason == "untrusted"
    assert verdict_on(manifest([BOB], channel="testing"), policy=policy).ok
    assert verdict_on(manifest([ALICE], channel="testing"), policy=policy).reason == "untrusted"
    verdict = verdict_on(manifest([ALICE], arch="arm64"), policy=policy)
    assert "nobody is trusted to publish for stable/arm64" in verdict.checks[4].detail


def test_without_any_trust_nothing_is_judged() -> None:
    with pytest.raises(UsageError, match="no trusted key"):
        verify(b"", Question(TrustPolicy(), NOW))
    with pytest.raises(UsageError, match="no trusted key"):
        judge(manifest(), Question(TrustPolicy(), NOW))


# --- time ---


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (CREATED - MAX_AHEAD_S - 1, "not_yet_valid"),
        (CREATED - MAX_AHEAD_S, None),
        (EXPIRES - 1, None),
        (EXPIRES, "expired"),
    ],
)
def test_validity_has_exact_ends(now: int, reason: str | None) -> None:
    assert verdict_on(manifest(), clock=Clock(now)).reason == reason


def test_a_machine_with_a_dead_clock_boots_and_is_told() -> None:
    verdict = verdict_on(manifest(), clock=Clock(CREATED - 300 * 86_400, trusted=False))
    assert verdict.ok
    assert outcomes(verdict)["clock"] == "noted"
    assert outcomes(verdict)["created_at"] == "skipped"
    assert "clock not trusted" in next(check.detail for check in verdict.checks if check.name == "clock")


def test_a_rewound_clock_does_not_revive_an_expired_image() -> None:
    assert verdict_on(manifest(), clock=Clock(EXPIRES + 5, trusted=False)).reason == "expired"


def held_clock(wall: int, created_at: int) -> Clock:
    """As `effective_now` makes it, of a state that remembers a manifest with that date."""
    return effective_now(wall, AcceptedTime(created_at, "testing", "arm64", (B,), "/srv/my state"), 0)


def check(verdict: Verdict, name: str) -> Check:
    return next(each for each in verdict.checks if each.name == name)


def test_what_holds_a_clock_beyond_an_expiry_is_named_with_its_remedy() -> None:
    verdict = verdict_on(manifest(), clock=held_clock(CREATED + 60, EXPIRES + 5 * 365 * 86_400))
    assert verdict.reason == "expired"
    for found in (check(verdict, "expiry"), check(verdict, "clock")):
        assert "/srv/my state" in found.detail
        assert "testing/arm64" in found.detail
        assert "2025-11-26T12:01:00Z" in found.detail
        assert "p2pboot state recover --state '/srv/my state'" in (found.remedy or "")


def test_a_date_that_no_state_remembers_sends_nobody_to_a_state() -> None:
    read_just_now = AcceptedTime(EXPIRES + 86_400, "testing", "arm64", (B,), "", kind="freshness statement")
    verdict = verdict_on(manifest(), clock=effective_now(CREATED + 60, read_just_now, 0))
    for found in (check(verdict, "expiry"), check(verdict, "clock")):
        assert "a freshness statement of testing/arm64 has that date" in found.detail
        assert "state" not in f"{found.detail} {found.remedy}".replace("statement", "")


@pytest.mark.parametrize(
    "clock",
    [
        held_clock(EXPIRES, EXPIRES + 86_400),  # expired by this machine's clock as well
        held_clock(EXPIRES - MAX_AHEAD_S, EXPIRES),  # clocks differ that much
        effective_now(EXPIRES - 86_400, None, EXPIRES + 5),  # the program's release, and there is no doubt
    ],
)
def test_an_expiry_that_no_wrong_date_explains_asks_for_a_newer_manifest(clock: Clock) -> None:
    found = check(verdict_on(manifest(), clock=clock), "expiry")
    assert found.outcome is Outcome.FAILED
    assert "renewed" in (found.remedy or "")
    assert "state" not in found.detail


def test_a_held_clock_that_changes_nothing_is_only_noted() -> None:
    verdict = verdict_on(manifest(), clock=held_clock(CREATED - 86_400, CREATED + 86_400))
    assert verdict.ok
    assert check(verdict, "clock").outcome is Outcome.NOTED
    assert "state recover" in (check(verdict, "clock").remedy or "")
    assert (
        check(verdict_on(manifest(), clock=effective_now(5, None)), "clock").remedy
        == "set this machine's clock"
    )


def test_a_wrong_clock_is_a_problem_with_a_text_that_stays() -> None:
    ahead = EXPIRES + 5 * 365 * 86_400
    one, other = (clock_problem(held_clock(CREATED + seconds, ahead)) for seconds in (0, 7))
    assert one is not None
    assert one == other
    assert "/srv/my state" in one.text
    assert "state recover" in (one.remedy or "")
    dead = clock_problem(effective_now(5, None))
    assert dead is not None
    assert "release" in dead.text
    assert dead.remedy == "set this machine's clock"
    assert clock_problem(Clock(CREATED)) is None
    assert clock_problem(held_clock(CREATED, CREATED + MAX_AHEAD_S)) is None


def test_a_manifest_of_the_future_names_the_publishers_clock() -> None:
    found = check(verdict_on(manifest(), clock=Clock(CREATED - 86_400)), "created_at")
    assert "the publisher's was ahead when it signed" in (found.remedy or "")
    assert "newer manifest" in (found.remedy or "")


# --- provider and detached signature ---


def test_a_provider_that_is_no_signer_is_noted_and_nothing_else() -> None:
    for peer_id in (STRANGER.public.peer_id, "12D3KooW..."):
        verdict = verdict_on(manifest(provider_peer_id=peer_id))
        assert verdict.ok
        assert outcomes(verdict)["provider"] == "noted"
    assert (
        outcomes(verdict_on(manifest([ALICE, BOB], provider_peer_id=BOB.public.peer_id)))["provider"]
        == "passed"
    )


def test_any_signer_may_have_made_the_detached_signature() -> None:
    found = manifest([ALICE, STRANGER])
    assert verdict_on(found, detached=sign_detached(found.raw, STRANGER) + "\n").ok
    assert verdict_on(found, detached="").reason == "detached"


# --- both ways in, and out ---


def test_judging_a_parsed_manifest_gives_the_same_verdict() -> None:
    for found, changes in REFUSALS.values():
        if isinstance(found, Manifest):
            question, detached = asked(**changes)
            assert judge(found, question, detached) == verify(found.raw, question, detached)


def test_the_verdict_is_a_json_document() -> None:
    found = manifest([STRANGER])
    document = json.loads(json.dumps(verdict_on(found).to_json()))
    assert document["ok"] is False
    assert document["reason"] == "untrusted"
    assert document["digest"] == found.digest
    assert document["manifest"]["manifest_version"] == 7
    assert document["manifest"]["expires_at"] == "2025-12-26T12:00:00Z"
    assert [check["name"] for check in document["checks"]] == list(CHECKS)
    assert {check["outcome"] for check in document["checks"]} <= {"passed", "failed", "skipped", "noted"}
    unreadable = verdict_on(b"{}").to_json()
    assert (unreadable["manifest"], unreadable["digest"], unreadable["reason"]) == (None, None, "malformed")


def test_a_half_signed_manifest_says_how_to_go_on() -> None:
    verdict = verdict_on(sign_manifest(unsigned(body([ALICE, BOB])), ALICE))
    assert verdict.failed is not None
    assert B in verdict.failed.detail
    assert "manifest sign" in (verdict.failed.remedy or "")


def test_the_floor_of_another_fleets_root_is_none_here() -> None:
    floors = (Floor("stable", "x86_64", 2**53 - 1), Floor("beta", "x86_64", 8))
    others = rooted(floors=floors, channels=("beta",))
    policy = TrustPolicy.of((Publisher((A,), channels=("stable",)),), others.roots)
    assert verify(manifest().raw, Question(policy, Clock(CREATED))).ok
    assert (policy.floor("stable", "x86_64"), policy.floor("beta", "x86_64")) == (0, 8)


@pytest.mark.parametrize(("required", "outcome"), [(True, "failed"), (False, "noted")])
def test_a_statement_about_another_manifest_of_the_same_number_vouches_for_nothing(
    required: bool, outcome: str
) -> None:
    policy = rooted(freshness=FreshnessRule((B,), required=required))
    for digest, expected in ((manifest().digest, "passed"), ("5a" * 32, outcome)):
        body = FreshnessBody(
            fleet=policy.publishers[0].fleet or "",
            root_version=1,
            channel="stable",
            arch="x86_64",
            created_at=CREATED,
            valid_until=CREATED + 60,
            head_version=7,
            head_digest=digest,
            minimum=0,
            signers=(B,),
        )
        asked = Asked(Freshness.parse(add_signature(body.document(), BOB)))
        verdict = verdict_on(manifest(), policy=policy, freshness=asked, clock=Clock(CREATED))
        assert outcomes(verdict)["freshness"] == expected
