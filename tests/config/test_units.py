from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from p2pboot.config import units
from p2pboot.config.locations import Locations, Role
from p2pboot.errors import ConfigError, MachineError

ROOT = Path(__file__).parents[2]


def test_a_wheel_carries_the_packaged_units_where_they_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    carried = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert carried["packaging/systemd"] == "p2pboot/units"
    assert units._PLACES == (ROOT / "p2pboot/units", ROOT / "packaging/systemd")
    monkeypatch.setattr(units, "_PLACES", (tmp_path,))
    with pytest.raises(MachineError, match=r"has no unit p2pboot-mirror\.service"):
        units.packaged("p2pboot-mirror.service")


@pytest.mark.parametrize("role", Locations.ROLES)
def test_a_unit_for_the_machine_is_the_packaged_one_but_for_the_program(role: Role) -> None:
    name = units.service_name(role)
    text = (ROOT / "packaging/systemd" / name).read_text(encoding="utf-8")
    assert units.system_unit(name, [units.PACKAGED_PROGRAM]) == text
    other = units.system_unit(name, ["/opt/p2pboot/bin/p2pboot"])
    assert other == text.replace("/usr/bin/p2pboot", "/opt/p2pboot/bin/p2pboot")
    assert other.count("/opt/p2pboot/bin/p2pboot") == 2


def test_a_name_that_no_unit_can_say_is_refused() -> None:
    with pytest.raises(ConfigError, match="can not be named in a unit"):
        units.user_unit("mirror", ["/usr/bin/p2pboot"], Path("/home/a\nUser=root/mirror.toml"), "mirror")


@pytest.mark.parametrize(
    ("directory", "is_hidden"),
    [("/srv/images", False), ("/homes/a", False), ("/home/a/images", True), ("/root/images", True)],
)
def test_only_a_home_needs_another_sandbox(directory: str, is_hidden: bool) -> None:
    assert (units.sandbox_of(Path(directory)) is not None) is is_hidden


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: systemd)"
)
@pytest.mark.parametrize("role", Locations.ROLES)
def test_systemd_has_nothing_against_a_users_unit(tmp_path: Path, role: Role) -> None:
    config = tmp_path / "a directory/50%/mirror.toml"
    unit = tmp_path / units.service_name(role)
    unit.write_text(
        units.user_unit(role, [sys.executable, "-m", "p2pboot"], config, "serve"), encoding="utf-8"
    )
    done = subprocess.run(
        ["systemd-analyze", "--user", "--man=no", "verify", unit],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
