"""What a fetch tells whoever watches it. Nothing here prints."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called from the fetch's own tasks, often: an implementation must be quick and must not raise."""

    def artifact(self, key: str, done_bytes: int, total_bytes: int) -> None:
        """So much of an artifact is verified and on the disk."""

    def note(self, text: str) -> None:
        """Something that a person may like to know, one line."""

    def peer(self, peer_id: str, text: str) -> None:
        """Something about one peer, one line: it was dropped, or its signature file was."""


class NoProgress:
    """A `Progress` for who does not watch."""

    def artifact(self, key: str, done_bytes: int, total_bytes: int) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def peer(self, peer_id: str, text: str) -> None:
        """Do nothing."""


class Recorder:
    """A `Progress` that passes everything on and keeps what belongs into a job's result."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.warnings: list[str] = []
        """Notes, and what was said of peers, in the order in which it came."""

    def artifact(self, key: str, done_bytes: int, total_bytes: int) -> None:
        """Pass it on."""
        self._progress.artifact(key, done_bytes, total_bytes)

    def note(self, text: str) -> None:
        """Keep it and pass it on."""
        self.warnings.append(text)
        self._progress.note(text)

    def peer(self, peer_id: str, text: str) -> None:
        """Keep it and pass it on."""
        self.warnings.append(f"peer {peer_id}: {text}")
        self._progress.peer(peer_id, text)
