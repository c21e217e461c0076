"""The program in a process of its own, with a service manager's socket for what it says, and with sockets passed."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from p2pboot.errors import P2PBootError
from p2pboot.testing.processes import LOOPBACK, PYTHON, Mesh, Node, environment
from p2pboot.testing.waiting import HANG_S, wait_until
from tests.integration.images import write_artifacts


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A service manager's socket, which the processes of the test are told of."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(HANG_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


def wait_for(receiver: socket.socket, happened: Callable[[Mapping[str, str]], bool]) -> dict[str, str]:
    """Read datagrams until one is what is waited for; all assignments up to there."""
    seen: dict[str, str] = {}
    while True:
        said = dict(line.split("=", 1) for line in receiver.recv(4096).decode().split("\n"))
        seen |= said
        if happened(said):
            return seen


def test_a_node_says_how_it_is_from_start_to_end(
    mesh: Mesh, artifacts: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    runtime = tmp_path / "run"
    runtime.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(runtime))
    node = mesh.serve(artifacts)
    wait_for(manager, lambda said: "READY" in said)
    wait_for(manager, lambda said: said.get("STATUS", "").startswith("working: offers 1 release, 0 peers"))
    wait_for(manager, lambda said: said.get("WATCHDOG") == "1")
    assert (runtime / "control.sock").is_socket()
    assert (node.state / "control.sock").is_symlink()
    assert len(node.status()["heads"]) == 1
    node.process.send_signal(signal.SIGHUP)
    wait_for(manager, lambda said: said.get("RELOADING") == "1" and int(said["MONOTONIC_USEC"]) > 0)
    wait_for(manager, lambda said: said.get("READY") == "1")
    assert node.stop() == 0
    wait_for(manager, lambda said: said.get("STOPPING") == "1")
    assert not list(runtime.iterdir())
    assert not (node.state / "control.sock").is_symlink()


def test_the_socket_that_a_killed_node_left_is_replaced(
    mesh: Mesh, artifacts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(runtime))
    mesh.serve(artifacts).stop(signal.SIGKILL)
    node = mesh.serve(artifacts)
    assert node.status()["peer_id"] == node.peer_id
    node.stop(signal.SIGKILL)
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    node = mesh.serve(artifacts)  # started by hand after that: no link leads to where it is not
    assert (node.state / "control.sock").is_socket()
    assert not (node.state / "control.sock").is_symlink()
    assert node.status()["peer_id"] == node.peer_id


def test_what_keeps_a_node_from_starting_is_its_status(
    mesh: Mesh, manager: socket.socket, tmp_path: Path
) -> None:
    file = tmp_path / "node.toml"
    file.write_text("[nonsense]\n")
    done = mesh.run("mirror", "--config", str(file))
    assert done.status == 2
    assert "nonsense" in wait_for(manager, lambda said: "STATUS" in said)["STATUS"]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_directory_with_nothing_is_waited_at_where_no_person_waits(
    mesh: Mesh, manager: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    empty = tmp_path / "images"
    if is_there:
        empty.mkdir()
    node = mesh.serve(empty)
    wait_for(manager, lambda said: "READY" in said)
    wait_for(manager, lambda said: str(empty) in said.get("STATUS", ""))
    write_artifacts(empty)
    done = mesh.run("publish", "--state", str(node.state))
    assert done.status == 0, done.stderr
    assert node.stop() == 0
    monkeypatch.delenv("NOTIFY_SOCKET")
    (tmp_path / "other").mkdir()
    refused = mesh.run("serve", str(tmp_path / "other"), "--state", str(tmp_path / "s"), "--no-mdns")
    assert refused.status == 2, "a person who types it is told at once"


def test_what_is_being_fetched_is_said_with_how_far_it_is(
    mesh: Mesh, artifacts: Path, manager: socket.socket
) -> None:
    trust = mesh.new_key("publisher")
    mirror = mesh.mirror(trust, "--max-download", "20KB/s")
    wait_for(
        manager, lambda said: said.get("STATUS", "").startswith("not ready: nothing is offered, 0 peers")
    )
    publisher = mesh.serve(artifacts, "--bootstrap", mirror.address)
    pattern = re.compile(r"not ready: nothing is offered, fetching stable/x86_64 \d+ %, 1 peer")
    wait_for(manager, lambda said: pattern.match(said.get("STATUS", "")) is not None)
    assert publisher.process.poll() is None


# -- sockets that were passed ------------------------------------------------------------------------------------------

# What a service manager does: listens, and has the sockets be the descriptors from 3 on in the process that it becomes.
_PASS = """
import os, socket, sys
names, hosts, told, *command = sys.argv[1:]
made = [socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        for host in hosts.split(",")]
with open(told, "w") as file:
    file.write(" ".join(str(one.getsockname()[1]) for one in made))
