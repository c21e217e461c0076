"""A raw stream of our transports, without protocol, hashing or disk. One end of it, as a process.

python -m benchmarks.own_stream [private] serve [LONGEST_FRAME]
python -m benchmarks.own_stream [private] receive MULTIADDR BYTES node|light

`private`: in a private mesh.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from benchmarks.bulk import PROTOCOL, receive, serve
from p2pboot.core.identity import SecretKey
from p2pboot.core.swarmkey import SwarmKey

_MESH = SwarmKey(b"a mesh for measuring, of anybody!"[:32])


def _open(
    kind: str, swarm_key: SwarmKey | None, listen: Sequence[str] = ()
) -> AbstractAsyncContextManager[Any]:
    key = SecretKey(secrets.token_bytes(32))
    if kind == "light":
        from p2pboot.transport.light import open_light

        return open_light(key, swarm_key=swarm_key)
    from p2pboot.transport.libp2p import open_libp2p

    return open_libp2p(key, list(listen), swarm_key=swarm_key)


def _send_frames_of(body: int) -> None:
    """As rust-libp2p, whose frames are of 16 KiB, however fast the link is."""
    from p2pboot.transport.tcp import pace

    pace._FRAMES = (body,)
    pace._FIRST = body


async def _serve(swarm_key: SwarmKey | None) -> None:
    async with _open("node", swarm_key, ["/ip4/127.0.0.1/tcp/0"]) as transport:
        transport.handle(PROTOCOL, serve)
        print(transport.addresses()[0], flush=True)
        await trio.sleep_forever()


async def _receive(address: str, size: int, kind: str, swarm_key: SwarmKey | None) -> None:
    async with _open(kind, swarm_key) as transport:
        stream = await transport.open_stream(await transport.dial(address), PROTOCOL)
        print(json.dumps(await receive(stream, size)), flush=True)


def main(arguments: Sequence[str]) -> None:
    is_private = arguments[:1] == ["private"]
    swarm_key = _MESH if is_private else None
    match arguments[is_private:]:
        case ["serve", *frame]:
            for body in frame:
                _send_frames_of(int(body))
            trio.run(_serve, swarm_key)
        case ["receive", address, size, ("node" | "light") as kind]:
            trio.run(_receive, address, int(size), kind, swarm_key)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
