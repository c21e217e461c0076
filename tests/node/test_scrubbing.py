"""What nobody asks for is read all the same, slowly, and what rots is brought in again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from p2pboot.node import scrubbing
from p2pboot.node.scrubbing import FIRST_S, PASS_S, SHORTEST_PASS_S, Scrubber
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, content
from p2pboot.testing.manifests import ALICE, signed_manifest
from p2pboot.testing.stores import is_intact, offer
from tests.node.test_node import TRUST, to
from tests.node.world import Mesh, until

FILES = {name: content(name, 3 * PIECE) for name in ("kernel", "initramfs", "rootfs")}
MANIFEST = signed_manifest(FILES, [ALICE])
DIGESTS = sorted(one.sha256 for one in MANIFEST.artifacts.values())


@pytest.fixture
def store(tmp_path: Path, inline_threads: None) -> Iterator[Store]:
    with Store.open(tmp_path / "state") as store:
        offer(store, MANIFEST, FILES)
        yield store


def rot(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(2 * PIECE)
        file.write(b"rot")


class Reads:
    """Notes which pieces are read."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pieces: list[tuple[str, int]] = []
        self._scrub = store.blobs.scrub
        monkeypatch.setattr(store.blobs, "scrub", self)

    def __call__(self, digest: str, index: int) -> bool:
        self.pieces.append((digest, index))
        return self._scrub(digest, index)


ALL = [(digest, index) for digest in DIGESTS for index in range(3)]


async def scrub_for(store: Store, seconds: float) -> None:
    """Let a node that starts now scrub for so long."""
    clock = trio.lowlevel.current_clock()
    with trio.move_on_after(seconds):
        await Scrubber(store.blobs, store.path, lambda: 1_000_000 + clock.current_time()).run()


async def test_rot_on_a_mirror_is_found_without_anybody_asking_and_mended(
    mesh: Mesh, autojump_clock: None
) -> None:
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        digests = mirror.store.blobs.whole()
        for digest in digests:
            path = mirror.store.blobs.path(digest)
            path.write_bytes(bytes(path.stat().st_size))
        await until(
            lambda: all(is_intact(mirror.store.blobs, digest) for digest in digests), within_s=10 * FIRST_S
        )


async def test_everything_is_read_again_and_again_and_nothing_at_the_start(
    store: Store, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads(store, monkeypatch)
    await scrub_for(store, FIRST_S - 1)
    assert reads.pieces == []
    await scrub_for(store, SHORTEST_PASS_S)
    assert reads.pieces == ALL
    reads.pieces.clear()
    await scrub_for(store, 2.5 * SHORTEST_PASS_S)
    assert reads.pieces == 3 * ALL


async def test_what_takes_long_to_read_is_read_once_a_day_whatever_is_restarted(
    store: Store, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubbing, "LONG_RUN_BYTES_PER_S", 1)
    monkeypatch.setattr(scrubbing, "NOTED_BYTES", PIECE)
    reads = Reads(store, monkeypatch)
    for _ in range(3):
        await scrub_for(store, PASS_S / 4)
    assert reads.pieces == ALL
    await scrub_for(store, PASS_S / 2)
    assert reads.pieces == 2 * ALL


async def test_the_rate_is_bounded(
    store: Store, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubbing, "BYTES_PER_S", PIECE)
    reads = Reads(store, monkeypatch)
    await scrub_for(store, FIRST_S + 4.5)
    assert len(reads.pieces) == 5


async def test_a_restart_goes_on_where_it_was(
    store: Store, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubbing, "BYTES_PER_S", PIECE)
    monkeypatch.setattr(scrubbing, "NOTED_BYTES", 2 * PIECE)
    reads = Reads(store, monkeypatch)
    await scrub_for(store, FIRST_S + 4.5)
    assert reads.pieces == ALL[:5]
    await scrub_for(store, FIRST_S + 4.5)
    assert reads.pieces[5:] == ALL[4:9]


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"[]",
        b'{"begun_at":9e99,"digest":null,"index":0,"read_bytes":0}',
        b'{"begun_at":NaN,"digest":null,"index":0,"read_bytes":0}',
        b'{"begun_at":1e999,"digest":null,"index":1e999,"read_bytes":0}',
        b'{"begun_at":1,"digest":null,"index":0,"read_bytes":1%s}' % (b"0" * 400),
        b"[" * 4096,
        b'{"begun_at":1,"digest":3,"index":-1,"read_bytes":0}',
    ],
)
async def test_a_note_is_a_hint(
    store: Store, autojump_clock: None, monkeypatch: pytest.MonkeyPatch, note: bytes
) -> None:
    (store.path / "scrubbing.json").write_bytes(note)
    reads = Reads(store, monkeypatch)
    monkeypatch.setattr(scrubbing, "NOTED_BYTES", 1)
    await scrub_for(store, SHORTEST_PASS_S)
    assert reads.pieces == ALL
    assert json.loads((store.path / "scrubbing.json").read_bytes())["digest"] is None


async def test_what_is_damaged_is_not_held_any_more_and_the_rest_is_read_on(
    store: Store, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rot(store.blobs.path(DIGESTS[0]))
    reads = Reads(store, monkeypatch)
    await scrub_for(store, SHORTEST_PASS_S)
    assert reads.pieces == ALL
    assert store.blobs.whole() == DIGESTS[1:]
    assert store.blobs.take_damaged() == (DIGESTS[0],)


async def test_a_node_serves_nothing_by_a_row_that_its_document_does_not_say(
    mesh: Mesh, autojump_clock: None
) -> None:
    """Firmware checks nothing: to it the node's word is the only one."""
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror,
    ):
        await until(lambda: mirror.version() == 1)
        with mirror.store._database.transaction() as sql:
            sql.execute("UPDATE manifests SET manifest_version = 1000000")
    async with mesh.node("mirror", trust=TRUST) as mirror:
        assert mirror.version() == 0


async def test_a_pass_that_is_asked_for_begins_at_once_and_is_not_slowed_down(
    store: Store, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubbing, "BYTES_PER_S", 1)
    reads = Reads(store, monkeypatch)
    clock = trio.lowlevel.current_clock()
    scrubber = Scrubber(store.blobs, store.path, lambda: 1_000_000 + clock.current_time())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scrubber.run)
        await trio.sleep(FIRST_S + 1)
        assert reads.pieces == ALL[:1]  # the rate holds the others back
        assert scrubber.state.running
        began = trio.current_time()
        scrubber.begin()
        assert scrubber.is_asked
        await until(lambda: scrubber.state.last_finished_at is not None)
        assert trio.current_time() - began < 1
        nursery.cancel_scope.cancel()
    assert reads.pieces == ALL[:1] + ALL
    assert scrubber.state.read_bytes == scrubber.state.total_bytes == 9 * PIECE
    assert not scrubber.state.running
