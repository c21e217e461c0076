"""A transfer by libtorrent, the fastest one that is at hand. One end of it, as a process.

    python -m benchmarks.torrent serve FILE TORRENT
    python -m benchmarks.torrent receive HOST:PORT TORRENT DIRECTORY [sync]
    python -m benchmarks.torrent seed FILE TORRENT HOST:PORT
    python -m benchmarks.torrent join HOST:PORT TORRENT DIRECTORY HOST:PORT...

TCP only, without encryption, discovery of peers or limits. `serve` writes the torrent, of version 2: SHA-256, as our
manifests have it. `receive` ends when everything is checked and in the file; with `sync`, when it is on the disk.

`seed` and `join` are for many who start together, and tuned for that: all pieces in random order from the first, short
queues of requests, and a seed that gives to everybody. `join` listens on its first address, knows the others, prints a
document when it is whole and goes on serving.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.results import MIB

_SETTINGS = {
    "listen_interfaces": "127.0.0.1:0",
    "alert_mask": 1
    + 8
    + 64,  # errors, storage, status: what is waited for. Logs of every message cost it half its speed
    "allow_multiple_connections_per_ip": True,
    "in_enc_policy": 2,
    "out_enc_policy": 2,
    **dict.fromkeys(
        (
            "enable_dht",
            "enable_lsd",
            "enable_upnp",
            "enable_natpmp",
            "enable_incoming_utp",
            "enable_outgoing_utp",
        ),
        False,
    ),
}


MISSING = "`pip install --group bench` installs it"


def is_installed() -> bool:
    """Whether libtorrent is there."""
    return find_spec("libtorrent") is not None


_TOGETHER = {"initial_picker_threshold": 0, "auto_sequential": False, "request_queue_time": 1}
_SEED = {"seed_choking_algorithm": 1, "unchoke_slots_limit": -1}
_PIECE_TOGETHER = 256 << 10


def _libtorrent() -> Any:
    return import_module("libtorrent")


def _session(**more: Any) -> Any:
    return _libtorrent().session({**_SETTINGS, **more})


def _await(session: Any, alert_type: type) -> Any:
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, alert_type):
                return alert


def _serve(file: Path, torrent: Path, piece_length: int, **more: Any) -> None:
    lt = _libtorrent()

    created = lt.create_torrent(lt.list_files(str(file)), piece_length, lt.create_torrent.v2_only)
    lt.set_piece_hashes(created, str(file.parent))
    torrent.write_bytes(lt.bencode(created.generate()))
    session = _session(**more)
    wanted = lt.load_torrent_file(str(torrent))
    wanted.save_path = str(file.parent)
    wanted.flags |= lt.torrent_flags.seed_mode
    session.add_torrent(wanted)
    print(f"127.0.0.1:{session.listen_port()}", flush=True)
    while True:
        time.sleep(3600)


def _take(session: Any, torrent: Path, directory: Path, addresses: Sequence[str]) -> Any:
    """Fetch from these until everything is checked and in the file."""
    lt = _libtorrent()

    wanted = lt.load_torrent_file(str(torrent))
    wanted.save_path = str(directory)
    handle = session.add_torrent(wanted)
    for address in addresses:
        host, _, port = address.rpartition(":")
        handle.connect_peer((host, int(port)))
    _await(session, lt.torrent_finished_alert)
    handle.flush_cache()
    _await(session, lt.cache_flushed_alert)
    return handle


def _receive(address: str, torrent: Path, directory: Path, *, sync: bool) -> None:
    handle = _take(_session(), torrent, directory, [address])
    if sync:
        name = handle.torrent_file().name()
        with (directory / name).open("rb") as file:
            os.fsync(file.fileno())
    print("{}", flush=True)


def _join(own: str, torrent: Path, directory: Path, addresses: Sequence[str]) -> None:
    session = _session(listen_interfaces=own, **_TOGETHER)
    _take(session, torrent, directory, [address for address in addresses if address != own])
    print("{}", flush=True)
    while True:
        time.sleep(3600)


def main(arguments: Sequence[str]) -> None:
    match arguments:
        case ["serve", file, torrent]:
            _serve(Path(file), Path(torrent), MIB)
        case ["receive", address, torrent, directory, *sync]:
            _receive(address, Path(torrent), Path(directory), sync=sync == ["sync"])
        case ["seed", file, torrent, own]:
            _serve(Path(file), Path(torrent), _PIECE_TOGETHER, listen_interfaces=own, **_TOGETHER, **_SEED)
        case ["join", own, torrent, directory, *addresses]:
            _join(own, Path(torrent), Path(directory), addresses)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
