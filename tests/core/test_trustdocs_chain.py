"""The chain of roots: forward only, by both thresholds, whoever carries it, and bounded."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pboot.core.jsonform import decode_canonical
from p2pboot.core.trustdocs import chain as chains
from p2pboot.core.trustdocs.chain import (
    Anchor,
    BadChain,
    Chain,
    Gap,
    TwoRoots,
    begin,
    follow,
    walk,
    with_history,
    without_gaps,
)
from p2pboot.core.trustdocs.root import Root
from p2pboot.errors import SignatureError
from tests.vectors.manifest.form import STRANGER, Json, Key
from tests.vectors.trust import form
from tests.vectors.trust.form import P1, R1, R2, R3, R4, digest, document, publish, role, root

THIRTY = form.chain(30)
FLEET = Root.parse(THIRTY[0]).digest


def anchor_at(version: int) -> Anchor:
    return Anchor(Root.parse(THIRTY[version - 1]).digest)


def begun(anchor: Anchor, documents: Sequence[bytes]) -> Chain:
    found = begin(anchor, documents)
    assert found is not None
    return found


def walked(chain: Chain, documents: Sequence[bytes]) -> Chain:
    longer, ended_by = walk(chain, documents)
    assert ended_by is None
    return longer


def signed(body: Json, *keys: Key) -> Root:
    return Root.parse(document(body, *keys))


def test_thirty_versions_are_walked_from_the_first() -> None:
    chain = walked(begun(anchor_at(1), THIRTY), THIRTY)
    assert (chain.newest.version, chain.fleet) == (30, FLEET)
    assert walked(chain, THIRTY) == chain


@settings(max_examples=30)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 29), st.integers(0, 30))
def test_a_walk_never_goes_back_and_never_leaves_anything_out(
    anchor: int, known: int, first: int, length: int
) -> None:
    chain = begun(anchor_at(anchor), THIRTY)
    if known > anchor:
        chain = walked(chain, THIRTY[:known])
    offered = THIRTY[first : first + length]
    longer, ended_by = walk(chain, offered)
    reached = first + len(offered)
    assert longer.roots[: len(chain.roots)] == chain.roots
    if reached > chain.newest.version and first > chain.newest.version:
        assert isinstance(ended_by, Gap)
        assert longer == chain
    else:
        assert ended_by is None
        assert longer.newest.version == max(chain.newest.version, reached if offered else 0)


@pytest.mark.parametrize("version", [1, 5, 30])
def test_history_says_what_the_fleet_is_called(version: int) -> None:
    bare = begun(anchor_at(version), THIRTY[version - 1 :])
    whole = begun(anchor_at(version), THIRTY)
    assert whole.fleet == FLEET
    assert with_history(bare, whole) == (bare if version == 1 else whole)
    assert with_history(bare, bare) is bare
    assert begin(anchor_at(version), THIRTY[version:]) is None


@pytest.mark.parametrize(
    ("known", "given", "reached", "is_gap"),
    [
        ((), (5, 6), 6, False),
        ((), (1, 2, 3, 4, 5), 5, False),
        ((), (6, 7), None, False),  # they do not lead on from what is believed
        ((), (3, 5), None, True),
        ((5,), (6, 8, 9), 6, True),
        ((5,), (8,), 5, True),
        ((5,), (1, 3, 5, 6), 6, False),  # in the history: that stays unknown
        ((1, 2, 3, 4, 5), (6, 8), 6, True),
        ((1, 2, 3, 4, 5), (5, 7), 5, True),
        ((1, 2, 3, 4, 5), (2, 4, 6), 6, False),  # of what is known anyway
    ],
)
def test_a_gap_is_nobodys_fault_and_what_comes_before_it_counts(
    known: tuple[int, ...], given: tuple[int, ...], reached: int | None, is_gap: bool
) -> None:
    anchor = anchor_at(5)
    chain = follow(anchor, None, [THIRTY[version - 1] for version in known]).chain
    followed = follow(anchor, chain, [THIRTY[version - 1] for version in given])
    assert (None if followed.chain is None else followed.chain.newest.version) == reached
    assert isinstance(followed.ended_by, Gap) is is_gap
    assert followed.lie is None


def test_what_was_given_before_the_history_is_filled_in_later() -> None:
    later = follow(anchor_at(5), None, THIRTY[4:8])
    assert later.chain is not None
    assert follow(anchor_at(5), later.chain, THIRTY[:5]).chain == follow(anchor_at(5), None, THIRTY[:8]).chain


@pytest.mark.parametrize("given", [[b"no root"], [THIRTY[4], b"no root"]])
def test_what_is_no_root_is_a_lie(given: list[bytes]) -> None:
    assert follow(anchor_at(5), None, given).lie is not None
    assert follow(anchor_at(5), begin(anchor_at(5), THIRTY[4:]), given).lie is not None


def test_roots_are_parted_where_versions_are_missing() -> None:
    one, two, three, four = THIRTY[:4]
    assert without_gaps([one, two, four, one, b"no root", two, three]) == [
        [one, two],
        [four],
        [one],
        [b"no root"],
        [two, three],
    ]


NAMES = {key.keyid: name for name, key in form.KEYS.items()}


def two_of_three(version: int, *keys: Key, **changes: object) -> Json:
    roles = {"root": role(*keys, threshold=2), "publish": [publish(P1)]}
    return root(version, roles=roles, **changes)


FIRST = two_of_three(1, R1, R2, R3)
SECOND = two_of_three(2, R2, R3, R4)
BASE = Chain((signed(FIRST, R1, R2),), digest(FIRST))


@pytest.mark.parametrize(
    ("keys", "is_taken"),
    [
        ((R2, R3), True),
        ((R2, R3, R4), True),
        ((R1, R2, R4), True),
        ((R1, R2), False),  # one of the new ones
        ((R3, R4), False),  # one of the old ones
        ((R1, R4), False),
        ((), False),
        ((R2, R3, STRANGER), False),  # whose signature means nothing is to be left out
    ],
    ids=lambda value: (
        "-".join(NAMES.get(one.keyid, "stranger") for one in value)
        if isinstance(value, tuple)
        else str(value)
    ),
)
def test_both_thresholds_must_be_met(keys: tuple[Key, ...], is_taken: bool) -> None:
    chain, ended_by = walk(BASE, [document(SECOND, *keys)])
    assert (chain.newest.version == 2) is is_taken
    assert (ended_by is None) is is_taken


def test_the_first_invalid_root_ends_the_walk_and_what_came_before_it_stays() -> None:
    forged = document(two_of_three(3, STRANGER, R3, R4), STRANGER, R3)
    chain, ended_by = walk(BASE, [document(SECOND, R2, R3), forged, document(SECOND, R2, R3)])
    assert chain.newest.version == 2
    assert ended_by is not None
    assert ended_by.version == 3


def test_an_anchor_must_be_signed_by_enough_of_its_own_keys() -> None:
    with pytest.raises(BadChain):
        begin(Anchor(digest(FIRST)), [document(FIRST, R1)])
    with pytest.raises(SignatureError):
        Anchor.of_root(signed(FIRST, R1))
    assert Anchor.of_root(signed(FIRST, R1, R3)).digest == digest(FIRST)


def test_two_roots_of_one_version_are_evidence_only_if_both_are_rightly_signed() -> None:
    chain = walked(BASE, [document(SECOND, R2, R3)])
    other = two_of_three(2, R2, R3, R4, name="another")
    with pytest.raises(TwoRoots) as caught:
        walk(chain, [document(other, R2, R3)])
    assert (caught.value.first.body.name, caught.value.second.body.name) == ("example fleet", "another")
    for keys in ((R2,), (STRANGER,), (R2, R3, STRANGER), ()):
        same, ended_by = walk(chain, [document(other, *keys)])
        assert ended_by is not None
        assert same == chain


def test_a_second_root_of_the_anchors_version_is_judged_by_the_keys_that_are_known_of_it() -> None:
    forged = document(two_of_three(1, STRANGER, Key(8)), STRANGER, Key(8))
    same, ended_by = walk(BASE, [forged])
    assert ended_by is not None
    assert same == BASE
    with pytest.raises(TwoRoots):
        walk(BASE, [document(two_of_three(1, R1, R2, R3, name="another"), R1, R3)])


def forged_history() -> list[bytes]:
    """A version 1 of the attacker's, which the root that is believed seems to follow: he signs that as well."""
    one = root(1, roles={"root": role(STRANGER), "publish": [publish(P1)]})
    return [document(one, STRANGER), document(SECOND, R2, R3, STRANGER)]


