"""Putting a new machine's files in their places: what is to be written is known before anything is, nothing is lost.

Each file appears whole or not at all, so that who was killed runs it again and it goes on. What is there already is
kept where it says the same; a key is always kept. What says something else is refused before anything is written,
unless it is to be replaced; then the former file stays beside the new one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import ConfigError, MachineError, machine_error

Kind = Literal["configuration", "key", "root", "unit", "directory"]
State = Literal["new", "kept", "different"]

FORMER: Final = ".before-init"
_MAX_COMPARED: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One file or directory of the installation.

    Args:
        kind: what it is.
        path: absolute.
        text: of a file; None for a key, which is made, and a directory.
        mode: of a file or directory that is made.
    """

    kind: Kind
    path: Path
    text: str | None = None
    mode: int = 0o644

    def state(self) -> State:
        """What there is of it now.

        Raises:
            ConfigError: something of that name is in the way.
            MachineError: it can not be looked at.
        """
        try:
            if not os.path.lexists(self.path):
                return "new"
            if self.kind == "directory":
                return self._expect(self.path.is_dir(), "a directory")
            if self.kind == "key":
                return self._expect(self.path.is_file(), "a key file")
            if self.path.is_dir():
                self._expect(False, "a file")
            with self.path.open("rb") as file:
                return "kept" if file.read(_MAX_COMPARED) == (self.text or "").encode() else "different"
        except OSError as error:
            raise machine_error(error, f"look at {self.path}") from error

    def _expect(self, is_so: bool, what: str) -> State:
        if is_so:
            return "kept"
        raise ConfigError(f"{self.path} is in the way: it is not {what}", remedy="move it away first")


@dataclass(frozen=True, slots=True)
class Step:
    """What is done about a piece: it is made ("new"), left alone ("kept") or replaced ("different")."""

    piece: Piece
    state: State


def plan(pieces: Sequence[Piece], *, replace: bool) -> list[Step]:
    """Look at everything before anything is written; changes nothing.

    Args:
        pieces: in the order in which they are to be written.
        replace: whether files that say something else may be replaced.

    Raises:
        ConfigError: there are such files, or something else is in the way; names all of them.
        KeyFileError: the key that is there is none, or not for this user.
        MachineError: something can not be looked at.
    """
    from p2pboot.store.keyfiles import load_key

    steps = [Step(piece, piece.state()) for piece in pieces]
    for step in steps:
        if step.piece.kind == "key" and step.state == "kept":
            load_key(step.piece.path)
    different = [str(step.piece.path) for step in steps if step.state == "different"]
    if different and not replace:
        raise ConfigError(
            f"{' and '.join(different)} {'exist' if len(different) > 1 else 'exists'}, with something else in it,"
            " and nothing was changed",
            remedy=f"edit it, move it away, or have it replaced with --force (the former stays as …{FORMER})",
        )
    return steps


def carry_out(steps: Sequence[Step]) -> None:
    """Write what is to be written, each file whole, in order. One that was killed here is run again.

    Raises:
        ConfigError, KeyFileError: something appeared meanwhile.
        MachineError: it can not be written; what was written before stays.
    """
    from p2pboot.store.durable import clean_temporaries, make_directory, write_file
    from p2pboot.store.keyfiles import KeyFileExists, generate_key

    with _usual_umask():
        for piece in (step.piece for step in steps if step.state != "kept"):
            if piece.kind == "directory":
                make_directory(piece.path, piece.mode)
            elif piece.kind == "key":
                make_directory(piece.path.parent, 0o700)
                try:
                    generate_key(piece.path)
                except KeyFileExists:  # somebody else was faster, and has one made
                    continue
            else:
                make_directory(piece.path.parent, 0o755)
                clean_temporaries(piece.path.parent)
                _keep_former(piece.path)
                write_file(piece.path, (piece.text or "").encode(), piece.mode)


def _keep_former(path: Path) -> None:
    """Have what is there under another name too, before it is replaced."""
    if not os.path.lexists(path):
        return
    former = path.with_name(path.name + FORMER)
    try:
        former.unlink(missing_ok=True)
        os.link(path, former, follow_symlinks=False)
    except OSError as error:
        raise machine_error(error, f"keep {path} as {former}") from error


@contextmanager
def _usual_umask() -> Iterator[None]:
    """Configuration and units hold no secret, and a service's user must be able to read them whatever root's umask is.

    Keys have modes of their own.
    """
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def writable(steps: Sequence[Step]) -> None:
    """Whether this user may write all that is to be written, as far as modes tell; changes nothing.

    Raises:
        MachineError: naming the first directory in which he may not.
    """
    for step in steps:
        if step.state == "kept":
            continue
        place = next((one for one in step.piece.path.parents if one.is_dir()), Path("/"))
        if not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
            raise MachineError(
                f"cannot write {step.piece.path}: this user may not write in {place}",
                remedy="run it as root, or with --user for this user alone",
            )
