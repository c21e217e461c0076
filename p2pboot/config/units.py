"""The systemd units as they are packaged, and what is made of them where they are not, or have to be other.

Their one source is `packaging/systemd/`, which a wheel carries as `p2pboot/units/`. A package of a distribution, or the
bundle, installs them; then nothing is written but a drop-in for what the answers need. `p2pboot init` writes the rest:
whole units where none are installed, with the path of this program, and units for the manager of a user, which has
neither another user to run as nor the right to most of the sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from p2pboot.config.locations import SERVICE_USER, Role
from p2pboot.errors import ConfigError, MachineError

PACKAGED_PROGRAM: Final = "/usr/bin/p2pboot"
INSTALLED_IN: Final = (
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
"""Where systemd takes units from that no administrator wrote, below the root directory."""

_HOMES: Final = ("home", "root", "run/user")
_PACKAGE: Final = Path(__file__).parents[1]
_PLACES: Final = (_PACKAGE / "units", _PACKAGE.parent / "packaging/systemd")  # of a wheel, and of a checkout

# What the manager of a user can do without any privilege.
_FOR_USERS: Final = frozenset(
    {
        *("Type", "UMask", "ExecReload", "RuntimeDirectory", "RuntimeDirectoryMode"),
        *(
            "Restart",
            "RestartSec",
            "RestartPreventExitStatus",
            "TimeoutStartSec",
            "TimeoutStopSec",
            "WatchdogSec",
        ),
        *(
            "NoNewPrivileges",
            "LockPersonality",
            "MemoryDenyWriteExecute",
            "RestrictRealtime",
            "RestrictSUIDSGID",
        ),
    }
)


def packaged(name: str) -> str:
    """A file of `packaging/systemd/`.

    Raises:
        MachineError: this installation has none of that name.
    """
    for place in _PLACES:
        if (place / name).is_file():
            return (place / name).read_text(encoding="utf-8")
    raise MachineError(
        f"this installation of p2pboot has no unit {name}",
        remedy="install it from its wheel, bundle or package; docs/operations.md says how",
    )


def service_name(role: Role) -> str:
    """The service of a role."""
    return f"p2pboot-{role}.service"


def socket_name(role: Role) -> str:
    """The socket unit of a role, for HTTP on port 80."""
    return f"p2pboot-{role}.socket"


def installed(name: str, root: Path = Path("/")) -> Path | None:
    """Where a unit is installed that no administrator wrote."""
    return next((path for place in INSTALLED_IN if (path := root / place / name).exists()), None)


def system_unit(name: str, program: Sequence[str]) -> str:
    """A whole unit for the system's manager, which starts this program.

    Args:
        name: of the packaged file.
        program: words that start p2pboot.
    """
    return packaged(name).replace(PACKAGED_PROGRAM, _quoted(program))


def sandbox_of(directory: Path) -> str | None:
    """The drop-in that lets a publisher read its directory; None where the packaged sandbox shows it anyway."""
    if not any(directory.is_relative_to(Path("/") / home) for home in _HOMES):
        return None
    return (
        f"# The published directory {directory} is in a home directory, which the unit's sandbox hides.\n"
        f"# The user {SERVICE_USER} must be able to read it; written by `p2pboot init`.\n"
        "[Service]\nProtectHome=read-only\n"
    )


def user_unit(role: Role, program: Sequence[str], config: Path, command: str) -> str:
    """A unit for the manager of a user, made of what of the packaged one needs no privilege.

    Args:
        role: of the node.
        program: words that start p2pboot.
        config: the configuration file, which names key and state.
        command: of p2pboot, "serve".
    """
    lines = [
        f"# A p2pboot {role} of this user, written by `p2pboot init`. It ends with the user's last session, unless",
        "# `loginctl enable-linger` was said.",
        "",
    ]
    section = ""
    for line in packaged(service_name(role)).splitlines():
        name, _, value = line.partition("=")
        if line.startswith("["):
            section = line
            lines += ([""] if section != "[Unit]" else []) + [section]
        elif section == "[Unit]" and name in ("Description", "Documentation", "StartLimitIntervalSec"):
            lines.append(line)
        elif section == "[Service]" and name == "ExecStart":
            lines.append(f"ExecStart={_quoted(program)} {command} --config {_quoted([str(config)])}")
        elif section == "[Service]" and name in _FOR_USERS:
            value = value.replace(f"/etc/p2pboot/{role}.toml", _quoted([str(config)]))
            lines.append(f"{name}={value.replace(PACKAGED_PROGRAM, _quoted(program))}")
        elif name == "WantedBy":
            lines.append("WantedBy=default.target")
    return "\n".join(lines) + "\n"


def _quoted(words: Sequence[str]) -> str:
    """Words as systemd reads them (systemd.syntax(7)): a percent sign and a dollar are doubled."""
    for word in words:
        if not word.isprintable():
            raise ConfigError(
                f"{word!r} can not be named in a unit: it has characters that are not printable",
                remedy="have program and home directory in places with ordinary names",
            )
    return " ".join(_word(word.replace("%", "%%").replace("$", "$$")) for word in words)


def _word(word: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_./:=@%$+-]+", word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
