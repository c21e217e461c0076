"""What a fresh machine installs, and what must never be in the repository."""

from __future__ import annotations

import calendar
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import p2pboot

ROOT = Path(__file__).parents[1]
LOCKS = ["build.txt", "run.txt", "dev.txt"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

_SECRET = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\n[A-Za-z0-9+/=\n]{40}|secret_key\s*=\s*[\"'][0-9a-f]{64}[\"']"
)


def lock_text(name: str) -> str:
    return (ROOT / "requirements" / name).read_text()


def locked(name: str) -> dict[str, list[Requirement]]:
    """Every entry of a lock file by package: one, or one for each marker."""
    entries: dict[str, list[Requirement]] = {}
    for line in lock_text(name).splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line.removesuffix("\\").strip())
            entries.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return entries


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout, or no git here")
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_one_exact_version_and_hashes(name: str) -> None:
    blocks = re.split(r"\n(?=[^\s#])", lock_text(name).strip())
    assert len(blocks) == sum(len(entries) for entries in locked(name).values())
    for block in blocks:
        assert re.match(r"[a-z0-9-]+==[^\s;*]+( ;[^\\]+)? \\\n", block), block.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]


@pytest.mark.parametrize("name", LOCKS)
def test_locks_name_no_registry(name: str) -> None:
    text = lock_text(name)
    assert "://" not in text
    assert not re.search(r"^--(?!hash)|index-url|find-links|trusted-host", text, re.MULTILINE)


@pytest.mark.parametrize("name", LOCKS)
def test_what_needs_a_compiler_is_not_locked(name: str) -> None:
    assert "fastecdsa" not in locked(name)


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("run.txt", PROJECT["project"]["dependencies"]),
        ("dev.txt", PROJECT["project"]["dependencies"]),
        ("dev.txt", PROJECT["dependency-groups"]["dev"]),
        ("build.txt", PROJECT["dependency-groups"]["build"]),
        ("build.txt", PROJECT["build-system"]["requires"]),
    ],
)
def test_lock_satisfies_what_the_project_asks_for(lock: str, wanted: list[str]) -> None:
    entries = locked(lock)
    for text in wanted:
        requirement = Requirement(text)
        found = entries[canonicalize_name(requirement.name)]
        for entry in found:
            (exact,) = entry.specifier
            assert requirement.specifier.contains(exact.version), f"{text}: {entry}"


def test_lock_holds_what_the_locked_packages_need() -> None:
    """`--no-deps` installs exactly the list: what it lacks would be missed only when it is imported."""
    entries = locked("run.txt")
    missing = [
        f"{name} needs {text}"
        for name in entries
        if entries[name][0].marker is None
        for text in importlib.metadata.requires(name) or []
        if (requirement := Requirement(text)).marker is None or requirement.marker.evaluate({"extra": ""})
        if canonicalize_name(requirement.name) not in entries
    ]
    assert missing == ['libp2p needs fastecdsa==2.3.2; sys_platform != "win32"']


def test_development_runs_the_versions_that_are_shipped() -> None:
    development = locked("dev.txt")
    assert locked("run.txt").items() <= development.items()


def test_release_date_is_that_of_the_version_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    found = re.search(
        rf"^## \[{re.escape(p2pboot.__version__)}\] - (\d+)-(\d+)-(\d+)$", changelog, re.MULTILINE
    )
    assert found is not None
    year, month, day = map(int, found.groups())
    assert calendar.timegm((year, month, day, 0, 0, 0)) == p2pboot.RELEASE_DATE


def test_importing_the_package_imports_nothing_else_of_it() -> None:
    code = "import sys, p2pboot; print(*(name for name in sys.modules if name.startswith('p2pboot')))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["p2pboot"]


def test_keys_directory_has_no_key() -> None:
    in_keys = {path.name for path in tracked_files() if path.parent == ROOT / "keys"}
    assert in_keys == {"README.md", ".gitignore"}


