"""Running nodes: their first line, signals, the control socket, settings, discovery."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pboot.testing.waiting import HANG_S
from tests.acceptance.conftest import Images, Key, make_key
from tests.acceptance.program import (
    AS_MUCH,
    LOOPBACK,
    ROOT,
    Program,
    assert_clear,
    assert_json_failure,
    wait_until,
    write_image,
)

PAIR = ("--channel", "stable", "--arch", "arm64")
ADDRESS = re.compile(r"/ip4/127\.0\.0\.1/tcp/([1-9][0-9]*)/p2p/(12D3KooW\w{44})")


def heads(program: Program, state: Path) -> list[dict[str, Any]]:
    return list(program.ok("status", "--state", state, "--json").document["heads"])


def ageless(heads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``heads`` without what each node says of them when it is asked: ages, and what it calls the publisher."""
    own = {"age_s", "expires_in_s", "publisher"}
    return [{name: value for name, value in head.items() if name not in own} for head in heads]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_line_and_last_breath(
    program: Program, alice: Key, images: Images, tmp_path: Path, number: signal.Signals
) -> None:
    network = ("--no-mdns", "--listen", LOOPBACK)
    serve = ("serve", images.plain, *PAIR, "--key", alice.path, "--state", tmp_path / "s", *network)
    publisher = program.start(*serve)
    match = ADDRESS.fullmatch(publisher.first_line())
    assert match
    assert match[2] == alice.peer_id
    with socket.create_connection(("127.0.0.1", int(match[1]))):
        pass
    follow = (
        "mirror",
        *PAIR,
        "--trust",
        alice.keyid,
        "--bootstrap",
        publisher.first_line(),
        *network,
        *AS_MUCH,
    )
    mirror = program.start(*follow, "--key", tmp_path / "m.toml", "--state", tmp_path / "m")
    assert ADDRESS.fullmatch(mirror.first_line())
    wait_until(lambda: bool(heads(program, tmp_path / "m")), "the mirror has it")
    assert ageless(heads(program, tmp_path / "m")) == ageless(heads(program, tmp_path / "s"))
    for node in (mirror, publisher):
        node.signal(number)
        done = node.wait()
        assert done.status == 0, done
        assert len(done.stdout.splitlines()) == 1
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
    assert not (tmp_path / "s" / "control.sock").exists()


def test_publish_speaks_to_the_running_node(program: Program, alice: Key, tmp_path: Path) -> None:
    image = write_image(tmp_path / "image", rootfs=0)
    state = ("--state", tmp_path / "s")
    program.refuses(3, "running", args=("publish", *state))
    assert_json_failure(program.run("publish", *state, "--json"), 3)
    assert_json_failure(program.run("status", *state, "--json"), 3)
    network = ("--no-mdns", "--listen", LOOPBACK)
    node = program.start("serve", image, *PAIR, "--key", alice.path, *state, *network)
    node.first_line()
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "s" / "control.sock").stat().st_mode & 0o777 == 0o600
    first = program.ok("publish", image, *state, "--json").document["published"]
    assert [entry["manifest_version"] for entry in first] == [1]
    again = program.ok("publish", *state)
    assert b"unchanged" in again.stdout
    (image / "vmlinuz-6.1").write_bytes(b"another kernel")
    assert b"manifest version 2" in program.ok("publish", *state).stdout
    done = program.run("publish", tmp_path, *state)
    assert done.status == 2
    assert_clear(done, str(tmp_path), str(image))
    (image / "vmlinuz-6.1").unlink()
    done = program.run("publish", *state)
    assert done.status == 2
    assert_clear(done, "no kernel")
    fresh = program.run("serve", image, *PAIR, "--key", alice.path, "--state", tmp_path / "fresh", *network)
    assert fresh.status == 2  # no kernel, and nothing was ever published with this state
    write_image(image, rootfs=0)
    in_use = program.run("serve", image, *PAIR, "--key", alice.path, *state, *network)
    assert in_use.status == 4, in_use
    assert_clear(in_use, str(tmp_path / "s"), str(node.pid))


def test_publish_of_another_directory_is_wrong_usage(
    program: Program, alice: Key, images: Images, tmp_path: Path
) -> None:
    state = ("--state", tmp_path / "s")
    network = ("--no-mdns", "--listen", LOOPBACK)
    program.start("serve", images.one, *PAIR, "--key", alice.path, *state, *network).first_line()
    document = assert_json_failure(program.run("publish", tmp_path, *state, "--json"), 2)
    assert document["reason"] == "usage"


