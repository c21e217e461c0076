"""How long it takes until one finds the other on a local network: `python -m tests.interop.times`; root.

From when the second of two says that it is there until each has found the other; in seconds, the middle and the
longest of some runs. The peers of other languages are those that `make interop` builds.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.interop.peers import peer
from tests.lan import network

RUNS = 3
IPV4, IPV6 = "addr add 192.0.2.{}/24 dev eth0", "addr add fd00:77::{}/64 dev eth0 nodad"
ROUTE = {IPV4: "route add default via 192.0.2.254", IPV6: "route add default via fd00:77::ff"}
CASES = (
    *(("ours", "ours", family) for family in (IPV4, IPV6, "")),
    *(("ours", "go", family) for family in (IPV4, IPV6)),
    *(("go", "ours", family) for family in (IPV4, IPV6)),
    ("ours", "js", IPV4),
    ("js", "ours", IPV4),
)


def once(first: str, second: str, family: str, log: Path) -> float:
    """Seconds until each has found the other."""

    def start(language: str, machine: str) -> object:
        arguments = ("ours", "--listen") if language == "ours" else ("mdns",)
        return peer(language, *arguments, inside=net.inside(machine), log=log)

    with network(("a", "b")) as net:
        for number, machine in enumerate("ab", start=1):
            net.plug(machine)
            if family:
                net.ip(machine, family.format(number))
                net.ip(machine, ROUTE[family])
        with start(first, "a") as one:  # type: ignore[attr-defined]
            its = one.wait_for(id=...)["id"]
            time.sleep(2.5)  # it has said what it says unasked
            with start(second, "b") as other:  # type: ignore[attr-defined]
                others = other.wait_for(id=...)["id"]
                began = time.monotonic()
                other.wait_for(found=its)
                one.wait_for(found=others)
                return time.monotonic() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        for first, second, family in CASES:
            seconds = [once(first, second, family, Path(directory) / "log") for _ in range(RUNS)]
            over = {IPV4: "IPv4", IPV6: "IPv6", "": "link-local"}[family]
            print(f"{first} then {second} over {over}: {statistics.median(seconds):.2f} {max(seconds):.2f}")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
