"""A release is taken back: what was before comes under the next number, from wherever its files still are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from p2pboot.core.manifest import Manifest, content_digest
from p2pboot.core.policy import TrustedRoot
from p2pboot.core.trustdocs.chain import Anchor, begin
from p2pboot.core.trustdocs.envelope import add_signature
from p2pboot.core.trustdocs.rootbody import NO_FLEET
from p2pboot.core.trustdocs.yank import MAX_YANKS, Yank, YankBody
from p2pboot.core.withheld import Why
from p2pboot.errors import P2PBootError
from p2pboot.node.instead import Instead
from p2pboot.store.trustgate import Fate, TrustGate
from p2pboot.testing.manifests import DAY_S, NOW, key_of
from p2pboot.testing.trustdocs import FRESH, signed_root
from tests.node.world import PAIR, Mesh, Running, Wall, files_of, signed, trusting, until, write_tree

YANK: dict[str, Any] = {"op": "yank", "do": "yank", "channel": "stable", "patience_s": 30}


async def publish(running: Running) -> None:
    answer = await running.ask(op="publish")
    if not answer["ok"]:
        raise AssertionError(answer["error"])


def keep_files(directory: Path, seed: str) -> None:
    """Have the files of a release lie somewhere in its directory under other names, as an operator may."""
    aside = directory.joinpath(*PAIR, "kernel.old")
    aside.mkdir(exist_ok=True)
    for name, data in files_of(seed).items():
        (aside / name).write_bytes(data)


async def killed(*_: object) -> NoReturn:
    raise P2PBootError("killed")


def problems(running: Running) -> list[dict[str, Any]]:
    return [one.to_json() for one in running.node.problems.all()]


def current(running: Running) -> Manifest:
    (row,) = (one for one in running.store.manifests.current() if one.pair == PAIR)
    return running.node.catalogue.manifest(row.digest)


async def release_twice(publisher: Running, directory: Path, mirror: Running | None = None) -> None:
    """A good release, and then a bad one in its place; the mirror holds both."""
    await until(lambda: publisher.version() == 1)
    if mirror is not None:
        await until(lambda: mirror.version() == 1)
    write_tree(directory, "bad")
    await publish(publisher)
    assert publisher.version() == 2
    if mirror is not None:
        await until(lambda: mirror.version() == 2)


async def test_what_was_overwritten_in_place_comes_back_from_a_mirror_under_the_next_number(
    mesh: Mesh, autojump_clock: None
) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    async with mesh.publisher() as publisher:
        network = {"bootstrap": (publisher.address,)}
        async with mesh.node("mirror", trust=trusting("publisher"), network=network) as mirror:
            await release_twice(publisher, directory, mirror)
            good, bad = (files_of(seed) for seed in ("image", "bad"))
            answer = await publisher.ask(**YANK, reason="does not mount its root")
            assert answer["ok"], answer
            assert answer["went_back_to"] == 1
            assert answer["published"]["manifest_version"] == 3
            assert answer["yanked"]["reason"] == "does not mount its root"
            await until(lambda: mirror.version() == 3)
            for holder in (publisher, mirror):
                manifest = current(holder)
                for key, data in good.items():
                    assert holder.store.blobs.read(manifest.artifacts[key].sha256, 0, len(data)) == data
            # The directory still holds what was yanked, and says so.
            assert (directory / "stable" / "x86_64" / "kernel").read_bytes() == bad["kernel"]
            problems = (await publisher.status())["problems"]
            assert [one["code"] for one in problems] == ["directory-yanked"]
            assert "does not mount its root" in problems[0]["text"]


async def test_nothing_is_yanked_where_nobody_holds_what_is_gone_back_to(
    mesh: Mesh, autojump_clock: None
) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    async with mesh.publisher() as publisher:
        await release_twice(publisher, directory)
        answer = await publisher.ask(**YANK)
        assert not answer["ok"]
        assert answer["exit_status"] == 3
        assert "initramfs, kernel of version" in answer["error"]
        assert "nobody is connected" in answer["error"]
        assert not publisher.store.documents.all_yanks()
        assert publisher.version() == 2
        assert len(publisher.store.manifests.all()) == 2  # and nothing is left of the try


async def test_the_directory_is_published_again_when_it_was_mended(mesh: Mesh, autojump_clock: None) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    async with mesh.publisher() as publisher:
        network = {"bootstrap": (publisher.address,)}
        async with mesh.node("mirror", trust=trusting("publisher"), network=network) as mirror:
            await release_twice(publisher, directory, mirror)
            assert (await publisher.ask(**YANK))["ok"]
            write_tree(directory, "mended")
            await publish(publisher)
            assert publisher.version() == 4
            assert not (await publisher.status())["problems"]
            await until(lambda: mirror.version() == 4)
            # What was yanked stays so, whatever lies in the directory later.
            write_tree(directory, "bad")
            answer = await publisher.ask(op="publish")
            assert "was yanked" in answer["error"]
            assert current(publisher).manifest_version == 4


async def test_who_is_killed_before_it_is_published_publishes_it_when_started_again(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        good = publisher.node.catalogue.manifest(current(publisher).digest)
        keep_files(directory, "image")
        write_tree(directory, "bad")
        await publish(publisher)
        with monkeypatch.context() as patch:
            patch.setattr(Instead, "go_on", killed)
            answer = await publisher.ask(**YANK)
        assert "killed" in answer["error"]
        assert publisher.store.documents.all_yanks()
        assert publisher.version() == 2
    write_tree(directory, "bad")
    async with mesh.node("publisher", provider={"directory": directory}) as again:
        await until(lambda: again.version() == 3)
        assert content_digest(current(again)) == content_digest(good)


async def test_it_is_renewed_and_outlasts_restarts_as_long_as_the_directory_is_the_same(
    mesh: Mesh, autojump_clock: None, wall: Wall
) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        keep_files(directory, "image")
        write_tree(directory, "bad")
        await publish(publisher)
        assert (await publisher.ask(**YANK))["ok"]
        assert current(publisher).manifest_version == 3
    for day, number in ((1, 3), (25, 4), (26, 4), (50, 5)):
        wall.now = NOW + day * DAY_S
        async with mesh.node("publisher", provider={"directory": directory}) as again:
            await until(lambda: {one["code"] for one in problems(again)} == {"directory-yanked"})
            assert current(again).manifest_version == number
            assert again.version() == number


async def test_asked_twice_it_does_not_yank_what_was_gone_back_to(mesh: Mesh, autojump_clock: None) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        keep_files(directory, "image")
        write_tree(directory, "bad")
        await publish(publisher)
        assert (await publisher.ask(**YANK))["ok"]
        again = await publisher.ask(**YANK)
        assert "--release 3" in again["remedy"]
        assert len(publisher.store.documents.all_yanks()) == 1
        nothing_left = await publisher.ask(**YANK, release=3)
        assert "nothing to go back to" in nothing_left["error"]
        assert (await publisher.ask(**YANK, release=3, leave_none=True))["ok"]
        assert len(publisher.store.documents.all_yanks()) == 2
        assert publisher.node.own.publisher is not None
        assert publisher.node.own.publisher.in_force(PAIR) is None


async def test_with_leave_none_nothing_is_in_force_until_another_release_lies_there(
    mesh: Mesh, autojump_clock: None
) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    async with mesh.publisher() as publisher:
        await release_twice(publisher, directory)
        answer = await publisher.ask(**YANK, leave_none=True)
        assert (answer["went_back_to"], answer["published"], answer["ends"]) == (None, None, True)
        refused = await publisher.ask(op="publish")
        assert "nothing is in force" in refused["error"]
        assert current(publisher).manifest_version == 2  # and no renewal
    async with mesh.node("publisher", provider={"directory": directory}) as again:
        await until(lambda: problems(again))
        assert again.node.own.publisher is not None
        assert again.node.own.publisher.in_force(PAIR) is None
        write_tree(directory, "mended")
        await publish(again)
        assert again.version() == 3


async def test_a_removed_channel_is_withdrawn_from_mirrors_by_leave_none(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with mesh.publisher() as publisher:
        network = {"bootstrap": (publisher.address,)}
        async with mesh.node("mirror", trust=trusting("publisher"), network=network) as mirror:
            await until(lambda: mirror.version() == 1)
            shutil.rmtree(mesh.directory / "publisher" / "artifacts" / "stable")
            await until(lambda: publisher.version() == 0)
            assert mirror.node.catalogue.offered(*PAIR)
            answer = await publisher.ask(**YANK, leave_none=True)
            assert answer["yanked"]["manifest_version"] == 1
            (raw,) = publisher.store.documents.all_yanks()
            assert Yank.parse(raw).body.content == content_digest(signed(1))
            await publisher.ask(op="publish")
            assert "withdrawn" not in {one["code"] for one in problems(publisher)}
            await until(lambda: not mirror.node.catalogue.offered(*PAIR))


async def test_what_is_in_force_stays_when_the_directory_is_cleared(mesh: Mesh, autojump_clock: None) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    async with mesh.publisher() as publisher:
        network = {"bootstrap": (publisher.address,)}
        async with mesh.node("mirror", trust=trusting("publisher"), network=network) as mirror:
            await release_twice(publisher, directory, mirror)
            assert (await publisher.ask(**YANK))["ok"]
        shutil.rmtree(directory / "stable")
        await publisher.ask(op="publish")
        assert publisher.version() == 3
        (problem,) = (one for one in problems(publisher) if one["code"] == "directory-replaced")
        assert "--leave-none" in problem["remedy"]


async def test_what_gets_lost_of_it_is_fetched_again(mesh: Mesh, autojump_clock: None) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    async with mesh.publisher() as publisher:
        network = {"bootstrap": (publisher.address,)}
        async with mesh.node("mirror", trust=trusting("publisher"), network=network) as mirror:
            await release_twice(publisher, directory, mirror)
            assert (await publisher.ask(**YANK))["ok"]
            await until(lambda: mirror.version() == 3)
            for artifact in current(publisher).artifacts.values():
                publisher.store.blobs.remove(artifact.sha256)
            assert publisher.version() == 2
            await until(lambda: publisher.version() == 3)


async def test_several_sign_a_document_that_is_carried(mesh: Mesh, autojump_clock: None) -> None:
    """Two of two publish: the node's key alone can neither yank nor go back."""
    trust = trusting("publisher", "other", threshold=2)
    async with mesh.publisher(trust=trust) as publisher:
        node, directory = publisher.node, mesh.directory / "publisher" / "artifacts"
        await until(lambda: publisher.node.own.publisher is not None)
        both = signed(7, "publisher", "other")
        leaf = directory.joinpath(*PAIR)
        (leaf / "manifest.json").write_bytes(both.raw)
        await publish(publisher)
        assert current(publisher).digest == both.digest
        alone = await publisher.ask(**YANK, leave_none=True)
        assert "takes 2 signatures" in alone["error"]
        back = await publisher.ask(**YANK, back_to=7)
        assert not back["ok"]
        draft = await publisher.ask(**{**YANK, "do": "draft"}, leave_none=True)
        assert draft["signed_by"] == [key_of("publisher").public.keyid]
        document = add_signature(draft["document"].encode(), key_of("other"))
        answer = await publisher.ask(**YANK, leave_none=True, document=document.decode())
        assert answer["ok"], answer
        assert node.catalogue.yanks(*PAIR)
        refused = await publisher.ask(op="publish")
        assert "was yanked" in refused["error"]


