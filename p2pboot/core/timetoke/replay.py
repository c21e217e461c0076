"""Replay validation: does a snapshot belong to the ledger that the pruning receipt and we ourselves know of?

The source system's rules, in its order; the first one that fails is the error. A digest in a pruning receipt is
*tagged*: 16 bytes that say what it is a digest of, then its 32 bytes, all in hex. The tags keep a digest of one kind
from being passed off as one of another; of the digests only the state commitment is compared with ours.

Nothing here reads a disk or remembers anything: who validates knows both ledger roots.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from p2pboot.core.timetoke.errors import TimetokeSnapshotError
from p2pboot.core.timetoke.snapshot import TimetokeSnapshot

TAG_BYTES: Final = 16
DIGEST_BYTES: Final = 32

SNAPSHOT_STATE_TAG: Final = b"rpp:prune:state\0"
PROOF_SEGMENT_TAG: Final = b"rpp:prune:proof\0"
COMMITMENT_TAG: Final = b"rpp:prune:commit"
ENVELOPE_TAG: Final = b"rpp:prune:envlp\0"


class NetworkPruningSnapshot(msgspec.Struct, frozen=True):
    """The state that was pruned: its height and its tagged state commitment, hex."""

    schema_version: int
    parameter_version: int
    block_height: int
    state_commitment: str


class NetworkPruningSegment(msgspec.Struct, frozen=True):
    """One proof segment: the heights that it covers and its tagged commitment, hex."""

    schema_version: int
    parameter_version: int
    segment_index: int
    start_height: int
    end_height: int
    segment_commitment: str


class NetworkPruningCommitment(msgspec.Struct, frozen=True):
    """The tagged commitment over all segments, hex."""

    schema_version: int
    parameter_version: int
    aggregate_commitment: str


class NetworkPruningEnvelope(msgspec.Struct, frozen=True):
    """A pruning receipt as the source system's nodes exchange it.

    Args:
        schema_version: of the form.
        parameter_version: of the parameters.
        snapshot: the state.
        commitment: over the segments.
        binding_digest: over all of it, tagged, hex.
        segments: possibly none.
    """

    schema_version: int
    parameter_version: int
    snapshot: NetworkPruningSnapshot
    commitment: NetworkPruningCommitment
    binding_digest: str
    segments: tuple[NetworkPruningSegment, ...] = ()


class TimetokeReplayError(TimetokeSnapshotError):
    """A snapshot that does not belong to the ledger; the subclass says which rule it breaks."""


class InvalidEnvelope(TimetokeReplayError):
    """A mapping that is no pruning receipt: a member is missing or of another type."""


class InvalidHex(TimetokeReplayError):
    """A field that is not hexadecimal."""

    def __init__(self, field: str) -> None:
        super().__init__(f"invalid hex for {field}")
        self.field = field


class InvalidLength(TimetokeReplayError):
    """A field of another number of bytes."""

    def __init__(self, field: str, expected: int, found: int) -> None:
        super().__init__(f"invalid length for {field}: expected {expected} bytes, found {found}")
        self.field = field
        self.expected = expected
        self.found = found


class DomainTagMismatch(TimetokeReplayError):
    """A digest of another kind than its place asks for."""

    def __init__(self, field: str, expected: bytes, found: bytes) -> None:
        super().__init__(f"domain tag mismatch for {field}: expected {expected!r}, found {found!r}")
        self.field = field
        self.expected = expected
        self.found = found


class SegmentDomainTagMismatch(TimetokeReplayError):
    """The digest of a segment is of another kind."""

    def __init__(self, index: int, expected: bytes, found: bytes) -> None:
        super().__init__(f"segment {index} tag mismatch: expected {expected!r}, found {found!r}")
        self.index = index
        self.expected = expected
        self.found = found


class PruningDigestMismatch(TimetokeReplayError):
    """The receipt is about another state than our ledger's."""

    def __init__(self, field: str, expected: str, found: str) -> None:
        super().__init__(f"pruning digest mismatch for {field}: expected {expected}, found {found}")
        self.field = field
        self.expected = expected
        self.found = found


