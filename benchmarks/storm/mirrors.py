"""Mirrors that run already, and hear of a new version by gossip: from its publication to its whole content at each."""

from __future__ import annotations

import os
import time
from hashlib import file_digest
from pathlib import Path
from typing import Final

from benchmarks.lab import Lab
from benchmarks.storm.contestants import P2PBoot
from benchmarks.storm.race import Client, Seen, Watch
from benchmarks.storm.rows import Row
from p2pboot.testing.artifacts import write_content
from p2pboot.testing.processes import Node
from p2pboot.testing.waiting import wait_until

_SETTLE_S: Final = 60.0
_PATIENCE_S: Final = 900.0
_LOOK_S: Final = 0.25
_TICK_S: Final = 0.05


def hear_of_a_version(contestant: P2PBoot, row: Row, lab: Lab, image: Path) -> Seen:
    """Have mirrors come up with what is published first, publish the image, and wait until all have it."""
    mirrors = {number: contestant.mirror(number) for number in row.client_numbers}
    for mirror in mirrors.values():
        mirror.wait_for_head(1)
    _settle(list(mirrors.values()))
    publisher = contestant.nodes()[0]
    new = image.parents[3] / "new"
    write_content(new, "version 2", row.size)
    with new.open("rb") as opened:
        digest = file_digest(opened, "sha256").hexdigest()
    took_s = {number: mirror.cpu_s() for number, mirror in mirrors.items()}
    os.replace(new, image)
    publisher.wait_for_head(2)  # it hashes the image first: what counts is from when others can hear of it
    watch, looks = Watch(lab.moved), []
    clients = [
        Client(number, 0.0, mirror.state / "blobs" / digest[:2] / digest)
        for number, mirror in mirrors.items()
    ]
    while any(client.done_s is None for client in clients) and watch.now < _PATIENCE_S:
        looks.append(watch.look())
        _until(watch, looks[-1].at_s + _LOOK_S, clients)
    looks.append(watch.look())
    for client in clients:
        client.cpu_s = mirrors[client.number].cpu_s() - took_s[client.number]
        client.peak_bytes = mirrors[client.number].peak_memory_kib() * 1024
    return Seen(clients, looks)


def _settle(mirrors: list[Node]) -> None:
    """Wait until all know all, or nobody gets to know any more."""
    everybody = len(mirrors)

    def known() -> bool:
        return all(len(mirror.status()["peers"]) >= everybody for mirror in mirrors)

    try:
        wait_until(known, "all mirrors know each other", every_s=1.0, within_s=_SETTLE_S)
    except TimeoutError:
        return


def _until(watch: Watch, end_s: float, clients: list[Client]) -> None:
    """Look for the image at each mirror again and again: a file that has its final name is whole."""
    while watch.now < end_s:
        waiting = [client for client in clients if client.done_s is None]
        if not waiting:
            return
        for client in waiting:
            if client.file.exists():
                client.done_s = watch.now
        time.sleep(_TICK_S)
