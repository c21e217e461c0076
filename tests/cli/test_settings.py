"""A setting that is declared can be said in the file and on the command line, and is shown with where it was said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2pboot.config.setting import Setting
from p2pboot.config.settings import SETTINGS
from scripts.document import EXAMPLE
from tests.cli.conftest import Cli


def on_the_command_line(one: Setting) -> list[str]:
    """The example's value, as a person gives it."""
    flag, value = one.flag.partition(" ")[0], one.default if one.example is None else one.example
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag.removeprefix('--')}"]
    words = [str(item) for item in value] if isinstance(value, list) else [str(value)]
    return [part for word in words for part in ([flag, word] if flag.startswith("-") else [word])]


def values_of(document: dict[str, Any], source: str) -> dict[str, object]:
    """What is shown as said there, by dotted name."""
    return {
        dotted: entry["value"]
        for dotted, one in SETTINGS.items()
        if (entry := document[one.table][one.name])["source"] == source
    }


def test_every_setting_is_read_from_file_and_command_line_alike(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "p2pboot.toml").write_text(EXAMPLE.read_text())
    of_file = cli("config", "show", "--json", "--config", tmp_path / "p2pboot.toml").document
    flags = [part for one in SETTINGS.values() if not one.command for part in on_the_command_line(one)]
    of_flags = cli("config", "show", "--json", *flags).document
    assert values_of(of_file, "file").keys() == SETTINGS.keys()
    assert values_of(of_flags, "command line").keys() == SETTINGS.keys() - {"snapshots.key_path"}
    assert values_of(of_flags, "command line").items() <= values_of(of_file, "file").items()


def test_help_says_the_default_of_every_setting_that_has_one(cli: Cli) -> None:
    shown = " ".join(cli("serve", "--help").stdout.split())
    for default in (
        "keys/node.toml",
        "30d",
        "on",
        "unlimited",
        "/ip4/0.0.0.0/tcp/4001, /ip6/::/tcp/4001",
        "1",
    ):
        assert f"[default: {default}" in shown
    assert "or `/dnsaddr/NAME`; repeatable. --mdns" in shown  # nothing is said of what has none


def test_the_state_directory_that_the_platform_wants_is_shown_as_the_default(
    cli: Cli, tmp_path: Path
) -> None:
    shown = cli("config", "show", "--json").document["store"]["state"]
    assert shown == {"value": str(tmp_path / "home/.local/state/p2pboot"), "source": "default"}
