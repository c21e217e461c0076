"""No bytes whatever raise anything unexpected, and nothing that was altered is ever taken."""

import contextlib
import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2pboot.core.clock import Clock
from p2pboot.core.manifest import Candidate, Manifest, add_signature, missing_signers
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.verify import Question, verify
from p2pboot.errors import Malformed, SignatureError
from p2pboot.testing.manifests import ALICE, BOB
from tests.core.manifests import CREATED, manifest
from tests.core.phase_verify import phase_verify
from tests.vectors.manifest import form

GOOD = manifest([ALICE, BOB], keys=["kernel", "initramfs", "dtbs/board"], cmdline="quiet").raw
POLICY = TrustPolicy((Publisher((ALICE.public.keyid,)),))
CLOCK = Clock(CREATED + 1)


def judge(raw: bytes) -> None:
    """Whatever `raw` is: it is refused in one of two ways everywhere, or it is the good manifest."""
    taken = False
    with contextlib.suppress(Malformed, SignatureError):
        assert Manifest.parse(raw).raw == raw
        taken = True
    assert taken == (raw == GOOD)
    assert verify(raw, Question(POLICY, CLOCK)).ok == taken
    with contextlib.suppress(Malformed, SignatureError):
        missing_signers(raw)
    with contextlib.suppress(Malformed, SignatureError):
        add_signature(raw, ALICE)


POSITIONS = st.integers(0, len(GOOD))


@given(POSITIONS.filter(lambda at: at < len(GOOD)), st.integers(1, 255))
@example(0, 1)
def test_a_flipped_byte_is_never_taken(at: int, flip: int) -> None:
    judge(GOOD[:at] + bytes([GOOD[at] ^ flip]) + GOOD[at + 1 :])


@given(POSITIONS)
def test_a_truncated_manifest_is_never_taken(length: int) -> None:
    judge(GOOD[:length])


@given(POSITIONS, POSITIONS, st.binary(max_size=20))
def test_a_replaced_part_is_never_taken(start: int, end: int, new: bytes) -> None:
    judge(GOOD[: min(start, end)] + new + GOOD[max(start, end) :])


@given(POSITIONS, POSITIONS, POSITIONS)
def test_a_copied_part_is_never_taken(start: int, end: int, at: int) -> None:
    judge(GOOD[:at] + GOOD[min(start, end) : max(start, end)] + GOOD[at:])


@given(st.binary(max_size=200) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_arbitrary_bytes_are_refused(raw: bytes) -> None:
    judge(raw)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in inner:
        yield (*path, step)
        yield from places(child, (*path, step))


DOCUMENT = json.loads(GOOD)
BODY = {name: value for name, value in DOCUMENT.items() if name not in ("signed", "signatures")}
NUMBERS = [0, 1, -1, 7, 2**53 - 1, 2**53, 10**30, 0.5, 1.0]
STRINGS = ["", "x", "kernel", "../x", "a\nb", "\u202e", "€", "x" * 5000]
LISTS = [[], [1], ["x"], [[[[[[[[[]]]]]]]]]]
OBJECTS = [{}, {"x": 1}, {"peer_id": "x", "name": "x"}, BODY["artifacts"]["kernel"]]
ODD = st.sampled_from([None, True, False, *NUMBERS, *STRINGS, *LISTS, *OBJECTS])


def altered(document: Any, path: tuple[str | int, ...], value: Any, how: str) -> Any:
    document = copy.deepcopy(document)
    target = document
    for step in path[:-1]:
        target = target[step]
    if how == "replace":
        target[path[-1]] = value
    elif how == "remove":
        del target[path[-1]]
    elif isinstance(target, dict):
        target["x" if how == "add" else str(value)[:70]] = value
    else:
        target.append(value)
    return document


HOW = st.sampled_from(["replace", "remove", "add", "name"])


@given(st.sampled_from(list(places(DOCUMENT))), ODD, HOW)
def test_an_altered_member_is_never_taken(path: tuple[str | int, ...], value: Any, how: str) -> None:
    judge(json.dumps(altered(DOCUMENT, path, value, how), separators=(",", ":"), sort_keys=True).encode())


@given(st.permutations(list(DOCUMENT)))
def test_another_order_of_members_is_never_taken(order: list[str]) -> None:
    judge(
        json.dumps(
            {name: DOCUMENT[name] for name in order}, separators=(",", ":"), ensure_ascii=False
        ).encode()
    )


@settings(max_examples=300)
@given(st.sampled_from(list(places(BODY))), ODD, HOW)
def test_a_publisher_can_sign_nothing_that_is_half_a_manifest(
    path: tuple[str | int, ...], value: Any, how: str
) -> None:
    """The signatures are right, so the rules of the format decide; what they let pass is consistent."""
    raw = form.manifest(altered(BODY, path, value, how), form.A, form.B)
    try:
        found = Manifest.parse(raw)
    except (Malformed, SignatureError):
        return
    signed = phase_verify(raw, ALICE.public.raw)
    assert signed["manifest_version"] == found.manifest_version >= 1
    assert found.created_at < found.expires_at
    assert {"kernel", "initramfs"} <= found.artifacts.keys()
    for key, artifact in found.artifacts.items():
        assert artifact.key == key
        assert artifact.path == f"/{found.channel}/{found.arch}/{key}"
        assert 1 <= artifact.size < 2**53
    assert Candidate.decode(raw).digest == found.digest
