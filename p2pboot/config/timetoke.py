"""`NodeConfig`: where a snapshot producer keeps its key, under the names of the source system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pboot.core.identity import SecretKey
from p2pboot.store.durable import make_directory
from p2pboot.store.keyfiles import load_or_generate

DEFAULT_SNAPSHOT_KEY: Final = Path("./keys/timetoke_snapshot.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """The configuration of a node that produces Timetoke snapshots.

    Args:
        timetoke_snapshot_key_path: key file that signs snapshots; a pair that was put there before is used.
            Relative paths are of the working directory.
    """

    timetoke_snapshot_key_path: Path = DEFAULT_SNAPSHOT_KEY

    def __post_init__(self) -> None:
        object.__setattr__(self, "timetoke_snapshot_key_path", Path(self.timetoke_snapshot_key_path))

    def ensure_directories(self) -> None:
        """Make the directories that are missing, readable by their owner only.

        Raises:
            MachineError: one can not be made.
        """
        make_directory(self.timetoke_snapshot_key_path.parent)

    def load_or_generate_timetoke_snapshot_signing_key(self) -> SecretKey:
        """Read the key that signs snapshots; make it first if there is none. Never overwrites anything.

        Raises:
            KeyFileError: what is there is no key file, or its public key does not belong to its secret.
            MachineError: it can not be read or written.
        """
        return load_or_generate(self.timetoke_snapshot_key_path)
