"""Evidence: what two documents prove to anybody, what they do not, and its files."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pboot.core import evidence as files
from p2pboot.core.evidence import Evidence, NoEvidence, decode, encode, judge
from p2pboot.core.trustdocs.envelope import only_signatures_of
from p2pboot.errors import Malformed, P2PBootError, SignatureError
from p2pboot.testing.manifests import ALICE, BOB, CAROL
from tests.core.manifests import manifest
from tests.vectors.manifest.form import STRANGER, Json, Key
from tests.vectors.trust.form import (
    F1,
    F2,
    P1,
    R1,
    R2,
    R3,
    R4,
    digest,
    document,
    freshness,
    publish,
    role,
    root,
)


def of_manifests(first: bytes, second: bytes) -> Evidence:
    return Evidence("manifest", "stable/x86_64", first, second, source="12D3KooW…", found_at=1_800_000_000)


TWO = of_manifests(manifest([ALICE, BOB]).raw, manifest([BOB, CAROL], version="other").raw)


def test_who_signed_both_manifests_contradicted_himself() -> None:
    found = judge(TWO)
    assert found.culprits == (BOB.public.keyid,)
    assert found.subject == "stable/x86_64"
    assert "version 7" in found.what
    assert found.proves == f"{BOB.public.keyid} signed both"


@pytest.mark.parametrize(
    "second",
    [
        manifest([ALICE, BOB]),
        manifest([ALICE, BOB], manifest_version=8),
        manifest([ALICE, BOB], channel="beta"),
        manifest([CAROL]),
    ],
    ids=["same", "another number", "another channel", "nobody in common"],
)
def test_manifests_that_may_both_be_honest_prove_nothing(second: object) -> None:
    with pytest.raises(NoEvidence, match="proves nothing"):
        judge(replace(TWO, second=second.raw))  # type: ignore[attr-defined]


def named(version: int, name: str, *keys: Key) -> Json:
    return root(version, name=name, roles={"root": role(*keys, threshold=2), "publish": [publish(P1)]})


FIRST = document(named(1, "fleet", R1, R2, R3, R4), R1, R2)
HONEST, OTHER = named(2, "fleet", R1, R2, R3, R4), named(2, "other", R1, R2, R3, R4)


def of_roots(first: bytes, second: bytes, before: bytes | None = FIRST) -> Evidence:
    return Evidence("root", "fleet", first, second, before)


def test_two_roots_that_follow_one_prove_who_signed_both() -> None:
    found = judge(of_roots(document(HONEST, R1, R2), document(OTHER, R2, R3)))
    assert found.culprits == (R2.keyid,)
    assert found.involved == tuple(sorted((R1.keyid, R2.keyid, R3.keyid)))
    assert digest(named(1, "fleet", R1, R2, R3, R4)) in found.given


def test_two_roots_signed_by_different_keys_of_one_role_are_evidence_of_all_of_them() -> None:
    found = judge(of_roots(document(HONEST, R1, R2), document(OTHER, R3, R4)))
    assert found.culprits == ()
    assert found.involved == tuple(sorted((R1.keyid, R2.keyid, R3.keyid, R4.keyid)))
    assert "none in common" in found.proves


def test_roots_that_anybody_can_make_up_prove_nothing() -> None:
    good = document(HONEST, R1, R2)
    made_up = document(named(2, "other", STRANGER, Key(8)), STRANGER, Key(8))
    before = document(named(1, "other", STRANGER, Key(8)), STRANGER, Key(8))
    few = document(OTHER, R2)
    for one in (
        of_roots(good, made_up),
        of_roots(good, made_up, None),
        of_roots(good, made_up, before),
        of_roots(good, few),
        of_roots(good, few, None),
        of_roots(good, good),
        of_roots(good, document(named(3, "fleet", R1, R2), R1, R2)),
        of_roots(good, document(OTHER, R2, R3), good),
    ):
        with pytest.raises(NoEvidence):
            judge(one)


def test_without_the_version_before_enough_keys_must_have_signed_both() -> None:
    found = judge(of_roots(document(HONEST, R1, R2), document(OTHER, R2, R3), None))
    assert found.culprits == (R2.keyid,)
    assert "version 2" in found.given


def test_statements_of_one_second_or_with_a_lower_minimum_are_evidence() -> None:
    one = freshness(F1, F2)
    later = {"created_at": "2026-03-02T07:00:00Z"}
    kept = document(one, F1, F2)

    def against(body: Json, *keys: Key) -> Evidence:
        return Evidence("freshness", "stable/x86_64", kept, document(body, *keys))

    assert judge(against(freshness(F2, minimum=7), F2)).culprits == (F2.keyid,)
    lower = judge(against(freshness(F1, minimum=7, **later), F1))
    assert lower.culprits == (F1.keyid,)
    assert "asks for version 7 at least, an earlier one" in lower.what
    for body, key in (
        (freshness(F1, minimum=8, **later), F1),
        (freshness(STRANGER, minimum=7), STRANGER),
        (freshness(F1, minimum=7, root_version=3, **later), F1),
        (freshness(F1, channel="beta"), F1),
    ):
        with pytest.raises(NoEvidence):
            judge(against(body, key))


def test_what_was_changed_after_it_was_signed_is_no_evidence() -> None:
    for raw in (TWO.first.replace(b"my-provider", b"no-provider"), TWO.first[:-1], b"", b"{}"):
        with pytest.raises((Malformed, SignatureError)):
            judge(replace(TWO, second=raw))
    unsigned = only_signatures_of(document(OTHER, R1, R2), ())
    with pytest.raises(NoEvidence):
        judge(of_roots(document(HONEST, R1, R2), unsigned))


def test_a_file_is_read_as_it_was_written() -> None:
    found = [TWO, of_roots(document(HONEST, R1, R2), document(OTHER, R2, R3)), replace(TWO, found_at=None)]
    assert decode(encode(found)) == found
    assert replace(TWO, first=TWO.second, second=TWO.first).name == TWO.name != found[1].name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"spec": "p2pboot-evidence/2"}, "spec"),
        ({"evidence": []}, "1 to"),
        ({"evidence": [{"kind": "manifest", "first": "AA==", "second": "A"}]}, "evidence[0].second"),
        ({"evidence": [{"kind": "manifest", "first": "", "second": "AA=="}]}, "evidence[0].first"),
        ({"evidence": [{"kind": "manifest", "first": "AA=="}]}, "second"),
        ({"evidence": [{"kind": "root", "first": "AA==", "second": "AA==", "found_at": "now"}]}, "found_at"),
        ({"evidence": 1}, "evidence"),
    ],
)
def test_a_file_that_is_none_is_refused(change: Json, says: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode(json.dumps(json.loads(encode([TWO])) | change).encode())
    assert says in caught.value.message


def test_files_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Malformed, match="more than"):
        decode(b" " * (files.MAX_FILE + 1))
    with pytest.raises(Malformed):
        decode(b"[" * 1_000_000)
    with pytest.raises(ValueError, match="more than"):
        encode([TWO] * (files.MAX_ENTRIES + 1))
    odd = Evidence("x" * 100, "", b"1", b"2")
    with pytest.raises(Malformed, match="is none of"):
        judge(odd)


RAW = encode([TWO])


@settings(max_examples=60)
@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
def test_a_flipped_byte_never_makes_somebody_else_a_culprit(at: int, flip: int) -> None:
    try:
        (found,) = decode(RAW[:at] + bytes([RAW[at] ^ flip]) + RAW[at + 1 :])
        assert judge(found).culprits == (BOB.public.keyid,)
    except P2PBootError:
        return
    assert {base64.b64encode(found.first), base64.b64encode(found.second)} <= set(RAW.split(b'"'))
