"""What `fetch`, `discover` and `demo` refuse before they touch the network."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from p2pboot.core.addressbook import Entry, KnownAddress
from p2pboot.store.store import Store
from p2pboot.testing.manifests import ALICE
from tests.cli.conftest import Cli

TRUST = ("--trust", ALICE.public.keyid)
PAIR = ("--channel", "stable", "--arch", "arm64")
PEER = ("--bootstrap", "/ip4/127.0.0.1/tcp/1", "--no-mdns")


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        ((*PAIR, *PEER, "-o", "out"), 2, "no trusted key"),
        ((*TRUST, *PEER, "-o", "out"), 2, "--channel and --arch"),
        ((*TRUST, "--channel", "stable", *PEER, "-o", "out"), 2, "--channel and --arch"),
        ((*TRUST, *PAIR, *PEER), 2, "-o"),
        ((*TRUST, *PAIR, "--no-mdns", "-o", "out"), 3, "nobody to ask"),
        ((*TRUST, *PAIR, "--bootstrap", "localhost:4001", "-o", "out"), 2, "--bootstrap"),
        ((*TRUST, *PAIR, *PEER, "--timeout", "0", "-o", "out"), 2, "--timeout"),
        ((*TRUST, *PAIR, *PEER, "--threshold", "2", "-o", "out"), 2, "--threshold"),
        ((*TRUST, "--channel", "a/b", "--arch", "arm64", *PEER, "-o", "out"), 2, "--channel"),
        ((*TRUST, *PAIR, *PEER, "--key", "absent.toml", "-o", "out"), 2, "absent.toml"),
    ],
)
def test_fetch_refuses_before_it_makes_anything(
    cli: Cli, tmp_path: Path, args: tuple[str, ...], status: int, said: str
) -> None:
    done = cli("fetch", *args)
    assert done.status == status
    assert said in done.error_line
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("known", "said"), [(False, "nobody to ask"), (True, "no peer answered in time")])
def test_who_is_told_of_nobody_asks_whom_it_remembers(
    cli: Cli, tmp_path: Path, known: bool, said: str
) -> None:
    peer_id = ALICE.public.peer_id
    entry = Entry(peer_id, (KnownAddress(f"/ip4/127.0.0.1/tcp/1/p2p/{peer_id}", 1),))
    with Store.open(tmp_path / "state") as store:
        store.peers_of(None).save([entry] * known, ())
    args = ("--no-mdns", "--dht", "off", "--state", "state", "-o", "out", "--timeout", "0.1")
    done = cli("fetch", *TRUST, *PAIR, *args)
    assert done.status == 3
    assert said in done.error_line


@pytest.mark.parametrize("command", [("fetch", *PAIR), ("snapshot", "sync")])
@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (("--serve", "friends"), 2, "--serve"),
        (("--serve", "no", "--linger", "forever"), 2, "--linger"),
        (("--serve", "no", "--listen", "/ip4/127.0.0.1/tcp/0"), 2, "--listen"),
        (("--linger", "soon"), 2, "until-idle"),
        (("--listen", "localhost:4001"), 2, "--listen"),
        (("--listen", "/ip4/127.0.0.1/tcp/{taken}"), 4, "port {taken} is in use"),
    ],
)
def test_what_can_not_be_shared_so_is_refused_in_a_line(
    cli: Cli, command: tuple[str, ...], args: tuple[str, ...], status: int, said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        filled = (text.replace("{taken}", port) for text in args)
        done = cli(*command, *TRUST, *PEER, "-o", "out", *filled)
    assert done.status == status
    assert said.replace("{taken}", port) in done.error_line
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (("--no-mdns",), 3, "nobody to ask"),
        (("--bootstrap", "junk"), 2, "--bootstrap"),
        (("--trust", "junk", *PEER), 2, "--trust"),
        (("--arch", "mips", *PEER), 2, "--arch"),
    ],
)
def test_discover_refuses_what_can_not_work(cli: Cli, args: tuple[str, ...], status: int, said: str) -> None:
    done = cli("discover", *args, "--json")
    assert done.status == status
    assert said in done.error_line
    assert done.document["exit_status"] == status


def test_demo_does_not_write_among_other_files(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("x")
    done = cli("demo", "--directory", "mine")
    assert done.status == 2
    assert "mine" in done.error_line
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]