class SnapshotRootMismatch(TimetokeReplayError):
    """The snapshot is of another Timetoke ledger than ours."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"snapshot timetoke root mismatch: expected {expected}, found {found}")
        self.expected = expected
        self.found = found


class TimetokeReplayValidator:
    """Validates a snapshot against a pruning receipt and the ledger roots that are known locally."""

    @staticmethod
    def validate(
        snapshot: TimetokeSnapshot,
        pruning: NetworkPruningEnvelope | Mapping[str, Any],
        ledger_timetoke_root: bytes | str,
        ledger_global_state_root: bytes | str,
    ) -> None:
        """Return if the snapshot and the receipt are of this ledger.

        Args:
            snapshot: as it was received; its signature is somebody else's matter.
            pruning: the receipt, or its parsed JSON.
            ledger_timetoke_root: ours: 32 bytes, or 64 hex digits.
            ledger_global_state_root: likewise.

        Raises:
            TimetokeReplayError: they are not; the subclass says why.
            ValueError: one of our own roots is none.
        """
        timetoke_root = _own_root("ledger_timetoke_root", ledger_timetoke_root)
        state_root = _own_root("ledger_global_state_root", ledger_global_state_root)
        envelope = pruning if isinstance(pruning, NetworkPruningEnvelope) else _envelope(pruning)

        if _decoded("snapshot.timetoke_root", snapshot.timetoke_root, DIGEST_BYTES) != timetoke_root:
            raise SnapshotRootMismatch(timetoke_root.hex(), snapshot.timetoke_root)
        field = "pruning.snapshot.state_commitment"
        state = _tagged(field, envelope.snapshot.state_commitment, SNAPSHOT_STATE_TAG)
        if state != state_root:
            raise PruningDigestMismatch(field, state_root.hex(), state.hex())
        for index, segment in enumerate(envelope.segments):
            tag, _ = _split("pruning.segment.commitment", segment.segment_commitment)
            if tag != PROOF_SEGMENT_TAG:
                raise SegmentDomainTagMismatch(index, PROOF_SEGMENT_TAG, tag)
        aggregate = envelope.commitment.aggregate_commitment
        _tagged("pruning.commitment.aggregate_commitment", aggregate, COMMITMENT_TAG)
        _tagged("pruning.binding_digest", envelope.binding_digest, ENVELOPE_TAG)


def _own_root(name: str, root: bytes | str) -> bytes:
    try:
        raw = bytes.fromhex(root) if isinstance(root, str) else bytes(root)
    except ValueError:
        raw = b""
    if len(raw) != DIGEST_BYTES:
        raise ValueError(f"{name} is neither {DIGEST_BYTES} bytes nor {2 * DIGEST_BYTES} hex digits")
    return raw


def _envelope(document: Mapping[str, Any]) -> NetworkPruningEnvelope:
    try:
        return msgspec.convert(document, NetworkPruningEnvelope, from_attributes=True)
    except msgspec.ValidationError as error:
        raise InvalidEnvelope(f"the pruning receipt is none: {error}") from None


def _tagged(field: str, text: str, expected: bytes) -> bytes:
    """The digest of a tagged one, whose tag must be `expected`."""
    tag, digest = _split(field, text)
    if tag != expected:
        raise DomainTagMismatch(field, expected, tag)
    return digest


def _split(field: str, text: str) -> tuple[bytes, bytes]:
    raw = _decoded(field, text, TAG_BYTES + DIGEST_BYTES)
    return raw[:TAG_BYTES], raw[TAG_BYTES:]


def _decoded(field: str, text: str, length: int) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise InvalidHex(field) from None
    if len(text) != 2 * len(raw):  # blanks, which bytes.fromhex passes over
        raise InvalidHex(field)
    if len(raw) != length:
        raise InvalidLength(field, length, len(raw))
    return raw
