"""A node and a client on one network, in which nobody hands out addresses; neither was told of the other."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from p2pboot.testing.processes import PYTHON, environment, mesh_in
from tests.integration.images import write_artifacts
from tests.lan import network


def test_an_image_is_found_and_fetched_over_link_local_ipv6_alone(tmp_path: Path) -> None:
    with network(("server", "client")) as net, mesh_in(tmp_path) as mesh:
        for machine in ("server", "client"):
            net.plug(machine)
        trust = mesh.new_key("server")
        home = tmp_path / "server"
        places = ("--key", str(home / "node.toml"), "--state", str(home / "state"))
        command = [
            *net.inside("server"),
            *PYTHON,
            "serve",
            str(write_artifacts(tmp_path / "artifacts")),
            *places,
        ]
        node = mesh.node(command, state=home / "state", log=home / "log")
        order = ["fetch", "--channel", "stable", "--arch", "x86_64", "--trust", trust, "--json"]
        fetched = subprocess.run(
            [*net.inside("client"), *PYTHON, *order, "-o", str(tmp_path / "boot")],
            env=environment(),
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert fetched.returncode == 0, fetched.stderr
        assert node.peer_id in json.dumps(json.loads(fetched.stdout))
        order = [*net.inside("client"), *PYTHON, "discover", "--json"]
        seen = json.loads(subprocess.run(order, env=environment(), capture_output=True, check=True).stdout)
        assert seen["providers"][0]["addresses"][0].startswith("/ip6zone/eth0/ip6/fe80::")
        assert seen["providers"][0]["sources"][0] == "lan"
        assert "local-discovery" not in [problem["code"] for problem in node.status()["problems"]]
