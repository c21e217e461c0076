"""Roll-outs on the command line: what is asked of the node and said of its answer, and what a machine is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from p2pboot.cli import machine
from p2pboot.cli.rollout import rollout
from p2pboot.core.rollouts import Machine
from p2pboot.errors import UsageError
from p2pboot.node import control

ON: dict[str, Any] = {
    "into": "stable",
    "channel": "stable.next",
    "arch": "x86_64",
    "version": "2026.03.02",
    "manifest_version": 4,
    "signers": ["ed25519:a", "ed25519:b"],
    "percent": 50,
    "fraction": 0.125,
    "start": "2026-03-02T06:00:00Z",
    "end": "2026-03-04T06:00:00Z",
    "duration_s": 172_800,
    "paused_since": None,
    "paused_by": [],
    "ended": None,
}
PAUSED = {"paused_since": "2026-03-02T12:00:00Z", "paused_by": ["ed25519:f"]}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a node was asked; it answers with two roll-outs."""
    messages: list[dict[str, Any]] = []
    others = [ON | {"arch": "arm64", "ended": "overtaken"}, ON | PAUSED]

    def request(_state: Path, message: dict[str, Any], _timeout_s: float) -> dict[str, Any]:
        messages.append(message)
        return {"rollouts": [ON, *others]}

    monkeypatch.setattr(control, "request", request)
    return messages


def run(tmp_path: Path, *args: str) -> Any:
    return CliRunner().invoke(rollout, [*args, "--state", str(tmp_path)])


def test_what_the_options_say_is_asked_for(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    assert run(tmp_path, "start", "stable").exit_code == 0
    time = "2026-03-02T06:00:00Z"
    options = ("--over", "12h", "--percent", "10", "--start", time, "--arch", "arm64")
    assert run(tmp_path, "start", "stable", *options).exit_code == 0
    assert run(tmp_path, "start", "stable", "--duration", "0").exit_code == 0
    assert run(tmp_path, "abort", "stable", "--reason", "no root").exit_code == 0
    usual = {"op": "rollout", "action": "start", "channel": "stable", "arch": None}
    first, second, third, abort = asked
    assert first == usual | {"duration_s": 86_400, "percent": 100, "start": None}
    assert second == usual | {"arch": "arm64", "duration_s": 43_200, "percent": 10, "start": time}
    assert third["duration_s"] == 0
    assert abort == usual | {"action": "abort", "reason": "no root"}


def test_each_roll_out_is_one_line(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    about = "version 2026.03.02 (number 4 in stable.next)"
    assert run(tmp_path, "show").stdout.splitlines() == [
        f"stable/x86_64: {about}: 12.5% of the machines are in, 50 % by 2026-03-04T06:00:00Z (over 2 d);"
        " signed by ed25519:a, ed25519:b",
        f"stable/arm64: {about}, over: overtaken",
        f"stable/x86_64: {about}: 12.5% of the machines are in, paused since 2026-03-02T12:00:00Z"
        " by ed25519:f, 50 % by 2026-03-04T06:00:00Z (over 2 d); signed by ed25519:a, ed25519:b",
    ]
    assert json.loads(run(tmp_path, "show", "stable", "--json").stdout)["rollouts"][0] == ON


@pytest.mark.parametrize(
    "wrong", [("--over", "soon"), ("--percent", "101"), ("--percent", "-1"), ("--over", "-1d")]
)
def test_what_can_be_no_plan_is_not_asked_for(
    tmp_path: Path, asked: list[dict[str, Any]], wrong: tuple[str, str]
) -> None:
    assert run(tmp_path, "start", "stable", *wrong).exit_code == 2
    assert not asked


UUID = "4C4C4544-0042-3510-8054-B7C04F4B4D32"


@pytest.fixture
def sys_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose second card is the one with the lower burnt-in address; the lowest of all is not burnt in."""
    monkeypatch.setattr(machine, "SYS", tmp_path)
    monkeypatch.setattr(machine, "_permanent", {"bond-port": "02:00:00:00:00:07"}.get)
    for name, kind, assigned, address in (
        ("eth0", 1, 0, "b0:00:00:00:00:01"),
        ("eth1", 1, 0, "a0:00:00:00:00:02"),
        ("bond-port", 1, 3, "c0:00:00:00:00:03"),
        ("veth0", 1, 3, "00:00:00:00:00:04"),
        ("ib0", 32, 0, "00:00:00:00:00:05"),
    ):
        card = tmp_path / "class/net" / name
        card.mkdir(parents=True)
        for file, value in (("type", kind), ("addr_assign_type", assigned), ("address", address)):
            (card / file).write_text(f"{value}\n")
    return tmp_path


def test_a_machine_is_called_by_its_firmware_else_by_a_burnt_in_address(sys_tree: Path) -> None:
    found = machine.machine_of(None, None, canary=False)
    assert found == Machine("02:00:00:00:00:07", "its hardware address")
    identity = sys_tree / "class/dmi/id/product_uuid"
    identity.parent.mkdir(parents=True)
    identity.write_text(f"{UUID}\n")
    found = machine.machine_of(None, None, canary=False)
    assert found == Machine(UUID.lower(), "the UUID of its firmware")


def test_a_machine_without_hardware_of_its_own_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "SYS", tmp_path)
    assert machine.machine_of(None, None, canary=False).name is None


def test_what_is_said_comes_before_what_is_found(sys_tree: Path) -> None:
    assert machine.machine_of("Rack-7.3", None, canary=False) == Machine("Rack-7.3", "--machine-id")
    assert machine.machine_of("x", 0.75, canary=False).wariness == 0.75
    with pytest.raises(UsageError, match="nan"):
        machine.machine_of("x", float("nan"), canary=False)
    assert machine.machine_of(None, None, canary=True) == Machine(None, wariness=0.0)
    with pytest.raises(UsageError, match="--canary is --wariness 0"):
        machine.machine_of(None, 0.5, canary=True)
    with pytest.raises(UsageError, match="--machine-id"):
        machine.machine_of("a b", None, canary=False)