high = [os.dup2(one.fileno(), 100 + index, inheritable=True) for index, one in enumerate(made)]
for index, one in enumerate(high):
    os.dup2(one, 3 + index, inheritable=True)
    os.close(one)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(made)), "LISTEN_FDNAMES": names}
os.execv(command[0], command)
"""


def passing(mesh: Mesh, names: str, hosts: str, *arguments: str) -> tuple[Node, list[int]]:
    """Start a publisher that is passed sockets of these names on these hosts; their ports, too."""
    home = mesh.directory / "publisher"
    home.mkdir(exist_ok=True)
    told = mesh.directory / "ports"
    places = (
        "--key",
        str(home / "node.toml"),
        "--state",
        str(home / "state"),
        "--no-mdns",
        "--listen",
        LOOPBACK,
    )
    start = [sys.executable, "-c", _PASS, names, hosts, str(told), *PYTHON]
    node = mesh.node([*start, "serve", *arguments, *places], state=home / "state", log=home / "log")
    return node, [int(port) for port in told.read_text().split()]


def get(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return bytes(answer.read())


def test_a_socket_named_http_is_served_without_being_asked_for(mesh: Mesh, artifacts: Path) -> None:
    node, ports = passing(mesh, "http:http", "127.0.0.1,::1", str(artifacts))
    assert get(f"http://127.0.0.1:{ports[0]}/health") == get(f"http://[::1]:{ports[1]}/health") == b"ok\n"
    assert {*node.status()["http"]} == {f"http://127.0.0.1:{ports[0]}", f"http://[::1]:{ports[1]}"}


def test_the_sockets_that_are_named_are_taken_and_no_others(mesh: Mesh, artifacts: Path) -> None:
    node, ports = passing(mesh, "other:boot", "127.0.0.1,127.0.0.1", str(artifacts), "--http", "systemd:boot")
    assert get(f"http://127.0.0.1:{ports[1]}/health") == b"ok\n"
    assert node.status()["http"] == [f"http://127.0.0.1:{ports[1]}"]


def test_the_admin_address_can_be_passed_too_and_what_nobody_takes_is_said(
    mesh: Mesh, artifacts: Path
) -> None:
    hosts = "127.0.0.1,127.0.0.1,127.0.0.1"
    node, ports = passing(mesh, "http:admin:odd", hosts, str(artifacts), "--admin", "systemd:admin")
    assert get(f"http://127.0.0.1:{ports[0]}/health") == b"ok\n"
    assert json.loads(get(f"http://127.0.0.1:{ports[1]}/status"))["peer_id"] == node.peer_id
    assert "passed a socket named odd, and no setting names it" in node.log.read_text()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", ports[2])):
        pass


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (("--http", "systemd:boot"), "passed no socket named boot, only http"),
        (("--swarm-key", "swarm.key"), "the mesh is private, and the socket"),
    ],
)
def test_a_socket_that_can_not_be_served_is_refused(
    mesh: Mesh, artifacts: Path, arguments: tuple[str, ...], refusal: str
) -> None:
    assert mesh.run("key", "swarm", "swarm.key").status == 0
    with pytest.raises(P2PBootError) as caught:
        passing(mesh, "http", "0.0.0.0", str(artifacts), *arguments)
    assert refusal in str(caught.value)


def test_without_a_service_manager_its_sockets_can_not_be_asked_for(mesh: Mesh, artifacts: Path) -> None:
    done = mesh.run("serve", str(artifacts), "--http", "systemd", "--state", str(mesh.directory / "state"))
    assert done.status == 2
    assert "the service manager passed no socket" in done.stderr


def test_systemds_own_tool_passes_sockets(mesh: Mesh, artifacts: Path) -> None:
    tool = shutil.which("systemd-socket-activate") or pytest.skip(
        "systemd-socket-activate is not installed here"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home = mesh.directory / "publisher"
    home.mkdir()
    places = (
        "--key",
        str(home / "node.toml"),
        "--state",
        str(home / "state"),
        "--no-mdns",
        "--listen",
        LOOPBACK,
    )
    start = [tool, "-E", f"PYTHONPATH={environment()['PYTHONPATH']}", "-l", f"127.0.0.1:{port}"]
    log = home / "log"
    mesh.start([*start, *PYTHON, "serve", str(artifacts), "--http", "systemd", *places], log)
    wait_until(lambda: "Listening on" in log.read_text(), "it listens")
    assert get(f"http://127.0.0.1:{port}/health") == b"ok\n"  # this one starts the node, and waits for it
