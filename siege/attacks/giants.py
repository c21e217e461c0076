"""Attacks by a publisher who is trusted."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import trio

from p2pboot.core.pieces import PieceSet, PieceTable
from p2pboot.protocol.messages import ARTIFACT_PROTOCOL, SYNC_PROTOCOL, manifest_topic
from p2pboot.testing.artifacts import artifact_of
from siege import rpc
from siege.answers import refusal, reply
from siege.attack import Attack
from siege.manifests import signed
from siege.target import ARCH, MIB, SECOND_CHANNEL

_SIZE = 1 << 30


class Giants(Attack):
    name = "giants"
    what = "a second trusted publisher announces artifacts of 1 GiB, says that it has all of them, and gives nothing"
    bound = "disk is allocated as pieces come; limits by publisher"
    shows = "manifests"
    connections = 1

    async def one(self, number: int) -> None:
        key, topic = self.target.second_key, manifest_topic(SECOND_CHANNEL, ARCH)
        async with self.peer(number, key=key) as peer:
            stream = await peer.open(rpc.GOSSIP_PROTOCOL, rpc.rpc(rpc.subscription(topic)))
            for version in itertools.count(int(time.time())):
                table = PieceTable(_SIZE, MIB, version.to_bytes(32, "big") * (_SIZE // MIB))
                peer.answers = {
                    ARTIFACT_PROTOCOL: partial(self._answer, table),
                    SYNC_PROTOCOL: lambda _: refusal("not_found"),
                }
                said: dict[str, Any] = {"channel": SECOND_CHANNEL, "arch": ARCH, "piece_length": MIB}
                digests: dict[str, Any] = {"sha256": f"{version:064x}", "table_digest": table.digest}
                artifacts = [
                    artifact_of(key, size=_SIZE, **digests, **said) for key in ("kernel", "initramfs")
                ]
                manifest = signed(key, version, artifacts, channel=SECOND_CHANNEL)
                await peer.write(stream, rpc.rpc(rpc.message(topic, manifest, key)))
                self.count("manifests")
                await trio.sleep(3)

    def _answer(self, table: PieceTable, asked: Mapping[str, Any]) -> bytes | None:
        self.count(asked["op"])
        match asked["op"]:
            case "have":
                return reply(PieceSet.full(table.count).to_bytes())
            case "pieces":
                return reply(table.raw)
            case _:
                return None


ATTACKS = (Giants,)