def test_a_forged_history_proves_nothing() -> None:
    chain = begun(Anchor(digest(SECOND)), forged_history())
    honest = [
        document(FIRST, R1, R2),
        document(SECOND, R2, R3),
        document(two_of_three(3, R2, R3, R4), R2, R3),
    ]
    longer = walked(chain, honest)  # whoever knows the true one is not dropped, and nothing is evidence
    assert longer.newest.version == 3
    mine = document(two_of_three(2, STRANGER, Key(8)), STRANGER, Key(8))
    same, ended_by = walk(longer, [mine])
    assert ended_by is not None
    assert same == longer


def test_a_root_that_names_its_fleet_has_no_other_history() -> None:
    named = SECOND | {"fleet": digest(FIRST)}
    forged = [forged_history()[0], document(named, R2, R3, STRANGER)]
    with pytest.raises(BadChain, match="fleet"):
        begin(Anchor(digest(named)), forged)
    assert begun(Anchor(digest(named)), [document(named, R2, R3)]).fleet == digest(FIRST)


def test_a_root_of_another_fleet_is_not_taken() -> None:
    for fleet in ("ab" * 32, digest(SECOND)):
        same, ended_by = walk(BASE, [document(SECOND | {"fleet": fleet}, R2, R3)])
        assert ended_by is not None
        assert same == BASE


