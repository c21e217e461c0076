"""`python -m siege`: what each attack costs one node, alone and all of them together.

    python -m siege                     each alone for six seconds, then all at once for ten minutes
    python -m siege NAME… --seconds 10  these alone, ten seconds each
    python -m siege NAME… --together    these at once
    python -m siege --list              what there is

Each kind of room has a node and a table of its own: the network of all, a private mesh, and,
with root, a local network.
Ratios are to the quiet minutes of the same run; a busy machine is slow in both.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.lab import Lab, missing
from siege.attacks import ATTACKS
from siege.campaign import Campaign, Window
from siege.report import described, render
from siege.room import room_in
from siege.target import LAN, MIB, OPEN, PRIVATE

_ATTACKERS = "P2PBOOT_SIEGE_ATTACKERS"
"""What begins the command lines of those who are on another machine, as JSON; set by this program for itself."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m siege", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of attacks  [default: all]")
    parser.add_argument("--seconds", type=float, help="of each attack; of all together  [default: 6; 600]")
    parser.add_argument(
        "--each", type=float, default=6, help="of each alone before all at once  [default: 6]"
    )
    parser.add_argument("--quiet-seconds", type=float, default=10, help="of the baseline  [default: 10]")
    parser.add_argument("--together", action="store_true", help="those named at once, not one by one")
    parser.add_argument("--mib", type=int, default=48, help="of the image's largest artifact  [default: 48]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--list", action="store_true", help="name the attacks and end")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in ATTACKS]
    if unknown:
        parser.error(f"no attack is called {', '.join(unknown)}; --list names them")
    return arguments


def main() -> None:
    arguments = _arguments()
    if arguments.list:
        print(described(ATTACKS.values()))
        return
    # Whoever ends this early gets the figures so far, and no process is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended early"))
    windows: list[Window] = []
    try:
        for kind in (OPEN, PRIVATE, LAN):
            names = [name for name in arguments.names or ATTACKS if ATTACKS[name].room == kind]
            if names and kind == LAN and _ATTACKERS not in os.environ:
                _besiege_on_a_lan(names)
            elif names:
                _besiege(kind, names, arguments, windows)
    finally:
        if arguments.json:
            arguments.json.write_text(json.dumps([window.document for window in windows], indent=2))


def _besiege_on_a_lan(names: Sequence[str]) -> None:
    """Do it on a machine of a network that is made for it; attackers are on another one."""
    if why := missing():
        print(f"{', '.join(names)}: left out, {why}", file=sys.stderr)
        return
    with Lab().open() as lab:
        for number in (1, 2):
            lab.machine(number)
        network = lab.address(2).rpartition(".")[0]
        for last in (*range(100, 108), 250):
            address = f"{network}.{last}/24"
            subprocess.run([*lab.inside(2), "ip", "addr", "add", address, "dev", "net0"], check=True)
        options = [argument for argument in sys.argv[1:] if argument not in ATTACKS]
        command = [*lab.inside(1), sys.executable, "-m", "siege", *names, *options]
        told = {_ATTACKERS: json.dumps(lab.inside(2))}
        subprocess.run(command, check=False, env={**os.environ, **told})


def _besiege(kind: str, names: Sequence[str], arguments: argparse.Namespace, windows: list[Window]) -> None:
    """Lay siege to one node in one kind of room, print what came of it, and add it to `windows`."""
    with (
        tempfile.TemporaryDirectory(prefix="p2pboot-siege-") as scratch,
        room_in(Path(scratch), arguments.mib * MIB, kind) as room,
        Campaign(room, json.loads(os.environ.get(_ATTACKERS, "[]"))).begun() as campaign,
    ):
        try:
            campaign.quiet("quiet", arguments.quiet_seconds)
            if not arguments.together:
                each = arguments.seconds if arguments.names and arguments.seconds else arguments.each
                for name in names:
                    campaign.attack(name, [name], each)
            if arguments.together or (kind == OPEN and not arguments.names):
                campaign.attack("all at once", names, arguments.seconds or 600)
            campaign.quiet("quiet again", arguments.quiet_seconds)
        finally:
            print(render(campaign.windows), file=sys.stdout, flush=True)
            windows += campaign.windows


if __name__ == "__main__":
    main()
