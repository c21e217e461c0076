from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path

import pytest

from p2pboot.config import units
from p2pboot.config.check import check_file
from p2pboot.config.locations import Locations, Role
from p2pboot.core.identity import SecretKey
from p2pboot.store.keyfiles import load_key
from p2pboot.testing.trustdocs import root_body, signed_root
from tests.cli.conftest import Cli
from tests.permissions import permissions_applied

ALICE = SecretKey(bytes([1]) * 32).public
NODE = "/dns4/boot-2.example.net/tcp/4001/p2p/12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5"
MIRROR = ("init", "-y", "--role", "mirror", "--trust", ALICE.peer_id)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Locations:
    """The places of a machine that has systemd and nothing of ours, below a directory of the test's."""
    places = Locations.of_system(tmp_path / "root")
    (places.root / "run/systemd/system").mkdir(parents=True)
    monkeypatch.setattr(Locations, "of_this_user", lambda: places)
    return places


def tree(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its mode and content."""
    return {
        str(path.relative_to(directory)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_publisher_of_the_machine_has_all_that_the_unit_names(cli: Cli, system: Locations) -> None:
    ran = cli("init", "-y", "--bootstrap", NODE)
    assert ran.status == 0, ran.stderr
    assert {path: mode for path, (mode, _) in tree(system.root).items()} == {
        "etc/p2pboot/publisher.toml": 0o644,
        "etc/p2pboot/keys/publisher.toml": 0o600,
        "etc/systemd/system/p2pboot-publisher.service": 0o644,
        "etc/systemd/system/p2pboot-publisher.socket": 0o644,
        "etc/sysusers.d/p2pboot.conf": 0o644,
    }
    assert stat.S_IMODE((system.config_directory / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE(system.config_directory.stat().st_mode) == 0o755
    checked = check_file(system.config("publisher"))
    assert checked.ok, checked.flaws
    assert checked.settings is not None
    assert checked.settings.provider.directory == system.images
    assert checked.settings.network.bootstrap == (NODE,)
    assert checked.settings.gateway.http is None  # the socket's
    keyid = load_key(system.config_directory / "keys/publisher.toml").public.keyid
    assert f"key id  {keyid}" in ran.stdout
    assert ran.stdout.splitlines()[-1].strip() == (
        "systemctl enable --now p2pboot-publisher.socket p2pboot-publisher.service"
    )
    assert "systemd-sysusers" in ran.stdout
    assert "systemctl daemon-reload" in ran.stdout


def test_a_mirror_of_the_machine_follows_what_was_said(cli: Cli, system: Locations) -> None:
    ran = cli(*MIRROR, "--release", "stable/arm64", "--release", "testing/arm64", "--http", "192.0.2.7:8080")
    assert ran.status == 0, ran.stderr
    settings = check_file(system.config("mirror")).settings
    assert settings is not None
    assert settings.followed() == (("stable", "arm64"), ("testing", "arm64"))
    assert settings.trust[0].keys == (ALICE.keyid,)
    assert settings.gateway.http == "192.0.2.7:8080"
    assert not (system.unit_directory / "p2pboot-mirror.socket").exists()


def test_a_mirror_follows_a_root_of_which_a_copy_is_kept(cli: Cli, system: Locations, tmp_path: Path) -> None:
    file = tmp_path / "root.json"
    file.write_bytes(signed_root(root_body()).raw)
    asked = ("init", "-y", "--role", "mirror", "--root", str(file), "--release", "stable/x86_64")
    ran = cli(*asked)
    assert ran.status == 0, ran.stderr
    assert (system.config_directory / "root.json").read_bytes() == file.read_bytes()
    file.unlink()
    checked = check_file(system.config("mirror"))
    assert checked.ok, checked.flaws
    assert checked.settings is not None
    assert checked.settings.followed() == (("stable", "x86_64"),)


@pytest.mark.parametrize("how", ["option", "answer"])
def test_a_mirror_follows_the_digest_of_a_root(cli: Cli, system: Locations, how: str) -> None:
    digest = signed_root(root_body()).digest
    said = f"sha256:{digest}"
    if how == "option":
        ran = cli("init", "-y", "--role", "mirror", "--root", said, "--release", "stable/x86_64")
    else:
        ran = cli("init", stdin=f"mirror\n{said}\nstable/x86_64\noff\n\n".encode())
    assert ran.status == 0, ran.stderr
    settings = check_file(system.config("mirror")).settings
    assert settings is not None
    (root,) = settings.roots
    assert (root.anchor.digest, root.channels, root.archs) == (digest, ("stable",), ("x86_64",))
    assert not (system.config_directory / "root.json").exists()


def test_keys_and_a_root_are_not_both_trusted(cli: Cli, system: Locations) -> None:
    ran = cli(*MIRROR, "--root", f"sha256:{'0' * 64}")
    assert ran.status == 2
    assert "--root and --trust both say whom to trust" in ran.error_line
    assert tree(system.root) == {}


def test_dry_run_prints_all_of_it_and_touches_nothing(cli: Cli, system: Locations) -> None:
    ran = cli(*MIRROR, "--dry-run")
    assert ran.status == 0, ran.stderr
    assert tree(system.root) == {}
    assert not system.config_directory.exists()
    assert f"would write  configuration  {system.config('mirror')}" in ran.stdout
    assert f'    keys = ["{ALICE.keyid}"]' in ran.stdout
    assert "    LoadCredential=node-key:/etc/p2pboot/keys/mirror.toml" in ran.stdout
    assert "secret" not in ran.stdout
    document = cli(*MIRROR, "--dry-run", "--json").document
    assert document["dry_run"] is True
    assert {file["state"] for file in document["files"]} == {"new"}
    assert tree(system.root) == {}


def test_the_same_again_changes_nothing(cli: Cli, system: Locations) -> None:
    assert cli(*MIRROR).status == 0
    before = tree(system.root)
    ran = cli(*MIRROR)
    assert ran.status == 0
    assert "wrote" not in ran.stdout
    assert "daemon-reload" not in ran.stdout
    assert tree(system.root) == before


def test_what_says_something_else_is_refused_before_anything_is_written(cli: Cli, system: Locations) -> None:
    system.config_directory.mkdir(parents=True)
    system.config("mirror").write_text("# mine\n")
    ran = cli(*MIRROR)
    assert ran.status == 2
    assert str(system.config("mirror")) in ran.error_line
    assert "--force" in ran.error_line
    assert list(tree(system.root)) == ["etc/p2pboot/mirror.toml"]


def test_force_replaces_files_keeps_what_they_said_and_never_a_key(cli: Cli, system: Locations) -> None:
    assert cli(*MIRROR).status == 0
    key = load_key(system.config_directory / "keys/mirror.toml").public
    system.config("mirror").write_text("# mine\n")
    ran = cli(*MIRROR, "--force")
    assert ran.status == 0, ran.stderr
    assert check_file(system.config("mirror")).ok
    assert system.config("mirror").with_name("mirror.toml.before-init").read_text() == "# mine\n"
    assert load_key(system.config_directory / "keys/mirror.toml").public == key


def test_a_key_that_is_none_is_told_before_anything_is_written(cli: Cli, system: Locations) -> None:
    key = system.config_directory / "keys/mirror.toml"
    key.parent.mkdir(parents=True)
    key.write_text("nothing")
    key.chmod(0o600)
    assert str(key) in cli(*MIRROR, "--force").error_line
    assert list(tree(system.root)) == ["etc/p2pboot/keys/mirror.toml"]


@pytest.mark.parametrize("left", range(5))
def test_who_was_killed_half_way_goes_on_where_it_was(cli: Cli, system: Locations, left: int) -> None:
    assert cli(*MIRROR).status == 0
    whole = tree(system.root)
    order = [
        file["path"] for file in cli(*MIRROR, "--json").document["files"] if Path(file["path"]).is_file()
    ]
    assert len(order) == 5
    key = (system.config_directory / "keys/mirror.toml").read_bytes()
    for path in order[left:]:
        if not path.endswith("keys/mirror.toml"):
            Path(path).unlink()
    (system.config_directory / f".mirror.toml.p2pboot-{'0' * 16}.tmp").write_text("half")
    assert cli(*MIRROR).status == 0
    assert tree(system.root) == whole
    assert (system.config_directory / "keys/mirror.toml").read_bytes() == key


def test_installed_units_are_left_alone_but_for_what_the_answers_need(cli: Cli, system: Locations) -> None:
    packaged = system.root / "usr/lib/systemd/system"
    packaged.mkdir(parents=True)
    for kind in ("service", "socket"):
        (packaged / f"p2pboot-publisher.{kind}").write_text("[Unit]\n")
    ran = cli("init", "-y", "--images", "/home", "--dry-run", "--json")
    files = {Path(file["path"]).name: file for file in ran.document["files"] if file["kind"] == "unit"}
    assert files.keys() == {"p2pboot.conf", "init.conf"}
    assert "ProtectHome=read-only" in files["init.conf"]["content"]


@pytest.mark.parametrize("role", Locations.ROLES)
def test_a_user_has_places_and_a_unit_of_his_own(cli: Cli, tmp_path: Path, role: Role) -> None:
    ran = cli("init", "--user", "-y", "--role", role, *(("--trust", ALICE.keyid) if role == "mirror" else ()))
    assert ran.status == 0, ran.stderr
    home = tmp_path / "home"
    config = home / f".config/p2pboot/{role}.toml"
    assert check_file(config).ok
    settings = check_file(config).settings
    assert settings is not None
    assert settings.store.state == home / f".local/state/p2pboot/{role}"
    assert settings.gateway.http in ("[::]:8080", "0.0.0.0:8080")
    unit = (home / f".config/systemd/user/p2pboot-{role}.service").read_text()
    assert f"--config {config}" in unit
    assert "WantedBy=default.target" in unit
    for absent in ("User=", "LoadCredential=", "/etc/p2pboot", "/usr/bin/p2pboot", "multi-user"):
        assert absent not in unit


def test_a_user_without_home_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    ran = cli("init", "--user", "-y")
    assert ran.status == 2
    assert "home" in ran.error_line


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ((), "--role"),
        (("--role", "mirror"), "--trust"),
        (("--role", "mirror", "-y"), "--trust"),
        (("--role", "publisher"), "--images"),
        (("--role", "mirror", "--trust", ALICE.keyid), "--release"),
        (("--role", "mirror", "--trust", ALICE.keyid, "--release", "stable"), "--http"),
        (("--role", "mirror", "--trust", ALICE.keyid, "--release", "stable", "--http", "off"), "--bootstrap"),
    ],
)
def test_without_terminal_a_missing_answer_names_its_option(
    cli: Cli, system: Locations, args: tuple[str, ...], named: str
) -> None:
    ran = cli("init", *args)
    assert ran.status == 2
    assert f"answer with {named}" in ran.error_line
    assert tree(system.root) == {}


def test_lines_that_are_piped_in_answer_the_questions(cli: Cli, system: Locations) -> None:
    assert cli("init", stdin=f"mirror\n{ALICE.keyid}\nstable/arm64\noff\n\n".encode()).status == 0
    said = tomllib.loads((system.root / "etc/p2pboot/mirror.toml").read_text())
    assert said["trust"][0]["keys"] == [ALICE.keyid]
    assert said["trust"][0]["archs"] == ["arm64"]


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        (b"mirror\n", "answer with --trust"),
        (b"king\npublisher\n", "--role: must be publisher or mirror, not 'king'"),
        (b"publisher\n/dev/null\n", "--images: must be a directory"),
        (b"\xff\xfe\n", "is no text"),
    ],
)
def test_of_piped_lines_a_wrong_one_or_a_missing_one_is_told(
    cli: Cli, system: Locations, lines: bytes, part: str
) -> None:
    ran = cli("init", stdin=lines)
    assert ran.status == 2
    assert part in ran.error_line
    assert tree(system.root) == {}


@pytest.mark.parametrize(
    "wrong",
    [
        ("--role", "king"),
        ("--images", "/dev/null"),
        ("--images", "/srv/a\n[Service]"),
        ("--images", ""),
        ("--release", "a/b/c"),
        ("--release", "stable"),
        ("--release", "stable/vax"),
        ("--http", "here"),
        ("--http", "99999"),
        ("--bootstrap", "boot-2.example.net"),
        ("--name", "two\nlines"),
        ("--trust", ALICE.keyid),
        ("--root", f"sha256:{'0' * 64}"),
    ],
)
def test_a_wrong_answer_is_told_by_its_option(cli: Cli, system: Locations, wrong: tuple[str, str]) -> None:
    ran = cli("init", "-y", *wrong)
    assert ran.status == 2
    assert wrong[0] in ran.error_line
    assert tree(system.root) == {}


def test_a_low_port_without_a_socket_unit_is_refused(
    cli: Cli, system: Locations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pboot.config.locations.first_free_port", lambda: 1024)
    assert "from 1024" in cli("init", "-y", "--http", "81").error_line
    assert "from 1024" in cli("init", "-y", "--user", "--http", "80").error_line
    assert cli("init", "-y", "--http", "80").status == 0
    assert system.unit_directory.exists()


def test_a_publisher_of_a_tree_names_no_release(cli: Cli, system: Locations) -> None:
    (system.images / "stable/x86_64").mkdir(parents=True)
    assert cli("init", "-y").status == 0
    provider = tomllib.loads(system.config("publisher").read_text())["provider"]
    assert provider.keys() == {"name", "directory"}


def test_an_umask_of_root_hides_nothing_from_the_service(cli: Cli, system: Locations) -> None:
    before = os.umask(0o077)
    try:
        assert cli(*MIRROR).status == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(system.config("mirror").stat().st_mode) == 0o644
    assert stat.S_IMODE(system.config_directory.stat().st_mode) == 0o755


def test_words_are_quoted_as_systemd_reads_them() -> None:
    unit = units.user_unit(
        "mirror", ["/opt/my p2pboot/bin/p2pboot"], Path('/home/a "b"/50%/$x/mirror.toml'), "mirror"
    )
    assert '"/opt/my p2pboot/bin/p2pboot" mirror --config "/home/a \\"b\\"/50%%/$$x/mirror.toml"' in unit


def test_images_that_the_service_may_not_read_are_told(cli: Cli, system: Locations, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    ran = cli("init", "-y")
    assert ran.status == 0
    assert re.search(
        r"warning: the user p2pboot may not read /\S+ \(mode 0700\): let him, by chmod o\+x /", ran.stderr
    )


def test_who_may_not_write_there_is_told_before_anything_is_written(cli: Cli, system: Locations) -> None:
    (system.root / "etc").mkdir()
    (system.root / "etc").chmod(0o555)
    with permissions_applied():
        ran = cli(*MIRROR)
    assert ran.status == 4
    assert "--user" in ran.error_line
    assert tree(system.root) == {}


def test_a_directory_in_the_way_is_told(cli: Cli, system: Locations) -> None:
    system.config("mirror").mkdir(parents=True)
    assert f"{system.config('mirror')} is in the way" in cli(*MIRROR).error_line
    assert tree(system.root) == {}
