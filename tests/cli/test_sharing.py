"""A fetch answers for the artifacts that it has."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from p2pboot.cli.fetch import sharing
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.protocol.client import ask_read
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL
from p2pboot.protocol.swarm import SWARM_PROTOCOL
from p2pboot.protocol.swarm_client import ask_some_pieces
from p2pboot.serving.accounts import Serving
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import sample
from p2pboot.testing.manifests import ALICE
from p2pboot.testing.network import MemoryNetwork
from p2pboot.testing.stores import hold
from tests.protocol.streams import stream_pair


async def test_streams_are_answered_from_the_store_on_one_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Serving] = []

    def make() -> Serving:
        made.append(Serving())
        return made[-1]

    monkeypatch.setattr("p2pboot.serving.accounts.Serving", make)
    held = sample(1000)
    with Store.open(tmp_path) as store:
        hold(store, held.artifact, held.data)
        async with MemoryNetwork().open(ALICE.public.peer_id) as transport:
            handlers = sharing(store.blobs, transport)
            assert made == []
            for protocol, question in (
                (ARTIFACT_PROTOCOL, ask_read(held.sha256, 0, 1000)),
                (SWARM_PROTOCOL, ask_some_pieces(held.table.digest, ((0, 1),), 1000)),
            ):
                near, far = stream_pair()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(handlers[protocol], far)
                    async with RequestStream(near) as requests:
                        assert await requests.ask(question) == held.data
    assert len(made) == 1
