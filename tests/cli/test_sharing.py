"""A fetch answers for the artifacts that it has."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from p2pboot.cli.fetch import sharing
from p2pboot.fetch.asking.requests import RequestStream
from p2pboot.protocol.client import ask_read
from p2pboot.serving.accounts import Serving
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import sample
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
        handle = sharing(store.blobs)
        assert made == []
        for _ in range(2):
            near, far = stream_pair()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(handle, far)
                async with RequestStream(near) as requests:
                    assert await requests.ask(ask_read(held.sha256, 0, 1000)) == held.data
    assert len(made) == 1
