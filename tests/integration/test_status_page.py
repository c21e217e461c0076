"""The status page of real nodes, in a real browser."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.testing.processes import Mesh
from p2pboot.testing.waiting import wait_until
from tests.browser import Browser, browsing
from tests.integration.images import write_artifacts

HOSTILE = "<img src=//evil.example/x onerror=alert(1)>"


@pytest.fixture
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


def get(url: str) -> bytes:
    with urllib.request.urlopen(url) as reply:
        return bytes(reply.read())


def test_a_mirror_that_fetches_is_watched_from_the_first_piece_to_the_first_boot(
    mesh: Mesh, tmp_path: Path, browser: Browser
) -> None:
    images = write_artifacts(tmp_path / "images", rootfs_bytes=24 << 20)
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(images, "--name", HOSTILE)
    publisher.wait_for_head(1)
    mirror = mesh.mirror(
        trust, "--bootstrap", publisher.address, "--http", "127.0.0.1:0", "--max-download", "3MB/s"
    )
    status = mirror.status()
    url = status["admin"]
    page = browser.page()
    page.open(url)

    # While it comes: how much, from whom, and that it goes on, without a reload.
    page.wait_for("document.querySelector('#fetching progress')?.value > 0")
    page.evaluate("window.seen = document.querySelector('#fetching progress').value")
    page.wait_for("document.querySelector('#fetching progress')?.value > window.seen")
    page.wait_for("document.querySelector('#fetching .pieces path') !== null")
    peer = publisher.peer_id[-8:]
    assert f"…{peer}" in page.text("#peers")
    assert HOSTILE not in page.evaluate("document.body.innerHTML")

    # When it is here: the release with its digests, whose it is, and the graph of the bytes.
    page.wait_for("document.querySelector('#releases table') !== null")
    digests = {one["sha256"] for head in mirror.status()["heads"] for one in head["artifacts"]}
    shown = page.evaluate(
        "Array.from(document.querySelectorAll('#releases table .digest'), e => e.textContent)"
    )
    assert set(shown) == digests
    assert HOSTILE in page.text("#releases")
    page.wait_for("document.querySelector('#flows .graph path.publisher') !== null")
    page.wait_for("document.getElementById('fetching').innerText.includes('Nothing')")

    # Then a machine boots from it.
    for name in ("kernel", "initramfs"):
        get(f"{mirror.status()['http'][0]}/{name}")
    page.wait_for("document.querySelector('#clients table')?.innerText.includes('127.0.0.1')")

    # And the publisher goes away.
    publisher.stop()
    page.wait_for("document.getElementById('peers').innerText.includes('Nobody is connected')")
    assert page.complaints == []
    assert all(asked.startswith(f"{url}/") for asked in page.requests)
    assert sum(asked == f"{url}/" for asked in page.requests) == 1


def test_a_problem_appears_and_goes_on_an_open_page(mesh: Mesh, artifacts: Path, browser: Browser) -> None:
    publisher = mesh.serve(artifacts)
    publisher.wait_for_head(1)
    url = publisher.status()["admin"]
    page = browser.page()
    page.open(url)
    stray = artifacts / "not a channel"
    stray.mkdir()
    page.wait_for("document.getElementById('problems').innerText.includes('not a channel')")
    assert "What to do:" in page.text("#problems")
    page.evaluate("document.querySelector('#problems a').click()")
    page.wait_for("location.pathname === '/problems/unknown-directory'")
    page.evaluate("history.back()")
    page.wait_for("document.getElementById('problems')?.innerText.includes('not a channel')")
    stray.rmdir()
    page.wait_for("document.getElementById('problems').innerText.includes('None')")
    assert page.complaints == []


def test_two_nodes_on_one_machine_need_no_setting(mesh: Mesh, artifacts: Path) -> None:
    """Nobody names a port: the second takes another one, says so, and needs no --http."""
    first, second = (mesh.serve(artifacts, name=name, admin="") for name in ("one", "two"))
    urls = [node.status()["admin"] for node in (first, second)]
    assert len(set(urls)) == 2
    for node, url in zip((first, second), urls, strict=True):
        assert json.loads(get(f"{url}/status"))["peer_id"] == node.peer_id
        assert f"status page at {url}" in node.log.read_text()
    assert f"http://127.0.0.1:{second.status()['admin'].rpartition(':')[2]}" == urls[1]


def test_a_port_that_was_named_and_is_taken_is_an_error(mesh: Mesh, artifacts: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        done = mesh.run(
            *("serve", str(artifacts), "--admin", where, "--no-mdns"),
            *("--key", str(mesh.directory / "key.toml"), "--state", str(mesh.directory / "state")),
        )
    assert done.status != 0
    assert where in done.last_line
    assert "Traceback" not in done.stderr


def test_there_is_none_where_it_is_off(mesh: Mesh, artifacts: Path) -> None:
    node = mesh.serve(artifacts, admin="off")
    assert node.status()["admin"] is None
    assert "status page" not in node.log.read_text()


def test_those_who_watch_are_let_go_when_the_node_ends(mesh: Mesh, artifacts: Path) -> None:
    node = mesh.serve(artifacts)
    where = node.status()["admin"].removeprefix("http://").rpartition(":")
    with socket.create_connection((where[0], int(where[2]))) as watching:
        watching.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while b"event: status" not in received:
            received += watching.recv(65536)
        assert node.stop() == 0
        wait_until(lambda: not watching.recv(65536), "the end of the stream")