def test_git_ignores_whatever_else_lands_in_keys() -> None:
    tracked_files()
    for name in ("node.toml", "node.pem", "identity.key"):
        ignored = subprocess.run(
            ["git", "-c", "safe.directory=*", "check-ignore", "-q", f"keys/{name}"], cwd=ROOT, check=False
        )
        assert ignored.returncode == 0, name


def test_no_secret_is_committed() -> None:
    """Tests make their keys; where a fixed one is needed it is in tests/, plainly not anybody's."""
    outside_tests = [path for path in tracked_files() if path.relative_to(ROOT).parts[0] != "tests"]
    assert len(outside_tests) > 10
    assert [path for path in outside_tests if _SECRET.search(path.read_bytes())] == []


@pytest.mark.parametrize(
    "secret",
    [b'secret_key = "' + b"0a" * 32 + b'"', b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 64],
    ids=["toml", "pem"],
)
def test_a_secret_would_be_noticed(secret: bytes) -> None:
    assert _SECRET.search(secret)


class BareMachine:
    """A PATH with next to nothing, and a copy of the bootstrap script outside any checkout."""

    def __init__(self, directory: Path) -> None:
        self.tools = directory / "bin"
        self.tools.mkdir()
        for tool in ("dirname", "grep", "id", "tr"):
            (self.tools / tool).symlink_to(shutil.which(tool) or f"/usr/bin/{tool}")
        self.script = directory / "tree" / "scripts" / "bootstrap"
        self.script.parent.mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "bootstrap", self.script)

    def tool(self, name: str, script: str = "") -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)

    def python(self, name: str, minor: int, *, ensurepip: bool) -> None:
        venv = "exit 0" if ensurepip else "exit 1"
        self.tool(
            name, f'case "$*" in *version_info*) echo {minor} ;; *ensurepip*) {venv} ;; *) exit 77 ;; esac'
        )

    def bootstrap(self, profile: str = "run", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", str(self.script), profile],
            env={"PATH": str(self.tools), "PIP_CERT": __file__, **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def bare(tmp_path: Path) -> BareMachine:
    return BareMachine(tmp_path)


def test_bootstrap_names_what_is_missing_with_the_command_that_installs_it(bare: BareMachine) -> None:
    bare.tool("apt-get")
    done = bare.bootstrap()
    assert done.returncode == 4
    assert "  - Python 3.11 or newer\n" in done.stderr
    assert re.search(r"apt-get install -y python3 python3-venv\n", done.stderr)
    assert done.stdout == ""


def test_bootstrap_names_everything_at_once(bare: BareMachine) -> None:
    bare.tool("apt-get")
    bare.python("python3", 11, ensurepip=False)
    (bare.script.parents[1] / ".git").mkdir()
    done = bare.bootstrap("dev", PIP_CERT="/nowhere")
    assert done.returncode == 4
    assert "apt-get install -y python3-venv ca-certificates git\n" in done.stderr


def test_bootstrap_offers_a_newer_python_beside_the_systems_own(bare: BareMachine) -> None:
    bare.tool("apt-get")
    bare.tool("apt-cache", '[ "$2" = python3.12 ]')
    bare.python("python3", 10, ensurepip=True)
    done = bare.bootstrap()
    assert "python3 is 3.10" in done.stderr
    assert "install -y python3.12 python3.12-venv" in done.stderr


def test_bootstrap_prefers_a_python_that_has_wheels(bare: BareMachine) -> None:
    bare.python("python3", 14, ensurepip=True)
    assert "a C compiler: Python 3.14" in bare.bootstrap().stderr
    bare.python("python3.13", 13, ensurepip=True)
    assert "installing the locked packages" in bare.bootstrap().stdout


def test_bootstrap_takes_the_interpreter_that_is_named(bare: BareMachine) -> None:
    bare.python("python3", 9, ensurepip=True)
    bare.python("other", 12, ensurepip=True)
    assert "installing the locked packages" in bare.bootstrap(PYTHON="other").stdout
    assert "PYTHON=python3 is not one" in bare.bootstrap(P2PBOOT_PYTHON="python3", PYTHON="other").stderr


def test_bootstrap_without_profile_is_wrong_usage(bare: BareMachine) -> None:
    assert bare.bootstrap("everything").returncode == 2
