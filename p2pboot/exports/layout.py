"""What an export looks like: its files, their names and order, and the description that says where everything is.

::

    _export/export.json         the description: begins an archive, and is written last into a directory
    manifest.json               the signed manifest, and its detached signature
    manifest.json.sig
    cmdline                     documents: what no import needs, bounded
    _export/<n>.pieces          the piece table of the n-th artifact, before
    kernel, dtbs/<name>.dtb     the artifact, under the name that a fetch gives it; or, where it has to be in parts,
    _export/<n>.000, .001, …

No name is more than FAT can keep: short, of lower case letters, digits and `._-`, none that a system reserves. What is
larger than a file may be there lies in parts. No artifact can be called `_export`: their names begin with a letter or a
digit.

The description is nobody's word: it is signed by no one, and only says where the bytes are that the manifest names.
What does not fit the manifest is refused before anything is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from p2pboot.core.jsonform import decode_typed
from p2pboot.core.manifest import MAX_MANIFEST, Artifact, Manifest
from p2pboot.core.manifest.detached import MAX_DETACHED_CHARS
from p2pboot.core.names import DTB_ARCHIVE, DTB_PREFIX, NAME_PATTERN, output_file_name
from p2pboot.core.pieces import MIB, piece_count
from p2pboot.errors import Malformed

FORMAT: Final = 1
"""Raised when an export can not be read any more as this version reads it; a new document does not raise it."""

OWN: Final = "_export"
DESCRIPTION: Final = f"{OWN}/export.json"
MANIFEST: Final = "manifest.json"
DETACHED: Final = "manifest.json.sig"
CMDLINE: Final = "cmdline"

MAX_DESCRIPTION: Final = MIB
"""Of the largest manifest, with its largest artifacts in parts, it takes half of that."""

MAX_DOCUMENTS: Final = 16
MAX_DOCUMENT: Final = MIB
"""What later versions may add beside the manifest (chains of keys, withdrawals): bounded before it is known."""

LARGEST_ON_FAT: Final = 2**32 - 1
PART_BYTES: Final = 2**32 - 16 * MIB
"""A multiple of every piece length, below what FAT takes: no piece lies in two parts."""

_RESERVED: Final = re.compile(
    r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?|.*\."
)  # on FAT and for Windows
_OWN_NAME: Final = re.compile(rf"{OWN}/[a-z0-9][a-z0-9._-]{{0,99}}")


class Place(msgspec.Struct, frozen=True):
    """One file of an export.

    Args:
        file: its name, relative to the directory or in the archive; judged by `check`.
        size: bytes.
    """

    file: str
    size: int


class Carried(msgspec.Struct, frozen=True):
    """Where one artifact of the manifest lies.

    Args:
        key: of the artifact.
        sha256: of the artifact, hex.
        size: of the artifact, bytes.
        table: the file with its piece table.
        parts: the files that its bytes are in, one after the other.
    """

    key: str
    sha256: str
    size: int
    table: Place
    parts: tuple[Place, ...]


class Description(msgspec.Struct, frozen=True):
    """What an export says of itself.

    Args:
        format: of the export.
        complete: False while a directory is being written.
        channel: of the release.
        arch: of the release.
        version: of the release, for people.
        manifest_version: its number.
        manifest: the signed manifest.
        detached: its detached signature; None: it has none.
        documents: what may be left unread by whoever does not know it.
        artifacts: of the manifest, in the order in which they lie in an archive.
    """

    format: int
    complete: bool = False
    channel: str = ""
    arch: str = ""
    version: str = ""
    manifest_version: int = 0
    manifest: Place = Place(MANIFEST, 0)
    detached: Place | None = None
    documents: tuple[Place, ...] = ()
    artifacts: tuple[Carried, ...] = ()

    def files(self) -> Iterator[Place]:
        """Every file but the description itself, in the order in which they lie in an archive."""
        yield self.manifest
        if self.detached is not None:
            yield self.detached
        yield from self.documents
        for one in self.artifacts:
            yield one.table
            yield from one.parts


_DECODER: Final = msgspec.json.Decoder(Description)
_FORMAT_DECODER: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def describe(
    manifest: Manifest, detached: str | None, documents: Sequence[Place], parts: dict[str, tuple[Place, ...]]
) -> Description:
    """Say where everything of a release lies.

    Args:
        manifest: of the release.
        detached: the text of its detached signature.
        documents: further files.
        parts: the files of each artifact, by its key.
    """
    return Description(
        format=FORMAT,
        complete=True,
        channel=manifest.channel,
        arch=manifest.arch,
        version=manifest.version,
        manifest_version=manifest.manifest_version,
        manifest=Place(MANIFEST, len(manifest.raw)),
        detached=None if detached is None else Place(DETACHED, len(detached.encode())),
        documents=tuple(documents),
        artifacts=tuple(
            Carried(
                one.key,
                one.sha256,
                one.size,
                Place(f"{OWN}/{index}.pieces", table_size(one)),
                parts[one.key],
            )
            for index, one in enumerate(manifest.artifacts.values())
        ),
    )


def encode(description: Description) -> bytes:
    """Return the description as a file has it, for machines and for people."""
    return msgspec.json.format(msgspec.json.encode(description), indent=1) + b"\n"


def decode(raw: bytes) -> Description:
    """Read a stranger's description.

    Args:
        raw: at most `MAX_DESCRIPTION` bytes.

    Raises:
        Malformed: it is none, or of a later version, or what it says can not be.
    """
    members = decode_typed(raw, _FORMAT_DECODER)
    stated = bytes(members.get("format", msgspec.Raw(b"")))
    if stated.isdigit() and len(stated) < len("1000000") and int(stated) > FORMAT:
        raise Malformed(
            f"the export has format {int(stated)}, and this p2pboot knows {FORMAT}",
            remedy="import it with the p2pboot that wrote it, or a newer one",
        )
    description = decode_typed(raw, _DECODER)
    if description.format != FORMAT:
        raise Malformed(f"an export has no format {description.format}")
    check(description)
    return description


def check(description: Description) -> None:
    """Judge the names and sizes of a description by themselves.

    Raises:
        Malformed: one is not allowed, or stands twice.
    """
    if len(description.documents) > MAX_DOCUMENTS:
        raise Malformed(f"the export has {len(description.documents)} documents, more than {MAX_DOCUMENTS}")
    seen = {DESCRIPTION}
    for place in description.files():
        if not is_allowed(place.file):
            raise Malformed(f"the export names the file {place.file[:80]!r}, which is not allowed")
        if place.file in seen:
            raise Malformed(f"the export names the file {place.file} twice")
        if place.size < 0:
            raise Malformed(f"the export says that {place.file} has {place.size} bytes")
        seen.add(place.file)
    _check_size(description.manifest, MAX_MANIFEST)
    if description.detached is not None:
        _check_size(description.detached, MAX_DETACHED_CHARS)
    for document in description.documents:
        _check_size(document, MAX_DOCUMENT)
    for one in description.artifacts:
        if sum(part.size for part in one.parts) != one.size or not all(part.size for part in one.parts):
            raise Malformed(f"the files of {one.key[:80]} do not have the {one.size} bytes that it has")


def check_fits(description: Description, manifest: Manifest) -> None:
    """See that a description carries just what a manifest names.

    Raises:
        Malformed: it does not.
    """
    named = {one.key: one for one in manifest.artifacts.values()}
    if [one.key for one in description.artifacts] != list(
        dict.fromkeys(one.key for one in description.artifacts)
    ):
        raise Malformed("the export carries one artifact twice")
    if missing := sorted(named.keys() - {one.key for one in description.artifacts}):
        raise Malformed(f"the export lacks {missing[0]}, which its manifest names")
    for one in description.artifacts:
        artifact = named.get(one.key)
        if artifact is None:
            raise Malformed(f"the export carries {one.key[:80]}, which its manifest does not name")
        if (one.sha256, one.size) != (artifact.sha256, artifact.size):
            raise Malformed(f"the export carries another {one.key} than its manifest names")
        if one.table.size != table_size(artifact):
            raise Malformed(f"the piece table of {one.key} has not the size that its manifest states")


def is_allowed(name: str) -> bool:
    """Whether a file of an export may be called so: no path leads out of it, and none is odd anywhere."""
    if _RESERVED.fullmatch(name.rpartition("/")[2]):
        return False
    if _OWN_NAME.fullmatch(name):
        return True
    return NAME_PATTERN.fullmatch(name.removeprefix(DTB_PREFIX).removesuffix(".dtb") or name) is not None


def file_name(index: int, artifact: Artifact) -> str:
    """Return the name of an artifact's file: what a fetch calls it, where every file system takes that.

    Args:
        index: of the artifact in the manifest.
        artifact: itself.
    """
    name = DTB_ARCHIVE if artifact.key == DTB_ARCHIVE else output_file_name(artifact.key)
    return name if is_allowed(name) else f"{OWN}/{index}.artifact"


def part_name(index: int, part: int) -> str:
    """Return the name of a part (from 0) of the artifact with this index."""
    return f"{OWN}/{index}.{part:03}"


def table_size(artifact: Artifact) -> int:
    """Return how many bytes the piece table of an artifact has."""
    return 32 * piece_count(artifact.size, artifact.piece_length)


def _check_size(place: Place, most: int) -> None:
    if place.size > most:
        raise Malformed(f"{place.file} has {place.size} bytes, more than {most}")
