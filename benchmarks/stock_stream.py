"""A raw stream of py-libp2p as it comes: Noise and Yamux, none of our changes. One end of it, as a process.

    python -m benchmarks.stock_stream serve
    python -m benchmarks.stock_stream receive MULTIADDR BYTES

`p2pboot.transport` is not imported here: what it replaces in the library would be measured instead.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.processes import ROOT


def _stand_in_for_fastecdsa() -> None:
    """Load this one file by its path; its package would bring our transport along."""
    path = ROOT / "p2pboot" / "transport" / "libp2p" / "fastecdsa_standin.py"
    spec = importlib.util.spec_from_file_location("fastecdsa_standin", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.install_if_missing()


_stand_in_for_fastecdsa()

import trio  # noqa: E402
from libp2p import new_host  # noqa: E402
from libp2p.crypto.ed25519 import create_new_key_pair  # noqa: E402
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair  # noqa: E402
from libp2p.custom_types import TProtocol  # noqa: E402
from libp2p.peer.peerinfo import info_from_p2p_addr  # noqa: E402
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE  # noqa: E402
from libp2p.security.noise.transport import Transport as Noise  # noqa: E402
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX  # noqa: E402
from libp2p.stream_muxer.yamux.yamux import Yamux  # noqa: E402
from multiaddr import Multiaddr  # noqa: E402

from benchmarks.bulk import PROTOCOL, receive, serve  # noqa: E402


def _host() -> Any:
    key_pair = create_new_key_pair()
    noise = Noise(key_pair, noise_privkey=create_noise_key_pair().private_key)
    return new_host(key_pair=key_pair, sec_opt={NOISE: noise}, muxer_opt={TProtocol(YAMUX): Yamux})


async def _serve() -> None:
    host = _host()
    host.set_stream_handler(TProtocol(PROTOCOL), serve)
    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        print(host.get_addrs()[0], flush=True)
        await trio.sleep_forever()


async def _receive(address: str, size: int) -> None:
    host = _host()
    async with host.run([]):
        peer = info_from_p2p_addr(Multiaddr(address))
        await host.connect(peer)
        stream = await host.new_stream(peer.peer_id, [TProtocol(PROTOCOL)])
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