def other_fleet(body: YankBody) -> bytes:
    return add_signature(replace(body, fleet="1" * 64).document(), key_of("publisher"))


def other_pair(body: YankBody) -> bytes:
    return add_signature(replace(body, channel="testing").document(), key_of("publisher"))


def stranger(body: YankBody) -> bytes:
    return add_signature(body.document(), key_of("stranger"))


def unsigned(body: YankBody) -> bytes:
    return body.document()


def changed(body: YankBody) -> bytes:
    return add_signature(body.document(), key_of("publisher")).replace(b'"reason":""', b'"reason":"x"')


@pytest.mark.parametrize("forge", [other_fleet, other_pair, stranger, unsigned, changed])
async def test_a_document_that_does_not_count_changes_nothing(
    mesh: Mesh, autojump_clock: None, forge: Callable[[YankBody], bytes]
) -> None:
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        body = YankBody(
            fleet=NO_FLEET,
            channel=PAIR[0],
            arch=PAIR[1],
            content=content_digest(current(publisher)),
            reason="",
            created_at=NOW,
        )
        answer = await publisher.ask(**YANK, leave_none=True, document=forge(body).decode())
        assert answer["exit_status"] == 2
        gate = TrustGate(publisher.store, publisher.node.catalogue)
        assert gate.take_yank(forge(body), pair=PAIR, source="test").fate in (Fate.UNTRUSTED, Fate.BAD)
        assert not publisher.store.documents.all_yanks()
        assert publisher.node.own.publisher is not None
        assert publisher.node.own.publisher.in_force(PAIR) is not None


