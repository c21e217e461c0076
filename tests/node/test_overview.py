"""What a running node's status document comes to: is it working, and can a terminal show all of it."""

from __future__ import annotations

import pytest

from p2pboot.cli.status_lines import lines_of, rows_of
from p2pboot.node.overview import CLASS_WORDS, PATH_WORDS, Condition, overview
from p2pboot.node.status import PATHS
from p2pboot.node.status.flows import CLASSES
from p2pboot.store.blobs import BlobStore
from tests.node.test_node import TRUST, in_force, to
from tests.node.world import Mesh, Running, until


async def condition(node: Running) -> Condition:
    return overview(await node.status()).condition


async def shown(node: Running) -> list[str]:
    return lines_of(rows_of(await node.status()), None, coloured=False)


async def test_a_node_is_not_ready_until_it_offers_something(mesh: Mesh, autojump_clock: None) -> None:
    async with mesh.node("mirror", trust=TRUST) as mirror:
        assert (await shown(mirror))[0] == "not ready: nothing is offered, 0 peers, nothing wrong"
        async with mesh.publisher(network=to(mirror)) as publisher:
            await until(lambda: mirror.version() == 1)
            for node in (publisher, mirror):
                assert (await shown(node))[0] == "working: offers 1 release, 1 peer, nothing wrong"
            (line,) = [line for line in await shown(mirror) if line.startswith("offers ")]
            assert "stable/x86_64" in line
            assert "manifest version 1, signed by ed25519:" in line
            lines = await shown(mirror)
            assert len([line for line in lines if line.startswith("peer ") and "peer id" not in line]) == 1
            expires = in_force(publisher).expires_at
        mesh.wall.now = expires
        await until(mirror.node.problems.all)
        lines = await shown(mirror)
        assert await condition(mirror) is Condition.NOT_WORKING
        assert lines[1].startswith("error      stable/x86_64: manifest version 1 expired at ")
        assert not [line for line in lines if line.startswith("offers")]
        assert [line for line in lines if line.startswith("withheld   stable/x86_64: ")]


async def test_what_is_fetched_is_shown_while_nobody_gives_it(
    mesh: Mesh, autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mute(*_args: object) -> bytes:
        raise OSError("nothing")

    monkeypatch.setattr(BlobStore, "read", mute)
    async with (
        mesh.publisher() as publisher,
        mesh.node("mirror", trust=TRUST, network=to(publisher)) as mirror,
    ):
        await until(mirror.node.catalogue.wanted)
        await until(mirror.node.problems.all)
        lines = await shown(mirror)
        assert lines[0].startswith("not ready: nothing is offered, fetching stable/x86_64 0 %, 1 peer")
        at = next(number for number, line in enumerate(lines) if line.startswith("fetching   stable/x86_64"))
        assert lines[at + 1].startswith("  ")
        assert "[--------------------] 0 % of" in lines[at + 1]


def test_all_that_the_document_has_short_words_for_has_words_for_people() -> None:
    assert tuple(CLASS_WORDS) == CLASSES
    assert {*PATH_WORDS} == {*PATHS.values()}