def counting(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    from p2pboot.core.trustdocs import envelope

    canonical = decode_canonical
    made: list[int] = []

    def counted(raw: bytes, *, max_bytes: int) -> object:
        made.append(len(raw))
        return canonical(raw, max_bytes=max_bytes)

    monkeypatch.setattr(envelope, "decode_canonical", counted)
    return lambda: len(made)


def test_no_canonical_form_is_made_for_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may cost tens of milliseconds for 64 KiB, and anybody can sign with keys of his own."""
    count = counting(monkeypatch)
    chain = walked(BASE, [document(SECOND, R2, R3)])
    assert count() == 1
    own = root(3, roles={"root": role(STRANGER), "publish": [publish(P1)]})
    claimed = document(own, STRANGER).replace(STRANGER.keyid.encode(), R2.keyid.encode())
    again = document(root(1, roles=own["roles"]), STRANGER)
    for raw in (document(own, STRANGER), claimed, again, document(SECOND, R2, R3)):
        walk(chain, [raw])
    begin(Anchor("ab" * 32), [document(root(1, roles=own["roles"]), STRANGER), *forged_history()[1:]])
    assert count() == 1


def test_a_walk_is_bounded_in_versions_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = begun(anchor_at(1), THIRTY)
    monkeypatch.setattr(chains, "MAX_CHAIN", 10)
    longer, ended_by = walk(chain, THIRTY[:11])
    assert (longer.newest.version, ended_by is not None) == (10, True)
    longer, ended_by = walk(longer, [THIRTY[10]])  # neither in one go nor one by one
    assert (longer.newest.version, ended_by is not None) == (10, True)
    monkeypatch.setattr(chains, "MAX_CHAIN", 1024)
    monkeypatch.setattr(chains, "MAX_CHAIN_BYTES", sum(map(len, THIRTY[:20])))
    longer, ended_by = walk(longer, THIRTY[10:])
    assert (longer.newest.version, ended_by is not None) == (20, True)


def test_garbage_is_a_bad_chain_and_nothing_else() -> None:
    for raw in (b"", b"{}", b"\xff", THIRTY[1][:-1], b"[" * 70_000):
        same, ended_by = walk(BASE, [raw])
        assert ended_by is not None
        assert same == BASE
        with pytest.raises(BadChain):
            begin(anchor_at(3), [raw])
