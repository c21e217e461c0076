"""What a boot client's job came to: for the person's summary and for `--json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pboot.core.verify import Verdict
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
        received: artifact bytes received, by peer id.
        dropped: peer ids that are not asked any more, and why.
        warnings: what a person should know, one line each.
        downloaded_bytes: artifact bytes received in all.
        resumed_bytes: verified bytes that were on the disk from an earlier run, without pieces of zeros.
        wasted_bytes: received for nothing: second copies and corrupt pieces.
        transfer_s: seconds from the first request for an artifact to the last byte in the store.
    """

    verdict: Verdict
    directory: Path
    files: tuple[FetchedFile, ...]
    unchanged: bool
    offered_by: tuple[str, ...]
    received: dict[str, int]
    dropped: dict[str, str]
    warnings: tuple[str, ...]
    downloaded_bytes: int
    resumed_bytes: int
    wasted_bytes: int
    transfer_s: float

    @classmethod
    def of(
        cls,
        verdict: Verdict,
        directory: Path,
        files: tuple[FetchedFile, ...],
        *,
        offered_by: set[str],
        ledger: Ledger,
        warnings: list[str],
        unchanged: bool,
        transfer_s: float,
    ) -> FetchResult:
        """Put together what the parts of a job noted."""
        return cls(
            verdict=verdict,
            directory=directory,
            files=files,
            unchanged=unchanged,
            offered_by=tuple(sorted(offered_by)),
            received=dict(ledger.received),
            dropped=dict(ledger.dropped),
            warnings=tuple(warnings),
            downloaded_bytes=ledger.downloaded_bytes,
            resumed_bytes=ledger.resumed_bytes,
            wasted_bytes=ledger.wasted_bytes,
            transfer_s=transfer_s,
        )

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
            "offered_by": list(self.offered_by),
            "peers": {peer: {"received_bytes": count} for peer, count in sorted(self.received.items())},
            "dropped_peers": dict(sorted(self.dropped.items())),
            "warnings": list(self.warnings),
            "downloaded_bytes": self.downloaded_bytes,
            "resumed_bytes": self.resumed_bytes,
            "wasted_bytes": self.wasted_bytes,
            "transfer_s": round(self.transfer_s, 3),
        }
