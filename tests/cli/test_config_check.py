from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from p2pboot.config.locations import Locations
from p2pboot.core.identity import SecretKey
from p2pboot.store.keyfiles import generate_key
from tests.cli.conftest import Cli
from tests.permissions import permissions_applied

ALICE = SecretKey(bytes([1]) * 32).public
GOOD = f'[provider]\nchannel = "stable"\narch = "arm64"\n[[trust]]\nkeys = ["{ALICE.keyid}"]\n'


def test_a_good_file_is_fine_and_says_what_a_node_does_with_it(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mirror.toml").write_text(GOOD)
    ran = cli("config", "check", "mirror.toml")
    assert (ran.status, ran.stderr) == (0, "")
    assert ran.stdout == "mirror.toml: fine: follows stable/arm64\n"


def test_each_error_is_a_line_and_the_status_is_that_of_wrong_usage(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "p2pboot.toml").write_text('[network]\nlistn = []\n[provider]\ndirectory = "no"\n')
    ran = cli("config", "check", "p2pboot.toml")
    assert ran.status == 2
    assert ran.stdout.splitlines() == [
        "p2pboot.toml:2: error: unknown key network.listn; did you mean listen?",
        "p2pboot.toml:4: error: provider.directory: no: no such file or directory; make it, or name another directory",
    ]
    assert "2 errors" in ran.error_line


@pytest.mark.parametrize("http", ["systemd", "systemd:http"])
def test_sockets_of_the_service_manager_are_nothing_to_remark(cli: Cli, tmp_path: Path, http: str) -> None:
    (tmp_path / "mirror.toml").write_text(f'{GOOD}[gateway]\nhttp = "{http}"\n')
    assert cli("config", "check", "mirror.toml").stdout == (
        f"mirror.toml: fine: follows stable/arm64; HTTP at {http}\n"
    )


def test_the_document_has_everything(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text(GOOD)
    (tmp_path / "bad.toml").write_text("[network]\nlistn = []\n")
    good = cli("config", "check", "--json", "good.toml").document
    assert good["ok"] is True
    assert good["files"][0]["mirrors"] == [["stable", "arm64"]]
    ran = cli("config", "check", "--json", "bad.toml")
    document = json.loads(ran.stdout)
    assert (ran.status, document["ok"], document["reason"]) == (2, False, "config")
    (problem,) = document["files"][0]["problems"]
    assert (problem["key"], problem["line"]) == ("network.listn", 2)


def test_who_may_not_read_the_key_checks_the_rest(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    generate_key(tmp_path / "keys/node.toml")
    (tmp_path / "keys").chmod(0)
    (tmp_path / "mirror.toml").write_text(f'[identity]\nkey_path = "keys/node.toml"\n{GOOD}')
    with permissions_applied():
        ran = cli("config", "check", "mirror.toml")
    (tmp_path / "keys").chmod(0o700)
    assert ran.status == 0
    assert "mirror.toml:2: note: identity.key_path: not looked at" in ran.stdout
    assert "fine: follows stable/arm64" in ran.stdout


def test_without_a_file_those_of_this_user_are_checked(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Locations.of_user({"HOME": str(tmp_path)})
    monkeypatch.setattr(Locations, "of_this_user", lambda: places)
    assert f"there is no configuration in {tmp_path}/.config/p2pboot" in cli("config", "check").error_line
    places.config_directory.mkdir(parents=True)
    places.config("mirror").write_text(GOOD)
    places.config("publisher").write_text("[provider]\nnaem = 1\n")
    ran = cli("config", "check")
    assert ran.status == 2
    assert [line.partition(": ")[0] for line in ran.stdout.splitlines()] == [
        f"{places.config('publisher')}:2",
        str(places.config("mirror")),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="the places of root are looked at")
def test_root_has_the_systems_places() -> None:
    assert Locations.of_this_user() == Locations.of_system()
    assert Locations.of_system().config("mirror") == Path("/etc/p2pboot/mirror.toml")


def test_a_port_that_another_program_has_is_told(cli: Cli, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        (tmp_path / "mirror.toml").write_text(f'{GOOD}[gateway]\nhttp = "127.0.0.1:{port}"\n')
        ran = cli("config", "check", "mirror.toml")
    assert ran.status == 0
    assert (
        f"warning: gateway.http: {Path('/proc/self/comm').read_text().strip()} (process {os.getpid()})"
        in ran.stdout
    )
