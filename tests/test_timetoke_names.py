"""The names of the source system, importable from `p2pboot`, and the key that signs snapshots."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import p2pboot
from p2pboot import NodeConfig
from p2pboot.core.identity import SecretKey
from p2pboot.core.keyformats import render_key_toml
from p2pboot.errors import KeyFileError

NAMES = [
    "NodeConfig",
    "SnapshotStore",
    "TimetokeRecord",
    "TimetokeSnapshot",
    "TimetokeSnapshotConsumer",
    "TimetokeSnapshotHandle",
    "TimetokeSnapshotProducer",
]


@pytest.mark.parametrize("name", NAMES)
def test_name_is_importable_and_listed(name: str) -> None:
    found = getattr(import_module("p2pboot"), name)
    assert found.__name__ == name
    assert name in dir(p2pboot)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = p2pboot.Nonsense  # type: ignore[attr-defined]


def test_importing_the_package_imports_nothing_else() -> None:
    probe = "import sys; import p2pboot; print([m for m in sys.modules if m.startswith('p2pboot.')])"
    done = subprocess.run(
        [sys.executable, "-c", probe],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout.strip() == "[]"


def test_the_snapshot_key_has_a_path_of_its_own() -> None:
    assert NodeConfig().timetoke_snapshot_key_path == Path("./keys/timetoke_snapshot.toml")


def test_the_key_is_made_once_and_read_ever_after(tmp_path: Path) -> None:
    config = NodeConfig(timetoke_snapshot_key_path=tmp_path / "keys" / "timetoke_snapshot.toml")
    config.ensure_directories()
    assert (tmp_path / "keys").is_dir()
    first = config.load_or_generate_timetoke_snapshot_signing_key()
    assert config.load_or_generate_timetoke_snapshot_signing_key() == first
    assert (config.timetoke_snapshot_key_path.stat().st_mode & 0o777) == 0o600
    assert first.seed.hex() not in repr(first)


def test_a_pair_that_was_put_there_is_used(tmp_path: Path) -> None:
    path = tmp_path / "key.toml"
    key = SecretKey(bytes(range(32)))
    path.write_text(f'version = 3\nsecret_key = "{key.seed.hex()}"\npublic_key = "{key.public.hex}"\n')
    path.chmod(0o600)
    assert NodeConfig(timetoke_snapshot_key_path=path).load_or_generate_timetoke_snapshot_signing_key() == key


def test_a_public_key_of_another_pair_is_refused_and_the_file_named(tmp_path: Path) -> None:
    path = tmp_path / "key.toml"
    text = render_key_toml(SecretKey(bytes(range(32))))
    path.write_text(
        text.replace("public_key", "old_key") + f'public_key = "{SecretKey(bytes(32)).public.hex}"\n'
    )
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=r"key\.toml"):
        NodeConfig(timetoke_snapshot_key_path=path).load_or_generate_timetoke_snapshot_signing_key()
