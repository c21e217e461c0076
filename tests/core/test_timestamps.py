import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.timestamps import MAX_TIME, clock_text, format_time, parse_duration, parse_time


@given(st.integers(0, MAX_TIME))
def test_every_time_has_one_form_that_reads_back(unix_s: int) -> None:
    text = format_time(unix_s)
    assert len(text) == 20
    assert parse_time(text) == unix_s


@given(st.text(alphabet="0123456789-:TZ", min_size=18, max_size=21))
def test_whatever_is_read_is_written_the_same_again(text: str) -> None:
    try:
        unix_s = parse_time(text)
    except ValueError:
        return
    assert format_time(unix_s) == text


def test_known_times() -> None:
    assert parse_time("1970-01-01T00:00:00Z") == 0
    assert parse_time("2025-11-26T12:00:00Z") == 1_764_158_400
    assert parse_time("9999-12-31T23:59:59Z") == MAX_TIME


@pytest.mark.parametrize(
    "text",
    [
        "2025-11-26T12:00:00",
        "2025-11-26 12:00:00Z",
        "2025-11-26T12:00:00.0Z",
        "2025-11-26T12:00:00+00:00",
        "2025-11-26t12:00:00z",
        "2025-11-26T12:00:00Z\n",
        "2025-02-29T12:00:00Z",
        "2025-11-26T24:00:00Z",
        "2016-12-31T23:59:60Z",
        "1969-12-31T23:59:59Z",
        "٢٠٢٥-11-26T12:00:00Z",
        "",
    ],
)
def test_other_forms_and_impossible_dates_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time "):
        parse_time(text)


@pytest.mark.parametrize("unix_s", [-1, MAX_TIME + 1])
def test_times_that_have_no_form_are_refused(unix_s: int) -> None:
    with pytest.raises(ValueError, match="outside 1970 to 9999"):
        format_time(unix_s)


def test_durations() -> None:
    found = [parse_duration(text) for text in ("45s", "90m", "12h", "30d", "2w")]
    assert found == [45, 5400, 43_200, 2_592_000, 1_209_600]


@pytest.mark.parametrize(
    "text", ["", "30", "d", "1.5d", "-1d", "0d", "30 d", "30D", "1y", "30d\n", "9999999999s"]
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration "):
        parse_duration(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_whatever_a_clock_says_can_be_told(unix_s: float) -> None:
    assert 0 <= parse_time(clock_text(unix_s)) <= MAX_TIME
