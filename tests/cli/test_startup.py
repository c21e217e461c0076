"""Commands start in a blink: help and the offline ones import neither libp2p nor trio, clients what they need.

How long it takes is measured (`benchmarks/startup.py`); that it stays so is seen here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.testing.artifacts import write_image
from p2pboot.testing.manifests import ALICE, BOB
from p2pboot.testing.processes import Mesh, mesh_in
from p2pboot.testing.trustdocs import signed_root
from tests.cli.conftest import key_file, manifest_bytes
from tests.core.timetoke.samples import payload_of, sign

SLOW = {"libp2p", "trio", "multiaddr", "zeroconf", "watchfiles", "rich", "grpc"}
_PROBE = """
import sys
from p2pboot.cli.main import main
try:
    main()
finally:
    print("MODULES", *sorted(sys.modules), file=sys.stderr)
"""

NOT_FOR_CLIENTS = {
    *("libp2p", "multiaddr", "multiformats", "google", "grpc", "aioquic"),  # the nodes' network
    *("zeroconf", "watchfiles", "h11", "prometheus_client", "jinja2"),  # discovery, publishing, HTTP
    *("rich", "tomllib", "pydantic"),  # a terminal, a configuration file
    *("Crypto", "p2pboot.wire.private", "p2pboot.core.swarmkey", "p2pboot.core.salsa20"),  # a private mesh
    *(
        "p2pboot.node",
        "p2pboot.gateway",
        "p2pboot.publish",
        "p2pboot.transport.libp2p",
        "p2pboot.transport.interfaces",
        "p2pboot.core.ignored",
    ),
}
MOST_MODULES = 562
"""They take 0.2 s of a processor, three quarters of it for trio, cryptography and click; ten of them find peers,
two tell how it gets on, fifteen read roots, freshness statements, yanks and roll-outs, which whatever is chosen depends
on, six keep and judge what of a store counts, fifteen come when the publisher asks what became of the pieces that it
gave, four are parts of what was one module before and is loaded as a whole, and Python's releases differ by a few.
Whoever adds some looks at what `python -X importtime` says of them, and at `benchmarks/startup.py`."""


def python(directory: Path, code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run code with arguments in a process of its own."""
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": root, "HOME": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )


def modules_of(directory: Path, *args: str, status: int = 0) -> set[str]:
    """Run a command in a process of its own and return the modules it has loaded in the end."""
    done = python(directory, _PROBE, *args)
    assert done.returncode == status, done.stderr
    return set(done.stderr.rpartition("MODULES ")[2].split())


@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        ("--version",),
        ("serve", "--help"),
        ("fetch", "--help"),
        ("doctor", "--help"),
        ("key", "show", "--key", "alice.toml"),
        (
            "manifest",
            "build",
            "images",
            "--channel",
            "c",
            "--arch",
            "arm64",
            "--key",
            "alice.toml",
            "-o",
            "b.json",
        ),
        ("manifest", "show", "m.json"),
        ("manifest", "verify", "m.json", "--trust", ALICE.public.keyid, "--state", "state"),
        ("manifest", "sign", "m.json", "--key", "alice.toml"),
        (
            "root",
            "init",
            "--name",
            "fleet",
            "--trust",
            ALICE.public.keyid,
            "--key",
            "bob.toml",
            "--out",
            "r.json",
        ),
        ("root", "set", "root.json", "--out", "r.json"),
        ("root", "verify", "root.json"),
        ("snapshot", "publish", "p.json", "--key", "alice.toml", "--store", "s"),
        ("snapshot", "verify", "p.json", "--public-key", ALICE.public.hex),
        ("snapshot", "list", "--store", "images"),
        ("snapshot", "show", "p.json"),
        ("snapshot", "sync", "--help"),
        ("config", "show", "--listen", "/ip4/127.0.0.1/tcp/0"),
        ("completion", "bash"),
    ],
    ids=" ".join,
)
def test_offline_command_does_not_load_what_is_slow(tmp_path: Path, args: tuple[str, ...]) -> None:
    key_file(tmp_path / "alice.toml", ALICE)
    key_file(tmp_path / "bob.toml", BOB)
    (tmp_path / "root.json").write_bytes(signed_root().raw)
    (tmp_path / "m.json").write_bytes(manifest_bytes())
    (tmp_path / "p.json").write_bytes(payload_of(3))
    (tmp_path / "p.json.sig").write_text(sign(payload_of(3)))
    (tmp_path / "images").mkdir()
    for name in ("vmlinuz", "initrd.img"):
        (tmp_path / "images" / name).write_bytes(b"x" * 1000)
    assert modules_of(tmp_path, *args) & SLOW == set()


def test_help_loads_no_cryptography_either(tmp_path: Path) -> None:
    assert modules_of(tmp_path, "--help") & {
        "nacl",
        "cryptography",
        "multiformats",
        "msgspec",
        "sqlite3",
        "json",
    } <= {"json"}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mesh, str, str]]:
    """A publisher's mesh, its key id and its address."""
    directory = tmp_path_factory.mktemp("published")
    write_image(directory / "artifacts" / "stable" / "x86_64", {"vmlinuz": 1000, "initramfs.img": 1000})
    with mesh_in(directory) as mesh:
        trust = mesh.new_key("publisher")
        node = mesh.serve(directory / "artifacts", "-q")
        node.wait_for_head(1)  # who asks earlier finds nothing
        yield mesh, trust, node.address


@pytest.mark.parametrize("command", ["fetch", "discover", "snapshot sync"])
def test_a_client_loads_only_what_it_needs(
    tmp_path: Path, published: tuple[Mesh, str, str], command: str
) -> None:
    mesh, trust, address = published
    network = ("--bootstrap", address, "--no-mdns", "--trust", trust)
    arguments = {
        # On a busy machine nothing may be found for so long that the hash table is looked in, and loaded.
        "fetch": (*mesh.fetch_arguments(trust, tmp_path / "out", address), "--dht", "off"),
        "discover": ("discover", *network),
        "snapshot sync": ("snapshot", "sync", "latest", "-o", "out", "--timeout", "0.2", *network),
    }[command]
    not_found = 3 if command == "snapshot sync" else 0
    modules = modules_of(tmp_path, *arguments, status=not_found)
    assert modules & NOT_FOR_CLIENTS == set()
    assert len(modules) <= MOST_MODULES


_GARBAGE_PROBE = """
import gc
import trio
from p2pboot.cli.main import main

def instead_of_running(*_arguments):
    print("collects" if gc.isenabled() else "does not collect", flush=True)
    raise SystemExit(0)

trio.run = instead_of_running
main()
"""


@pytest.mark.parametrize("command", ["fetch", "mirror"])
def test_whatever_runs_on_collects_garbage(tmp_path: Path, command: str) -> None:
    where = ("--bootstrap", "/ip4/127.0.0.1/tcp/1", "-o", "out") if command == "fetch" else ("--state", "s")
    what = ("--channel", "c", "--arch", "arm64", "--trust", ALICE.public.keyid, "--no-mdns")
    done = python(tmp_path, _GARBAGE_PROBE, command, *what, *where)
    assert done.stdout.split("\n")[0] == "collects", (done.returncode, done.stderr)
