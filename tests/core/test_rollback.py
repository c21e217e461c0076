import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.rollback import AcceptedHead, VersionStanding, judge_version
from p2pboot.testing.manifests import ALICE, BOB, CAROL
from tests.core.manifests import manifest

A, B, C = (key.public.keyid for key in (ALICE, BOB, CAROL))
SEVEN = manifest([ALICE], manifest_version=7)
HEAD = AcceptedHead.of(SEVEN)


@pytest.mark.parametrize(
    ("version", "expected"),
    [(6, VersionStanding.OLDER), (7, VersionStanding.SAME), (8, VersionStanding.NEWER)],
)
def test_versions_are_ordered_by_their_number(version: int, expected: VersionStanding) -> None:
    assert judge_version(HEAD, manifest([ALICE], manifest_version=version), {A}) is expected


def test_the_same_number_with_other_content_is_equivocation() -> None:
    other = manifest([ALICE], manifest_version=7, cmdline="init=/bin/sh")
    assert judge_version(HEAD, other, {A}) is VersionStanding.EQUIVOCATION


def test_without_memory_everything_is_new() -> None:
    assert judge_version(None, SEVEN, {A}) is VersionStanding.NEWER


def test_memory_survives_a_change_of_keys() -> None:
    """Else who steals the new key could turn machines back to before the change."""
    by_bob = manifest([BOB], manifest_version=6)
    assert judge_version(HEAD, by_bob, {A, B}) is VersionStanding.OLDER
    same_number = manifest([BOB], manifest_version=7)
    assert judge_version(HEAD, same_number, {A, B}) is VersionStanding.EQUIVOCATION
    head_of_both = AcceptedHead.of(manifest([ALICE, BOB], manifest_version=7))
    assert judge_version(head_of_both, by_bob, {B, C}) is VersionStanding.OLDER


def test_memory_starts_anew_when_no_trusted_key_is_among_its_signers() -> None:
    by_bob = manifest([BOB], manifest_version=1)
    assert judge_version(HEAD, by_bob, {B, C}) is VersionStanding.NEWER


def test_the_operators_minimum_comes_first() -> None:
    assert judge_version(HEAD, SEVEN, {A}, min_version=8) is VersionStanding.BELOW_MINIMUM
    assert judge_version(None, SEVEN, {A}, min_version=8) is VersionStanding.BELOW_MINIMUM
    assert judge_version(HEAD, SEVEN, {A}, min_version=7) is VersionStanding.SAME


@given(st.integers(1, 20), st.integers(1, 20))
def test_accepting_only_what_is_newer_never_goes_back(first: int, second: int) -> None:
    head = AcceptedHead(first, "0" * 64, (A,))
    taken = judge_version(head, manifest([ALICE], manifest_version=second), {A}) is VersionStanding.NEWER
    assert taken == (second > first)
