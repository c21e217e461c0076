"""Real nodes on machines whose addresses come late, change, or can not be listed."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from p2pboot.testing.processes import PYTHON, Mesh, Node, first_line, mesh_in
from p2pboot.testing.waiting import wait_until
from tests.integration.images import write_artifacts
from tests.transport.namespaces import namespace

DHCP_ANSWERS = (
    "link add eth0 type veth peer name far",
    "link set eth0 up",
    "link set far up",
    "addr add 192.168.77.1/24 dev eth0",
)

# What systemd's RestrictAddressFamilies= without AF_NETLINK does: socket(AF_NETLINK, …) fails.
CAGE = r"""
import ctypes, os, platform, struct, sys
number, machine = {"x86_64": (41, 0xC000003E), "aarch64": (198, 0xC00000B7)}[platform.machine()]
program = [(0x20, 0, 0, 4), (0x15, 0, 5, machine), (0x20, 0, 0, 0), (0x15, 0, 3, number), (0x20, 0, 0, 16),
           (0x15, 0, 1, 16), (0x06, 0, 0, 0x00050000 | 97), (0x06, 0, 0, 0x7FFF0000)]
code = b"".join(struct.pack("HBBI", *line) for line in program)
buffer = ctypes.create_string_buffer(code)
class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(Program(len(program), ctypes.addressof(buffer))), 0, 0):
    sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
"""


def serve(mesh: Mesh, *arguments: str, before: list[str]) -> Node:
    artifacts = write_artifacts(mesh.directory / "artifacts")
    home = mesh.directory / "publisher"
    home.mkdir()
    own = ["--key", str(home / "node.toml"), "--state", str(home / "state")]
    process = mesh.start([*before, *PYTHON, "serve", str(artifacts), *own, *arguments], home / "log")
    return Node(process, first_line(process, home / "log"), home / "state", home / "log")


def signed_urls(inside: list[str], port: int) -> list[str]:
    """The URLs of the manifest that is offered; none while there is none."""
    get = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/manifest.json').read().decode())"
    done = subprocess.run([*inside, sys.executable, "-c", get], capture_output=True, check=False)
    manifest: dict[str, Any] = json.loads(done.stdout or b'{"artifacts": {}}')
    return [url for artifact in manifest["artifacts"].values() for url in artifact.get("urls", ())]


def test_what_is_served_before_the_network_is_there_follows_it(tmp_path: Path) -> None:
    with namespace() as inside, mesh_in(tmp_path) as mesh:
        node = serve(mesh, "--http", "0.0.0.0:8080", "--no-mdns", before=inside)
        assert node.address.startswith("/ip4/127.0.0.1/tcp/4001/p2p/")
        node.wait_for_head(1)
        assert signed_urls(inside, 8080) == []  # and not one of loopback
        for command in DHCP_ANSWERS:
            subprocess.run(["ip", "-n", inside[-1], *command.split()], check=True)
        assert first_line(node.process, node.log) == f"/ip4/192.168.77.1/tcp/4001/p2p/{node.peer_id}"
        node.wait_for_head(2)
        urls = signed_urls(inside, 8080)
        assert urls
        assert all(url.startswith("http://192.168.77.1:8080/blobs/") for url in urls)
        assert node.status()["addresses"] == [f"/ip4/192.168.77.1/tcp/4001/p2p/{node.peer_id}"]
        assert "reachable at /ip4/192.168.77.1" in node.log.read_text()


def test_a_node_whose_first_line_was_enough_for_its_reader_goes_on(tmp_path: Path) -> None:
    with namespace() as inside, mesh_in(tmp_path) as mesh:
        node = serve(mesh, "--no-mdns", before=inside)
        assert node.process.stdout is not None
        node.process.stdout.close()  # as `head -n 1` does
        for command in DHCP_ANSWERS:
            subprocess.run(["ip", "-n", inside[-1], *command.split()], check=True)
        wait_until(lambda: "reachable at /ip4/192.168.77.1" in node.log.read_text(), "the second line")
        assert node.status()["peer_id"] == node.peer_id
        assert node.stop() == 0


@pytest.mark.skipif(
    platform.machine() not in {"x86_64", "aarch64"}, reason="the cage knows two machines' system calls"
)
@pytest.mark.parametrize("listen", ["/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0", "/ip4/127.0.0.1/tcp/0"])
def test_without_netlink_a_node_runs_and_says_what_it_is_kept_from(tmp_path: Path, listen: str) -> None:
    cage = [sys.executable, "-c", CAGE]
    if subprocess.run([*cage, "/bin/true"], check=False).returncode != 0:
        pytest.skip("no seccomp here")
    with mesh_in(tmp_path) as mesh:
        node = serve(mesh, "--listen", listen, "--http", "127.0.0.1:0", "--no-mdns", before=cage)
        node.wait_for_head(1)
        wildcard = "127.0.0.1" not in listen
        codes = [problem["code"] for problem in node.status()["problems"]]
        codes = [code for code in codes if code != "still-changing"]  # the files were written a moment ago
        assert codes == (["interfaces"] if wildcard else [])  # nothing had to be listed for one address
        assert node.log.read_text().count("AF_NETLINK") == (
            2 if wildcard else 0
        )  # one line: what, and the remedy
        (url,) = node.status()["http"]
        with urllib.request.urlopen(f"{url}/health") as reply:
            assert reply.status == 200
        # mDNS is on, as by default: at most one line, and it works.
        order = ["fetch", "--channel", "stable", "--arch", "x86_64", "--trust", mesh.keyid("publisher")]
        order += ["--bootstrap", node.address, "-o", str(tmp_path / "boot"), "--timeout", "40", "--quiet"]
        fetched = subprocess.run(
            [*cage, *PYTHON, *order],
            capture_output=True,
            cwd=tmp_path,
            check=False,
        )
        assert fetched.returncode == 0, fetched.stderr
        assert len(fetched.stderr.decode().splitlines()) <= 1
        assert node.stop() == 0
