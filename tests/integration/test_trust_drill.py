"""docs/trust.md, run from top to bottom as it stands there: real keys, real nodes, and somebody who plays the thief."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from p2pboot.core.manifest import Manifest, content_digest
from p2pboot.testing.processes import ANY_PORT, LOOPBACK, PYTHON, Mesh, Node, environment
from p2pboot.testing.waiting import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "trust.md"
HIGHEST = 2**53 - 1
NODES = ("p2pboot serve ", "p2pboot mirror ")
PATIENCE_S = 120


class Drill:
    """What the page's reader has: one directory, a shell, and nodes that run on."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self.directory = mesh.directory
        self.nodes: dict[str, Node] = {}
        self._functions: list[str] = []
        tool = self.directory / "bin" / "p2pboot"
        tool.parent.mkdir()
        tool.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m p2pboot "$@"\n')
        tool.chmod(0o755)

    def run(self, block: str) -> None:
        """Run a block: a node, which goes on and takes the place of the one with its state; or commands."""
        if block.startswith(NODES):
            self._start(shlex.split(block))
        else:
            self._commands(block)

    def _commands(self, block: str) -> None:
        def with_peers(line: str) -> str:
            if not line.startswith("p2pboot fetch "):
                return line
            return " ".join([line.rstrip(), *self._peers(), "--timeout", str(PATIENCE_S)])

        script = "\n".join(with_peers(line) for line in block.splitlines())
        path = f"{self.directory}/bin:{os.environ['PATH']}"
        done = subprocess.run(
            ["/bin/sh", "-eu", "-c", script],
            cwd=self.directory,
            env={**environment(), "PATH": path, "HOME": str(self.directory)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"

    def _start(self, words: list[str]) -> None:
        state = words[words.index("--state") + 1]
        name = state.partition("/")[0]
        if name in self.nodes:
            assert self.nodes[name].stop() == 0
        command = [*PYTHON, *words[1:], "--listen", LOOPBACK, "--admin", ANY_PORT, *self._peers(besides=name)]
        (self.directory / name).mkdir(exist_ok=True)
        log = self.directory / name / "log"
        self.nodes[name] = self._mesh.node(command, state=self.directory / state, log=log)

    def _peers(self, besides: str = "") -> list[str]:
        others = [node.address for name, node in self.nodes.items() if name != besides]
        return [word for address in others for word in ("--bootstrap", address)] + ["--no-mdns"]

    def wait_for(self, name: str, version: int) -> None:
        """Wait until a node offers a version of stable/x86_64, and no other."""
        node = self.nodes[name]
        wait_until(
            lambda: node.heads().get(("stable", "x86_64")) == version,
            f"{node.log}: version {version}",
            within_s=PATIENCE_S,
        )

    def fetched(self, block: str) -> Manifest:
        """The manifest that a block brought, whose first line fetches."""
        words = shlex.split(block.splitlines()[0])
        return Manifest.parse((self.directory / words[words.index("-o") + 1] / "manifest.json").read_bytes())


def blocks() -> list[tuple[str, str]]:
    """Every block of the page, with the section that it stands in."""
    found = []
    for section in re.split(r"^##+ ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        found += [(title, block) for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)]
    return found


def test_the_page_is_run_as_it_stands_and_the_fleet_boots_again(mesh: Mesh) -> None:
    drill = Drill(mesh)
    after = {
        ("The first day", "serve"): ("publisher", 1),
        ("The first day", "mirror"): ("mirror", 1),
        ("A root key is stolen", "serve"): ("publisher", 1),
        ("A publish key is stolen", "serve evil"): ("mirror", HIGHEST),
    }
    fetched: list[Manifest] = []
    done: dict[str, str] = {}
    for title, block in blocks():
        if title == "A publish key is stolen" and block.startswith("p2pboot fetch"):
            assert drill.nodes.pop("thief").stop() == 0
            drill.wait_for("publisher", 2)
            drill.wait_for("mirror", 2)
            assert drill.nodes["publisher"].stop() == 0  # machines get it from mirrors as well
            drill.nodes.pop("publisher")
        drill.run(block)
        done[title] = block
        for (section, word), (node, version) in after.items():
            if section == title and block.startswith(f"p2pboot {word} "):
                drill.wait_for(node, version)
        if block.startswith("p2pboot fetch"):
            fetched.append(drill.fetched(block))
    assert [one.manifest_version for one in fetched] == [
        1,
        2,
        2,
        4,
    ]  # the third is what was rescued: an old look
    assert fetched[0].signers != fetched[1].signers
    assert (
        len({content_digest(one) for one in fetched}) == 1
    )  # always the honest release, never 3, nor the thief's
    assert {one.signers for one in fetched[1:]} == {fetched[1].signers}
    assert "From a list of keys to a root" in done
