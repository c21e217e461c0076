"""What `docs/protocol-wire.md` says of gossip is what the router does."""

from __future__ import annotations

from pathlib import Path

import pytest
from libp2p.pubsub.pb import rpc_pb2

from p2pboot.core.manifest import Manifest
from p2pboot.protocol.messages import manifest_topic
from p2pboot.transport.libp2p import accounts, gossip, outbox, router
from p2pboot.transport.libp2p.options import Libp2pOptions
from tests.protocol.dumps import PAGE, read_values

ROOT = Path(__file__).parents[2]
MANIFEST = (ROOT / "tests" / "vectors" / "manifest" / "good" / "minimal.json").read_bytes()
OPTIONS = Libp2pOptions()


def test_message_id_vector() -> None:
    manifest = Manifest.parse(MANIFEST)
    assert read_values("gossip", 14) == {
        "topic": manifest_topic(manifest.channel, manifest.arch),
        "data": f"{len(MANIFEST)} bytes",
        "message id": router.message_id(rpc_pb2.Message(data=MANIFEST)).hex(),
    }


@pytest.mark.parametrize(
    "row",
    [
        f"| data of a message | {gossip.MAX_PAYLOAD:,} bytes;",
        f"| an RPC | {outbox.MAX_RPC:,} bytes;",
        f"| new messages | {OPTIONS.gossip_messages_per_second:.0f} a second, {OPTIONS.gossip_burst} at once;",
        f"| topics that it has joined | {gossip._MAX_TOPICS_PER_PEER}, of {gossip._MAX_TOPIC} characters",
        f"IHAVE | {router._MAX_ASKED} a second, {router._IDS_AT_ONCE} in one IWANT |",
        f"IWANT | {router._MAX_RESENDS} times each, and {accounts._RESENT_PER_S >> 20} MiB a second,"
        f" {accounts._RESENT_AT_ONCE >> 20} MiB at once |",
        f"| streams opened | {accounts._STREAMS_AT_ONCE} at once, then one in"
        f" {1 / accounts._STREAMS_PER_S:.0f} seconds |",
        f"| {accounts._USELESS_PER_S:.0f} a second, {accounts._USELESS_AT_ONCE} at once;",
    ],
)
def test_limits_are_those_of_the_code(row: str) -> None:
    assert row in PAGE
