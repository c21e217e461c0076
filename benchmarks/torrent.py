"""A transfer by libtorrent, the fastest one that is at hand. One end of it, as a process.

    python -m benchmarks.torrent serve FILE TORRENT
    python -m benchmarks.torrent receive HOST:PORT TORRENT DIRECTORY [sync]

TCP only, without encryption, discovery of peers or limits. `serve` writes the torrent, of version 2: SHA-256, as our
manifests have it. `receive` ends when everything is checked and in the file; with `sync`, when it is on the disk.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
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


def _session() -> Any:
    import libtorrent

    return libtorrent.session(_SETTINGS)


def _await(session: Any, alert_type: type) -> Any:
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, alert_type):
                return alert


def _serve(file: Path, torrent: Path) -> None:
    import libtorrent as lt

    created = lt.create_torrent(lt.list_files(str(file)), MIB, lt.create_torrent.v2_only)
    lt.set_piece_hashes(created, str(file.parent))
    torrent.write_bytes(lt.bencode(created.generate()))
    session = _session()
    wanted = lt.load_torrent_file(str(torrent))
    wanted.save_path = str(file.parent)
    wanted.flags |= lt.torrent_flags.seed_mode
    session.add_torrent(wanted)
    print(f"127.0.0.1:{session.listen_port()}", flush=True)
    while True:
        time.sleep(3600)


def _receive(address: str, torrent: Path, directory: Path, *, sync: bool) -> None:
    import libtorrent as lt

    session = _session()
    wanted = lt.load_torrent_file(str(torrent))
    wanted.save_path = str(directory)
    handle = session.add_torrent(wanted)
    host, _, port = address.rpartition(":")
    handle.connect_peer((host, int(port)))
    _await(session, lt.torrent_finished_alert)
    handle.flush_cache()
    _await(session, lt.cache_flushed_alert)
    if sync:
        name = handle.torrent_file().name()
        with (directory / name).open("rb") as file:
            os.fsync(file.fileno())
    print("{}", flush=True)


def main(arguments: Sequence[str]) -> None:
    match arguments:
        case ["serve", file, torrent]:
            _serve(Path(file), Path(torrent))
        case ["receive", address, torrent, directory, *sync]:
            _receive(address, Path(torrent), Path(directory), sync=sync == ["sync"])
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
