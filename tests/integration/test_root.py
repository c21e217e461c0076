"""Roots with real processes: keepers on three machines, and an installation that goes over from a list of keys."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from p2pboot.core.manifest import Manifest
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import Floor
from p2pboot.testing.processes import PYTHON, Mesh, environment
from tests.integration.images import write_artifacts

VERSIONS = 4


class Machine:
    """A keeper's machine: a directory and a home of its own, and the keys in its drawer."""

    def __init__(self, home: Path, keys: list[str]) -> None:
        self.home = home
        home.mkdir()
        self.keys = {name: self("key", "generate", "--key", f"{name}.toml").split()[5] for name in keys}

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [*PYTHON, *arguments],
            cwd=self.home,
            env={**environment(), "HOME": str(self.home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def carry(self, name: str, to: Machine) -> None:
        shutil.copyfile(self.home / name, to.home / name)


def test_three_machines_with_five_keys_rotate_all_of_them(tmp_path: Path) -> None:
    machines = [
        Machine(tmp_path / name, keys)
        for name, keys in (("one", ["k0", "k1", "new"]), ("two", ["k2", "k3"]), ("three", ["k4", "p"]))
    ]
    one, _two, three = machines
    where = {name: machine for machine in machines for name in machine.keys}
    keys = [where[f"k{number}"].keys[f"k{number}"] for number in range(5)]
    said = ["--threshold", "3", "--publish-key", three.keys["p"], "--root-key", *keys]
    one("root", "init", "--name", "fleet", *said, "--out", "1.json")
    for version in range(1, VERSIONS + 1):
        name = f"{version}.json"
        if version > 1:
            before = f"{version - 1}.json"
            if version == 3:  # one goes, another comes
                one("root", "add-key", "root", one.keys["new"], before, "--out", name)
                one("root", "remove-key", "root", keys[0], name)
            else:
                one("root", "set", before, "--name", f"fleet {version}", "--out", name)
        triple = [f"k{1 + (version + index) % 4}" for index in range(3)]
        holder = one
        for key in triple:
            if where[key] is not holder:
                holder.carry(name, where[key])
                holder = where[key]
            holder("root", "sign", name, "--key", f"{key}.toml", "--yes")
        for machine in machines:
            if machine is not holder:
                holder.carry(name, machine)
            files = [f"{number}.json" for number in range(version, 0, -1)]
            if machine is machines[version % 3]:
                assert f"version {version} is complete" in machine("root", "verify", *files)
    root = Root.parse((three.home / f"{VERSIONS}.json").read_bytes())
    assert set(root.body.root.keys) == {*keys[1:], one.keys["new"]}


def test_an_installation_that_trusts_keys_goes_over_to_a_root_and_refetches_nothing(
    mesh: Mesh, artifacts: Path, tmp_path: Path
) -> None:
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    publisher.wait_for_head(1)
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address)
    mirror.wait_for_head(1)
    assert (mirror.stop(), publisher.stop()) == (0, 0)
    mesh.run("key", "generate", "--key", "root.toml")
    said = ["--name", "fleet", "--trust", trust, "--state", str(mirror.state), "--key", "root.toml"]
    done = mesh.run("root", "init", *said, "--out", "root.json")
    assert done.status == 0, done.stderr
    root = Root.parse((tmp_path / "root.json").read_bytes())
    assert root.body.floors == (Floor("stable", "x86_64", 1),)
    held = {path: path.stat().st_ino for path in (mirror.state / "blobs").rglob("*") if path.is_file()}
    pair = ("--channel", "stable", "--arch", "x86_64", "--quota", "unlimited")
    mirror = mesh._named("mirror", "mirror", "--root", "root.json", *pair)
    mirror.wait_for_head(1)  # alone: there is nobody to ask
    assert held
    assert {path: path.stat().st_ino for path in held} == held
    write_artifacts(artifacts, seed=9)
    publisher = mesh.serve(artifacts, "--bootstrap", mirror.address, "--root", "root.json")
    publisher.wait_for_head(2)
    mirror.wait_for_head(2)
    fetched = mesh.run(
        *("fetch", "--channel", "stable", "--arch", "x86_64", "--root", "root.json", "-o", "boot", "--json"),
        *("--bootstrap", mirror.address, "--no-mdns", "--timeout", "30"),
    )
    assert fetched.status == 0, fetched.stderr
    assert Manifest.parse((tmp_path / "boot" / "manifest.json").read_bytes()).manifest_version == 2
