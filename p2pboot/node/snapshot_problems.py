"""What is wrong with a node's snapshot directory, on the node's list of problems.

The documentation promises that each unsigned snapshot is named once in the log: that is how an operator learns what is
to be signed. The list of problems holds a few dozen of one source, so what is beyond is named by the log alone, and
counted on the list.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from p2pboot.core.events import Event
from p2pboot.core.problems import Code, Problem
from p2pboot.core.timetoke.manifests import KIND_CHUNKS
from p2pboot.errors import P2PBootError
from p2pboot.node.problems import Problems
from p2pboot.store.snapshots.survey import Survey, Unsigned

log = logging.getLogger(__name__)

SOURCE: Final = "snapshots"
LISTED_UNSIGNED: Final = 40
LISTED_UNREADABLE: Final = 20
"""Together with the two lines that count the rest fewer than `Problems` keeps of one source."""


class SnapshotProblems:
    """Reports what a survey found, as often as one is made.

    Args:
        problems: the node's list.
        directory: the store's.
        require_signatures: whether what is unsigned is refused.
    """

    def __init__(self, problems: Problems, directory: Path, *, require_signatures: bool) -> None:
        self._problems = problems
        self._directory = directory
        self._fate = (
            "and is not served: signatures are required"
            if require_signatures
            else "it is served, and nobody can audit it"
        )
        self._separator = ", " if require_signatures else ": "
        self._listed: set[str] = set()  # roots that have a place on the list as long as they are unsigned
        self._named: set[str] = set()  # roots that only the log named

    def report(self, survey: Survey) -> None:
        """Say what is wrong now."""
        self._problems.report(SOURCE, [*self._unsigned(survey.unsigned), *self._unreadable(survey)])

    def report_failure(self, error: P2PBootError) -> None:
        """Say that nothing can be said of the directory."""
        problem = Problem.of(Code.UNREADABLE_SNAPSHOT, str(self._directory), error)
        self._problems.report(SOURCE, [problem])

    def _unsigned(self, unsigned: Iterable[Unsigned]) -> Iterable[Problem]:
        found = {one.root: one for one in unsigned}
        self._listed &= found.keys()
        self._named &= found.keys()
        for root in found:
            if root not in self._named and len(self._listed) < LISTED_UNSIGNED:
                self._listed.add(root)
        for root in found.keys() - self._listed - self._named:
            self._named.add(root)
            log.warning(
                "%s: %s", found[root].path, self._text(root), extra=Event.SNAPSHOT_UNSIGNED(snapshot=root)
            )
        for root in sorted(self._listed):
            path = found[root].path
            remedy = f"sign it: p2pboot snapshot publish {path} --store {self._directory}"
            if found[root].kind == KIND_CHUNKS:
                remedy = "have it signed by the system that it is of"
            yield Problem(Code.UNSIGNED_SNAPSHOT, str(path), self._text(root), remedy)
        if self._named:
            text = f"{len(self._named)} more snapshots have no signature; the log names them"
            yield Problem(Code.UNSIGNED_SNAPSHOT, str(self._directory), text)

    def _text(self, root: str) -> str:
        return f"snapshot {root} has no signature{self._separator}{self._fate}"

    def _unreadable(self, survey: Survey) -> Iterable[Problem]:
        found = [*survey.damaged, *(one for one in survey.left_out if one.is_meant)]
        for one in found[:LISTED_UNREADABLE]:
            remedy = "get it again from its publisher, or take it away"
            yield Problem(Code.UNREADABLE_SNAPSHOT, str(self._directory / one.name), one.reason, remedy)
        if len(found) > LISTED_UNREADABLE:
            text = f"{len(found) - LISTED_UNREADABLE} more files can not be served"
            remedy = f"p2pboot snapshot list --store {self._directory} says which and why"
            yield Problem(Code.UNREADABLE_SNAPSHOT, str(self._directory), text, remedy)
