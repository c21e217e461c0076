"""Roots as files that are carried: read, found beside each other, written without losing another."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from p2pboot.cli.files import STANDARD_INPUT, naming, read_start, write_output
from p2pboot.cli.output import emit_json, note
from p2pboot.errors import P2PBootError, SignatureError, UsageError, machine_error

if TYPE_CHECKING:
    from p2pboot.core.trustdocs.root import Root

MAX_BESIDE: Final = 4096
"""Files of a directory that are looked at to find the version before."""


def read_root(path: Path) -> Root:
    """A root from a file ("-": standard input) whose form and signatures are good; they may be too few.

    Raises:
        UsageError: there is no such file.
        Malformed, SignatureError: it is no root, or was changed. The message names the file.
        MachineError: it can not be read.
    """
    from p2pboot.core.trustdocs.envelope import MAX_DOCUMENT
    from p2pboot.core.trustdocs.root import Root

    raw = read_start(path, MAX_DOCUMENT + 2, what="root").rstrip(b"\n")  # what an editor may have put there
    with naming_root(path):
        return Root.parse(raw)


def in_order(files: tuple[Path, ...]) -> list[tuple[Path, Root]]:
    """Roots of one fleet by version; of copies that others signed the one with most signatures counts.

    Raises:
        TwoRoots: two of one version say different things.
        UsageError: there are more than a chain has; otherwise as `read_root`.
    """
    from p2pboot.core.trustdocs.chain import MAX_CHAIN, TwoRoots

    if len(files) > MAX_CHAIN:
        raise UsageError(f"a chain has at most {MAX_CHAIN} versions", remedy="give fewer files")
    found: dict[int, tuple[Path, Root]] = {}
    for path in files:
        one = read_root(path)
        known = found.get(one.version)
        if known is not None and known[1].digest != one.digest:
            raise TwoRoots(known[1], one)
        if known is None or len(known[1].signed_by) < len(one.signed_by):
            found[one.version] = (path, one)
    return [found[version] for version in sorted(found)]


def naming_root(path: Path) -> AbstractContextManager[None]:
    """What turns out to be wrong with a root is said with the name of its file."""
    return naming(path, what="root", remedy="get the file again, unchanged, from where it was made")


def version_before(path: Path, root: Root, named: Path | None) -> Root | None:
    """The version before a root: from the file that was named, else found beside it; None where there is none.

    Raises:
        UsageError: several files beside it are such a version, and say different things.
        Malformed, SignatureError: the named file is no root, or is not signed by enough of its own root keys.
        MachineError: a file can not be read.
    """
    from p2pboot.core.trustdocs.root import check_signers

    if named is not None:
        before = read_root(named)
        with naming_root(named):
            check_signers(before, None)
        return before
    if root.version == 1:
        return None
    found: dict[str, tuple[Path, Root]] = {}
    for other, candidate in roots_beside(path):
        if candidate.version == root.version - 1 and _may_precede(candidate, root):
            with suppress(SignatureError):
                check_signers(candidate, None)
                found.setdefault(candidate.digest, (other, candidate))
    if len(found) > 1:
        names = " and ".join(sorted(str(other) for other, _ in found.values()))
        raise UsageError(
            f"{names} are both version {root.version - 1}, and differ",
            remedy="say which one is in force: --from FILE",
        )
    return next((candidate for _, candidate in found.values()), None)


def _may_precede(candidate: Root, root: Root) -> bool:
    return root.fleet is None or candidate.fleet is None or candidate.fleet == root.fleet


def roots_beside(path: Path) -> Iterator[tuple[Path, Root]]:
    """The roots in the directory of a file, it among them, by name.

    Raises:
        MachineError: the directory can not be read.
    """
    from p2pboot.core.trustdocs.envelope import MAX_DOCUMENT

    directory = Path() if path == STANDARD_INPUT else path.parent
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise machine_error(error, f"list {directory}") from error
    for name in names[:MAX_BESIDE]:
        other = directory / name
        with suppress(
            OSError, P2PBootError
        ):  # what is no root, or can not be read, is not what is looked for
            if other.is_file() and other.stat().st_size <= MAX_DOCUMENT + 2:
                yield other, read_root(other)


def write_root(out: Path, raw: bytes, *, replaces: Root | None = None, force: bool = False) -> None:
    """Write a root, whole or not at all; never over another one.

    Args:
        out: the file; "-" stands for standard output.
        raw: the root.
        replaces: what may lie there and be replaced: the draft that was changed, or the copy that was signed.
        force: replace whatever lies there.

    Raises:
        UsageError: something else lies there.
        MachineError: it can not be written.
    """
    if out != STANDARD_INPUT and not force and out.is_file():
        there = None
        with suppress(P2PBootError):
            there = read_root(out)
        if there is None or replaces is None or there.digest != replaces.digest:
            what = "another file" if there is None else f"version {there.version} of {there.body.name!r}"
            raise UsageError(
                f"{out} exists, and is {what}",
                remedy="name a new file (--out), or replace it: --force",
            )
    write_output(out, raw)


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Have nobody else of us write into the directory of a file meanwhile; not where the file system has no locks."""
    if out == STANDARD_INPUT:
        yield
        return
    try:
        directory = os.open(out.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # said by who writes
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def lies_there(out: Path, root: Root) -> Root | None:
    """The same root as it lies there now: others may have signed it since it was read. None where it does not."""
    if out == STANDARD_INPUT or not out.is_file():
        return None
    with suppress(P2PBootError):
        there = read_root(out)
        return there if there.digest == root.digest else None
    return None


def note_made(path: Path, version: int, *, verb: str = "made") -> None:
    """Say what was made, and what comes next."""
    if path == STANDARD_INPUT:
        note(f"{verb} version {version}; sign it: p2pboot root sign FILE --key PATH")
    else:
        note(f"{verb} version {version} in {path}; sign it: p2pboot root sign {path} --key PATH")


def check_output(path: Path, *, as_json: bool) -> None:
    """See that a root and a JSON document do not both go to standard output.

    Raises:
        UsageError: they would.
    """
    if as_json and path == STANDARD_INPUT:
        raise UsageError(
            "--json and the root would both go to standard output", remedy="name a file: --out FILE"
        )


def tell_json(path: Path, raw: bytes, before: Root | None) -> None:
    """The JSON document of a command that made or signed a root.

    Args:
        path: where it was written.
        raw: the root.
        before: the version before it, as far as that is at hand.
    """
    from p2pboot.core.trustdocs.root import Root
    from p2pboot.core.trustdocs.signing import missing

    root = Root.parse(raw)
    left = missing(root, before)
    emit_json(
        {
            "file": str(path),
            "version": root.version,
            "digest": root.digest,
            "fleet": root.fleet,
            "complete": not any(one.count for one in left) and (before is not None or root.version == 1),
            "signed_by": list(root.signed_by),
            "missing": [one.to_json() for one in left],
            "floors": [
                {"channel": one.channel, "arch": one.arch, "manifest_version": one.manifest_version}
                for one in root.body.floors
            ],
        }
    )
