"""What a boot client's job came to: for the person's summary and for `--json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2pboot.core.dataclass import dataclass
from p2pboot.core.rollouts import Decision
from p2pboot.core.verify import Verdict
from p2pboot.fetch.choosing.trust import Basis
from p2pboot.fetch.ledger import Ledger


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """One artifact under its final name.

    Args:
        key: of the artifact.
        path: where it is.
        sha256: of its content.
        size: bytes.
        written: whether it was placed now; False when it was there already.
    """

    key: str
    path: Path
    sha256: str
    size: int
    written: bool


@dataclass(frozen=True, slots=True)
class FetchResult:
    """A job that succeeded.

    Args:
        verdict: on the manifest that was taken.
        directory: where everything is.
        files: the artifacts, by key.
        unchanged: the directory was complete already, nothing was written.
        offered_by: peer ids that offered this manifest.
        ledger: who delivered, and who is not asked any more.
        warnings: what a person should know, one line each.
        transfer_s: seconds from the first request for an artifact to the last byte in the store.
        basis: by what it was taken: root, freshness statement, what was overridden.
        rollout: whether it is what is rolled out into the channel, and why; None where nothing is.
    """

    verdict: Verdict
    directory: Path
    files: tuple[FetchedFile, ...]
    unchanged: bool
    offered_by: tuple[str, ...]
    ledger: Ledger
    warnings: tuple[str, ...]
    transfer_s: float
    basis: Basis
    rollout: Decision | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values for a JSON document."""
        return {
            "directory": str(self.directory),
            "unchanged": self.unchanged,
            "files": {
                file.key: {
                    "path": str(file.path),
                    "sha256": file.sha256,
                    "size": file.size,
                    "written": file.written,
                }
                for file in self.files
            },
            "verdict": self.verdict.to_json(),
            "trust": self.basis.to_json(),
            "rollout": None if self.rollout is None else self.rollout.to_json(),
            "offered_by": list(self.offered_by),
            **self.ledger.to_json(),
            "warnings": list(self.warnings),
            "transfer_s": round(self.transfer_s, 3),
        }
