"""Who offers a manifest says what who takes it would say: every combination of root, signers, floor, yank, expiry and
freshness is judged both ways, by the rules of `core.rules` and `core.freshness`."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import pytest

from p2pboot.core.clock import Clock
from p2pboot.core.dataclass import dataclass
from p2pboot.core.freshness import Asked
from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import TrustedRoot, TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.core.trustdocs.chain import Anchor, Chain
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import REFUSE, WARN, Floor, FreshnessRule, PublishRole
from p2pboot.core.verdict import CHECKS
from p2pboot.core.verify import Question, judge
from p2pboot.store.believed import statement_of as believed_statement
from p2pboot.store.believed import yanks_of
from p2pboot.store.offering import Offering
from p2pboot.store.store import Store
from p2pboot.testing.manifests import DAY_S, NOW, key_of, signed_manifest
from p2pboot.testing.stores import hold_all
from p2pboot.testing.trustdocs import FRESH, next_root, root_body, signed_root, statement_of, yank_of

FILES = {"kernel": b"k" * 3000, "initramfs": b"i" * 3000}
VERSION = 7

SIGNERS = ("publisher", "stranger")
FLOORS = (0, VERSION, VERSION + 1)
YANKED = (False, True)
EXPIRES = (NOW + DAY_S, NOW)
RULES = (None, False, True)  # whether a statement is required
SAID: dict[str, dict[str, Any] | None] = {
    "nothing": None,
    "this": {"minimum": VERSION},
    "this, too long ago": {"created_at": NOW - 8 * DAY_S},
    "nothing below the next": {"head_version": VERSION + 1, "minimum": VERSION + 1, "head_digest": "ab" * 32},
    "another one": {"head_digest": "ab" * 32},
}
VIEWS: tuple[tuple[dict[str, Any], Clock], ...] = (
    ({"expires_at": None}, Clock(NOW)),
    ({"expires_at": None}, Clock(NOW, trusted=False)),
    ({"expires_at": NOW, "on_expiry": WARN}, Clock(NOW)),
    ({"expires_at": NOW, "on_expiry": REFUSE}, Clock(NOW)),
)
"""What the root in force says, and the moment."""


@dataclass(frozen=True, slots=True)
class Case:
    """A manifest in a channel of its own, and what is said of it."""

    channel: str
    signer: str
    floor: int
    is_yanked: bool
    expires_at: int
    required: bool | None
    said: str

    def manifest(self) -> Manifest:
        return signed_manifest(
            FILES,
            [key_of(self.signer)],
            channel=self.channel,
            manifest_version=VERSION,
            created_at=NOW - 20 * DAY_S,
            expires_at=self.expires_at,
        )


CASES = [
    Case(f"c{index}", *said)
    for index, said in enumerate(product(SIGNERS, FLOORS, YANKED, EXPIRES, RULES, SAID))
    if said[4] is not None or said[5] == "nothing"  # without a rule nobody may say anything
]


def root() -> Root:
    keys = (key_of("publisher").public.keyid,)
    rules = {
        None: None,
        False: FreshnessRule((FRESH.public.keyid,)),
        True: FreshnessRule((FRESH.public.keyid,), required=True),
    }
    roles = tuple(
        PublishRole(
            keys, 1, tuple(sorted(case.channel for case in CASES if case.required is required)), None, rule
        )
        for required, rule in rules.items()
    )
    floors = sorted((case.channel, case.floor) for case in CASES if case.floor)
    first = root_body(
        publish=roles, floors=tuple(Floor(channel, "x86_64", floor) for channel, floor in floors)
    )
    return signed_root(first)


@pytest.fixture
def held(store: Store) -> tuple[Store, Root, list[Manifest]]:
    """A store that holds the manifest of every case, with all that is said of it."""
    first, manifests = root(), [case.manifest() for case in CASES]
    hold_all(store, manifests[0], FILES)
    with store.transaction():
        for case, manifest in zip(CASES, manifests, strict=True):
            store.manifests.put(manifest, None)
            store.manifests.set_head(manifest.digest)
            said = SAID[case.said]
            if said is not None:
                store.documents.put_statement(statement_of(manifest, first, **said))
            if case.is_yanked:
                store.documents.put_yank(yank_of(manifest, first))
    return store, first, manifests


def question(store: Store, trust: Trust, clock: Clock, channel: str) -> Question:
    pair = (channel, "x86_64")
    publisher = trust.publisher_for(*pair)
    return Question(
        trust,
        clock,
        yanks=yanks_of(store.documents, pair, publisher),
        freshness=Asked(believed_statement(store.documents, pair, publisher)),
    )


def test_what_is_offered_is_what_a_verdict_takes_and_the_rest_is_withheld_for_its_reason(
    held: tuple[Store, Root, list[Manifest]],
) -> None:
    store, first, manifests = held
    rows = {row.digest: row for row in store.manifests.all()}
    reasons = set()
    for said, clock in VIEWS:
        trust, now = trust_of(first, next_root(first, **said)), partial(lambda clock: clock, clock)
        offering = Offering(store, partial(lambda trust: trust, trust), now, now)
        for case, manifest in zip(CASES, manifests, strict=True):
            verdict = judge(manifest, question(store, trust, clock, case.channel))
            objection = offering.objection(rows[manifest.digest], clock)
            reasons.add(verdict.reason)
            assert (objection is None) is verdict.ok, (said, clock, case)
            if objection is None:
                continue
            assert verdict.failed is not None
            assert CHECKS[objection.check] == verdict.reason, (said, clock, case)
            if objection.check != "trust":  # a node says that they are not any more
                assert verdict.failed.detail == objection.text + objection.moment
                assert verdict.failed.remedy == objection.remedy
    assert reasons == {None, "root_expired", "untrusted", "floor", "yanked", "expired", "stale"}


def trust_of(*roots: Root) -> Trust:
    trusted = TrustedRoot(Anchor.of_root(roots[0]), Chain(roots, roots[0].digest))
    return Trust(TrustPolicy.of((), (trusted,)))
