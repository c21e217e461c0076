"""The content of a manifest: what a machine boots of it, whatever its number, its dates and where it can be had.

Renewals have one content, and so have the manifests of one image in a channel and in that channel's roll-out: what
is rolled out, promoted and yanked is always this.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from p2pboot.core.jsonform import canonical
from p2pboot.core.manifest.document import artifact_members
from p2pboot.core.manifest.model import Statement
from p2pboot.core.names import artifact_path, base_channel


def content_digest(statement: Statement) -> str:
    """SHA-256, hex, of the canonical JSON of ``artifacts`` without ``urls``, and of ``cmdline`` if there is one.

    Paths are those in the channel itself, also of a manifest of its roll-out: the artifacts are the same files.
    """
    base = base_channel(statement.channel)
    members = artifact_members(
        [
            replace(one, path=artifact_path(base, statement.arch, one.key), urls=())
            for one in statement.artifacts.values()
        ]
    )
    for artifact in (*members.get("dtbs", {}).values(), *(members[key] for key in members if key != "dtbs")):
        del artifact["urls"]
    said = (
        {"artifacts": members}
        if statement.cmdline is None
        else {
            "artifacts": members,
            "cmdline": statement.cmdline,
        }
    )
    return hashlib.sha256(canonical(said)).hexdigest()
