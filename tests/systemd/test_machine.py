"""The units under a real systemd, sandboxed as they will be: started, asked, reloaded, stuck, ended.

One machine for all: it is up in a moment, and each test starts what it needs anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from p2pboot.testing.waiting import wait_until
from tests.integration.images import write_artifacts
from tests.systemd.machine import Machine, booted

pytestmark = pytest.mark.units

PUBLISHER, MIRROR = "p2pboot-publisher.service", "p2pboot-mirror.service"
STATES = {PUBLISHER: "/var/lib/p2pboot/publisher", MIRROR: "/var/lib/p2pboot/mirror"}
QUIET = "mdns = false\n"  # the machine has loopback alone


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which both are installed and configured, as by an operator."""
    with booted(tmp_path_factory.mktemp("machine")) as machine:
        machine.run("systemd-sysusers", "p2pboot.conf")
        machine.run("systemd-tmpfiles", "--create", "p2pboot.conf")
        images = write_artifacts(tmp_path_factory.mktemp("images"))
        machine.copy(images, "/srv/images")
        keyid = ""
        for role in ("publisher", "mirror"):
            made = machine.json(
                "p2pboot", "key", "generate", "--key", f"/etc/p2pboot/keys/{role}.toml", "--json"
            )
            keyid = keyid or made["keyid"]
        machine.write(
            "/etc/p2pboot/publisher.toml",
            f'[provider]\ndirectory = "/srv/images"\nname = "first"\n[network]\n{QUIET}',
        )
        machine.write(
            "/etc/p2pboot/mirror.toml",
            f'[[trust]]\nkeys = ["{keyid}"]\n[provider]\nchannel = "stable"\narch = "x86_64"\n'
            f'[network]\n{QUIET}listen = ["/ip4/127.0.0.1/tcp/4002"]\nbootstrap = ["/ip4/127.0.0.1/tcp/4001"]\n',
        )
        yield machine


@pytest.fixture
def machine(shared: Machine) -> Iterator[Machine]:
    yield shared
    for unit in (PUBLISHER, MIRROR):
        shared.run("systemctl", "stop", unit, unit.replace(".service", ".socket"))
        shared.run("rm", "-rf", f"/run/systemd/system/{unit}.d")
    shared.run("systemctl", "daemon-reload")
    shared.run("systemctl", "reset-failed")


def drop_in(machine: Machine, unit: str, text: str) -> None:
    machine.write(f"/run/systemd/system/{unit}.d/test.conf", text)
    machine.run("systemctl", "daemon-reload")


def status(machine: Machine, unit: str) -> dict[str, Any]:
    """What `p2pboot status` says, asked by root as in the guide."""
    answer = machine.json("p2pboot", "status", "--state", STATES[unit], "--json")
    assert isinstance(answer, dict)
    return answer


def test_both_become_active_and_the_mirror_takes_over_what_is_published(machine: Machine) -> None:
    machine.run("systemctl", "start", PUBLISHER, MIRROR)
    for unit in (PUBLISHER, MIRROR):
        assert machine.shown(unit, "ActiveState") == "active"
        assert machine.shown(unit, "StatusText")
    wait_until(lambda: bool(status(machine, MIRROR)["heads"]), "the mirror holds the release")
    wait_until(
        lambda: machine.shown(MIRROR, "StatusText").startswith("working: offers 1 release, 1 peer"),
        "systemd is told of it",
    )