async def test_the_sixty_fifth_is_refused_before_anything_is_done(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        gate = TrustGate(publisher.store, publisher.node.catalogue)
        for number in range(MAX_YANKS):
            body = YankBody(
                fleet=NO_FLEET,
                channel=PAIR[0],
                arch=PAIR[1],
                content=f"{number:064x}",
                reason="",
                created_at=NOW,
            )
            raw = add_signature(body.document(), key_of("publisher"))
            assert gate.take_yank(raw, source="test").fate is Fate.NEWS
        answer = await publisher.ask(**YANK, leave_none=True)
        assert f"has {MAX_YANKS} yanks already" in answer["error"]
        assert len(publisher.store.documents.all_yanks()) == MAX_YANKS


async def test_what_is_in_force_instead_ends_when_the_directory_holds_the_same(
    mesh: Mesh, autojump_clock: None
) -> None:
    """As `rollout promote` uses it: the content of the channel's roll-out, whose files lie beside."""
    directory = mesh.directory / "publisher" / "artifacts"
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        write_tree(directory, "new", ("stable.next", "x86_64"))
        promoted = signed(1, seed="new", pair=("stable.next", "x86_64"))
        assert publisher.node.own.publisher is not None
        held = await publisher.node.own.publisher.instead.hold(PAIR, promoted)
        assert (held.channel, held.manifest_version) == ("stable", 2)
        assert content_digest(held) == content_digest(promoted)
        refused = await publisher.ask(op="publish")
        assert "promoted from its roll-out" in str(refused)
        assert publisher.version() == 2
        write_tree(directory, "new")
        await publish(publisher)
        assert publisher.version() == 2  # it is the same, and is not said again
        assert not publisher.store.held.pairs()


async def test_the_list_says_what_can_be_gone_back_to(mesh: Mesh, autojump_clock: None) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    async with mesh.publisher() as publisher:
        await release_twice(publisher, directory)
        listed = await publisher.ask(op="yank", do="list", channel="stable", arch="amd64")
        newest, before = listed["releases"]
        assert (newest["manifest_version"], newest["in_force"], newest["missing"]) == (2, True, [])
        assert (before["manifest_version"], before["missing"]) == (1, ["initramfs", "kernel"])


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ({"channel": "testing"}, "published nothing of 'testing'"),
        ({"arch": "vax"}, "architecture 'vax' is not known"),
        ({"back_to": 9}, "remembers no such release"),
        ({"back_to": 1}, "brings the very content"),
        ({"release": 4}, "remembers no such release"),
        ({"back_to": 1, "leave_none": True}, "exclude each other"),
        ({"reason": "x" * 513, "leave_none": True}, "reason"),
        ({"back_to": True}, "must be a number"),
        ({"channel": None}, "no channel"),
        ({}, "nothing to go back to"),
    ],
)
async def test_an_order_that_makes_no_sense_changes_nothing(
    mesh: Mesh, autojump_clock: None, order: dict[str, Any], error: str
) -> None:
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        answer = await publisher.ask(**{**YANK, **order})
        assert not answer["ok"]
        assert error in answer["error"]
        assert not publisher.store.documents.all_yanks()


