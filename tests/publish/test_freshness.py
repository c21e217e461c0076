"""What a freshness statement says, and when it is signed, from the one before: whatever happens to heads and clocks."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.core.freshness import contradict
from p2pboot.core.trustdocs.freshness import RENEW_S, SETTLE_S, VALID_S, Freshness, FreshnessBody
from p2pboot.core.trustdocs.rootbody import NO_FLEET
from p2pboot.errors import UsageError
from p2pboot.publish.freshness import (
    STEP_S,
    Head,
    Intervals,
    Settling,
    body_of,
    is_behind,
    is_due,
    minimum_of,
    sign,
)
from p2pboot.testing.manifests import NOW, key_of

KEY = key_of("freshness")
HEAD = Head(NO_FLEET, 0, ("stable", "x86_64"), 7, "a" * 64)


def said(head: Head = HEAD, *, minimum: int = 0, at: int = NOW) -> FreshnessBody:
    signers = (KEY.public.keyid,)
    return body_of(head, None, minimum=minimum, paused_since=None, now=at, valid_s=VALID_S, signers=signers)


def due(known: FreshnessBody | None, head: Head = HEAD, *, minimum: int = 0, now: int = NOW) -> bool:
    return is_due(head, known, minimum, None, now=now, renew_s=RENEW_S)


def test_it_is_said_again_when_it_says_something_else_or_is_old() -> None:
    known = said()
    assert due(None)
    assert not due(known, now=NOW + RENEW_S - 1)
    assert due(known, now=NOW + RENEW_S)
    assert due(known, replace(HEAD, version=8))
    assert due(known, replace(HEAD, digest="b" * 64))
    assert due(known, minimum=1)


def test_who_knows_an_older_root_does_not_answer_who_knows_a_newer_one() -> None:
    rooted = replace(HEAD, fleet="f" * 64, root_version=2)
    assert due(said(rooted), replace(rooted, root_version=3))
    assert not due(said(replace(rooted, root_version=3)), rooted)


def test_a_shorter_validity_is_renewed_more_often() -> None:
    assert Intervals().renew_s == RENEW_S
    assert Intervals(valid_s=3600).renew_s == 900
    assert Intervals(valid_s=90 * 86_400).renew_s == RENEW_S


def test_what_was_insisted_on_is_never_taken_back_but_by_a_newer_root() -> None:
    rooted = replace(HEAD, fleet="f" * 64, root_version=2)
    stolen = said(replace(rooted, version=9), minimum=9)
    assert is_behind(rooted, stolen)
    with pytest.raises(UsageError, match="nothing below version 9"):
        minimum_of(rooted, stolen, 7)
    newer = replace(rooted, root_version=3)
    assert not is_behind(newer, stolen)
    assert minimum_of(newer, stolen, 7) == 7


def test_the_next_of_a_second_is_dated_later_and_a_clock_that_was_set_back_is_waited_for() -> None:
    for ahead_s in (0, STEP_S - 1):
        body = body_of(
            HEAD,
            said(at=NOW + ahead_s),
            minimum=0,
            paused_since=None,
            now=NOW,
            valid_s=60,
            signers=(KEY.public.keyid,),
        )
        assert body.created_at == NOW + ahead_s + 1
    texts = set()
    for now in (NOW, NOW - 90):
        with pytest.raises(UsageError, match="after this machine's clock") as refused:
            body_of(
                HEAD,
                said(at=NOW + STEP_S),
                minimum=0,
                paused_since=None,
                now=now,
                valid_s=60,
                signers=(KEY.public.keyid,),
            )
        texts.add(refused.value.message)
    assert len(texts) == 1  # a problem that has another text each time is logged each time


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2 * SETTLE_S),  # until the next look
            st.integers(0, 2),  # further publications before it
            st.booleans(),  # whether it is urgent
            st.booleans(),  # whether the node was started again
        ),
        max_size=30,
    )
)
def test_whatever_is_published_no_two_statements_contradict_and_what_has_settled_is_insisted_on(
    steps: list[tuple[int, int, bool, bool]],
) -> None:
    now, settling, known = NOW, Settling(), None
    head = replace(HEAD, created_at=NOW)
    signed: list[Freshness] = []
    published = {head.version: NOW}
    for passed, news, urgent, restarted in steps:
        now += passed
        settling = Settling() if restarted else settling
        for _ in range(news):
            head = replace(head, version=head.version + 1, digest=f"{head.version:064x}", created_at=now)
            published[head.version] = now
        settling.note(head, known, now)
        settled = head.version if urgent else settling.settled(now, SETTLE_S)
        minimum = minimum_of(head, known, settled)
        if is_due(head, known, minimum, None, now=now, renew_s=RENEW_S):
            known = body_of(
                head,
                known,
                minimum=minimum,
                paused_since=None,
                now=now,
                valid_s=VALID_S,
                signers=(KEY.public.keyid,),
            )
            signed.append(Freshness.parse(sign(known, KEY)))
        assert known is not None
        assert known.minimum <= known.head_version == head.version
        if published[head.version] + SETTLE_S <= now:
            assert known.minimum == head.version
    assert not [one for one, other in itertools.pairwise(signed) if contradict(one, other)]
