"""A peer of ours: looks for others by mDNS as a node does, and says what it finds, a JSON object a line.

It prints {"id", "addresses"} when it looks, {"found", "address"} for each address that it hears of, and {"reason"} when
it can find nobody, or null when it can again. With ``--listen`` it listens, and is announced.

Run as `python -m tests.interop.ours`, on a machine of a `tests.lan.Network`.
"""

from __future__ import annotations

import json
import secrets
import sys

import trio

from p2pboot.core.identity import SecretKey
from p2pboot.transport.interfaces import Interfaces
from p2pboot.transport.light import open_light
from p2pboot.transport.mdns import open_mdns

ANYWHERE = ("/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001")


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


async def main(listen: tuple[str, ...]) -> None:
    interfaces = Interfaces()
    key = SecretKey(secrets.token_bytes(32))
    async with (
        open_light(key, listen, interfaces=interfaces) as transport,
        open_mdns(
            transport.peer_id,
            transport.addresses,
            listens_on=transport.listens_on,
            interfaces=interfaces,
            report=lambda reason: say(reason=reason),
        ) as found,
    ):
        say(id=transport.peer_id, addresses=transport.addresses())
        async for address in found:
            where, _, peer_id = address.rpartition("/p2p/")
            say(found=peer_id, address=where)


if __name__ == "__main__":
    trio.run(main, ANYWHERE if "--listen" in sys.argv else ())
