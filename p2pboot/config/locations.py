"""Where a machine's own configuration, key, state and unit are: the system's for root, the user's else.

These are the places of the packaged units and of `p2pboot init`. `serve` and `mirror` read no file that they were not
given.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import ConfigError

Role = Literal["publisher", "mirror"]
SERVICE_USER: Final = "p2pboot"
_PRIVILEGED: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


@dataclass(frozen=True, slots=True, kw_only=True)
class Locations:
    """The places of one installation.

    Args:
        is_system: whether they are the whole machine's.
        config_directory: of `publisher.toml`, `mirror.toml` and `keys/`.
        state_directory: the parent of what each role keeps.
        unit_directory: where systemd takes an administrator's, or this user's, own units from.
        images: where a publisher's files are looked for when nobody says.
        root: what all of it is below.
    """

    ROLES: ClassVar[tuple[Role, ...]] = ("publisher", "mirror")

    is_system: bool
    config_directory: Path
    state_directory: Path
    unit_directory: Path
    images: Path
    root: Path = Path("/")

    @classmethod
    def of_system(cls, root: Path = Path("/")) -> Locations:
        """The machine's; `root` is another one's file system that is mounted there."""
        return cls(
            is_system=True,
            config_directory=root / "etc/p2pboot",
            state_directory=root / "var/lib/p2pboot",
            unit_directory=root / "etc/systemd/system",
            images=root / "srv/images",
            root=root,
        )

    @classmethod
    def of_user(cls, environment: Mapping[str, str]) -> Locations:
        """A user's, after the XDG base directory specification.

        Raises:
            ConfigError: this user has no home directory.
        """
        said = environment.get("HOME", "")
        if not said.startswith("/"):
            raise ConfigError(
                "this user has no home directory (HOME is not set), so there is no place for a configuration",
                remedy="set HOME, or run it as root for the whole machine",
            )
        home = Path(said)
        config = _xdg(environment, "XDG_CONFIG_HOME", home / ".config")
        return cls(
            is_system=False,
            config_directory=config / "p2pboot",
            state_directory=_xdg(environment, "XDG_STATE_HOME", home / ".local/state") / "p2pboot",
            unit_directory=config / "systemd/user",
            images=home / "images",
        )

    @classmethod
    def of_this_user(cls) -> Locations:
        """The machine's for root and for the units' own user, else those of who runs this; raises as `of_user`."""
        return cls.of_system() if _is_system_user() else cls.of_user(os.environ)

    def config(self, role: Role) -> Path:
        """The configuration file of a role."""
        return self.config_directory / f"{role}.toml"


def first_free_port() -> int:
    """The lowest port that needs no privilege."""
    try:
        return int(_PRIVILEGED.read_text())
    except (OSError, ValueError):
        return 1024


def _is_system_user() -> bool:
    if os.geteuid() == 0:
        return True
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name == SERVICE_USER
    except KeyError:
        return False


def _xdg(environment: Mapping[str, str], name: str, default: Path) -> Path:
    """A base directory; the specification has relative ones ignored."""
    said = environment.get(name, "")
    return Path(said) if said.startswith("/") else default
