"""What holds of every trust document: one form, one identity, round trips; and of decisions by them."""

import itertools
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pboot.core.freshness import contradict, supersedes
from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Rollout
from p2pboot.core.rollouts import fraction_of, membership, place_of
from p2pboot.core.timestamps import MAX_TIME
from p2pboot.core.trustdocs.envelope import add_signature, only_signatures_of, with_signatures
from p2pboot.core.trustdocs.freshness import Freshness, FreshnessBody
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import (
    NO_FLEET,
    REFUSE,
    WARN,
    Floor,
    FreshnessRule,
    PublishRole,
    Role,
    RootBody,
)
from p2pboot.core.trustdocs.yank import Yank, YankBody

POOL = [SecretKey(bytes([number]) * 32) for number in range(1, 9)]
BY_ID = {key.public.keyid: key for key in POOL}
IDS = tuple(sorted(BY_ID))
ROOT_IDS, PUBLISH_IDS, FRESH_IDS = IDS[:3], IDS[3:6], IDS[6:]

digests = st.binary(min_size=32, max_size=32).map(bytes.hex).filter(lambda text: text != NO_FLEET)
times = st.integers(0, MAX_TIME - 1)
numbers = st.integers(1, 2**53 - 1)
texts = st.text(
    st.characters(
        exclude_categories=("Cc", "Cs"),
        exclude_characters="\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    ),
    min_size=1,
    max_size=40,
)
channels = st.sampled_from(["stable", "beta", "a.b-c_9", "stable.next"])
archs = st.sampled_from(["arm64", "riscv64", "x86_64"])


def keys_of(ids: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.sets(st.sampled_from(ids), min_size=1).map(lambda found: tuple(sorted(found)))


@st.composite
def role_of(draw: st.DrawFn, ids: tuple[str, ...]) -> Role:
    keys = draw(keys_of(ids))
    return Role(keys, draw(st.integers(1, len(keys))))


@st.composite
def roots(draw: st.DrawFn) -> RootBody:
    version, created_at = draw(numbers), draw(times)
    publish = []
    for channel in draw(st.sets(st.sampled_from(["stable", "beta", "old"]))):
        role = draw(role_of(PUBLISH_IDS))
        rule = st.builds(FreshnessRule, keys_of(FRESH_IDS), st.booleans(), numbers)
        some = st.none() | st.sets(archs, min_size=1).map(lambda found: tuple(sorted(found)))
        freshness = draw(st.none() | rule)
        publish.append(PublishRole(role.keys, role.threshold, (channel,), draw(some), freshness))
    floors = {
        (floor.channel, floor.arch): floor
        for floor in draw(st.lists(st.builds(Floor, channels, archs, numbers)))
    }
    return RootBody(
        name=draw(texts),
        version=version,
        created_at=created_at,
        expires_at=draw(st.none() | st.integers(created_at + 1, MAX_TIME)),
        on_expiry=draw(st.sampled_from([WARN, REFUSE])),
        root=draw(role_of(ROOT_IDS)),
        publish=tuple(publish),
        snapshots=draw(st.none() | role_of(PUBLISH_IDS)),
        floors=tuple(floors.values()),
        fleet=None if version == 1 else draw(st.none() | digests),
    )


@st.composite
def statements(draw: st.DrawFn) -> FreshnessBody:
    created_at, head = draw(times), draw(numbers)
    fleet = draw(st.just(NO_FLEET) | digests)
    return FreshnessBody(
        fleet=fleet,
        root_version=0 if fleet == NO_FLEET else draw(numbers),
        channel=draw(channels),
        arch=draw(archs),
        created_at=created_at,
        valid_until=draw(st.integers(created_at + 1, MAX_TIME)),
        head_version=head,
        head_digest=draw(digests),
        minimum=draw(st.integers(0, head)),
        signers=draw(keys_of(FRESH_IDS)),
        paused_since=draw(st.none() | st.integers(0, created_at)),
    )


yanks = st.builds(
    YankBody,
    fleet=st.just(NO_FLEET) | digests,
    channel=channels,
    arch=archs,
    content=digests,
    reason=texts | st.just(""),
    created_at=times,
)


def signed(raw: bytes, ids: tuple[str, ...]) -> bytes:
    for keyid in ids:
        raw = add_signature(raw, BY_ID[keyid])
    return raw


@settings(max_examples=50)
@given(roots(), st.permutations(IDS))
def test_a_root_is_read_as_it_was_written_whoever_signed_first(body: RootBody, order: list[str]) -> None:
    some = [keyid for keyid in order if keyid in body.root.keys]
    found = Root.parse(signed(body.document(), tuple(some)))
    assert found.body == body
    assert found.raw == signed(body.document(), tuple(reversed(some)))
    assert found.signed_by == tuple(sorted(some))


@settings(max_examples=50)
@given(statements())
def test_a_statement_is_read_as_it_was_written(body: FreshnessBody) -> None:
    assert Freshness.parse(signed(body.document(), body.signers)).body == body


@settings(max_examples=50)
@given(yanks, keys_of(PUBLISH_IDS))
def test_a_yank_is_read_as_it_was_written(body: YankBody, signers: tuple[str, ...]) -> None:
    found = Yank.parse(signed(body.document(), signers))
    assert found.body == body
    assert found.signed_by == signers


@settings(max_examples=30)
@given(roots(), keys_of(ROOT_IDS), keys_of(ROOT_IDS))
def test_all_sets_of_signatures_are_one_root(
    body: RootBody, some: tuple[str, ...], others: tuple[str, ...]
) -> None:
    one, other = (Root.parse(signed(body.document(), ids)) for ids in (some, others))
    assert one.digest == other.digest
    both = Root.parse(with_signatures(one.raw, [other.raw]))
    assert (both.digest, both.signed_by) == (one.digest, tuple(sorted({*some, *others})))
    assert only_signatures_of(both.raw, some) == one.raw


def test_identity_depends_on_every_member() -> None:
    """Every member of every document is in what is signed: none can be changed, or left out, unseen."""
    body = YankBody(
        fleet=NO_FLEET, channel="stable", arch="arm64", content="ab" * 32, reason="x", created_at=1
    )
    raw = signed(body.document(), PUBLISH_IDS)
    found = Yank.parse(raw)
    members: dict[str, Any] = json.loads(raw)
    changes = {"channel": "beta", "arch": "x86_64", "content": "cd" * 32, "reason": "", "fleet": "ab" * 32}
    for name, value in changes.items():
        other = YankBody(
            **{field: getattr(body, field) for field in body.__dataclass_fields__} | {name: value}
        )
        assert Yank.parse(signed(other.document(), PUBLISH_IDS)).digest != found.digest
    assert set(changes) | {"spec", "signatures", "created_at"} == set(members)


pairs_of_statements = st.lists(statements(), min_size=2, max_size=4)


@settings(max_examples=50)
@given(pairs_of_statements, st.lists(st.integers(0, 3), min_size=4, max_size=4), st.data())
def test_whoever_heard_the_same_statements_has_the_same_one(
    bodies: list[FreshnessBody], seconds: list[int], data: st.DataObject
) -> None:
    found = [
        Freshness.parse(signed(FreshnessBody(**_at(body, second)).document(), body.signers))
        for body, second in zip(bodies, seconds, strict=False)
    ]
    newest = set()
    for order in itertools.permutations(found):
        kept: Freshness | None = None
        for one in order:
            kept = one if supersedes(one, kept) else kept
        assert kept is not None
        newest.add(kept.digest)
    assert len(newest) == 1
    one, other = data.draw(st.sampled_from(found)), data.draw(st.sampled_from(found))
    assert contradict(one, other) == contradict(other, one)
    assert not contradict(one, one)


def _at(body: FreshnessBody, second: int) -> dict[str, Any]:
    facts = {name: getattr(body, name) for name in body.__dataclass_fields__}
    return facts | {"created_at": second, "valid_until": second + 1, "paused_since": None}


rollouts = st.builds(
    Rollout,
    into=st.just("stable"),
    over=digests,
    start=st.integers(0, 2 * 10**9),
    duration_s=st.integers(0, 366 * 86_400),
    percent=st.integers(0, 100),
    salt=texts,
)


@given(rollouts, st.lists(st.integers(0, 3 * 10**9), min_size=2, max_size=6).map(sorted))
def test_the_fraction_only_grows_and_whoever_is_in_stays_in(plan: Rollout, moments: list[int]) -> None:
    fractions = [fraction_of(plan, now) for now in moments]
    assert fractions == sorted(fractions)
    assert all(0 <= one <= plan.percent / 100 for one in fractions)
    inside = [membership(plan, machine="m", now=now).is_in for now in moments]
    assert inside == sorted(inside)
    assert fraction_of(plan, plan.start + plan.duration_s) == plan.percent / 100


@given(rollouts, st.integers(0, 3 * 10**9), st.integers(0, 3 * 10**9))
def test_a_pause_freezes_the_fraction(plan: Rollout, since: int, later: int) -> None:
    at_pause = fraction_of(plan, since)
    assert fraction_of(plan, since + later, since) == at_pause


@given(rollouts, st.integers(0, 3 * 10**9))
def test_who_has_no_name_is_not_in_and_a_canary_is_as_soon_as_anybody(plan: Rollout, now: int) -> None:
    assert not membership(plan, machine=None, now=now).is_in
    canary = membership(plan, machine=None, now=now, wariness=0.0)
    assert canary.is_in == (canary.fraction > 0)
    assert membership(plan, machine=None, now=now, wariness=1.0).is_in == (canary.fraction >= 1)


def test_places_are_spread_evenly_and_anew_for_each_roll_out() -> None:
    """Of 10,000 machines, tenths of a thousand each; chi-squared of 9 degrees stays below 27.9 in 999 of 1,000."""
    machines = [f"machine-{number}" for number in range(10_000)]
    for salt in ("2026.03.02", "2026.03.03"):
        tenths = [0] * 10
        for machine in machines:
            tenths[int(place_of(salt, machine) * 10)] += 1
        assert sum((count - 1000) ** 2 / 1000 for count in tenths) < 27.9
    first = {machine for machine in machines if place_of("2026.03.02", machine) < 0.1}
    both = {machine for machine in first if place_of("2026.03.03", machine) < 0.1}
    assert 50 <= len(both) <= 150