def test_reload(program: Program, alice: Key, images: Images, tmp_path: Path) -> None:
    config = tmp_path / "p2pboot.toml"

    def write(name: str, cmdline: str, *, sync: str = "true", trust: str = "") -> None:
        config.write_text(
            f'[provider]\nname = "{name}"\ncmdline = "{cmdline}"\n[network]\nsync = {sync}\n{trust}'
        )

    write("before", "a")
    args = (
        "--config",
        config,
        "--key",
        alice.path,
        "--state",
        tmp_path / "s",
        "--no-mdns",
        "--listen",
        LOOPBACK,
    )
    node = program.start("serve", images.one, *PAIR, *args)
    node.first_line()
    node.wait_for_log("publishing version")
    write("after", "b", sync="false", trust=f'[[trust]]\nkeys = ["{alice.keyid}"]\nchannels = ["other"]\n')
    node.signal(signal.SIGHUP)
    node.wait_for_log("manifest_version 2")
    log = node.err.read_text()
    assert "provider.name" in log
    assert "trust" in log
    assert re.search(r"need a restart: .*network\.sync", log)
    assert [head["manifest_version"] for head in heads(program, tmp_path / "s")] == [2]
    config.write_text("[provider]\nnane = 1\n")
    node.signal(signal.SIGHUP)
    node.wait_for_log("nane")
    assert node.poll() is None
    node.signal(signal.SIGTERM)
    assert node.wait().status == 0


def test_discover(program: Program, alice: Key, bob: Key, images: Images, tmp_path: Path) -> None:
    network = ("--no-mdns", "--listen", LOOPBACK)
    node = program.start("serve", images.one, *PAIR, "--key", alice.path, "--state", tmp_path / "s", *network)
    args = ("discover", "--bootstrap", node.first_line(), "--no-mdns", "--timeout", HANG_S)
    node.wait_for_log("publishing version")
    shown = program.ok(*args, "--trust", alice.keyid).stdout.decode()
    for word in (alice.peer_id, alice.keyid, "stable/arm64", "this trust takes it"):
        assert word in shown, shown
    assert "this trust" not in program.ok(*args).stdout.decode()
    (provider,) = program.ok(*args, *PAIR, "--trust", bob.keyid, "--json").document["providers"]
    assert provider["peer_id"] == alice.peer_id
    (offer,) = provider["manifests"]
    assert (offer["channel"], offer["arch"], offer["manifest_version"]) == ("stable", "arm64", 1)
    assert offer["signers"] == [alice.keyid]
    assert (offer["accepted"], offer["reason"]) == (False, "untrusted")
    nothing = program.run(*args, "--channel", "other", "--json")
    assert_json_failure(nothing, 3)


def test_two_nodes_that_start_at_once_with_one_key_path(
    program: Program, images: Images, tmp_path: Path
) -> None:
    key = tmp_path / "keys" / "node.toml"
    nodes = [
        program.start(
            "serve",
            images.one,
            *PAIR,
            "--key",
            key,
            "--state",
            tmp_path / name,
            "--no-mdns",
            "--listen",
            LOOPBACK,
        )
        for name in ("a", "b")
    ]
    ids = {node.first_line().rpartition("/")[2] for node in nodes}
    assert ids == {program.ok("key", "show", "--key", key, "--json").document["peer_id"]}
    assert key.stat().st_mode & 0o777 == 0o600


