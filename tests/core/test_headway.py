from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.headway import WAITING_S, Headway, HeadwayTally, Source, shares_of, shares_text

MB = 1_000_000


def transfer() -> HeadwayTally:
    """A fetch of two files of 60 and 40 MB, of the first of which 41 MB are here; two peers; 1 MB/s for ten seconds."""
    tally = HeadwayTally(0.0, transfers=True)
    tally.plan({"kernel": 60 * MB, "initramfs": 40 * MB})
    tally.artifact("kernel", 41 * MB, 60 * MB, 0.0)
    for second in range(1, 11):
        tally.arrived("A" if second % 5 else "B", "lan" if second % 5 else "publisher", MB, float(second))
        tally.artifact("kernel", (41 + second) * MB, 60 * MB, float(second))
        tally.pulse(0.0, 2, float(second))
    return tally


def test_what_was_here_counts_as_done_and_into_no_rate() -> None:
    headway = transfer().headway(10.0)
    assert (headway.done_bytes, headway.total_bytes, headway.here_bytes) == (51 * MB, 100 * MB, 41 * MB)
    assert headway.rate == pytest.approx(MB, rel=0.15)
    assert headway.left_s == pytest.approx(49, rel=0.15)
    assert headway.shares == {"lan": 80, "publisher": 20}


def test_the_most_important_is_said_first_and_what_does_not_fit_is_left_out() -> None:
    headway = Headway(
        done_bytes=51 * MB,
        total_bytes=100 * MB,
        here_bytes=41 * MB,
        rate=MB,
        left_s=49,
        peers=2,
        givers=2,
        shares={"lan": 80, "publisher": 20},
    )
    assert headway.text("fetching") == (
        "fetching 51 % of 100.0 MB, 1.0 MB/s, 49 s left, 2 peers, 80 % LAN, 20 % publisher, 41.0 MB were here"
    )
    assert headway.text("fetching", 50) == "fetching 51 % of 100.0 MB, 1.0 MB/s, 49 s left"
    assert headway.text("fetching", 40) == "fetching 51 % of 100.0 MB, 1.0 MB/s"
    assert headway.text("fetching", 10) == "fetching 5"


def test_when_nothing_comes_that_is_said_and_no_time_left() -> None:
    tally = transfer()
    tally.pulse(12.0, 2, 22.0)
    assert (
        tally.headway(22.0).text("fetching", 70)
        == "fetching 51 % of 100.0 MB, waiting for 2 peers, no byte for 12 s"
    )
    assert tally.headway(22.0).left_s is None
    assert tally.headway(22.0).text("fetching", 40) == "waiting for 2 peers, no byte for 12 s"
    tally.pulse(13.0, 0, 23.0)
    assert tally.headway(23.0).text("fetching", 60) == "fetching 51 % of 100.0 MB, waiting for a peer, 13 s"
    tally.arrived("A", "lan", MB, 24.0)
    assert tally.headway(24.0).waiting_s is None


def test_before_anything_is_known_it_says_what_it_waits_for() -> None:
    tally = HeadwayTally(0.0, transfers=True)
    assert tally.headway(0.5).text("fetching") == "waiting for a peer"
    tally.pulse(12.0, 0, 12.0)
    assert tally.headway(12.0).text("fetching") == "waiting for a peer, 12 s"
    tally.pulse(14.0, 1, 14.0)
    assert tally.headway(14.0).text("fetching") == "1 peer asked, nothing found yet, 14 s"


def test_zeros_that_turn_up_on_the_way_count_into_no_rate() -> None:
    tally = HeadwayTally(0.0, transfers=True)
    tally.artifact("disk", 0, 100 * MB, 0.0)
    tally.artifact("disk", 90 * MB, 100 * MB, 1.0)
    assert tally.headway(1.0).rate == 0


def test_hashing_counts_what_was_read_and_says_when_the_disk_hangs() -> None:
    tally = HeadwayTally(0.0, transfers=False)
    tally.artifact("artifacts", 0, 100 * MB, 0.0)
    for second in range(1, 6):
        tally.artifact("artifacts", 10 * second * MB, 100 * MB, float(second))
    headway = tally.headway(5.0)
    assert headway.rate == pytest.approx(10 * MB, rel=0.3)
    assert "left" in headway.text("hashing")
    assert tally.headway(17.0).text("hashing") == "hashing 50 % of 100.0 MB, nothing for 12 s"


def test_what_need_not_be_read_counts_into_no_rate() -> None:
    tally = HeadwayTally(0.0, transfers=False)
    tally.artifact("artifacts", 0, 100 * MB, 0.0)
    tally.known("artifacts", 90 * MB)
    tally.artifact("artifacts", 90 * MB, 100 * MB, 1.0)
    assert (tally.headway(1.0).rate, tally.headway(1.0).here_bytes) == (0, 90 * MB)
    tally.artifact("artifacts", 91 * MB, 100 * MB, 2.0)
    assert 0 < tally.headway(2.0).rate <= MB


def test_another_version_of_a_file_begins_anew() -> None:
    tally = transfer()
    tally.plan({"kernel": 70 * MB})
    assert tally.headway(10.0).done_bytes == 0
    assert tally.headway(10.0).total_bytes == 70 * MB
    tally.artifact("kernel", 20 * MB, 70 * MB, 11.0)
    assert tally.headway(11.0).here_bytes == 20 * MB


def test_all_of_it_is_said_without_rate_and_time() -> None:
    headway = Headway(done_bytes=MB, total_bytes=MB, rate=MB, left_s=0, peers=1, shares={"mesh": 100})
    assert headway.text("fetching") == "fetching 100 % of 1.0 MB, 100 % mesh"


@given(st.dictionaries(st.sampled_from(["lan", "mesh", "publisher"]), st.integers(0, 10**15)))
def test_shares_are_of_a_hundred_and_nobody_who_gave_has_none(given_bytes: dict[Source, int]) -> None:
    shares = shares_of(given_bytes)
    assert sum(shares.values()) == (100 if any(given_bytes.values()) else 0)
    assert shares.keys() == {source for source, count in given_bytes.items() if count}
    assert all(percent >= 1 for percent in shares.values())
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_shares_have_words() -> None:
    assert shares_text({"lan": 80, "publisher": 20}) == "80 % LAN, 20 % publisher"


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("come"), st.integers(0, 5 * MB)),
            st.tuples(st.just("wait"), st.integers(0, 100)),
            st.tuples(st.just("here"), st.integers(0, 5 * MB)),
        ),
        max_size=60,
    )
)
def test_there_is_a_time_left_only_while_something_comes(steps: list[tuple[str, int]]) -> None:
    tally, now, done, total, idle = HeadwayTally(0.0, transfers=True), 0.0, 0, 10**9, 0.0
    tally.artifact("kernel", 0, total, now)
    for kind, amount in steps:
        now += 1 if kind != "wait" else amount
        idle = 0.0 if kind == "come" else idle + (1 if kind != "wait" else amount)
        if kind == "come":
            tally.arrived("A", "lan", amount, now)
        if kind != "wait":
            done += amount
            tally.artifact("kernel", done, total, now)
        tally.pulse(idle, 1, now)
        headway = tally.headway(now)
        assert (headway.waiting_s is not None) == (idle >= WAITING_S)
        if headway.left_s is not None:
            assert headway.waiting_s is None
            assert headway.rate > 0
            assert headway.left_s >= (total - done) / headway.rate
        assert "None" not in headway.text("fetching")
