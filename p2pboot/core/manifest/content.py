"""The content of a manifest: what a machine boots of it, whatever its number, its dates and where it can be had.

Renewals have one content, and so have the manifests of one image in a channel and in that channel's roll-out: what
is rolled out, promoted and yanked is always this.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from p2pboot.core.jsonform import canonical
from p2pboot.core.manifest.document import artifact_members
from p2pboot.core.manifest.model import Artifact, Statement
from p2pboot.core.names import artifact_path, base_channel


def content_digest(statement: Statement) -> str:
    """SHA-256, hex, of the canonical JSON of ``artifacts`` without ``urls``, and of ``cmdline`` if there is one.

    Paths are those in the channel itself, also of a manifest of its roll-out: the artifacts are the same files.
    """
    return content_digest_of(
        statement.channel, statement.arch, statement.artifacts.values(), statement.cmdline
    )


def content_digest_of(channel: str, arch: str, artifacts: Iterable[Artifact], cmdline: str | None) -> str:
    """The same of what is no manifest yet; arguments as its members."""
    base = base_channel(channel)
    members = artifact_members(
        [replace(one, path=artifact_path(base, arch, one.key), urls=()) for one in artifacts]
    )
    for artifact in (*members.get("dtbs", {}).values(), *(members[key] for key in members if key != "dtbs")):
        del artifact["urls"]
    said = {"artifacts": members} if cmdline is None else {"artifacts": members, "cmdline": cmdline}
    return hashlib.sha256(canonical(said)).hexdigest()
