"""The names of the source system, importable from `p2pboot`, and the key that signs snapshots."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import p2pboot
from p2pboot import DiskSnapshotStore, MemorySnapshotStore, NodeConfig, TimetokeSnapshotProducer
from p2pboot.core.identity import SecretKey
from p2pboot.core.keyformats import render_key_toml
from p2pboot.errors import ConfigError, KeyFileError

NAMES = [
    "NetworkPruningCommitment",
    "NetworkPruningEnvelope",
    "NetworkPruningSegment",
    "NetworkPruningSnapshot",
    "NodeConfig",
    "SnapshotSigningKey",
    "SnapshotStore",
    "TimetokeRecord",
    "TimetokeReplayError",
    "TimetokeReplayValidator",
    "TimetokeSnapshot",
    "TimetokeSnapshotConsumer",
    "TimetokeSnapshotError",
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
    config = NodeConfig(
        timetoke_snapshot_key_path=tmp_path / "keys" / "timetoke_snapshot.toml",
        snapshot_dir=tmp_path / "snapshots",
    )
    with pytest.raises(KeyFileError, match="there is no key file"):
        config.load_timetoke_snapshot_signing_key()
    assert not (tmp_path / "keys").exists()  # loading makes nothing
    config.ensure_directories()
    assert (tmp_path / "keys").is_dir()
    assert (tmp_path / "snapshots").is_dir()
    first = config.load_or_generate_timetoke_snapshot_signing_key()
    assert config.load_or_generate_timetoke_snapshot_signing_key() == first
    assert (config.timetoke_snapshot_key_path.stat().st_mode & 0o777) == 0o600
    assert first.seed.hex() not in repr(first)


def test_a_pair_that_was_put_there_is_used(tmp_path: Path) -> None:
    path = tmp_path / "key.toml"
    key = SecretKey(bytes(range(32)))
    path.write_text(f'version = 3\nsecret_key = "{key.seed.hex()}"\npublic_key = "{key.public.hex}"\n')
    path.chmod(0o600)
    config = NodeConfig(timetoke_snapshot_key_path=path)
    for loaded in (
        config.load_or_generate_timetoke_snapshot_signing_key(),
        config.load_timetoke_snapshot_signing_key(),
    ):
        assert loaded == key
        assert loaded.version == 3
    store = MemorySnapshotStore()
    handle = TimetokeSnapshotProducer(store, loaded).publish([], bytes(32))
    assert store.signature(handle.root) == f"3:{handle.signature}"


def test_the_configuration_of_the_source_system_is_read_whatever_else_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(
        'config_version = "1.0"\nkey_path = "./keys/node.toml"\nsnapshot_dir = "./data/snapshots"\n'
        'timetoke_snapshot_key_path = "/keys/t.toml"\nblock_time_ms = 5000\n[network.rpc]\nlisten = "x"\n'
    )
    config = NodeConfig.load(path)
    assert config.snapshot_dir == tmp_path / "data" / "snapshots"
    assert config.timetoke_snapshot_key_path == Path("/keys/t.toml")
    path.write_text("")
    assert NodeConfig.load(path) == NodeConfig()
    path.write_text('[snapshots]\ndirectory = "s"\n')
    assert NodeConfig.load(str(path)).snapshot_dir == tmp_path / "s"
    path.write_text('snapshot_dir = "a"\n[snapshots]\ndirectory = "b"\n')
    with pytest.raises(ConfigError, match="snapshot_dir"):
        NodeConfig.load(path)
    with pytest.raises(ConfigError, match="no configuration file"):
        NodeConfig.load(tmp_path / "nowhere.toml")


def test_a_public_key_of_another_pair_is_refused_and_the_file_named(tmp_path: Path) -> None:
    path = tmp_path / "key.toml"
    text = render_key_toml(SecretKey(bytes(range(32))))
    path.write_text(
        text.replace("public_key", "old_key") + f'public_key = "{SecretKey(bytes(32)).public.hex}"\n'
    )
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=r"key\.toml"):
        NodeConfig(timetoke_snapshot_key_path=path).load_or_generate_timetoke_snapshot_signing_key()


def test_a_store_may_be_named_by_a_text_as_the_configuration_may(tmp_path: Path) -> None:
    store = DiskSnapshotStore(str(tmp_path / "snapshots"))
    handle = TimetokeSnapshotProducer(store).publish([], b"\x44" * 32)
    assert store.path(handle.root).parent == tmp_path / "snapshots"