def _multicast_works() -> bool:
    """Whether a datagram to mDNS's group comes back to this machine."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        receiver.bind(("", 0))
        receiver.settimeout(1)
        group = socket.inet_aton("224.0.0.251")
        try:
            receiver.setsockopt(
                socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + socket.inet_aton("0.0.0.0")
            )
            sender.sendto(b"x", ("224.0.0.251", receiver.getsockname()[1]))
            return receiver.recv(10) == b"x"
        except OSError:
            return False


def test_neighbours_find_each_other_without_addresses(
    program: Program, images: Images, tmp_path: Path
) -> None:
    if not _multicast_works():
        pytest.skip("multicast does not come back on this machine")
    key = make_key(program, tmp_path / "key.toml")
    args = ("--key", key.path, "--state", tmp_path / "s", "--listen", "/ip4/0.0.0.0/tcp/0")
    node = program.start("serve", images.one, *PAIR, *args)
    node.first_line()
    program.ok("publish", "--state", tmp_path / "s")
    where = ("--trust", key.keyid, "-o", tmp_path / "out", "--timeout", HANG_S, "--json")
    document = program.ok("fetch", *PAIR, *where).document
    assert document["offered_by"] == [key.peer_id]
    assert (tmp_path / "out" / "kernel").exists()


def test_config_show_says_where_values_come_from(program: Program, tmp_path: Path) -> None:
    config = tmp_path / "p2pboot.toml"
    config.write_text('[provider]\nname = "from the file"\n[network]\nmdns = false\n')
    done = program.ok("config", "show", "--config", config, "--name", "from the flag")
    lines = {line.split(" = ")[0]: line for line in done.stdout.decode().splitlines() if " = " in line}
    assert "command line" in lines["name"]
    assert '"from the flag"' in lines["name"]
    assert str(config) in lines["mdns"]
    assert "default" in lines["gossip"]
    copy = tmp_path / "copy.toml"
    copy.write_bytes(done.stdout)
    again = program.ok("config", "show", "--config", copy, "--json").document
    first = program.ok("config", "show", "--config", config, "--name", "from the flag", "--json").document
    for table in ("provider", "network", "store", "identity"):
        for name, entry in first[table].items():
            assert again[table][name]["value"] == entry["value"], (table, name)
    assert first["network"]["mdns"] == {"value": False, "source": "file"}


HELP = (
    "",
    "key",
    "key generate",
    "key show",
    "key import",
    "key export",
    "manifest",
    "manifest build",
    "manifest sign",
    "manifest show",
    "manifest verify",
    "serve",
    "publish",
    "mirror",
    "discover",
    "fetch",
    "status",
    "config",
    "config show",
    "demo",
)
FLAGS = {
    "manifest build": "--channel --arch --version --manifest-version --expires-in --name --cmdline --url --key"
    " --signing-key --state --detached --unsigned --signer",
    "manifest sign": "--key",
    "manifest verify": "--trust --threshold --channel --arch --state --min-version --json",
    "serve": "--config --key --listen --bootstrap --name --no-mdns --state",
    "publish": "--state",
    "mirror": "--trust --threshold --channel --arch --config --key --listen --bootstrap --no-mdns --state",
    "discover": "--channel --arch --trust --threshold --bootstrap --timeout --json",
    "fetch": "--channel --arch --trust --threshold --bootstrap --artifact --state --min-version --output --timeout"
    " --json",
}


def test_every_command_has_help_with_its_flags(program: Program) -> None:
    for command in HELP:
        shown = program.ok(*command.split(), "--help").stdout.decode()
        assert "Usage:" in shown
        for flag in FLAGS.get(command, "").split():
            assert flag in shown, (command, flag)


def test_offline_commands_load_neither_libp2p_nor_trio(alice: Key, images: Images, tmp_path: Path) -> None:
    """One process runs all of them, one after the other, and then looks at what it has loaded."""
    output = tmp_path / "m.json"
    commands: list[list[object]] = [[*command.split(), "--help"] for command in HELP]
    commands += [
        ["--version"],
        ["key", "show", "--key", alice.path],
        [
            "manifest",
            "build",
            images.one,
            *PAIR,
            "--key",
            alice.path,
            "--state",
            tmp_path / "s",
            "-o",
            output,
        ],
        ["manifest", "show", output],
        ["manifest", "verify", output, "--trust", alice.keyid, "--state", tmp_path / "v"],
        ["config", "show"],
        ["publish", "--state", tmp_path / "nobody"],
        ["status", "--state", tmp_path / "nobody"],
    ]
    script = (
        "import json, sys\n"
        "from p2pboot.cli.app import run\n"
        "statuses = [run(args) for args in json.loads(sys.argv[1])]\n"
        "print(json.dumps([statuses, sorted({name.partition('.')[0] for name in sys.modules})]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps([list(map(str, command)) for command in commands])],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    statuses, modules = json.loads(done.stdout.splitlines()[-1])
    assert statuses == [0] * (len(commands) - 2) + [3, 3], done.stderr
    assert not {"libp2p", "trio", "multiaddr", "zeroconf"} & set(modules)
