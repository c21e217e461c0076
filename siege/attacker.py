"""One attack as a process: `python -m siege.attacker NAME TARGET NETWORK NICE`.

Prints a line once it is under way, and, when its standard input ends, what came of it as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

import trio

from siege.attacks import ATTACKS
from siege.target import Target

_PATIENCE_S = 10


async def _run(name: str, target: Target, network: int) -> None:
    attack = ATTACKS[name](target, network)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attack.run)
        with trio.move_on_after(_PATIENCE_S):  # a node that is well defended may never let it begin
            await attack.shown.wait()
        print(name, flush=True)
        await trio.lowlevel.wait_readable(sys.stdin.fileno())  # also when whoever laid siege is gone
        nursery.cancel_scope.cancel()
    print(json.dumps(attack.counts), flush=True)


def main() -> None:
    name, target, network, nice = sys.argv[1:]
    os.nice(int(nice))
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    trio.run(_run, name, Target.read(Path(target)), int(network))


if __name__ == "__main__":
    main()
