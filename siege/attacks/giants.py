"""Attacks by a publisher who is trusted."""

from __future__ import annotations

import itertools
import time

import trio

from p2pboot.protocol.messages import manifest_topic
from siege import rpc
from siege.attack import Attack
from siege.manifests import giant
from siege.target import SECOND_CHANNEL


class Giants(Attack):
    name = "giants"
    what = "a second trusted publisher announces artifacts of 1 GiB that nobody has, another each second"
    bound = "disk is allocated as pieces come; limits by publisher"
    connections = 1

    async def one(self, number: int) -> None:
        key, topic = self.target.second_key, manifest_topic(SECOND_CHANNEL, "x86_64")
        async with self.peer(number, key=key) as peer:
            stream = await peer.open(rpc.GOSSIP_PROTOCOL, rpc.rpc(rpc.subscription(topic)))
            for version in itertools.count(int(time.time())):
                said = giant(key, version, 1 << 30, SECOND_CHANNEL)
                await peer.write(stream, rpc.rpc(rpc.message(topic, said, key)))
                self.counts["manifests"] += 1
                await trio.sleep(1)


ATTACKS = (Giants,)