def test_they_run_as_a_user_of_their_own_who_may_nothing(machine: Machine) -> None:
    machine.run("systemctl", "start", MIRROR)
    pid = machine.shown(MIRROR, "MainPID")
    facts = dict(
        line.split(":", 1) for line in machine.run("cat", f"/proc/{pid}/status").splitlines() if ":" in line
    )
    user = machine.run("id", "-u", "p2pboot").strip()
    assert facts["Uid"].split() == [user] * 4
    assert {int(facts[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert facts["NoNewPrivs"].strip() == "1"
    assert facts["Seccomp"].strip() == "2"


def test_the_sandbox_lets_it_stand_behind_others_at_the_disk(machine: Machine) -> None:
    for unit in (PUBLISHER, MIRROR):
        drop_in(machine, unit, "[Service]\nExecStartPre=/usr/bin/ionice -c 3 /bin/true\n")
        machine.run("systemctl", "start", unit)
        assert machine.shown(unit, "ActiveState") == "active"


def test_a_mirror_whose_bootstrap_is_away_is_ready_with_nothing_held(machine: Machine) -> None:
    machine.run("rm", "-rf", STATES[MIRROR])
    machine.run("systemctl", "start", MIRROR)
    assert machine.shown(MIRROR, "ActiveState") == "active"
    wait_until(
        lambda: machine.shown(MIRROR, "StatusText").startswith("not ready: nothing is offered, 0 peers"),
        "it is told",
    )


def test_a_publisher_whose_directory_is_empty_is_ready_and_publishes_what_comes(machine: Machine) -> None:
    machine.run("mv", "/srv/images/stable", "/srv/stable")
    machine.run("rm", "-rf", STATES[PUBLISHER])
    machine.run("systemctl", "start", PUBLISHER)
    wait_until(
        lambda: "NOT WORKING" in machine.shown(PUBLISHER, "StatusText"),
        "systemd is told that nothing is there",
    )
    assert status(machine, PUBLISHER)["heads"] == []
    machine.run("mv", "/srv/stable", "/srv/images/stable")
    machine.run(
        "p2pboot", "publish", "--state", STATES[PUBLISHER]
    )  # it would see it by itself, and wait a while
    assert status(machine, PUBLISHER)["heads"]


def test_port_80_is_served_by_a_node_that_may_not_open_it(machine: Machine) -> None:
    machine.run("systemctl", "start", "p2pboot-publisher.socket")
    # The first client starts the node, and waits for it in the socket.
    assert machine.get("http://127.0.0.1/health") == "ok\n"
    assert machine.get("http://[::1]/health") == "ok\n"
    assert machine.shown(PUBLISHER, "ActiveState") == "active"
    machine.run("systemctl", "restart", PUBLISHER)
    assert machine.get("http://127.0.0.1/health") == "ok\n"
    assert "HTTP gateway at http://127.0.0.1, http://[::1]\n" in machine.journal(PUBLISHER)


def test_reload_takes_over_what_changed_and_refuses_what_is_wrong(machine: Machine) -> None:
    machine.run("systemctl", "start", PUBLISHER)
    file = "/etc/p2pboot/publisher.toml"
    before = machine.run("cat", file)
    pid = machine.shown(PUBLISHER, "MainPID")
    machine.write(file, before.replace('"first"', '"second"'))
    machine.run("systemctl", "reload", PUBLISHER)
    wait_until(
        lambda: "settings reloaded; changed: provider.name" in machine.journal(PUBLISHER), "it is reloaded"
    )
    machine.write(file, before + "[nonsense]\n")
    try:
        machine.refused("systemctl", "reload", PUBLISHER)
        assert "nonsense" in machine.journal(PUBLISHER)
    finally:
        machine.write(file, before)
    assert machine.shown(PUBLISHER, "ActiveState") == "active"
    assert machine.shown(PUBLISHER, "MainPID") == pid


def test_a_node_that_is_stuck_is_ended_and_started_again(machine: Machine) -> None:
    drop_in(machine, MIRROR, "[Service]\nWatchdogSec=6s\nTimeoutAbortSec=1s\nRestartSec=100ms\n")
    machine.run("systemctl", "start", MIRROR)
    pid = machine.shown(MIRROR, "MainPID")
    machine.run("kill", "-STOP", pid)
    wait_until(lambda: machine.shown(MIRROR, "NRestarts") != "0", "it is started again")
    assert "Watchdog timeout" in machine.journal(MIRROR)
    machine.wait_for(MIRROR, "ActiveState", "active")
    assert machine.shown(MIRROR, "MainPID") not in (pid, "0")


def test_wrong_settings_are_told_once_and_not_tried_again(machine: Machine) -> None:
    file = "/etc/p2pboot/mirror.toml"
    before = machine.run("cat", file)
    machine.write(file, before + "[nonsense]\n")
    try:
        machine.refused("systemctl", "start", MIRROR)
    finally:
        machine.write(file, before)
    assert machine.shown(MIRROR, "ActiveState") == "failed"
    assert machine.shown(MIRROR, "NRestarts") == "0"
    assert "nonsense" in machine.shown(MIRROR, "StatusText")


def test_its_key_is_what_root_gave_it_and_nobody_else_reads(machine: Machine) -> None:
    machine.run("systemctl", "start", PUBLISHER)
    expected = machine.json("p2pboot", "key", "show", "--key", "/etc/p2pboot/keys/publisher.toml", "--json")
    assert status(machine, PUBLISHER)["peer_id"] == expected["peer_id"]
    as_user = ("setpriv", "--reuid", "p2pboot", "--regid", "p2pboot", "--clear-groups")
    assert "denied" in machine.refused(*as_user, "cat", "/etc/p2pboot/keys/publisher.toml").lower()
    assert "others may read" not in machine.journal(PUBLISHER)


def test_images_that_a_group_may_read_are_published_by_who_is_in_it(machine: Machine) -> None:
    machine.run("groupadd", "--force", "images")
    machine.run("chgrp", "-R", "images", "/srv/images")
    machine.run("chmod", "-R", "u=rwX,g=rX,o=", "/srv/images")
    try:
        drop_in(machine, PUBLISHER, "[Service]\nSupplementaryGroups=images\n")
        machine.run("rm", "-rf", STATES[PUBLISHER])
        machine.run("systemctl", "start", PUBLISHER)
        wait_until(lambda: bool(status(machine, PUBLISHER)["heads"]), "it publishes")
    finally:
        machine.run("chmod", "-R", "u=rwX,go=rX", "/srv/images")


def test_it_ends_in_order_and_leaves_no_socket(machine: Machine) -> None:
    machine.run("systemctl", "start", MIRROR)
    machine.run("test", "-S", "/run/p2pboot/mirror/control.sock")
    machine.run("systemctl", "stop", MIRROR)
    assert machine.shown(MIRROR, "Result") == "success"
    machine.run("test", "!", "-e", "/run/p2pboot/mirror")
    machine.run("test", "!", "-L", f"{STATES[MIRROR]}/control.sock")


# Where no login manager starts it: the manager of a user, as `user@.service` would.
USER_MANAGER = """
[Service]
Type=notify
User=alice
Delegate=yes
RuntimeDirectory=user-alice
Environment=XDG_RUNTIME_DIR=/run/user-alice HOME=/home/alice
ExecStart=/lib/systemd/systemd --user
"""


def test_the_manager_of_a_user_runs_what_init_writes_for_him(machine: Machine) -> None:
    machine.run("useradd", "--create-home", "alice")
    machine.run("cp", "-r", "/srv/images", "/home/alice/images")
    machine.run("chown", "-R", "alice:", "/home/alice")
    machine.write("/run/systemd/system/alice.service", USER_MANAGER)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "alice.service")
    as_user = ("setpriv", "--reuid", "alice", "--regid", "alice", "--clear-groups")
    alice = (*as_user, "env", "--chdir=/home/alice", "HOME=/home/alice", "XDG_RUNTIME_DIR=/run/user-alice")
    said = ("--role", "publisher", "--images", "/home/alice/images", "--release", "tree")
    machine.run(*alice, "p2pboot", "init", *said, "--http", "8080", "--bootstrap", "none", "--yes")
    machine.run(*alice, "systemctl", "--user", "daemon-reload")
    machine.run(*alice, "systemctl", "--user", "start", PUBLISHER)
    status = (*alice, "p2pboot", "status", "--config", ".config/p2pboot/publisher.toml", "--json")
    wait_until(lambda: bool(machine.json(*status)["heads"]), "it publishes")
    machine.run(*alice, "systemctl", "--user", "reload", PUBLISHER)
    shown = machine.run(*alice, "systemctl", "--user", "show", "--value", "--property=StatusText", PUBLISHER)
    assert "offered" in shown
    machine.run("systemctl", "stop", "alice.service")


def told(machine: Machine, unit: str) -> list[tuple[str, str]]:
    """Priority and text of each line of a unit's own in the journal."""
    text = machine.run("journalctl", "--no-pager", "--output=json", "--unit", unit)
    found = [json.loads(line) for line in text.splitlines()]
    return [(one["PRIORITY"], one["MESSAGE"]) for one in found if one.get("_TRANSPORT") == "stdout"]


def test_the_journal_knows_how_bad_each_line_is_and_the_state_who_published_what(machine: Machine) -> None:
    machine.run("systemctl", "start", PUBLISHER)
    wait_until(lambda: bool(status(machine, PUBLISHER)["heads"]), "it publishes")
    settings = machine.run("cat", "/etc/p2pboot/publisher.toml")
    machine.write("/etc/p2pboot/publisher.toml", settings + "[nonsense]\n")
    machine.refused("systemctl", "restart", PUBLISHER)
    machine.write("/etc/p2pboot/publisher.toml", settings)
    lines = told(machine, PUBLISHER)
    assert not [text for _, text in lines if text.startswith("<")]
    assert {priority for priority, text in lines if text.startswith("http-listening: ")} == {"6"}
    assert {priority for priority, text in lines if text.startswith("p2pboot: error: ")} == {"3"}
    audit = f"{STATES[PUBLISHER]}/audit.log"
    assert machine.run("stat", "--format=%U %a", audit).split() == ["p2pboot", "600"]
    events = [json.loads(line)["event"] for line in machine.run("cat", audit).splitlines()]
    assert {"started", "published"} <= {*events}
