from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.policy import Publisher
from p2pboot.core.rollback import AcceptedHead, VersionStanding, binding, judge_version
from p2pboot.testing.manifests import ALICE, BOB, CAROL
from tests.core.manifests import manifest

A, B, C = (key.public.keyid for key in (ALICE, BOB, CAROL))
SEVEN = manifest([ALICE], manifest_version=7)
HEAD = AcceptedHead.of(SEVEN)


def head(version: int, *signers: str, digest: str = "0" * 64) -> AcceptedHead:
    return AcceptedHead(version, digest, signers)


@pytest.mark.parametrize(
    ("version", "expected"),
    [(6, VersionStanding.OLDER), (7, VersionStanding.SAME), (8, VersionStanding.NEWER)],
)
def test_versions_are_ordered_by_their_number(version: int, expected: VersionStanding) -> None:
    assert judge_version([HEAD], manifest([ALICE], manifest_version=version)) is expected


def test_the_same_number_with_other_content_is_equivocation() -> None:
    other = manifest([ALICE], manifest_version=7, cmdline="init=/bin/sh")
    assert judge_version([HEAD], other) is VersionStanding.EQUIVOCATION
    assert judge_version([AcceptedHead.of(other), HEAD], SEVEN) is VersionStanding.EQUIVOCATION


def test_without_memory_everything_is_new() -> None:
    assert binding([], Publisher((A,))) == ()
    assert judge_version((), SEVEN) is VersionStanding.NEWER


@pytest.mark.parametrize(
    ("publisher", "expected"),
    [
        (Publisher((A,)), 6),
        (Publisher((B,)), 9),
        (Publisher((A, B)), 9),
        (Publisher((A, B), 2), 3),
        (Publisher((A, C)), 6),
        (Publisher((B, C), 2), None),
        (Publisher((C,)), None),
        (None, None),
    ],
)
def test_the_highest_of_those_who_meet_the_present_threshold_binds(
    publisher: Publisher | None, expected: int | None
) -> None:
    """Else a publisher in between would lower what the first one reached."""
    heads = [head(6, A), head(9, B), head(3, A, B)]
    assert [one.manifest_version for one in binding(heads, publisher)] == (
        [] if expected is None else [expected]
    )


def test_memory_survives_a_change_of_keys_as_long_as_the_old_signers_count() -> None:
    """Else who steals the new key could turn machines back to before the change."""
    by_bob = manifest([BOB], manifest_version=6)
    assert judge_version(binding([HEAD], Publisher((A, B))), by_bob) is VersionStanding.OLDER
    same_number = manifest([BOB], manifest_version=7)
    assert judge_version(binding([HEAD], Publisher((A, B))), same_number) is VersionStanding.EQUIVOCATION
    of_both = AcceptedHead.of(manifest([ALICE, BOB], manifest_version=7))
    assert judge_version(binding([of_both], Publisher((B, C))), by_bob) is VersionStanding.OLDER


def test_keys_that_are_one_publishers_now_contradict_each_other_with_one_number() -> None:
    one, other = head(6, A, digest="a" * 64), head(6, A, B, digest="b" * 64)
    assert binding([head(5, B), one, other], Publisher((A, B))) == (one, other)
    assert binding([one, other], Publisher((A, B), 2)) == (other,)


@given(st.integers(1, 20), st.integers(1, 20))
def test_accepting_only_what_is_newer_never_goes_back(first: int, second: int) -> None:
    taken = judge_version([head(first, A)], manifest([ALICE], manifest_version=second))
    assert (taken is VersionStanding.NEWER) == (second > first)
