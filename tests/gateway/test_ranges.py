from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.gateway.ranges import (
    NotModified,
    OutOfRange,
    Part,
    PreconditionFailed,
    Selection,
    Whole,
    parse_range,
    select,
)

TAG = "ab" * 32
QUOTED = f'"{TAG}"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes=0-0", Part(0, 1)),
        ("bytes=0-", Part(0, 10)),
        ("bytes=9-", Part(9, 10)),
        ("bytes=3-100", Part(3, 10)),
        ("bytes=-3", Part(7, 10)),
        ("bytes=-10", Part(0, 10)),
        ("bytes=-99999999999999999999", Part(0, 10)),
        ("Bytes=2-4", Part(2, 5)),
        ("bytes= 2-4 ", Part(2, 5)),
        ("bytes=10-", OutOfRange()),
        ("bytes=10-20", OutOfRange()),
        ("bytes=-0", OutOfRange()),
        # What is not understood is ignored: the whole is a right answer to every request.
        ("bytes=5-4", Whole()),
        ("bytes=-", Whole()),
        ("bytes=", Whole()),
        ("bytes", Whole()),
        ("bytes=a-b", Whole()),
        ("bytes=0-1,3-4", Whole()),
        ("bytes=0x1-2", Whole()),
        ("bytes=\u0661-\u0662", Whole()),
        ("lines=0-1", Whole()),
        ("bytes=999999999999999999999-", Whole()),
        ("bytes=0-1" + ",2-3" * 1000, Whole()),
    ],
)
def test_range(text: str, expected: Selection) -> None:
    assert parse_range(text, 10) == expected


@given(size=st.integers(1, 2**53), first=st.integers(0, 2**54), last=st.integers(0, 2**54))
def test_part_is_what_slicing_gives(size: int, first: int, last: int) -> None:
    selection = parse_range(f"bytes={first}-{last}", size)
    wanted = range(size)[first : last + 1]
    if last < first:
        assert selection == Whole()
    elif not wanted:
        assert selection == OutOfRange()
    else:
        assert selection == Part(wanted[0], wanted[-1] + 1)


@given(size=st.integers(1, 2**53), length=st.integers(1, 2**54))
def test_suffix_is_what_slicing_gives(size: int, length: int) -> None:
    wanted = range(size)[-length:]
    assert parse_range(f"bytes=-{length}", size) == Part(wanted[0], wanted[-1] + 1)


@given(st.text(max_size=40))
def test_any_text_is_judged(text: str) -> None:
    assert isinstance(parse_range(text, 10), Whole | Part | OutOfRange)


def chosen(method: str = "GET", **fields: str | list[str]) -> Selection:
    values = {
        name.replace("_", "-"): [value] if isinstance(value, str) else value for name, value in fields.items()
    }
    return select(method, lambda name: values.get(name, []), size=10, tag=TAG)


@pytest.mark.parametrize("tags", [QUOTED, "*", f'"x", {QUOTED}', f"W/{QUOTED}", ['"x"', QUOTED]])
def test_known_tag_is_not_modified(tags: str | list[str]) -> None:
    assert chosen(if_none_match=tags) == NotModified()
    assert chosen("HEAD", if_none_match=tags) == NotModified()


@pytest.mark.parametrize("tags", ['"x"', TAG, f'"{TAG[:-1]}"', f'"x{TAG}"'])
def test_unknown_tag_gets_the_whole(tags: str) -> None:
    assert chosen(if_none_match=tags) == Whole()


def test_not_modified_comes_before_the_range() -> None:
    assert chosen(if_none_match=QUOTED, range="bytes=0-1") == NotModified()


@pytest.mark.parametrize(
    "validator", ['"x"', f"W/{QUOTED}", "Wed, 26 Nov 2025 12:00:00 GMT", [QUOTED, QUOTED]]
)
def test_if_range_that_does_not_match_gets_the_whole(validator: str | list[str]) -> None:
    assert chosen(range="bytes=0-1", if_range=validator) == Whole()


def test_if_range_that_matches_gets_the_part() -> None:
    assert chosen(range="bytes=0-1", if_range=QUOTED) == Part(0, 2)


def test_head_and_repeated_range_get_the_whole() -> None:
    assert chosen("HEAD", range="bytes=0-1") == Whole()
    assert chosen(range=["bytes=0-1", "bytes=0-1"]) == Whole()


def test_if_match() -> None:
    assert chosen(if_match='"x"') == PreconditionFailed()
    assert chosen(if_match=f"W/{QUOTED}") == PreconditionFailed()
    assert chosen(if_match=QUOTED) == chosen(if_match="*") == Whole()
