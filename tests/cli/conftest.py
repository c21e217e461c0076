"""The command line as a user runs it, inside this process, and manifests to feed it."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from p2pboot.cli.app import run
from p2pboot.cli.clock import Wall, system_wall
from p2pboot.core.identity import SecretKey
from p2pboot.core.keyformats import render_key_toml
from p2pboot.core.manifest import sign as sign_manifest
from p2pboot.core.manifest import unsigned
from p2pboot.testing.artifacts import artifact_of
from p2pboot.testing.manifests import ALICE, BOB, DAY_S, manifest_body

NOW = int(time.time())


@dataclass(frozen=True)
class Ran:
    """A command that ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)

    @property
    def error_line(self) -> str:
        """The one line that says what is wrong and what to do."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("p2pboot: error: ")]
        assert len(lines) == 1, self.stderr
        assert "Traceback" not in self.stderr
        return lines[0]


Cli = Callable[..., Ran]


@pytest.fixture
def cli(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Run a command line in an empty directory with an empty home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("P2PBOOT_DEBUG", raising=False)

    def call(*args: object, stdin: bytes = b"", wall: Wall = system_wall) -> Ran:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            capfdbinary.readouterr()
            status = run([os.fspath(arg) if isinstance(arg, Path) else str(arg) for arg in args], wall=wall)
            sys.stdout.flush()
            captured = capfdbinary.readouterr()
        return Ran(status, captured.out.decode("utf-8", "surrogateescape"), captured.err.decode())

    return call


@pytest.fixture
def alice_file(tmp_path: Path) -> Path:
    return key_file(tmp_path / "alice.toml", ALICE)


@pytest.fixture
def bob_file(tmp_path: Path) -> Path:
    return key_file(tmp_path / "bob.toml", BOB)


def key_file(path: Path, key: SecretKey) -> Path:
    path.write_text(render_key_toml(key))
    path.chmod(0o600)
    return path


def manifest_bytes(*keys: SecretKey, signed: bool = True, kernel: str = "a" * 64, **changes: Any) -> bytes:
    """A manifest for stable/arm64, valid now, signed by these keys (ALICE)."""
    digests = {"kernel": kernel, "initramfs": "b" * 64}
    said = {
        "manifest_version": 7,
        "arch": "arm64",
        "created_at": NOW - 60,
        "expires_at": NOW + 30 * DAY_S,
        **changes,
    }
    place = {name: said[name] for name in ("channel", "arch") if name in said}
    artifacts = [artifact_of(key, sha256=sha256, **place) for key, sha256 in digests.items()]
    body = manifest_body(artifacts, keys or (ALICE,), **said)
    return sign_manifest(body, keys or (ALICE,)) if signed else unsigned(body)
