"""The releases that this machine published, so that it can go back to the content of one.

A number is never used twice, and nothing lower is ever taken by a machine that remembers: going back means to publish
the content of an earlier manifest under the next number (:mod:`p2pboot.publish.renewal`). Here is which manifest had
which number. The files themselves may long have been replaced in the artifacts directory; mirrors may have them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from p2pboot.core.manifest import Manifest, content_digest
from p2pboot.store.database import Database

MAX_CONTENTS: Final = 16
"""Of each series; older ones nobody will want back, and no mirror holds them any more."""

MAX_RENEWALS: Final = 16
"""Manifests of one content that are kept: by any of their numbers it can be named."""

_DROP_CONTENTS: Final = """
DELETE FROM releases WHERE (signers, channel, arch) = (?1, ?2, ?3) AND content NOT IN (
    SELECT content FROM releases WHERE (signers, channel, arch) = (?1, ?2, ?3)
    GROUP BY content ORDER BY max(manifest_version) DESC LIMIT ?4
)
"""
_DROP_RENEWALS: Final = """
DELETE FROM releases WHERE (signers, channel, arch, content) = (?1, ?2, ?3, ?4) AND manifest_version NOT IN (
    SELECT manifest_version FROM releases WHERE (signers, channel, arch, content) = (?1, ?2, ?3, ?4)
    ORDER BY manifest_version DESC LIMIT ?5
)
"""


class Release(NamedTuple):
    """A manifest that was published here; `content` as `core.manifest.content_digest` says it."""

    manifest_version: int
    digest: str
    content: str
    raw: bytes


class Releases:
    """Durable; any number of threads and processes.

    All methods raise StoreError (damaged database) or MachineError. `signers` are key ids in any order: a series
    belongs to the set of them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, manifest: Manifest) -> None:
        """Remember what is published; the oldest contents of its series, and their oldest renewals, go."""
        series = (_joined(manifest.signers), manifest.channel, manifest.arch)
        number = manifest.manifest_version
        known = self._database.row(
            "SELECT 1 FROM releases WHERE (signers, channel, arch) = (?, ?, ?) AND manifest_version = ?",
            *series,
            number,
        )
        if known is not None:  # it is handed out again at every look
            return
        content = content_digest(manifest)
        with self._database.transaction() as sql:
            row = (*series, number, manifest.digest, content, manifest.raw)
            sql.execute("INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            sql.execute(_DROP_CONTENTS, (*series, MAX_CONTENTS))
            sql.execute(_DROP_RENEWALS, (*series, content, MAX_RENEWALS))

    def of(self, signers: Iterable[str], channel: str, arch: str) -> list[Release]:
        """What these signers published for a channel and arch, as far as it is kept, the newest first."""
        rows = self._database.rows(
            "SELECT manifest_version, digest, content, raw FROM releases"
            " WHERE (signers, channel, arch) = (?, ?, ?) ORDER BY manifest_version DESC",
            _joined(signers),
            channel,
            arch,
        )
        return [Release(*row) for row in rows]


def _joined(signers: Iterable[str]) -> str:
    return ",".join(sorted(set(signers)))
