"""A mirror that lies: it serves a store that an honest mirror filled, with every piece slightly wrong.

Run as a process: `python -m tests.integration.liar STATE`. Prints its address, as a node does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from p2pboot.core.identity import SecretKey
from p2pboot.core.policy import TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, SYNC_PROTOCOL
from p2pboot.serving.accounts import Serving
from p2pboot.serving.artifacts import ArtifactServer
from p2pboot.serving.heads import SyncServer
from p2pboot.store.blobs import BlobStore
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.store import Store
from p2pboot.transport.libp2p.host import open_libp2p

_SEED = b"liar".ljust(32, b".")


def spoil(blobs: BlobStore) -> None:
    """Make every answer of a blob store wrong by one bit."""
    honest = blobs.read

    def read(digest: str, offset: int, length: int) -> bytes:
        data = bytearray(honest(digest, offset, length))
        data[len(data) // 2] ^= 1
        return bytes(data)

    blobs.read = read  # type: ignore[method-assign]


async def _lie(state: Path) -> None:
    with Store.open(state) as store:
        async with open_libp2p(SecretKey(_SEED), ["/ip4/127.0.0.1/tcp/0"]) as transport:
            serving = Serving()
            spoil(store.blobs)
            transport.handle(ARTIFACT_PROTOCOL, ArtifactServer(store.blobs, serving).handle)
            offering = Catalogue(store, Trust(TrustPolicy()), lambda: 0)
            sync = SyncServer(store.manifests, transport.peer_records, lambda: 0, serving, offering.withheld)
            transport.handle(SYNC_PROTOCOL, sync.handle)
            print(transport.addresses()[0], flush=True)
            await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(_lie, Path(sys.argv[1]))
