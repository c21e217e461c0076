"""What the guide has an operator do, done: every command, in its order, on a machine that has nothing yet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from p2pboot.testing.waiting import wait_until
from tests.integration.images import write_artifacts
from tests.systemd.machine import ROOT, Machine, booted

pytestmark = pytest.mark.units

GUIDE = (ROOT / "docs" / "operations.md").read_text()


def section(name: str) -> str:
    return re.split(rf"^## {name}\n", GUIDE, flags=re.MULTILINE)[1].partition("\n## ")[0]


def commands(text: str) -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith(("# ", "$ "))]


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with booted(tmp_path_factory.mktemp("machine")) as machine:
        machine.run("systemd-sysusers", "p2pboot.conf")
        machine.run("systemd-tmpfiles", "--create", "p2pboot.conf")
        images = write_artifacts(tmp_path_factory.mktemp("images")) / "stable" / "x86_64"
        machine.copy(images, "/root/given")
        machine.run("sh", "-c", "cd /root/given && mv vmlinuz-6.1 vmlinuz")
        yield machine


def ini(text: str, heading: str) -> str:
    found: str = re.findall(rf"^```ini\n(\[{heading}\]\n.*?)^```", text, flags=re.MULTILINE | re.DOTALL)[0]
    return found


def status_of(machine: Machine, role: str) -> dict[str, Any]:
    answer = machine.json("p2pboot", "status", "--state", f"/var/lib/p2pboot/{role}", "--json")
    assert isinstance(answer, dict)
    return answer


def _vouching(machine: Machine) -> list[str]:
    pairs = status_of(machine, "publisher")["trust"]["pairs"]
    return [key for pair in pairs for key in (pair["statement"] or {}).get("signers", [])]


def is_offered(machine: Machine, role: str) -> None:
    wait_until(lambda: bool(status_of(machine, role)["heads"]), f"the {role} offers the release")


def test_from_the_first_day_to_the_third_month(machine: Machine) -> None:
    keyid = ""
    for command in commands(section("The first day")):
        if "ed25519:…" in command:
            shown = machine.json(
                "p2pboot", "key", "show", "--key", "/etc/p2pboot/keys/publisher.toml", "--json"
            )
            keyid = shown["keyid"]
        given = command.replace("ed25519:…", keyid).replace("192.0.2.1", "127.0.0.1")
        machine.run("sh", "-c", f"cd /root/given && {given}")
    is_offered(machine, "publisher")
    is_offered(machine, "mirror")
    assert machine.get("http://127.0.0.1/ready")

    # Of the two on this machine one can have port 80: now it is to be the mirror.
    machine.run("systemctl", "stop", "p2pboot-publisher.socket", "p2pboot-publisher.service")
    for command in commands(section("systemd")):
        machine.run("sh", "-c", command)
    assert machine.get("http://127.0.0.1/ready")
    assert machine.shown("p2pboot-mirror.service", "ActiveState") == "active"

    machine.run("systemctl", "stop", "p2pboot-mirror.socket", "p2pboot-mirror.service")
    machine.run("systemctl", "start", "p2pboot-publisher.service", "p2pboot-mirror.service")
    before = status_of(machine, "publisher")
    for command in commands(section("The third month")):
        machine.run("sh", "-c", command)
    is_offered(machine, "publisher")
    assert status_of(machine, "publisher")["peer_id"] == before["peer_id"]
    assert machine.get("http://127.0.0.1/ready")
    assert machine.shown("p2pboot-mirror.service", "ActiveState") == "inactive"


def test_each_part_of_the_guide_has_something_to_do() -> None:
    assert all(len(commands(section(name))) > 5 for name in ("The first day", "systemd", "The third month"))


def test_a_socket_elsewhere_is_as_the_guide_says(machine: Machine) -> None:
    machine.write(
        "/etc/systemd/system/p2pboot-mirror.socket.d/override.conf", ini(section("systemd"), "Socket")
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "stop", "p2pboot-mirror.service")
    machine.run("systemctl", "restart", "p2pboot-mirror.socket")
    listening = machine.shown("p2pboot-mirror.socket", "Listen").split()
    assert {"192.0.2.7:8080", "[2001:db8::7]:8080"} == {*listening} - {"(Stream)"}


def test_the_sandbox_takes_what_the_guide_adds(machine: Machine) -> None:
    text = section("systemd")
    keys = "/etc/p2pboot/keys"
    machine.run("groupadd", "images")
    machine.run("mkdir", "/srv/snapshots")
    machine.run("chown", "p2pboot:", "/srv/snapshots")
    machine.run("p2pboot", "key", "swarm", f"{keys}/swarm.key")
    for role in ("publisher", "release", "freshness"):
        machine.run(
            "sh", "-c", f"test -e {keys}/{role}.toml || p2pboot key generate --key {keys}/{role}.toml"
        )
    machine.write("/etc/systemd/system/p2pboot-publisher.service.d/override.conf", ini(text, "Service"))
    machine.run("mkdir", "-p", "/home/operator")
    machine.run("cp", "-r", "/root/given", "/home/operator/images")
    machine.run("chgrp", "-R", "images", "/home/operator/images")
    machine.run("chmod", "-R", "u=rwX,g=rX,o=", "/home/operator/images")
    settings = ("swarm_key", "signing_key_path", "freshness_key")
    swarm, signing, freshness = (re.findall(rf"`({name} = .*?)`", text)[0] for name in settings)
    machine.write(
        "/etc/p2pboot/publisher.toml",
        f"[identity]\n{signing}\n[network]\nmdns = false\n{swarm}\n"
        f"[provider]\n{freshness}\n"
        'directory = "/home/operator/images"\nchannel = "stable"\narch = "x86_64"\n'
        '[snapshots]\ndirectory = "/srv/snapshots"\n',
    )
    machine.run("systemctl", "daemon-reload")
    # In a private mesh no socket is taken that others reach.
    machine.run("systemctl", "stop", "p2pboot-publisher.socket", "p2pboot-publisher.service")
    machine.run("rm", "-rf", "/var/lib/p2pboot/publisher")
    machine.run("systemctl", "start", "p2pboot-publisher.service")
    is_offered(machine, "publisher")
    status = status_of(machine, "publisher")
    release = machine.json("p2pboot", "key", "show", "--key", f"{keys}/release.toml", "--json")
    assert status["mesh"]["private"] is True
    assert status["heads"][0]["signers"] == [release["keyid"]]
    fresh = machine.json("p2pboot", "key", "show", "--key", f"{keys}/freshness.toml", "--json")
    wait_until(lambda: _vouching(machine) == [fresh["keyid"]], "the publisher vouches for its release")
