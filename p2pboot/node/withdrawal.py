"""What was published here and is gone from the directory: the node offers it no longer, and says who still does.

There is no signed withdrawal: a mirror keeps what it has until that expires. So that the operator knows, a withdrawn
release stands on the list of problems until then. It is found out again at every look, from what was published and what
the directory holds, so it survives a restart and ends when the files are back.

A directory that is missing, or not mounted, withdraws nothing: only where the kernel says that the directory is there
and something in it is not, somebody has taken it away.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from p2pboot.core.manifest import Candidate, Statement
from p2pboot.core.names import normalise_arch
from p2pboot.core.problems import Code, Problem
from p2pboot.core.timestamps import format_time
from p2pboot.core.trust import Pair
from p2pboot.errors import Malformed
from p2pboot.publish.layout import is_empty
from p2pboot.publish.scan import Scanned
from p2pboot.store.publications import Publications


def withdrawn_problem(one: Statement) -> Problem:
    """A release that is not offered here any more, and that mirrors keep until it expires."""
    return Problem(
        Code.WITHDRAWN,
        f"{one.channel}/{one.arch}",
        f"version {one.version} (number {one.manifest_version}) is withdrawn: its files are gone and it is no"
        f" longer offered here; mirrors keep it until {format_time(one.expires_at)}",
        f"publish another release for it, which mirrors take at once; or have mirrors end it, too:"
        f" p2pboot yank {one.channel} --arch {one.arch} --leave-none",
    )


class GonePairs:
    """Finds out which pairs are gone from a directory; blocking.

    Args:
        directory: the artifacts directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._filled: tuple[int, int] | None = None  # which directory it was when something lay in it

    def among(self, pairs: Iterable[Pair], scanned: Scanned) -> set[Pair]:
        """Which of these pairs have no files any more.

        Args:
            pairs: what was published.
            scanned: what the directory holds now; nothing where that could not be found out.
        """
        try:
            status = self._directory.stat()
        except OSError:
            return set()
        is_filled = not is_empty(self._directory)
        identity = (status.st_dev, status.st_ino)
        if is_filled:
            self._filled = identity
        elif identity != self._filled:
            return set()  # nothing in it, and it may be what a file system is to be mounted on
        fit = {(tree.channel, tree.arch) for tree in scanned.trees}
        unfit = {(one.channel, one.arch): one.directory for one in scanned.unfit}
        return {
            pair
            for pair in pairs
            if pair not in fit
            and (is_empty(unfit[pair]) if pair in unfit else not _has_leaf(self._directory, *pair))
        }


def _has_leaf(directory: Path, channel: str, arch: str) -> bool:
    """Whether something has the name of the pair's directory, be it usable or not, and is not just empty."""
    try:
        names = os.listdir(directory / channel)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # it can not be told
    return any(_arch_of(name) == arch and not is_empty(directory / channel / name) for name in names)


def _arch_of(name: str) -> str | None:
    try:
        return normalise_arch(name)
    except ValueError:
        return None


def last_published(
    publications: Publications, signers: tuple[str, ...], pair: Pair, now: int
) -> Statement | None:
    """What was published last for a pair, if it has not expired."""
    raw = publications.last(signers, *pair)
    if raw is None:
        return None
    try:
        claims = Candidate.decode(raw).claims
    except Malformed:  # of a newer format
        return None
    return claims if claims.expires_at > now else None
