"""A mirror whose room is short: it moves on, or says what to do about it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.errors import BlobMissing
from p2pboot.node.observing import OBSERVE_S
from p2pboot.store.blobs import BlobStore
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.partials import PartialBlob
from p2pboot.store.store import Store
from p2pboot.testing.manifests import NOW, key_of
from tests.node.test_node import TRUST, republish, to
from tests.node.world import PAIR, Mesh, Running, files_of, never, trusting, until

IMAGE = sum(len(data) for data in files_of("image").values())


def problems(node: Running) -> dict[str, tuple[str, str]]:
    return {one.code.value: (one.text, str(one.remedy)) for one in node.node.problems.all()}


def _holds(node: Running, number: int) -> bool:
    return node.version() == number


async def test_room_for_two_versions_is_enough_to_move_on(mesh: Mesh, autojump_clock: None) -> None:
    """The one before the one in force makes room."""
    store = {"quota_bytes": 2 * IMAGE + 1000}
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher), store=store) as mirror,
    ):
        for number in range(1, 5):
            await until(partial(_holds, mirror, number))
            assert mirror.store.blobs.used_bytes() <= 2 * IMAGE
            republish(publisher, f"image {number}")
            await publisher.ask(op="publish")


async def test_below_two_versions_a_mirror_says_what_to_do(mesh: Mesh, autojump_clock: None) -> None:
    quota = IMAGE + 1000
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher), store={"quota_bytes": quota}) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        await trio.sleep(2 * OBSERVE_S)  # before there is a next one
        text, remedy = problems(mirror)["quota"]
        assert f"the store may hold {quota} bytes" in text
        assert f"a next one of stable/x86_64, whose last has {IMAGE} bytes, are {2 * IMAGE} bytes" in text
        assert remedy == (
            f"raise store.quota (--quota) to {2 * IMAGE} bytes or more; or keep one version only"
            " (--keep 1, or keep = 1 in [store])"
        )
        republish(publisher, "another")
        await publisher.ask(op="publish")
        await until(lambda: "not-mirrored" in problems(mirror))
        text, remedy = problems(mirror)["not-mirrored"]
        assert text.startswith("no room for version 2 beside version 1, which is offered until it is whole: ")
        assert f"{IMAGE} of its quota of {quota} bytes are used" in text
        assert f"to {2 * IMAGE} bytes or more" in remedy
        assert "--keep 1" in remedy
        assert mirror.version() == 1
        status = await mirror.status()
        publishers = [{"publisher": key_of("publisher").public.keyid, "used": IMAGE, "limit": None}]
        assert status["store"] == {
            "used": IMAGE,
            "limit": quota,
            "quota": quota,
            "keep": 2,
            "publishers": publishers,
        }
        store = replace(mirror.settings.store, keep=1)
        await mirror.node.apply(replace(mirror.settings, store=store))
        await until(lambda: mirror.version() == 2)
        await until(lambda: set(problems(mirror)) == {"nearly-full"})
        text, remedy = problems(mirror)["nearly-full"]
        assert text == "the next version just fits: with it the store would hold 201.1 kB of 202.1 kB"
        assert "before images grow by more than 1.0 kB" in remedy


async def test_with_one_version_kept_the_old_one_yields_to_what_somebody_gives(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, honestly_finish = BlobStore.read, PartialBlob.finish
    gives, offered = True, list[int]()

    def finish(self: PartialBlob) -> Path:
        offered.append(mirror.version())
        return honestly_finish(self)

    def read(self: BlobStore, sha256: str, offset: int, length: int) -> bytes:
        if not gives:
            raise BlobMissing(sha256)
        return honest(self, sha256, offset, length)

    monkeypatch.setattr(BlobStore, "read", read)
    monkeypatch.setattr(PartialBlob, "finish", finish)
    store = {"quota_bytes": IMAGE + 1000, "keep": 1}
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher), store=store) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        offered.clear()
        gives = False  # its word comes, and its tables, and not one piece
        republish(publisher, "another")
        await publisher.ask(op="publish")
        await until(mirror.store.manifests.pending)
        await never(lambda: mirror.version() != 1, within_s=15)
        gives = True
        await until(lambda: mirror.version() == 2)
        assert offered == [0, 0]  # the next one has its room before it is whole
        assert mirror.store.blobs.used_bytes() == IMAGE


async def test_with_one_version_kept_nothing_yields_where_there_is_room(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher), store={"keep": 1}) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        republish(publisher, "another")
        await publisher.ask(op="publish")
        seen = set()
        while mirror.version() != 2:
            seen.add(mirror.version())
            await trio.sleep(0.01)
        assert seen == {1}
        assert mirror.store.blobs.used_bytes() == IMAGE
        assert not problems(mirror)


# -- what one publisher may make a node hold


TWO = (*trusting("publisher", channels=("stable", "beta")), *trusting("other", channels=("testing",)))
TESTING = ("testing", "x86_64")


async def test_one_publisher_takes_no_room_from_another(mesh: Mesh, autojump_clock: None) -> None:
    """Of two each has half of the quota, whoever comes first."""
    for pair in (("stable", "arm64"), ("beta", "x86_64"), ("beta", "arm64")):
        mesh.tree("publisher", "/".join(pair), pair)
    leaf = mesh.tree("other", "theirs", TESTING)
    store = {"quota_bytes": 4 * IMAGE + 1000}
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TWO, network=to(publisher), store=store) as mirror,
    ):
        await until(lambda: mirror.store.blobs.used_bytes() == 2 * IMAGE)
        await until(lambda: "not-mirrored" in problems(mirror))
        text, remedy = problems(mirror)["not-mirrored"]
        assert text.endswith(f"may take {2 * IMAGE + 500} bytes of the store, and would take {3 * IMAGE}")
        assert remedy.startswith("raise quota in its [[trust]] entry")
        async with mesh.node("other", provider={"directory": leaf}, network=to(mirror)):
            await until(lambda: mirror.version(TESTING) == 1)
        shares = (await mirror.status())["store"]["publishers"]
        assert [(one["used"], one["limit"]) for one in shares] == [
            (2 * IMAGE, 2 * IMAGE + 500),
            (IMAGE, 2 * IMAGE + 500),
        ]


async def test_a_key_that_makes_up_channels_is_followed_in_so_many(mesh: Mesh, autojump_clock: None) -> None:
    """What the operator named counts besides, also when it comes last."""
    for number in range(4):
        mesh.tree("publisher", "image", (f"a{number}", "x86_64"))
    trust = trusting("publisher", max_pairs=2)
    named = {"channel": PAIR[0], "arch": PAIR[1]}
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=trust, network=to(publisher), provider=named) as mirror,
    ):
        await until(partial(_holds, mirror, 1))
        await until(lambda: "refused" in problems(mirror))
        await trio.sleep(60)
        assert {row.channel for row in mirror.store.manifests.known()} == {"a0", "a1", "stable"}
        text, remedy = problems(mirror)["refused"]
        assert "of one more channel than this node takes up of its publisher" in text
        assert "max_pairs" in remedy


def test_the_shares_of_publishers(store: Store) -> None:
    first, second, third = (
        Publisher((key_of(name).public.keyid,), channels=(name,), quota_bytes=quota)
        for name, quota in (("first", None), ("second", 100), ("third", None))
    )
    catalogue = Catalogue(store, Trust(TrustPolicy((first, second, third))), lambda: NOW)
    assert [catalogue.share(one) for one in (first, second)] == [None, 100]
    store.blobs.quota_bytes = 1000
    assert [catalogue.share(one) for one in (first, second, third)] == [450, 100, 450]
    store.blobs.quota_bytes = 50
    assert catalogue.share(first) == 0
    alone = Catalogue(store, Trust(TrustPolicy((first,))), lambda: NOW)
    assert alone.share(first) is None
