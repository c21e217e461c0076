"""A roll-out with the commands that an operator types: paused, gone on with, promoted, overtaken, aborted."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.manifest import Manifest
from p2pboot.core.rollouts import place_of
from p2pboot.testing.processes import Finished, Mesh, Node
from p2pboot.testing.waiting import wait_until
from tests.integration.images import assert_same_bytes, write_artifacts

NAMES = [f"{number:08x}-1234-5678-9abc-def012345678" for number in range(40)]


class Fleet:
    """A publisher that rolls out, a mirror with a gateway, and machines that know the mirror only."""

    def __init__(self, mesh: Mesh, artifacts: Path) -> None:
        self.mesh, self.artifacts = mesh, artifacts
        self.trust = mesh.new_key("publisher")
        self.freshness = mesh.directory / "freshness.toml"
        done = mesh.run("key", "generate", "--key", str(self.freshness), "--json")
        self.believes = ("--freshness", str(done.document["keyid"]))
        self.publisher = self.serve()
        self.publisher.wait_for_head(1)
        http = ("--http", "127.0.0.1:0")
        self.mirror = mesh.mirror(self.trust, *self.believes, *http, "--bootstrap", self.publisher.address)
        self.mirror.wait_for_head(1)
        self._machines = 0

    def serve(self, *arguments: str) -> Node:
        return self.mesh.serve(self.artifacts, "--freshness-key", str(self.freshness), *arguments)

    def stage(self, seed: int) -> Path:
        """Put another image beside the channel's."""
        made = write_artifacts(self.mesh.directory / f"image {seed}", seed=seed)
        leaf = self.artifacts / "stable.next" / "x86_64"
        shutil.rmtree(leaf, ignore_errors=True)
        shutil.copytree(made / "stable" / "x86_64", leaf)
        return made

    def ask(self, *arguments: str) -> Any:
        done = self.mesh.run("rollout", *arguments, "--state", str(self.publisher.state), "--json")
        assert done.status == 0, done.stderr
        (shown,) = done.document["rollouts"]
        return shown

    def boot(self, *machine: str) -> tuple[str, Path]:
        """Boot a machine without a memory; which channel its image is of, and where the image is."""
        self._machines += 1
        output = self.mesh.directory / f"machine {self._machines}"
        arguments = self.mesh.fetch_arguments(self.trust, output, self.mirror.address)
        done: Finished = self.mesh.run(*arguments, *self.believes, *machine)
        assert done.status == 0, done.stderr
        return str(done.document["verdict"]["manifest"]["channel"]), output

    def channels(self, *waries: float) -> list[str]:
        """Which channel machines of a wariness boot from."""
        return [self.boot("--wariness", str(wary))[0] for wary in waries]

    def get(self, path: str) -> tuple[int, bytes, Any]:
        (base,) = self.mirror.status()["http"]
        try:
            with urllib.request.urlopen(f"{base}{path}") as reply:
                return reply.status, reply.read(), reply.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers

    def wait_for_next(self, version: int) -> None:
        self.mirror.wait_for_head(version, "stable.next")

    def wait_for_statement(self, version: int, *, paused: bool) -> None:
        """Wait until the mirror tells what the publisher says of the roll-out now."""

        def is_told() -> bool:
            status, body, _ = self.get("/stable.next/x86_64/freshness.json")
            return status == 200 and (b'"paused"' in body) == paused and b'_version":%d' % version in body

        wait_until(is_told, f"{self.mirror.log}: statement of version {version}")


@pytest.fixture
def fleet(mesh: Mesh, artifacts: Path) -> Fleet:
    return Fleet(mesh, artifacts)


def test_paused_in_the_middle_gone_on_with_and_promoted(fleet: Fleet) -> None:
    new = fleet.stage(2)
    shown = fleet.ask("start", "stable", "--over", "0", "--percent", "50")
    assert (shown["fraction"], shown["manifest_version"]) == (0.5, 1)
    fleet.wait_for_next(1)
    assert fleet.channels(0.4, 0.6) == ["stable.next", "stable"]
    assert fleet.ask("pause", "stable")["paused_since"] is not None
    fleet.wait_for_statement(1, paused=True)
    fleet.publisher.stop()
    fleet.publisher = fleet.serve("--listen", fleet.publisher.address.partition("/p2p/")[0])
    wait_until(lambda: fleet.publisher.heads().get(("stable.next", "x86_64")) == 1, "it goes on")
    assert fleet.ask("show", "stable")["paused_since"] is not None
    assert fleet.channels(0.4, 0.6) == ["stable.next", "stable"]  # again and again
    status, raw, _ = fleet.get("/stable.next/x86_64/manifest.json")
    assert status == 200
    plan = Manifest.parse(raw).rollout
    assert plan is not None
    for name in sorted(NAMES, key=lambda one: place_of(plan.salt, one))[:: len(NAMES) - 1]:
        _, script, headers = fleet.get(f"/boot.ipxe?machine={name.upper()}")
        assert headers["Cache-Control"] == "no-store"
        channel = "stable.next" if place_of(plan.salt, name) < 0.5 else "stable"
        assert f"echo {channel}/x86_64,".encode() in script
    assert b"echo stable/x86_64," in fleet.get("/boot.ipxe")[1]
    shown = fleet.ask("resume", "stable")
    assert (shown["paused_since"], shown["fraction"], shown["manifest_version"]) == (None, 0.5, 2)
    fleet.wait_for_statement(2, paused=False)
    assert fleet.channels(0.4, 0.6) == ["stable.next", "stable"]
    assert fleet.ask("promote", "stable")["ended"] == "promoted"
    fleet.mirror.wait_for_head(2)
    assert fleet.channels(0.4) == ["stable"]
    channel, output = fleet.boot()
    assert channel == "stable"
    assert_same_bytes(output, new)
    for node in (fleet.publisher, fleet.mirror):
        assert NAMES[0] not in node.log.read_text()
        assert "Traceback" not in node.log.read_text()


def test_a_hotfix_reaches_everybody_and_an_aborted_image_nobody(fleet: Fleet) -> None:
    fleet.stage(2)
    fleet.ask("start", "stable", "--over", "0")
    fleet.wait_for_next(1)
    assert fleet.channels(0.0, 1.0) == ["stable.next", "stable.next"]
    write_artifacts(fleet.artifacts, seed=3)
    fleet.mesh.run("publish", "--state", str(fleet.publisher.state))
    fleet.mirror.wait_for_head(2)
    channel, output = fleet.boot("--canary")
    assert channel == "stable"
    assert_same_bytes(output, fleet.artifacts)
    assert fleet.ask("show", "stable")["ended"] == "overtaken"
    fleet.ask("start", "stable", "--over", "0")  # the same image, over the hotfix
    fleet.wait_for_next(2)
    assert fleet.channels(0.9) == ["stable.next"]
    assert fleet.ask("abort", "stable", "--reason", "does not mount its root")["ended"] == "aborted"
    wait_until(
        lambda: fleet.get("/stable.next/x86_64/boot.ipxe")[0] != 200, "the mirror heard that it is taken back"
    )
    assert fleet.channels(0.0) == ["stable"]
    again = fleet.mesh.run("rollout", "start", "stable", "--state", str(fleet.publisher.state))
    assert again.status == 2
    assert "is yanked" in again.stderr
