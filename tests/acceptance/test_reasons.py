"""What a person and a script are told when nothing comes: which peer, and why, in that peer's words."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Images, Key, make_key
from tests.acceptance.program import (
    AS_MUCH,
    LOOPBACK,
    Program,
    Running,
    assert_clear,
    assert_json_failure,
    content,
    wait_until,
    write_image,
)

PAIR = ("--channel", "stable", "--arch", "arm64")
ELSEWHERE = ("--channel", "stabel", "--arch", "arm64")
NETWORK = ("--no-mdns", "--listen", LOOPBACK)


def serve(program: Program, image: Path, key: Key, state: Path, *more: object) -> Running:
    node = program.start("serve", image, *PAIR, "--key", key.path, "--state", state, *NETWORK, *more)
    node.first_line()
    program.ok("publish", "--state", state)
    return node


def status(program: Program, state: Path) -> Any:
    return program.ok("status", "--state", state, "--json").document


def ask(program: Program, command: str, *args: object, nodes: tuple[Running, ...]) -> Any:
    """Run a command of a client that has to fail; its JSON document."""
    addresses = [part for node in nodes for part in ("--bootstrap", node.first_line())]
    done = program.run(command, *args, *addresses, "--no-mdns", "--json")
    assert_clear(done)
    return assert_json_failure(done, done.status)


def test_mirror_whose_publisher_is_gone_says_that_its_manifest_expired(
    program: Program, alice: Key, images: Images, tmp_path: Path
) -> None:
    publisher = serve(program, images.one, alice, tmp_path / "s", "--expires-in", "15s")
    bob = make_key(program, tmp_path / "mirror.toml")
    follow = ("mirror", *PAIR, "--trust", alice.keyid, "--bootstrap", publisher.first_line(), *AS_MUCH)
    mirror = program.start(*follow, "--key", bob.path, "--state", tmp_path / "m", *NETWORK)
    mirror.first_line()
    wait_until(lambda: bool(status(program, tmp_path / "m")["heads"]), "the mirror has it")
    publisher.signal(signal.SIGKILL)
    publisher.wait()
    wait_until(lambda: bool(status(program, tmp_path / "m")["withheld"]), "it expires")

    found = ask(program, "discover", "--timeout", "60", nodes=(mirror,))
    wanted = (*PAIR, "--trust", alice.keyid, "-o", tmp_path / "out", "--timeout", "10")
    fetched = ask(program, "fetch", *wanted, nodes=(mirror,))
    typed = ask(program, "discover", *PAIR, "--timeout", "60", nodes=(mirror,))
    for document in (found, fetched, typed):
        assert document["exit_status"] == 3
        assert f"peer {bob.peer_id} knows stable/arm64 but does not offer it" in document["error"]
        assert "expired at 20" in document["error"]
        assert "publisher" in document["remedy"]
        assert "--channel" not in document["remedy"]
        (told,) = document["peers"][bob.peer_id]["withheld"]
        assert (told["channel"], told["arch"], told["reason"]) == ("stable", "arm64", "expired")
    shown = program.ok("status", "--state", tmp_path / "m").stdout.decode()
    assert "offers" not in shown
    assert "withheld   stable/arm64: manifest version" in shown


def test_discover_lists_what_is_withheld_beside_what_is_offered(
    program: Program, alice: Key, images: Images, tmp_path: Path
) -> None:
    """And a channel that was mistyped is seen at once; options that were not given are not spoken of."""
    node = serve(program, images.one, alice, tmp_path / "s")
    found = ask(program, "discover", *ELSEWHERE[:2], "--timeout", "60", nodes=(node,))
    assert f"peer {alice.peer_id} has stable/arm64" in found["error"]
    assert "--channel" in found["remedy"]
    assert "--arch" not in found["remedy"]
    assert found["peers"][alice.peer_id]["elsewhere"] == ["stable/arm64"]
    args = (*ELSEWHERE, "--trust", alice.keyid, "-o", tmp_path / "out", "--timeout", "10")
    fetched = ask(program, "fetch", *args, nodes=(node,))
    assert "none of 1 peers has a manifest for stabel/arm64: peer" in fetched["error"]
    assert f"peer {alice.peer_id} has stable/arm64" in fetched["error"]
    assert "--channel and --arch" in fetched["remedy"]

    document = program.ok(
        "discover", "--bootstrap", node.first_line(), "--no-mdns", "--timeout", "60", "--json"
    ).document
    assert document["providers"][0]["withheld"] == []


def begin_fetch(program: Program, alice: Key, node: Running, state: Path, output: Path) -> Running:
    """A fetch that is under way from a node with an upload limit."""
    wanted = ("fetch", *PAIR, "--trust", alice.keyid, "-o", output, "--timeout", "10")
    fetch = program.start(*wanted, "--bootstrap", node.first_line(), "--no-mdns", "--json")
    wait_until(
        lambda: sum(status(program, state)["bytes_sent"].values()) > 2_000_000 or fetch.poll() is not None,
        "a part of it",
    )
    assert fetch.poll() is None, fetch.err.read_text()
    return fetch


def test_publisher_that_is_killed_in_the_middle_is_named(
    program: Program, alice: Key, images: Images, tmp_path: Path
) -> None:
    node = serve(program, images.large, alice, tmp_path / "s", "--max-upload", "1MB/s")
    fetch = begin_fetch(program, alice, node, tmp_path / "s", tmp_path / "out")
    node.signal(signal.SIGKILL)
    node.wait()
    done = fetch.wait()
    assert_clear(done, f"peer {alice.peer_id}: connection lost", "rootfs (", "kB are here", "resumes")
    document = assert_json_failure(done, 3)
    assert document["peers"] == {
        alice.peer_id: {"withheld": [], "elsewhere": [], "failure": "connection lost"}
    }
    missing = document["missing"]["rootfs"]
    assert 0 < missing["done_bytes"] < missing["size"] == 8 << 20


@pytest.mark.parametrize("how", ["truncated", "replaced"])
def test_file_that_changes_under_the_publisher_is_told(
    program: Program, alice: Key, tmp_path: Path, how: str
) -> None:
    image = write_image(tmp_path / "image", rootfs=8 << 20)
    node = serve(program, image, alice, tmp_path / "s", "--max-upload", "1MB/s")
    fetch = begin_fetch(program, alice, node, tmp_path / "s", tmp_path / "out")
    rootfs = image / "rootfs.squashfs"
    if how == "truncated":
        os.truncate(rootfs, 1 << 20)
    else:
        (image / ".new").write_bytes(content("another", 8 << 20))
        (image / ".new").rename(rootfs)
    done = fetch.wait()
    assert_clear(
        done, "no peer delivers rootfs (", f"peer {alice.peer_id}: does not have these pieces any more"
    )
    document = assert_json_failure(done, 1)
    assert "its file changed" in document["peers"][alice.peer_id]["failure"]
    assert str(tmp_path) not in document["error"]
