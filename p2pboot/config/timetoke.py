"""`NodeConfig`: where a snapshot producer keeps its key and its snapshots, under the names of the source system."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

from p2pboot.config.load import load_snapshot_paths
from p2pboot.core.dataclass import dataclass
from p2pboot.core.timetoke.signatures import SnapshotSigningKey
from p2pboot.store.durable import make_directory
from p2pboot.store.snapshots.keys import load_or_generate_snapshot_key, load_snapshot_key

DEFAULT_SNAPSHOT_KEY: Final = Path("./keys/timetoke_snapshot.toml")
DEFAULT_SNAPSHOT_DIR: Final = Path("./snapshots")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """The configuration of a node that produces Timetoke snapshots.

    Args:
        timetoke_snapshot_key_path: key file that signs snapshots; a pair that was put there before is used.
            Relative paths are of the working directory.
        snapshot_dir: where the snapshots are.
    """

    timetoke_snapshot_key_path: Path = DEFAULT_SNAPSHOT_KEY
    snapshot_dir: Path = DEFAULT_SNAPSHOT_DIR

    def __post_init__(self) -> None:
        object.__setattr__(self, "timetoke_snapshot_key_path", Path(self.timetoke_snapshot_key_path))
        object.__setattr__(self, "snapshot_dir", Path(self.snapshot_dir))

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read `timetoke_snapshot_key_path` and `snapshot_dir` from a TOML file; its other keys are passed over.

        `key_path` and `directory` in `[snapshots]`, p2pboot's own names, are the same two settings. Relative paths
        are of the file's directory, as in all of p2pboot's configuration.

        Raises:
            ConfigError: there is no such file, it is no TOML, a value is wrong, or two names of one setting differ.
            MachineError: it can not be read.
        """
        directory, key_path = load_snapshot_paths(Path(path))
        return cls(
            timetoke_snapshot_key_path=key_path or DEFAULT_SNAPSHOT_KEY,
            snapshot_dir=directory or DEFAULT_SNAPSHOT_DIR,
        )

    def ensure_directories(self) -> None:
        """Make the directories that are missing, that of the key readable by its owner only.

        Raises:
            MachineError: one can not be made.
        """
        make_directory(self.timetoke_snapshot_key_path.parent)
        make_directory(self.snapshot_dir, 0o755)

    def load_timetoke_snapshot_signing_key(self) -> SnapshotSigningKey:
        """Read the key that signs snapshots, with its version; never makes one.

        Raises:
            KeyFileError: there is none, what is there is no key file, its public key does not belong to its secret, or
                its version is no number from 0 to 2^32-1.
            MachineError: it can not be read.
        """
        return load_snapshot_key(self.timetoke_snapshot_key_path)

    def load_or_generate_timetoke_snapshot_signing_key(self) -> SnapshotSigningKey:
        """Read the key that signs snapshots; make it first if there is none. Never overwrites anything.

        Raises:
            KeyFileError: what is there is no key file, or its public key does not belong to its secret.
            MachineError: it can not be read or written.
        """
        return load_or_generate_snapshot_key(self.timetoke_snapshot_key_path)
