"""A snapshot provider that lies or stops: it serves a store, every chunk wrong, or ends in the middle of one.

Run as a process: `python -m tests.integration.snapshot_liar STORE lies|stops`. Prints its address, as a node does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from p2pboot.core.identity import SecretKey
from p2pboot.protocol.messages import Reply, Status
from p2pboot.protocol.snapshots import SNAPSHOT_PROTOCOL, ChunkRequest
from p2pboot.serving.accounts import Serving
from p2pboot.store.snapshots.disk import DiskSnapshotStore
from p2pboot.transport.libp2p.host import open_libp2p
from tests.fetch.snapshots.world import LyingServer, RawLiar, stop_in_the_middle


def _wrong(_server: LyingServer, _request: ChunkRequest, reply: Reply) -> Reply:
    data = bytearray(reply.body)
    data[len(data) // 2] ^= 1
    return Reply(Status.OK, data, reply.extra)


async def _serve(directory: Path, how: str) -> None:
    store = DiskSnapshotStore(directory)
    key = SecretKey(how.encode().ljust(32, b"."))
    async with open_libp2p(key, ["/ip4/127.0.0.1/tcp/0"]) as transport:
        if how == "lies":
            transport.handle(SNAPSHOT_PROTOCOL, LyingServer(store, Serving(), _wrong).handle)
        else:
            transport.handle(SNAPSHOT_PROTOCOL, RawLiar(store, Serving(), stop_in_the_middle).handle)
        print(transport.addresses()[0], flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(_serve, Path(sys.argv[1]), sys.argv[2])