async def test_a_mirror_takes_nothing_back(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.node("mirror", trust=trusting("publisher")) as mirror:
        assert "mirror" in (await mirror.ask(**YANK))["error"]


NEXT = ("stable.next", "x86_64")


async def roll_out(publisher: Running, directory: Path) -> None:
    await until(lambda: publisher.version() == 1)
    write_tree(directory, "new", NEXT)
    answer = await publisher.ask(op="rollout", action="start", channel="stable")
    assert answer["ok"], answer
    assert publisher.version(NEXT) == 1


def in_force(running: Running, pair: tuple[str, str]) -> Manifest | None:
    assert running.node.own.publisher is not None
    return running.node.own.publisher.in_force(pair)


async def test_a_roll_out_that_is_promoted_is_in_force_in_its_channel_over_restarts(
    mesh: Mesh, autojump_clock: None
) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    async with mesh.publisher() as publisher:
        await roll_out(publisher, directory)
        answer = await publisher.ask(op="rollout", action="promote", channel="stable")
        assert answer["ok"], answer
        assert publisher.version() == 2
    async with mesh.node("publisher", provider={"directory": directory}) as again:
        await until(lambda: again.version() == 2)
        assert content_digest(signed(1, seed="new")) == content_digest(current(again))
        assert [one["code"] for one in problems(again)] == ["directory-replaced"]
        # And if it turns out bad then: what lies in the directory was there before.
        answer = await again.ask(**YANK)
        assert answer["ok"], answer
        assert answer["went_back_to"] == 1
        assert again.version() == 3
        await publish(again)
        assert not again.store.held.pairs()
        assert not problems(again)


async def test_a_promoted_release_that_is_yanked_with_leave_none_lets_nothing_else_in(
    mesh: Mesh, autojump_clock: None
) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    async with mesh.publisher() as publisher:
        await roll_out(publisher, directory)
        assert (await publisher.ask(op="rollout", action="promote", channel="stable"))["ok"]
        assert (await publisher.ask(**YANK, leave_none=True))["ok"]
        await publisher.ask(op="publish")
        assert in_force(publisher, PAIR) is None
        assert in_force(publisher, NEXT) is None


async def test_a_roll_out_that_is_aborted_is_yanked_in_both_channels(
    mesh: Mesh, autojump_clock: None
) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    async with mesh.publisher() as publisher:
        await roll_out(publisher, directory)
        answer = await publisher.ask(op="rollout", action="abort", channel="stable")
        assert answer["ok"], answer
        assert in_force(publisher, NEXT) is None
        assert current(publisher).manifest_version == 1
        for pair in (PAIR, NEXT):
            assert content_digest(signed(1, seed="new")) in publisher.node.catalogue.yanks(*pair)
        write_tree(directory, "new")
        refused = await publisher.ask(op="publish")
        assert "was yanked" in str(refused)


async def test_under_a_root_it_names_the_fleet_and_is_urgent(mesh: Mesh, autojump_clock: None) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    chain = (signed_root(),)
    anchor = Anchor.of_root(chain[0])
    trusted = TrustedRoot(anchor, begin(anchor))
    async with mesh.publisher(roots=(trusted,), freshness_key=FRESH) as publisher:
        await until(lambda: publisher.version() == 1)
        keep_files(directory, "image")
        write_tree(directory, "bad")
        await publish(publisher)
        answer = await publisher.ask(**YANK)
        assert answer["ok"], answer
        (raw,) = publisher.store.documents.all_yanks()
        assert Yank.parse(raw).body.fleet == chain[0].digest
        statement = publisher.node.catalogue.statement(*PAIR)
        assert statement is not None
        assert (statement.body.head_version, statement.body.minimum) == (3, 3)


@pytest.mark.parametrize("carried", ["gossip", "sync"])
async def test_mirrors_stop_offering_what_was_yanked_and_take_what_follows(
    mesh: Mesh, autojump_clock: None, carried: str
) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    network = {
        "gossip": carried == "gossip",
        "sync": carried == "sync",
        "sync_interval_s": 5,
        "announce_interval_s": 5,
    }
    async with mesh.publisher(network=network) as publisher:
        asks = {**network, "bootstrap": (publisher.address,)}
        trust = trusting("publisher", channels=("stable",), archs=("x86_64",))
        async with mesh.node("mirror", trust=trust, network=asks) as mirror:
            await release_twice(publisher, directory, mirror)
            bad = current(publisher)
            assert (await publisher.ask(**YANK, leave_none=True, reason="bad"))["ok"]
            await until(lambda: mirror.node.catalogue.yanks(*PAIR))
            for node in (publisher.node, mirror.node):
                assert not node.catalogue.offered(*PAIR)
                (withheld,) = node.catalogue.withheld(*PAIR)
                assert withheld.why is Why.YANKED
                for artifact in bad.artifacts.values():
                    assert not node.catalogue.offering.allows(artifact.sha256)
            # What it brings is not taken under another number either.
            verdict = mirror.node._intake._gate.consider(signed(9, seed="bad").raw, source="test")
            assert verdict.reason == "yanked"
            # It can still be gone back, as long as mirrors have it.
            answer = await publisher.ask(**YANK, back_to=1)
            assert answer["ok"], answer
            await until(lambda: mirror.version() == 3)
            assert [row.manifest_version for row in mirror.node.catalogue.offered(*PAIR)] == [3]


async def test_the_directory_does_not_come_back_when_one_promoted_release_follows_another(
    mesh: Mesh, autojump_clock: None
) -> None:
    directory = mesh.directory / "publisher" / "artifacts"
    async with mesh.publisher() as publisher:
        await roll_out(publisher, directory)
        keep_files(directory, "new")
        assert (await publisher.ask(op="rollout", action="promote", channel="stable"))["ok"]
        write_tree(directory, "newer", NEXT)
        await publisher.ask(op="publish")  # finds the files of what is in force where they lie now
        assert publisher.version() == 2
        started = await publisher.ask(op="rollout", action="start", channel="stable")
        assert started["ok"], started
        promoted = await publisher.ask(op="rollout", action="promote", channel="stable")
        assert promoted["ok"], promoted
        assert publisher.version() == 3
        await publisher.ask(op="publish")
        assert content_digest(current(publisher)) == content_digest(signed(1, seed="newer"))
        back = await publisher.ask(**YANK, back_to=2)
        assert back["ok"], back
        await publisher.ask(op="publish")
        assert content_digest(current(publisher)) == content_digest(signed(1, seed="new"))
        assert publisher.version() == 4
