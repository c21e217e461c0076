"""Replay validation: the source system's own test, and every rule alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from p2pboot import (
    NetworkPruningEnvelope,
    TimetokeReplayError,
    TimetokeReplayValidator,
    TimetokeSnapshot,
    TimetokeSnapshotError,
)
from p2pboot.core.timetoke.replay import (
    COMMITMENT_TAG,
    ENVELOPE_TAG,
    PROOF_SEGMENT_TAG,
    SNAPSHOT_STATE_TAG,
    DomainTagMismatch,
    InvalidEnvelope,
    InvalidHex,
    InvalidLength,
    PruningDigestMismatch,
    SegmentDomainTagMismatch,
    SnapshotRootMismatch,
)

LEDGER, STATE = bytes([0x44]) * 32, bytes([0x55]) * 32
SNAPSHOT = TimetokeSnapshot(LEDGER.hex(), ())
VERSIONS = {"schema_version": 1, "parameter_version": 0}


def tagged(tag: bytes, byte: int) -> str:
    return (tag + bytes([byte]) * 32).hex()


def receipt(**changes: Any) -> dict[str, Any]:
    segment = {"segment_index": 0, "start_height": 0, "end_height": 42}
    return {
        **VERSIONS,
        "snapshot": {
            **VERSIONS,
            "block_height": 42,
            "state_commitment": changes.get("state", tagged(SNAPSHOT_STATE_TAG, 0x55)),
        },
        "segments": [
            {**VERSIONS, **segment, "segment_commitment": text}
            for text in changes.get("segments", [tagged(PROOF_SEGMENT_TAG, 0x11)])
        ],
        "commitment": {
            **VERSIONS,
            "aggregate_commitment": changes.get("aggregate", tagged(COMMITMENT_TAG, 0x22)),
        },
        "binding_digest": changes.get("binding", tagged(ENVELOPE_TAG, 0x33)),
    }


def validate(**changes: Any) -> None:
    TimetokeReplayValidator.validate(SNAPSHOT, receipt(**changes), LEDGER, STATE)


def test_a_receipt_of_this_ledger_is_good_in_every_form() -> None:
    validate()
    validate(segments=[])
    validate(state=tagged(SNAPSHOT_STATE_TAG, 0x55).upper())
    without = receipt()
    del without["segments"]  # optional in the source system
    envelope = msgspec.convert(receipt(), NetworkPruningEnvelope)
    attributes = SimpleNamespace(**receipt())
    for form in (without, envelope, attributes):
        TimetokeReplayValidator.validate(SNAPSHOT, form, LEDGER.hex(), STATE.hex())  # type: ignore[arg-type]


def test_a_snapshot_of_another_ledger_is_refused_before_anything_else() -> None:
    with pytest.raises(SnapshotRootMismatch) as caught:
        TimetokeReplayValidator.validate(
            TimetokeSnapshot("99" * 32, ()), receipt(state="nonsense"), LEDGER, STATE
        )
    assert (caught.value.expected, caught.value.found) == (LEDGER.hex(), "99" * 32)
    assert "snapshot timetoke root mismatch" in caught.value.message


def test_a_receipt_of_another_state_is_refused() -> None:
    with pytest.raises(PruningDigestMismatch) as caught:
        validate(state=tagged(SNAPSHOT_STATE_TAG, 0xAA))
    assert caught.value.field == "pruning.snapshot.state_commitment"
    assert (caught.value.expected, caught.value.found) == (STATE.hex(), "aa" * 32)


@pytest.mark.parametrize(
    ("place", "field", "expected"),
    [
        ("state", "pruning.snapshot.state_commitment", SNAPSHOT_STATE_TAG),
        ("aggregate", "pruning.commitment.aggregate_commitment", COMMITMENT_TAG),
        ("binding", "pruning.binding_digest", ENVELOPE_TAG),
    ],
)
def test_a_digest_of_one_kind_is_none_of_another(place: str, field: str, expected: bytes) -> None:
    with pytest.raises(DomainTagMismatch) as caught:
        validate(**{place: tagged(PROOF_SEGMENT_TAG, 0x55)})
    assert (caught.value.field, caught.value.expected) == (field, expected)
    assert caught.value.found == PROOF_SEGMENT_TAG


def test_every_segment_is_looked_at_and_named_by_its_place() -> None:
    good, bad = tagged(PROOF_SEGMENT_TAG, 1), tagged(ENVELOPE_TAG, 1)
    with pytest.raises(SegmentDomainTagMismatch) as caught:
        validate(segments=[good, good, bad])
    assert caught.value.index == 2


@pytest.mark.parametrize("place", ["state", "aggregate", "binding", "segments"])
@pytest.mark.parametrize(
    ("text", "error"),
    [("xyz", InvalidHex), ("a b c d", InvalidHex), ("", InvalidLength), ("ab" * 32, InvalidLength)],
)
def test_what_is_no_tagged_digest_is_refused(place: str, text: str, error: type[TimetokeReplayError]) -> None:
    with pytest.raises(error) as caught:
        validate(**{place: [text] if place == "segments" else text})
    assert isinstance(caught.value, TimetokeSnapshotError)
    assert "pruning." in caught.value.message


@pytest.mark.parametrize("document", [{}, {**receipt(), "binding_digest": 7}, {**receipt(), "snapshot": []}])
def test_what_is_no_receipt_is_said(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidEnvelope):
        TimetokeReplayValidator.validate(SNAPSHOT, document, LEDGER, STATE)


@pytest.mark.parametrize("own", [b"", bytes(31), "zz" * 32, "ab"])
def test_a_root_of_our_own_that_is_none_is_a_mistake_of_the_caller(own: bytes | str) -> None:
    with pytest.raises(ValueError, match="ledger_global_state_root"):
        TimetokeReplayValidator.validate(SNAPSHOT, receipt(), LEDGER, own)
