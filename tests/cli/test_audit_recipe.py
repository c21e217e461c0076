"""The audit recipe of docs/snapshots.md, run as it stands there: with openssl and a shell, without p2pboot."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from p2pboot.testing.manifests import ALICE
from tests.cli.conftest import Cli, key_file
from tests.core.timetoke.samples import VECTOR_KEY, VECTORS

DOCS = Path(__file__).parents[2] / "docs" / "snapshots.md"


def recipe() -> str:
    """The one shell block of the section "Audit with other tools"."""
    section = DOCS.read_text().partition("## Audit with other tools")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return str(block)


def audit(directory: Path, file: Path, public_hex: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl on this machine")
    return subprocess.run(
        ["/bin/sh", "-eu", "-c", recipe()],
        cwd=directory,
        env={"FILE": str(file), "PUBLIC_KEY": public_hex, "PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def check_both_ways(directory: Path, file: Path, public_hex: str) -> None:
    done = audit(directory, file, public_hex)
    assert done.returncode == 0, done.stderr
    assert "Signature Verified Successfully" in done.stdout
    data = bytearray(file.read_bytes())
    for index in (0, len(data) // 2, len(data) - 1):
        data[index] ^= 1
        file.write_bytes(data)
        assert audit(directory, file, public_hex).returncode != 0
        data[index] ^= 1
    file.write_bytes(data)
    assert (
        audit(directory, file, ALICE.public.hex if public_hex != ALICE.public.hex else "00" * 32).returncode
        != 0
    )


@pytest.mark.parametrize("name", ["empty", "identities"])
def test_openssl_accepts_a_snapshot_and_refuses_one_changed_byte(tmp_path: Path, name: str) -> None:
    for suffix in (".json", ".json.sig"):
        shutil.copyfile(VECTORS / (name + suffix), tmp_path / (name + suffix))
    check_both_ways(tmp_path, tmp_path / f"{name}.json", VECTOR_KEY.public.hex)


def test_openssl_accepts_the_detached_signature_of_a_boot_manifest(cli: Cli, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("vmlinuz", "initrd.img"):
        (images / name).write_bytes(name.encode() * 1000)
    key = key_file(tmp_path / "node.toml", ALICE)
    done = cli(
        *("manifest", "build", images, "--channel", "stable", "--arch", "arm64", "--key", key, "--detached"),
        *("--state", tmp_path / "state", "-o", tmp_path / "manifest.json"),
    )
    assert done.status == 0, done.stderr
    check_both_ways(tmp_path, tmp_path / "manifest.json", ALICE.public.hex)
