"""What is offered, and why not the rest: by root, floor, yanks, expiry and freshness, and by digest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import TrustedRoot, TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.core.trustdocs.chain import Anchor, Chain
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import REFUSE, Floor, FreshnessRule, PublishRole
from p2pboot.core.trustdocs.yank import MAX_YANKS, Yank
from p2pboot.core.withheld import Why
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.gate import Gate
from p2pboot.store.parking import PARKED_S
from p2pboot.store.store import Store
from p2pboot.store.trustgate import Fate, TrustGate
from p2pboot.testing.manifests import DAY_S, NOW, key_of, signed_manifest
from p2pboot.testing.stores import hold_all
from p2pboot.testing.trustdocs import next_root, root_body, signed_root, statement_of, yank_of

PAIR = ("stable", "x86_64")
PUBLISHER, SECOND = key_of("publisher"), key_of("second")
FILES = {"kernel": b"k" * 3000, "initramfs": b"i" * 3000}
KERNEL = signed_manifest(FILES, [PUBLISHER]).artifacts["kernel"].sha256


def role(*keys: str, required: bool = False, threshold: int = 1, fresh: str = "freshness") -> PublishRole:
    return PublishRole(
        tuple(sorted(key_of(name).public.keyid for name in keys)),
        threshold,
        ("stable",),
        ("x86_64",),
        FreshnessRule((key_of(fresh).public.keyid,), required),
    )


class Desk:
    """A store under a root, and what may be done to it."""

    def __init__(self, store: Store, root: Root | None = None) -> None:
        self.now = NOW
        self.store = store
        self.root = root or signed_root(root_body(publish=(role("publisher"),)))
        trusted = TrustedRoot(Anchor.of_root(self.root), Chain((self.root,), self.root.digest))
        self.catalogue = Catalogue(store, Trust(TrustPolicy.of((), (trusted,))), lambda: self.now)
        self.gate = Gate(store, self.catalogue)
        self.trust_gate = TrustGate(store, self.catalogue)
        assert self.catalogue.trust.roots

    def hold(self, version: int = 1, files: dict[str, bytes] = FILES, signer: str = "publisher") -> Manifest:
        made = signed_manifest(files, [key_of(signer)], manifest_version=version)
        self.store.manifests.put(made, None)
        assert self.store.trust.accept(made, self.catalogue.trust.publisher_for(*PAIR))
        hold_all(self.store, made, files)
        self.catalogue.completed(made.digest)
        return made

    def succeed(self, **changes: Any) -> None:
        """Bring the next root into force."""
        self.root = next_root(self.root, **changes)
        judged = self.trust_gate.take_roots([self.root.raw], source="test")
        assert judged.fate is Fate.NEWS, judged

    @property
    def offered(self) -> list[int]:
        rows = self.catalogue.offered()
        assert [row.digest for row in self.catalogue.offering.heads()] == [row.digest for row in rows]
        assert [pair for pair, _ in self.catalogue.in_date()] == [row.pair for row in rows]
        return [row.manifest_version for row in rows]

    @property
    def why(self) -> list[Why]:
        return [one.why for one in self.catalogue.withheld()]

    def gives(self) -> bool:
        """Whether the kernel of `FILES` is given by its digest."""
        return self.catalogue.offering.allows(KERNEL)


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store)


def test_a_yanked_head_is_not_offered_nor_its_predecessor_and_nothing_of_it_is_given(desk: Desk) -> None:
    older = {**FILES, "kernel": b"o" * 3000}
    desk.hold(1, older)
    bad = desk.hold(2)
    assert (desk.offered, desk.gives()) == ([2], True)
    assert desk.trust_gate.take_yank(yank_of(bad, desk.root).raw, source="test").fate is Fate.NEWS
    assert (desk.offered, desk.why, desk.gives()) == ([], [Why.YANKED], False)
    assert "does not boot" in desk.catalogue.withheld()[0].text
    former = signed_manifest(older, [PUBLISHER]).artifacts["kernel"].sha256
    assert desk.catalogue.offering.allows(former)  # machines may just be fetching it
    desk.store.blobs.path(KERNEL).unlink()  # a disk that loses the head does not bring the former one back
    assert (desk.offered, desk.why) == ([], [Why.YANKED])
    again = desk.hold(3, older)
    assert (desk.offered, desk.why) == ([3], [])
    assert again.digest == desk.catalogue.offered()[0].digest


def test_what_a_clean_release_names_too_is_given_although_a_yanked_one_does(desk: Desk) -> None:
    bad = desk.hold(1, {**FILES, "initramfs": b"bad" * 1000})
    desk.hold(2)
    assert desk.trust_gate.take_yank(yank_of(bad, desk.root).raw, source="test").fate is Fate.NEWS
    assert (desk.offered, desk.gives()) == ([2], True)
    initramfs = bad.artifacts["initramfs"].sha256
    assert not desk.catalogue.offering.allows(initramfs)
    missing = desk.catalogue.missing(initramfs)
    assert missing is not None
    assert (missing.why, missing.retry_after_s) == (Why.YANKED, None)


def test_what_is_offered_costs_no_signature_check_for_each_yank(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = desk.hold(1)
    for number in range(MAX_YANKS):
        yank = yank_of(made, desk.root, content=f"{number:064x}")
        assert desk.trust_gate.take_yank(yank.raw, source="test").fate is Fate.NEWS
    monkeypatch.setattr(
        Yank, "parse", lambda _raw: pytest.fail("one content is asked for, which nobody took back")
    )
    assert (desk.offered, desk.gives()) == ([1], True)


def test_who_knows_many_yanks_checks_each_of_them_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    channels = [
        f"c{number}" for number in range(6)
    ]  # their yanks are more than the documents that are remembered
    desk.succeed(publish=(replace(role("publisher"), channels=tuple(channels)),))
    made = signed_manifest(FILES, [PUBLISHER])
    for channel in channels:
        for number in range(MAX_YANKS):
            yank = yank_of(made, desk.root, channel=channel, content=f"{number:064x}")
            assert desk.trust_gate.take_yank(yank.raw, source="test").fate is Fate.NEWS
    for channel in channels:
        assert len(desk.catalogue.yanks(channel, "x86_64")) == MAX_YANKS
    monkeypatch.setattr(Yank, "parse", lambda _raw: pytest.fail("it was checked before"))
    for channel in channels:
        assert len(desk.catalogue.yanks(channel, "x86_64")) == MAX_YANKS


def test_a_floor_takes_away_what_lies_below_it_and_nothing_else(desk: Desk) -> None:
    desk.hold(6)
    desk.succeed(floors=(Floor(*PAIR, 6),))
    assert (desk.offered, desk.gives()) == ([6], True)
    desk.succeed(floors=(Floor(*PAIR, 7),))
    assert (desk.offered, desk.why, desk.gives()) == ([], [Why.FLOOR], False)
    assert desk.catalogue.wanted() == []


def test_freshness_that_is_required_ends_while_nobody_does_anything(store: Store) -> None:
    desk = Desk(store, signed_root(root_body(publish=(role("publisher", required=True),))))
    made = desk.hold(1)
    assert (desk.offered, desk.why) == ([], [Why.STALE])
    statement = statement_of(made, desk.root)
    assert desk.trust_gate.take_freshness(statement.raw, source="test").fate is Fate.NEWS
    assert desk.offered == [1]
    desk.now += 7 * DAY_S
    assert (desk.offered, desk.why) == ([], [Why.STALE])
    assert desk.gives()  # by digest freshness is nobody's question


def test_what_lies_below_the_minimum_is_not_offered_though_nothing_is_required(desk: Desk) -> None:
    made = desk.hold(1)
    newer = signed_manifest({**FILES, "kernel": b"n" * 3000}, [PUBLISHER], manifest_version=2)
    assert desk.gate.enter(newer, source="test").ok
    said = statement_of(newer, desk.root, minimum=1)
    assert desk.trust_gate.take_freshness(said.raw, source="test").fate is Fate.NEWS
    assert desk.offered == [1]
    insists = statement_of(newer, desk.root, created_at=NOW)
    assert desk.trust_gate.take_freshness(insists.raw, source="test").fate is Fate.NEWS
    assert desk.offered == []
    assert desk.catalogue.offering.allows(made.artifacts["kernel"].sha256)


@pytest.mark.parametrize(("on_expiry", "offered"), [("warn", [1]), (REFUSE, [])])
def test_a_root_that_expires_takes_everything_along_only_where_it_says_so(
    store: Store, on_expiry: str, offered: list[int]
) -> None:
    body = root_body(publish=(role("publisher"),), expires_at=NOW + DAY_S, on_expiry=on_expiry)
    desk = Desk(store, signed_root(body))
    desk.hold(1)
    assert (desk.offered, desk.gives()) == ([1], True)
    desk.now += 2 * DAY_S
    assert (desk.offered, desk.gives()) == (offered, bool(offered))
    assert desk.why == ([] if offered else [Why.ROOT_EXPIRED])


def test_by_digest_is_given_what_is_on_its_way_and_nothing_that_expired(desk: Desk) -> None:
    made = signed_manifest(FILES, [PUBLISHER])
    assert desk.gate.enter(made, source="test").ok
    assert desk.gives()
    desk.now = made.expires_at
    assert not desk.gives()
    desk.now = NOW
    assert desk.gives()


# -- rotation --------------------------------------------------------------------------------------------------------


def test_what_loses_its_threshold_is_parked_and_signed_anew_without_a_byte(desk: Desk) -> None:
    desk.hold(4)
    desk.succeed(publish=(role("second"),))
    assert (desk.offered, desk.why, desk.gives()) == ([], [Why.UNTRUSTED], False)
    assert desk.store.blobs.holds(KERNEL)
    anew = signed_manifest(FILES, [SECOND], manifest_version=5)
    assert desk.gate.enter(anew, source="test").ok
    assert [row.digest for row in desk.catalogue.wanted()] == [anew.digest]
    assert desk.store.manifests.is_whole(anew.digest)  # nothing is to be fetched
    desk.catalogue.completed(anew.digest)
    assert (desk.offered, desk.why, desk.gives()) == ([5], [], True)


def test_what_is_parked_counts_again_under_a_still_newer_root(desk: Desk) -> None:
    desk.hold(4)
    desk.succeed(publish=(role("second"),))
    desk.succeed(publish=(role("publisher", "second"),))
    assert (desk.offered, desk.why) == ([4], [])
    desk.now += PARKED_S + 1
    desk.catalogue.tidy()
    assert desk.offered == [4]


def test_what_is_parked_goes_after_seven_days(desk: Desk) -> None:
    desk.hold(4)
    desk.succeed(publish=(role("second"),))
    desk.now += PARKED_S - 1
    desk.catalogue.tidy()
    assert desk.store.blobs.holds(KERNEL)
    again = Desk(desk.store, desk.root)  # a restart begins no new week
    again.catalogue.change_trust(replace(again.catalogue.trust))
    again.now = desk.now + 1
    again.catalogue.tidy()
    assert not again.store.blobs.holds(KERNEL)
    assert again.store.manifests.all() == []


def test_what_the_operator_takes_away_goes_at_once_under_a_root_too(desk: Desk) -> None:
    desk.hold(4)
    other = signed_root(root_body(name="another fleet", publish=(role("second"),)))
    trusted = TrustedRoot(Anchor.of_root(other), Chain((other,), other.digest))
    desk.catalogue.take_policy(TrustPolicy.of((), (trusted,)))
    assert desk.store.manifests.all() == []
    assert not desk.store.blobs.holds(KERNEL)


def test_what_a_fetch_brings_while_it_hears_of_a_newer_root_stays(desk: Desk) -> None:
    hold_all(desk.store, signed_manifest(FILES, [PUBLISHER]), FILES)  # no manifest names it here yet
    desk.succeed(name="renamed")
    assert desk.store.blobs.holds(KERNEL)


def test_what_is_parked_yields_first_where_there_is_no_room(desk: Desk) -> None:
    desk.hold(4)
    desk.succeed(publish=(role("second"),))
    new = signed_manifest({"kernel": b"x" * 4000, "initramfs": b"y" * 100}, [SECOND], manifest_version=5)
    assert desk.gate.enter(new, source="test").ok
    former = desk.catalogue.former(new.digest)
    assert former.bytes() == 6000
    former.give_up(1)
    assert not desk.store.blobs.holds(KERNEL)
    assert [row.digest for row in desk.catalogue.wanted()] == [new.digest]
