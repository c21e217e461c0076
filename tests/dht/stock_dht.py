"""py-libp2p's KadDHT exactly as it comes, as a process of its own: `python -m tests.dht.stock_dht`.

It prints its address, then does what it is told on standard input, a command each line, and prints one line for each:

    dial ADDRESS | put KEY VALUE | get KEY | provide CID | find CID
"""

from __future__ import annotations

import sys

import trio
from libp2p import new_host
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.records.ipns import IPNSValidator
from libp2p.records.pubkey import PublicKeyValidator
from libp2p.records.validator import NamespacedValidator, Validator
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr


class Anything(Validator):
    """Takes any value, and of several the first."""

    def validate(self, key: str, value: bytes) -> None:
        pass

    def select(self, key: str, values: list[bytes]) -> int:
        return 0


async def main() -> None:
    host = new_host()
    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        validator = NamespacedValidator(
            {"pk": PublicKeyValidator(), "ipns": IPNSValidator(), "phase": Anything()}, strict_validation=True
        )
        dht = KadDHT(host, DHTMode.SERVER, validator=validator, strict_validation=True)
        async with background_trio_service(dht):
            print(host.get_addrs()[0], flush=True)
            lines = trio.wrap_file(sys.stdin)
            async for line in lines:
                match line.split():
                    case ["dial", address]:
                        peer = info_from_p2p_addr(Multiaddr(address))
                        await host.connect(peer)
                        await dht.add_peer(peer.peer_id, skip_server_mode_check=True)
                        print("dialled", flush=True)
                    case ["put", key, value]:
                        await dht.put_value(key, value.encode())
                        print("put", flush=True)
                    case ["get", key]:
                        found = await dht.get_value(key)
                        print("nothing" if found is None else found.decode(), flush=True)
                    case ["provide", cid]:
                        print(await dht.provide(cid), flush=True)
                    case ["find", cid]:
                        peers = await dht.find_providers(cid)
                        print(",".join(sorted({str(peer.peer_id) for peer in peers})) or "nobody", flush=True)
            await trio.sleep_forever()  # nobody tells it anything any more


if __name__ == "__main__":
    trio.run(main)
