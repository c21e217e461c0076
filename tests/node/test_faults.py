"""A manifest that contradicts itself: the fault is found once, remembered, and mended by the next version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from p2pboot.core.manifest import Manifest
from p2pboot.core.pieces import MIB
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, manifest_topic
from p2pboot.serving.accounts import Serving
from p2pboot.serving.artifacts import ArtifactServer
from p2pboot.store import partials, reading
from p2pboot.store.blobs import BlobStore
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import artifact_of
from p2pboot.testing.manifests import key_of, signed_manifest
from p2pboot.testing.stores import hold_all
from p2pboot.transport.interface import Gossip
from tests.node.test_node import TRUST
from tests.node.world import PAIR, Mesh, Running, files_of, never, signed, until


def stating(version: int, files: dict[str, bytes], **wrong: dict[str, str]) -> Manifest:
    """A manifest that says of some of these files what is not so."""
    artifacts = [
        artifact_of(key, data, piece_length=MIB, **wrong.get(key, {})) for key, data in files.items()
    ]
    return signed_manifest(artifacts, [key_of("publisher")], manifest_version=version)


def contradicting(version: int, seed: str = "image") -> Manifest:
    """A manifest whose kernel's SHA-256 is not that of its pieces."""
    return stating(version, files_of(seed), kernel={"sha256": "e" * 64})


class Source:
    """A peer that announces manifests and has all their pieces, whatever they say of the whole."""

    def __init__(self, store: Store, transport: Gossip) -> None:
        self._store = store
        self._transport = transport
        self._held: set[str] = set()
        self.peer_id = transport.peer_id

    async def announce(self, to: Running, manifest: Manifest, seed: str = "image") -> None:
        """Have everything of it, connect, and say so."""
        if manifest.digest not in self._held:
            self._held.add(manifest.digest)
            hold_all(self._store, manifest, files_of(seed))
        if to.transport.peer_id not in self._transport.peers():
            await self._transport.dial(to.address)
        await self._transport.publish(manifest_topic(*PAIR), manifest.raw)


@asynccontextmanager
async def source(mesh: Mesh) -> AsyncIterator[Source]:
    with Store.open(mesh.directory / "source") as store:
        async with mesh.network.open(key_of("source").public.peer_id) as transport:
            transport.handle(ARTIFACT_PROTOCOL, ArtifactServer(store.blobs, Serving()).handle)
            yield Source(store, transport)


class Counts:
    """What the fault costs: pieces that the source reads, and times that the mirror reads all of it again."""

    def __init__(self) -> None:
        self.read = 0
        self.examined = 0


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    counts = Counts()
    honest_read, honest_examine = BlobStore.read, reading.examine

    def read(self: BlobStore, *args: Any) -> bytes:
        counts.read += args[1] == 0  # a piece is read in slices
        return honest_read(self, *args)

    def examine(*args: Any) -> Any:
        counts.examined += 1
        return honest_examine(*args)

    monkeypatch.setattr(BlobStore, "read", read)
    monkeypatch.setattr(partials, "examine", examine)
    return counts


def faults(node: Running) -> list[tuple[str, str | None]]:
    return [(one.text, one.remedy) for one in node.node.problems.all() if one.code == "not-mirrored"]


def left(node: Running) -> list[str]:
    return [path.name for path in (node.settings.store.state / "partial").iterdir()]


async def test_a_signers_fault_is_found_once_told_and_mended_by_a_higher_version(
    mesh: Mesh, autojump_clock: None, counts: Counts
) -> None:
    async with source(mesh) as peer:
        async with mesh.node("mirror", trust=TRUST) as mirror:
            await peer.announce(mirror, contradicting(1))
            await until(lambda: faults(mirror))
            ((text, remedy),) = faults(mirror)
            assert "version 1" in text
            assert "every piece is what the manifest says" in text
            assert remedy == "tell the publisher; a higher version resumes"
            read, examined = counts.read, counts.examined
            assert (read, examined) == (2, 1)  # each artifact once; the whole kernel once more, to be sure
            assert left(mirror) == []
            assert mirror.store.blobs.used_bytes() == 0
            await peer.announce(mirror, contradicting(1))
            await trio.sleep(3600)
            status = await mirror.status()
            assert [problem["code"] for problem in status["problems"]] == [
                "not-mirrored",
                "publisher-unreachable",  # it was heard of once
            ]
            assert status["fetching"] == []
            assert status["dropped_peers"] == {}  # nobody lied
        async with mesh.node("mirror", trust=TRUST) as mirror:  # nor is it tried again after a restart
            await peer.announce(mirror, contradicting(1))
            await trio.sleep(3600)
            assert (counts.read, counts.examined) == (read, examined)
            assert len(faults(mirror)) == 1
            await peer.announce(mirror, signed(2))
            await until(lambda: mirror.version() == 2)
            assert faults(mirror) == []
            assert counts.examined == examined


async def test_the_version_before_is_served_on(mesh: Mesh, autojump_clock: None) -> None:
    async with source(mesh) as peer, mesh.node("mirror", trust=TRUST) as mirror:
        await peer.announce(mirror, signed(1))
        await until(lambda: mirror.version() == 1)
        await peer.announce(mirror, contradicting(2, "second"), "second")
        await until(lambda: faults(mirror))
        await never(lambda: mirror.version() != 1)
        assert [one.text for one in mirror.node.catalogue.withheld()] == []


async def test_pieces_that_contradict_what_is_held_are_the_signers_fault_too(
    mesh: Mesh, autojump_clock: None, counts: Counts
) -> None:
    """Served with the held file's pieces, it would make this node look like a liar."""
    async with source(mesh) as peer, mesh.node("mirror", trust=TRUST) as mirror:
        await peer.announce(mirror, signed(1))
        await until(lambda: mirror.version() == 1)
        read = counts.read
        wrong = stating(2, files_of("image"), initramfs={"table_digest": "0" * 64})
        await mirror.node._intake.hear(PAIR, peer.peer_id, wrong.raw)
        await until(lambda: faults(mirror))
        await trio.sleep(600)
        assert (mirror.version(), counts.read) == (1, read)
