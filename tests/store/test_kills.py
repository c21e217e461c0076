"""A process that works on the store is killed again and again; nothing that it promised is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from p2pboot.core.manifest import Manifest
from p2pboot.store.durable import clean_temporaries
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE
from tests.store.mirror_until_killed import samples

KILLS = int(os.environ.get("P2PBOOT_KILLS", "5"))
ROOT = Path(__file__).parents[2]


def run_and_kill(state: Path, output: Path, first: int, lines: int, spin: int) -> dict[str, int]:
    """Let a process work until it has said `lines` lines, and kill it a random moment later."""
    said: dict[str, int] = {}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.store.mirror_until_killed", str(state), str(output), str(first)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        for _ in range(lines):
            note(said, process.stdout.readline())
        for _ in range(spin):
            pass
        process.kill()
        for line in process.stdout:
            note(said, line)
    return said


def note(said: dict[str, int], line: str) -> None:
    words = line.split()
    assert words, "the process ended by itself"
    said[words[0]] = int(words[1]) if len(words) > 1 else 0


def check_output(output: Path) -> None:
    """Whatever has a final name is whole, and nothing but abandoned temporary names lies beside."""
    names = {name for name in os.listdir(output) if not name.startswith(".")}
    assert names <= {"kernel", "initramfs", "manifest.json"}
    if "kernel" in names:
        data = (output / "kernel").read_bytes()
        assert data == samples(len(data) - 6 * PIECE)[0].data
    if "manifest.json" in names:
        Manifest.parse((output / "manifest.json").read_bytes())
    clean_temporaries(output)
    assert set(os.listdir(output)) == names


def check_store(store: Store, head: int, accepted: int) -> int:
    """Check that nothing older than what was promised is there; returns the version of the head."""
    remembered = store.trust.heads_of("stable", "arm64")
    assert max((one.manifest_version for one in remembered), default=0) >= accepted
    versions = [row.manifest_version for row in store.manifests.heads()]
    if head:
        assert versions
    for version in versions:
        assert version >= head
        for each in samples(version):
            assert store.blobs.read(each.sha256, 0, len(each.data)) == each.data
    assert store.blobs.take_damaged() == ()
    return max(versions, default=0)


def test_a_store_killed_at_any_moment_opens_and_keeps_what_it_promised(state: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    chance = random.Random(KILLS)
    head = accepted = 0
    for _ in range(KILLS):
        said = run_and_kill(
            state, output, head + 1, lines=chance.randrange(0, 8), spin=chance.randrange(0, 300_000)
        )
        head, accepted = max(head, said.get("head", 0)), max(accepted, said.get("accepted", 0))
        check_output(output)
        with Store.open(state) as store:
            store.lock()
            assert list(state.rglob("*.tmp")) == []
            head = check_store(store, head, accepted)
            store.manifests.retain()
    assert head > 0
