"""What runs out is told of while there is time: dates, and room."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from p2pboot.core.timestamps import format_time
from p2pboot.node.foreseeing import (
    DISK_MOST_BYTES,
    EXPIRING_MOST_S,
    EXPIRING_SHARE,
    STANDING_SHARE,
    disk_problems,
)
from p2pboot.node.observing import OBSERVE_S
from p2pboot.store.blobs import BlobStore
from p2pboot.store.room import Room
from p2pboot.testing.manifests import NOW
from tests.node.test_node import TRUST, in_force, republish, to
from tests.node.world import Mesh, Running, until

DAY_S = 86_400


def expiring(node: Running) -> list[str]:
    return [problem.text for problem in node.node.problems.all() if problem.code == "expiring"]


def holds(node: Running, version: int) -> bool:
    return node.version() == version


async def test_what_was_not_renewed_is_told_of_before_it_expires(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.node("mirror", trust=TRUST) as mirror:
        async with mesh.publisher(network=to(mirror)) as publisher:
            await until(lambda: mirror.version() == 1)
            manifest = in_force(publisher)
        validity_s = manifest.expires_at - manifest.created_at
        mesh.wall.now = manifest.expires_at - validity_s // EXPIRING_SHARE  # the publisher had its chance
        await trio.sleep(2 * OBSERVE_S)
        assert expiring(mirror) == []
        mesh.wall.now += 1
        await trio.sleep(2 * OBSERVE_S)
        assert expiring(mirror) == [
            f"version 1 expires at {format_time(manifest.expires_at)}, and was not renewed"
        ]
        mesh.wall.now = manifest.expires_at
        await trio.sleep(2 * OBSERVE_S)
        assert expiring(mirror) == []
        codes = [problem.code.value for problem in mirror.node.problems.all()]
        assert [code for code in codes if code != "no-peers"] == ["expired"]  # nobody is here any more either


async def test_a_publisher_that_renews_in_time_is_left_alone(mesh: Mesh, autojump_clock: None) -> None:
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        manifest = in_force(publisher)
        validity_s = manifest.expires_at - manifest.created_at
        for number in range(2, 5):
            mesh.wall.now += validity_s - validity_s // EXPIRING_SHARE - 60
            await until(partial(holds, mirror, number))
            await trio.sleep(2 * OBSERVE_S)
            assert expiring(publisher) == expiring(mirror) == []


async def test_a_year_of_validity_is_told_of_two_weeks_before(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.node("mirror", trust=TRUST) as mirror:
        async with mesh.publisher(provider={"expires_in_s": 365 * DAY_S}, network=to(mirror)):
            await until(lambda: mirror.version() == 1)
        mesh.wall.now = NOW + 365 * DAY_S - EXPIRING_MOST_S
        await trio.sleep(2 * OBSERVE_S)
        assert expiring(mirror) == []
        mesh.wall.now += 60
        await trio.sleep(2 * OBSERVE_S)
        assert len(expiring(mirror)) == 1


async def test_what_replaces_it_and_does_not_come_is_named(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        manifest = in_force(publisher)
        honest = BlobStore.read
        monkeypatch.setattr(BlobStore, "read", lambda *args: bytes(len(honest(*args))))
        mesh.wall.now = manifest.expires_at - 60
        republish(publisher, "another")
        await publisher.ask(op="publish")
        await until(mirror.node.catalogue.wanted)
        await trio.sleep(2 * OBSERVE_S)
        (text,) = expiring(mirror)
        assert "which replaces it, is not complete here" in text


async def test_a_publisher_that_can_not_renew_says_so_in_time(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mesh.publisher() as publisher:
        await until(lambda: publisher.version() == 1)
        manifest = in_force(publisher)

        async def nothing(**_: object) -> None:
            await trio.lowlevel.checkpoint()

        assert publisher.node.own.publisher is not None
        monkeypatch.setattr(publisher.node.own.publisher, "_look", nothing)
        mesh.wall.now = manifest.expires_at - 60
        await trio.sleep(2 * OBSERVE_S)
        (text,) = expiring(publisher)
        assert text.endswith("and could not be renewed")


@pytest.mark.parametrize(
    ("size", "free", "told"),
    [
        (100 << 30, 2 << 30, False),  # a fiftieth of a large disk
        (100 << 30, DISK_MOST_BYTES, False),
        (100 << 30, DISK_MOST_BYTES - 4096, True),
        (4 << 30, 300 << 20, False),
        (4 << 30, 200 << 20, True),
        (0, 0, False),  # the file system does not tell
    ],
)
def test_a_disk_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, free: int, told: bool
) -> None:
    said = SimpleNamespace(f_frsize=4096, f_blocks=size // 4096, f_bavail=free // 4096)
    monkeypatch.setattr(os, "statvfs", lambda _path: said)
    found = disk_problems(tmp_path)
    assert [(problem.code.value, problem.subject) for problem in found] == (
        [("nearly-full", str(tmp_path))] if told else []
    )


def test_what_stands_ends_with_room_to_spare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody writes all the time, and the log is not to hear of every file."""

    def stands(free: int, *, before: bool) -> bool:
        said = SimpleNamespace(f_frsize=1, f_blocks=100 << 30, f_bavail=free)
        monkeypatch.setattr(os, "statvfs", lambda _path: said)
        return bool(disk_problems(tmp_path, stands=before))

    assert stands(DISK_MOST_BYTES - 1, before=False)
    assert stands(DISK_MOST_BYTES + 1, before=True)
    enough = DISK_MOST_BYTES + DISK_MOST_BYTES // STANDING_SHARE
    assert not stands(enough, before=True)


async def test_the_room_that_a_disk_has_left_is_no_news_at_every_look(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limit = 0
    monkeypatch.setattr(Room, "limit_bytes", lambda _self: limit)
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher), store={"quota_bytes": "auto"}) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        needed = 2 * mirror.store.blobs.used_bytes()
        steps = [0.9, 0.995, 1.01, 0.999, 1.015, 1.05, 1.03, 1.1, 1.11, 1.12, 1.2]
        found = []
        for step in steps:
            limit = round(step * needed)
            await trio.sleep(2 * OBSERVE_S)
            found.append([problem.code.value for problem in mirror.node.problems.all()])
    assert found == [
        *[["quota"]] * 5,
        *[["nearly-full"]] * 5,
        [],
    ]
    said = [one for one in caplog.messages if "quota:" in one or "nearly-full:" in one]
    assert len(said) == 2
    assert "the store may hold what the disk has left but for a tenth, and one version" in said[0]
    assert "of what the disk has left but for a tenth (free space before" in said[1]
