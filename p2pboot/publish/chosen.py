"""Which file is which artifact, where somebody said so: ``artifacts.toml`` beside the files.

One line for each, ``key = "file name"``; what is not named goes by its own name (:mod:`p2pboot.core.names`). A
``manifest.json`` that lies there says it too: a fetched file is called exactly as its artifact, whatever that would
mean otherwise, so that a directory that was fetched can be published as it is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import MAX_MANIFEST, Candidate
from p2pboot.core.names import DTB_ARCHIVE, INITRAMFS, KERNEL, UKI, check_artifact_key, output_file_name
from p2pboot.core.textfiles import SAVE_AS_UTF8, OtherEncoding, decode_text
from p2pboot.core.tomlform import parse_toml
from p2pboot.errors import ArtifactError, Malformed, machine_error
from p2pboot.publish.layout import Root
from p2pboot.store.hashing import shown

CHOSEN_NAME: Final = "artifacts.toml"
MANIFEST_NAME: Final = "manifest.json"
_MAX_BYTES: Final = 64 * 1024
_MAX_SHOWN: Final = 4
_REMEDY: Final = 'give each artifact a line like kernel = "vmlinuz-6.1", with a file of this directory'


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was said about the files of one directory.

    Args:
        keys: artifact key by file name, from ``artifacts.toml``.
        fetched: the same for files that a manifest beside them names.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    fetched: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def beside(cls, root: Root, directory: Path, names: list[str]) -> Chosen:
        """Read what lies in a directory.

        Args:
            root: the artifacts directory.
            directory: where the files of one channel and architecture lie.
            names: everything that is in it.

        Raises:
            ArtifactError: ``artifacts.toml`` is none, or names what can not be.
            OSError: it can not be read.
        """
        keys = _read(root, directory / CHOSEN_NAME, names) if CHOSEN_NAME in names else {}
        fetched = _fetched(directory / MANIFEST_NAME) if MANIFEST_NAME in names else {}
        return cls(keys, {name: key for name, key in fetched.items() if name not in keys})

    def leaves_aside(self, key: str) -> bool:
        """Whether a file that would be this artifact by its name is not, because another was named for it."""
        chosen = set(self.keys.values())
        if key == UKI:
            return bool(chosen & {UKI, KERNEL, INITRAMFS})
        return key in chosen or (key in (KERNEL, INITRAMFS) and UKI in chosen)


def _read(root: Root, path: Path, names: list[str]) -> dict[str, str]:
    root.check_inside(path)
    try:
        entries = parse_toml(_text(path))
    except OtherEncoding as error:
        raise ArtifactError(f"{shown(path)} {error}", remedy=SAVE_AS_UTF8) from None
    except ValueError as error:  # also of UTF-8
        raise ArtifactError(f"{shown(path)} is no TOML file: {error}", remedy=_REMEDY) from None
    chosen: dict[str, str] = {}
    for key, name in entries.items():
        _check_entry(path, key, name, names)
        if name in chosen:
            raise ArtifactError(
                f"{shown(path)}: {_quoted(name)} is named for both {chosen[name]} and {key}", remedy=_REMEDY
            )
        chosen[name] = key
    return chosen


def _text(path: Path) -> str:
    """The file's text; a byte-order mark, which Windows' editors add, is left out.

    Raises:
        ValueError: it is not UTF-8; the message goes on from the file's name.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise ArtifactError(
            f"{shown(path)} is a link to nothing", remedy="remove it, or put the file there"
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError(f"{shown(path)} is not a regular file", remedy="remove it, or put the file there")
    with path.open("rb") as file:
        raw = file.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise ArtifactError(f"{shown(path)} has more than {_MAX_BYTES} bytes", remedy=_REMEDY)
    return decode_text(raw)


def _check_entry(path: Path, key: str, name: object, names: list[str]) -> None:
    try:
        check_artifact_key(key)
        if key == DTB_ARCHIVE:
            raise ValueError(f"artifact name {key!r} is reserved")
    except ValueError as error:
        raise ArtifactError(f"{shown(path)}: {error}", remedy=_REMEDY) from None
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ArtifactError(f"{shown(path)}: {key} is not the name of a file beside it", remedy=_REMEDY)
    if name not in names:
        there = [_quoted(other) for other in names if other != CHOSEN_NAME]
        shown_names = ", ".join(there[:_MAX_SHOWN]) + (", …" if len(there) > _MAX_SHOWN else "")
        raise ArtifactError(
            f"{shown(path)}: there is no file {_quoted(name)} for {key}",
            remedy=f"correct the name: there are {shown_names}" if there else "put the file there",
        )


def _quoted(name: str) -> str:
    return repr(name[:80])


def _fetched(path: Path) -> dict[str, str]:
    """File name and key of what a manifest names; nothing if it is none: who publishes it will say so."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return {}
        with path.open("rb") as file:
            raw = file.read(MAX_MANIFEST + 1)
        artifacts = Candidate.decode(raw).claims.artifacts
    except (Malformed, FileNotFoundError):
        return {}
    except OSError as error:
        raise machine_error(error, f"read {path}") from error
    return {output_file_name(key): key for key in artifacts if os.sep not in key and key != DTB_ARCHIVE}
