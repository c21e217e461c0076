"""An honest publisher and a third node that know each other only through the node under attack.

`python -m siege.gossiper TARGET MANIFEST KEY PACE_S [SWARM_KEY]` prints a line for each manifest, once it has come or
is given up: when it was sent, and the milliseconds that it took, or null. Ends when its standard input does.
"""

from __future__ import annotations

import itertools
import json
import secrets
import sys
import time
from functools import partial
from pathlib import Path

import trio

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest
from p2pboot.core.swarmkey import SwarmKey
from p2pboot.errors import ProtocolError
from p2pboot.store.keyfiles import load_key, load_swarm_key
from p2pboot.transport.interface import Forwarding, Gossip
from p2pboot.transport.libp2p import open_libp2p
from siege.manifests import signed
from siege.target import Target

_GIVEN_UP_S = 20.0
_SOURCE = "127.0.0.2"


class _Arrivals:
    def __init__(self) -> None:
        self._awaited: dict[bytes, trio.Event] = {}

    async def hear(self, _peer_id: str, raw: bytes) -> Forwarding:
        event = self._awaited.pop(raw, None)
        if event is not None:
            event.set()
        return Forwarding.ACCEPT

    async def follow(self, raw: bytes) -> None:
        sent, clock, event = time.time(), time.perf_counter(), trio.Event()
        self._awaited[raw] = event
        with trio.move_on_after(_GIVEN_UP_S):
            await event.wait()
        took = (time.perf_counter() - clock) * 1000 if event.is_set() else None
        self._awaited.pop(raw, None)
        print(json.dumps({"sent": sent, "ms": took}), flush=True)


async def _stay_connected(transport: Gossip, address: str) -> None:
    while True:
        if not transport.connections():
            try:
                with trio.move_on_after(10):
                    await transport.dial(address)
            except ProtocolError:
                pass
        await trio.sleep(0.5)


async def _take(_peer_id: str, _raw: bytes) -> Forwarding:
    return Forwarding.ACCEPT


async def _run(
    target: Target, manifest: Manifest, key: SecretKey, swarm_key: SwarmKey | None, pace_s: float
) -> None:
    address = f"/ip4/{target.host}/tcp/{target.port}/p2p/{target.peer_id}"
    artifacts, arrivals = tuple(manifest.artifacts.values()), _Arrivals()
    async with (
        open_libp2p(key, [], swarm_key=swarm_key) as publisher,
        open_libp2p(SecretKey(secrets.token_bytes(32)), [], swarm_key=swarm_key) as third,
        trio.open_nursery() as nursery,
    ):
        await publisher.subscribe(target.topic, _take)
        await third.subscribe(target.topic, arrivals.hear)
        for transport in (publisher, third):
            nursery.start_soon(_stay_connected, transport, address)
        nursery.start_soon(_end, nursery.cancel_scope)
        await trio.sleep(4)  # subscriptions, then grafts with the next heartbeats
        for version in itertools.count(manifest.manifest_version + 1):
            raw = signed(key, version, artifacts)
            nursery.start_soon(arrivals.follow, raw)
            await publisher.publish(target.topic, raw)
            await trio.sleep(pace_s)


async def _end(scope: trio.CancelScope) -> None:
    await trio.lowlevel.wait_readable(sys.stdin.fileno())
    scope.cancel()


def main() -> None:
    target, manifest, key, pace_s, *mesh = sys.argv[1:]
    raw = Path(manifest).read_bytes()
    # These two are not the machine that fetches: they come from another address.
    trio.open_tcp_stream = partial(trio.open_tcp_stream, local_address=_SOURCE)
    swarm_key = load_swarm_key(Path(mesh[0])) if mesh else None
    who = Target.read(Path(target)), Manifest.parse(raw), load_key(Path(key)), swarm_key
    trio.run(_run, *who, float(pace_s))


if __name__ == "__main__":
    main()
