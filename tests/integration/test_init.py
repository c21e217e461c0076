"""`init` as a person meets it: five questions on a real terminal, wrong answers, second thoughts, what comes of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from p2pboot.config.check import check_file
from p2pboot.config.locations import Locations, Role
from p2pboot.core.identity import SecretKey
from p2pboot.testing.processes import PYTHON, Mesh, Node, environment
from tests.integration.images import write_artifacts
from tests.terminals import Terminal, terminal_with

ALICE = SecretKey(bytes([1]) * 32).public
Sitting = Callable[..., AbstractContextManager[Terminal]]


@pytest.fixture
def sitting(tmp_path: Path) -> Sitting:
    """Sit down at `init` of a user whose home is the test's directory."""

    def sit(*args: str) -> AbstractContextManager[Terminal]:
        variables = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": "", "XDG_STATE_HOME": ""}
        return terminal_with([*PYTHON, "init", "--user", *args], tmp_path, variables=variables)

    return sit


def files_in(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_five_questions_make_a_publisher(sitting: Sitting, tmp_path: Path) -> None:
    with sitting() as terminal:
        terminal.wait_for(r"publisher or a mirror\?.*\r\n.*\r\n\[publisher\] ")
        terminal.type("\n")
        terminal.wait_for(r"Which directory.*\?")
        terminal.type("images\n")
        terminal.wait_for(r"Which release.*\?")
        terminal.type("testing/aarch64\n")
        terminal.wait_for(r"On which port.*\?")
        terminal.type("off\n")
        terminal.wait_for(r"Where are other nodes\?")
        terminal.type("\n")
        assert terminal.wait() == 0, terminal.shown
        assert terminal.shown.count("?\r\n") == 5
        assert f"config check {tmp_path}/.config/p2pboot/publisher.toml" in terminal.shown
    assert files_in(tmp_path) == [
        ".config/p2pboot/keys/publisher.toml",
        ".config/p2pboot/publisher.toml",
        ".config/systemd/user/p2pboot-publisher.service",
    ]
    settings = check_file(tmp_path / ".config/p2pboot/publisher.toml").settings
    assert settings is not None
    provider = settings.provider
    assert (provider.directory, provider.channel, provider.arch) == (tmp_path / "images", "testing", "arm64")
    assert settings.gateway.http is None


def test_a_bad_answer_is_told_and_asked_again_and_three_are_enough(sitting: Sitting, tmp_path: Path) -> None:
    with sitting() as terminal:
        terminal.wait_for("publisher or a mirror")
        terminal.type("emperor\n")
        terminal.wait_for("must be publisher or mirror, not 'emperor'")
        terminal.type("MIRROR\n")
        for wrong in ("12", "", "x" * 70):
            terminal.wait_for(r"> $")
            terminal.type(f"{wrong}\n")
        terminal.wait_for(
            "p2pboot: error: Which publisher's key is trusted: 3 answers, and none can be taken"
        )
        assert terminal.wait() == 2
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(("key", "meaning"), [("\x03", "Ctrl-C"), ("\x04", "Ctrl-D")])
def test_who_thinks_twice_has_changed_nothing(
    sitting: Sitting, tmp_path: Path, key: str, meaning: str
) -> None:
    with sitting() as terminal:
        terminal.wait_for(r"\[publisher\] ")
        terminal.type("\n")
        terminal.wait_for(r"Which directory.*\r\n.*\r\n\[")
        terminal.type(key)
        assert terminal.wait() == 130, meaning
        assert "nothing was changed" in terminal.shown
        assert "Traceback" not in terminal.shown
    assert files_in(tmp_path) == []


def test_a_terminal_that_goes_away_at_a_question_leaves_nothing(sitting: Sitting, tmp_path: Path) -> None:
    with sitting() as terminal:
        terminal.wait_for(r"\[publisher\] ")
        terminal.close()
        assert terminal.wait() != 0
    assert files_in(tmp_path) == []


def test_what_init_wrote_runs_and_feeds_a_mirror_that_init_wrote(mesh: Mesh, tmp_path: Path) -> None:
    """Nobody has to know more than the answers; ports and discovery are set aside, for other tests run here."""
    images = write_artifacts(tmp_path / "images")
    publisher, keyid = start(
        mesh, tmp_path, "publisher", "--images", str(images), "--release", "stable/x86_64"
    )
    mirror, _ = start(mesh, tmp_path, "mirror", "--trust", keyid, "--bootstrap", publisher.address)
    mirror.wait_for_head(1)


def start(mesh: Mesh, home: Path, role: Role, *args: str) -> tuple[Node, str]:
    """Have `init` write what a node needs, and start it with that; the node, and its key id."""
    variables = {**environment(), "HOME": str(home), "XDG_CONFIG_HOME": "", "XDG_STATE_HOME": ""}
    command = [*PYTHON, "init", "--user", "-y", "--http", "off", "--role", role, "--json", *args]
    done = subprocess.run(command, env=variables, cwd=home, capture_output=True, text=True, check=True)
    places = Locations.of_user({"HOME": str(home)})
    node = mesh.node(
        [
            *PYTHON,
            *("serve" if role == "publisher" else "mirror", "--config", str(places.config(role))),
            *("--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"),
        ],
        state=places.state_directory / role,
        log=home / f"log-{role}",
    )
    return node, json.loads(done.stdout)["keyid"]
