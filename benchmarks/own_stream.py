"""A raw stream of our transport, without protocol, hashing or disk. One end of it, as a process.

python -m benchmarks.own_stream serve
python -m benchmarks.own_stream receive MULTIADDR BYTES
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Sequence

import trio

from benchmarks.bulk import PROTOCOL, receive, serve
from p2pboot.core.identity import SecretKey
from p2pboot.transport.libp2p import open_libp2p


def _key() -> SecretKey:
    return SecretKey(secrets.token_bytes(32))


async def _serve() -> None:
    async with open_libp2p(_key(), ["/ip4/127.0.0.1/tcp/0"]) as transport:
        transport.handle(PROTOCOL, serve)
        print(transport.addresses()[0], flush=True)
        await trio.sleep_forever()


async def _receive(address: str, size: int) -> None:
    async with open_libp2p(_key(), []) as transport:
        stream = await transport.open_stream(await transport.dial(address), PROTOCOL)
        print(json.dumps(await receive(stream, size)), flush=True)


def main(arguments: Sequence[str]) -> None:
    match arguments:
        case ["serve"]:
            trio.run(_serve)
        case ["receive", address, size]:
            trio.run(_receive, address, int(size))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
