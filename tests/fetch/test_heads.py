"""Finding the newest trusted manifest among peers that are behind, silent, hostile or contradict each
other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from p2pboot.core.manifest import Manifest, sign_detached
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.rollback import AcceptedHead
from p2pboot.core.verify import Refused
from p2pboot.errors import NotFoundError
from p2pboot.fetch.asking.rounds import GRACE_S
from p2pboot.fetch.asking.search import MANIFESTS_PER_PEER
from p2pboot.protocol.messages import HeadsRequest, ManifestRequest, Reply, Status
from p2pboot.serving.heads import SyncServer
from p2pboot.serving.limits import Limits
from p2pboot.store.manifests import HeadRow, StoredManifest
from p2pboot.testing.manifests import NOW
from tests.fetch.world import KEY, OTHER_KEY, QUESTION, Provider, Search, World, manifest_of

V1, V2, V3 = (manifest_of(version=version) for version in (1, 2, 3))
FULL = Limits(sync_requests_per_s=1e-6)
V2_AGAIN = manifest_of(version=2, cmdline="other")


def row_of(manifest: Manifest, **changes: Any) -> HeadRow:
    row = HeadRow(
        manifest.channel,
        manifest.arch,
        manifest.signers,
        manifest.manifest_version,
        manifest.digest,
        len(manifest.raw),
        manifest.created_at,
        manifest.expires_at,
    )
    return dataclasses.replace(row, **changes)


class Catalogue:
    """What a server says that it has, and what it sends when it is asked for it."""

    def __init__(self, rows: Sequence[HeadRow], sends: dict[str, bytes], detached: str | None = None) -> None:
        self.rows = list(rows)
        self.sends = sends
        self.detached = detached
        self.asked: list[str] = []

    def heads(self, _channel: str | None = None, _arch: str | None = None) -> list[HeadRow]:
        return self.rows

    def get(self, digest: str) -> StoredManifest | None:
        self.asked.append(digest)
        raw = self.sends.get(digest)
        return None if raw is None else StoredManifest(raw, self.detached)


def catalogue_of(*manifests: Manifest, detached: str | None = None) -> Catalogue:
    return Catalogue([row_of(m) for m in manifests], {m.digest: m.raw for m in manifests}, detached)


def listing(
    world: World, *manifests: Manifest, detached: str | None = None
) -> AbstractAsyncContextManager[Provider]:
    """A server that says that it has these manifests."""
    return world.provider(catalogue=lambda _: catalogue_of(*manifests, detached=detached))


async def test_the_newest_of_all_peers_is_chosen_at_once(autojump_clock: MockClock, world: World) -> None:
    async with (
        listing(world, V1) as behind,
        listing(world, V3) as newest,
        listing(world, V2) as middle,
        world.client() as (transport, _),
    ):
        began = trio.current_time()
        offer = await Search(world, transport).choose(behind, newest, middle)
        assert offer.manifest == V3
        assert offer.offered_by == {newest.peer_id}
        assert trio.current_time() == began  # the last answer ends the search


async def test_a_mute_peer_costs_a_short_grace(autojump_clock: MockClock, world: World) -> None:
    async with (
        listing(world, V1) as good,
        listing(world, V2) as mute,
        world.client() as (transport, _),
    ):
        await transport.dial(mute.address)
        world.network.freeze(mute.peer_id)
        assert (await Search(world, transport).choose(good)).manifest == V1
        assert trio.current_time() < 2.5


async def test_a_peer_that_comes_within_the_grace_is_heard(autojump_clock: MockClock, world: World) -> None:
    async with (
        listing(world, V1) as first,
        listing(world, V2) as later,
        world.client() as (transport, _),
        trio.open_nursery() as nursery,
    ):

        async def come() -> None:
            await trio.sleep(1)
            await transport.dial(later.address)

        nursery.start_soon(come)
        assert (await Search(world, transport).choose(first, settled=False)).manifest == V2


async def test_a_mirror_that_just_fetches_is_asked_again(autojump_clock: MockClock, world: World) -> None:
    catalogue = catalogue_of()
    async with (
        world.provider(catalogue=lambda _: catalogue) as mirror,
        world.client() as (transport, _),
        trio.open_nursery() as nursery,
    ):

        async def complete() -> None:
            await trio.sleep(5)
            catalogue.rows.append(row_of(V1))
            catalogue.sends[V1.digest] = V1.raw

        nursery.start_soon(complete)
        assert (await Search(world, transport).choose(mirror)).manifest == V1
        assert trio.current_time() < 8


async def test_nobody_there(autojump_clock: MockClock, world: World) -> None:
    async with world.client() as (transport, _):
        with pytest.raises(NotFoundError, match="no peer answered in time"):
            await Search(world, transport).choose(timeout_s=3)
        assert trio.current_time() >= 3


async def test_nobody_has_it(autojump_clock: MockClock, world: World) -> None:
    async with world.provider() as empty, world.client() as (transport, _):
        with pytest.raises(NotFoundError, match="none of 1 peers has a manifest for stable/x86_64"):
            await Search(world, transport).choose(empty, timeout_s=3)


async def test_busy_peer_is_not_said_to_have_nothing(autojump_clock: MockClock, world: World) -> None:
    async with (
        world.provider(V1, limits=FULL) as busy,
        world.provider() as empty,
        world.client() as (transport, _),
    ):
        why = f"peer {busy.peer_id}: is busy \\(too many requests\\)"
        alone = "1 peer is busy, so it is not known whether there is a manifest for stable/x86_64"
        with pytest.raises(NotFoundError, match=f"{alone}: {why}") as caught:
            await Search(world, transport).choose(busy, timeout_s=3)
        assert caught.value.remedy is not None
        assert "try again" in caught.value.remedy
        beside = "none of 1 peers has a manifest for stable/x86_64, and 1 peer is busy"
        with pytest.raises(NotFoundError, match=f"{beside}: {why}"):
            await Search(world, transport).choose(busy, empty, timeout_s=3)


@pytest.mark.parametrize("listed", [False, True], ids=["heads", "manifest"])
async def test_busy_peer_is_asked_again_soon(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    """Also one that gives its list and then no manifest."""
    full_until = 1.0
    kind = ManifestRequest if listed else HeadsRequest
    answer = SyncServer._answer

    async def crowded(server: SyncServer, request: Any, reserve: Any, **who: Any) -> Reply:
        if isinstance(request, kind) and trio.current_time() < full_until:
            return Reply.refusal(Status.BUSY, "too many requests")
        return await answer(server, request, reserve, **who)

    monkeypatch.setattr(SyncServer, "_answer", crowded)
    async with world.provider(V1) as busy, world.client() as (transport, _):
        assert (await Search(world, transport).choose(busy)).manifest == V1
        assert trio.current_time() < 2.0


async def test_peer_that_stays_busy_is_waited_for_no_longer_than_one_that_is_slow(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        world.provider(V1) as good,
        world.provider(V2, limits=FULL) as busy,
        world.client() as (transport, _),
    ):
        assert (await Search(world, transport).choose(good, busy)).manifest == V1
        assert trio.current_time() < 2 * GRACE_S


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (manifest_of(key=OTHER_KEY), "untrusted"),
        (manifest_of(created_at=NOW + 7200), "not_yet_valid"),
        (manifest_of(version=1), "min_version"),
    ],
)
async def test_what_is_refused_is_refused_with_its_reason_and_soon(
    autojump_clock: MockClock, world: World, manifest: Manifest, reason: str
) -> None:
    question = dataclasses.replace(QUESTION, min_version=1 if reason != "min_version" else 2)
    async with (
        listing(world, manifest) as provider,
        world.client() as (transport, _),
    ):
        search = Search(world, transport)
        with pytest.raises(Refused) as refused:
            await search.choose(provider, question=question)
        assert refused.value.verdict.reason == reason
        assert search.ledger.dropped == {}  # an honest peer may well offer it
        assert trio.current_time() < 3


async def test_a_trusted_signers_refusal_says_more_than_a_strangers(
    autojump_clock: MockClock, world: World
) -> None:
    stranger = manifest_of(version=9, key=OTHER_KEY)
    question = dataclasses.replace(QUESTION, min_version=5)
    async with (
        listing(world, stranger) as one,
        listing(world, V1) as other,
        world.client() as (transport, _),
    ):
        with pytest.raises(Refused) as refused:
            await Search(world, transport).choose(one, other, question=question)
        assert refused.value.verdict.reason == "min_version"


async def test_a_strangers_higher_number_does_not_hide_the_trusted_one(
    autojump_clock: MockClock, world: World
) -> None:
    strangers = [manifest_of(version=100 + n, key=OTHER_KEY) for n in range(6)]
    catalogue = catalogue_of(*strangers, V1)
    async with (
        world.provider(catalogue=lambda _: catalogue) as provider,
        world.client() as (transport, _),
    ):
        assert (await Search(world, transport).choose(provider)).manifest == V1
        assert catalogue.asked == [V1.digest]


async def test_256_bogus_heads_cost_a_few_requests(autojump_clock: MockClock, world: World) -> None:
    bogus = [row_of(V1, manifest_version=1000 + n, digest=f"{n:064x}") for n in range(256)]
    liar_catalogue = Catalogue(bogus, {})
    async with (
        world.provider(catalogue=lambda _: liar_catalogue) as liar,
        listing(world, V1) as honest,
        world.client() as (transport, _),
    ):
        assert (await Search(world, transport).choose(liar, honest)).manifest == V1
        assert len(liar_catalogue.asked) == MANIFESTS_PER_PEER


@pytest.mark.parametrize(
    ("row", "sent"),
    [
        (row_of(V2), V1.raw),  # another manifest than the digest asked for
        (row_of(V1, manifest_version=9), V1.raw),  # another version than listed
        (row_of(V1), V1.raw[:-1]),
        (row_of(V1), b"{}"),
        (row_of(V1), V1.raw.replace(b"stable", b"stabel", 1)),
    ],
    ids=["other manifest", "other version", "truncated", "no manifest", "changed"],
)
async def test_a_liar_is_named_and_the_honest_peer_chosen(
    autojump_clock: MockClock, world: World, row: HeadRow, sent: bytes
) -> None:
    async with (
        world.provider(catalogue=lambda _: Catalogue([row], {row.digest: sent})) as liar,
        listing(world, V3) as honest,
        world.client() as (transport, _),
    ):
        search = Search(world, transport)
        assert (await search.choose(liar, honest)).manifest == V3
        assert list(search.ledger.dropped) == [liar.peer_id]


async def test_heads_of_another_channel_are_not_looked_at(autojump_clock: MockClock, world: World) -> None:
    other = manifest_of(version=9, channel="nightly")
    catalogue = catalogue_of(other, V1)
    async with (
        world.provider(catalogue=lambda _: catalogue) as provider,
        world.client() as (transport, _),
    ):
        assert (await Search(world, transport).choose(provider)).manifest == V1
        assert other.digest not in catalogue.asked


async def test_two_manifests_of_one_number_are_both_refused_and_named(
    autojump_clock: MockClock, world: World
) -> None:
    async with (
        listing(world, V2) as one,
        listing(world, V2_AGAIN) as other,
        world.client() as (transport, _),
    ):
        found = await Search(world, transport).run(one, other)
        with pytest.raises(Refused) as refused:
            found.choose(QUESTION)
        assert refused.value.verdict.reason == "equivocation"
        assert V2.digest in refused.value.message
        assert V2_AGAIN.digest in refused.value.message
        assert {m.digest for m in found.conflict() or ()} == {V2.digest, V2_AGAIN.digest}


async def test_a_higher_version_resumes_after_equivocation(autojump_clock: MockClock, world: World) -> None:
    async with (
        listing(world, V2) as one,
        listing(world, V2_AGAIN) as other,
        listing(world, V3) as third,
        world.client() as (transport, _),
    ):
        assert (await Search(world, transport).choose(one, other, third)).manifest == V3


async def test_with_memory_what_was_accepted_first_stays(autojump_clock: MockClock, world: World) -> None:
    question = dataclasses.replace(QUESTION, heads=(AcceptedHead.of(V2_AGAIN),))
    async with (
        listing(world, V2) as one,
        listing(world, V2_AGAIN) as other,
        world.client() as (transport, _),
    ):
        assert (await Search(world, transport).choose(one, other, question=question)).manifest == V2_AGAIN


async def test_a_bad_detached_signature_is_dropped_and_another_peers_taken(
    autojump_clock: MockClock, world: World
) -> None:
    good = sign_detached(V1.raw, KEY)
    bad = sign_detached(V1.raw, OTHER_KEY)
    async with (
        listing(world, V1, detached=bad) as one,
        listing(world, V1, detached=good) as other,
        world.client() as (transport, _),
    ):
        search = Search(world, transport)
        assert (await search.choose(one)).detached is None
        assert [peer for peer, _ in world.watcher.peers] == [one.peer_id]
        assert (await search.choose(one, other)).detached == good
        assert search.ledger.dropped == {}


async def test_a_threshold_of_two_is_asked_of_the_signers(autojump_clock: MockClock, world: World) -> None:
    policy = TrustPolicy((Publisher((KEY.public.keyid, OTHER_KEY.public.keyid), threshold=2),))
    async with (
        listing(world, V1) as provider,
        world.client() as (transport, _),
    ):
        with pytest.raises(Refused) as refused:
            await Search(world, transport).choose(
                provider, question=dataclasses.replace(QUESTION, policy=policy)
            )
        assert refused.value.verdict.reason == "untrusted"


async def test_an_altered_manifest_from_the_only_peer_is_refused_and_not_just_absent(
    autojump_clock: MockClock, world: World
) -> None:
    altered = V1.raw.replace(b'"channel":"stable"', b'"channel":"stably"')
    assert altered != V1.raw
    async with (
        world.provider(catalogue=lambda _: Catalogue([row_of(V1)], {V1.digest: altered})) as liar,
        world.client() as (transport, _),
    ):
        search = Search(world, transport)
        with pytest.raises(Refused) as caught:
            await search.choose(liar)
        assert caught.value.verdict.failed is not None
        assert liar.peer_id in search.ledger.dropped
