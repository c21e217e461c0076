"""A manifest as Phase's own tools want it: a view, of which only what was signed before is signed.

Its fetcher takes the digest in bare hex and absolute http URLs, its boot image's script looks for `download_url`
with grep, and its verifier needs `signed` and `signatures` as they are.
"""

from __future__ import annotations

import json
from typing import Any, Final

from p2pboot.core.manifest import Artifact, Manifest
from p2pboot.core.names import DTB_PREFIX

_FIRST: Final = ("kernel", "initramfs", "uki", "rootfs")  # a script that takes the first match gets these


def phase_view(manifest: Manifest, base: str) -> bytes:
    """Write the view, as JSON without white space.

    Args:
        manifest: what the view is of.
        base: where the client reached the gateway, `http://host:port`.
    """
    document: dict[str, Any] = json.loads(manifest.raw)
    members = document["artifacts"]
    for key, artifact in manifest.artifacts.items():
        in_tree = key.startswith(DTB_PREFIX)
        target = members["dtbs"] if in_tree else members
        target[key.removeprefix(DTB_PREFIX)] |= _additions(artifact, base)
    document["artifacts"] = {key: members[key] for key in sorted(members, key=_rank)}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _rank(key: str) -> tuple[int, str]:
    return (_FIRST.index(key) if key in _FIRST else len(_FIRST), key)


def _additions(artifact: Artifact, base: str) -> dict[str, object]:
    return {
        "hash": artifact.sha256,
        "size_bytes": artifact.size,
        "download_url": f"/{artifact.key}",
        "urls": [f"{base}/blobs/{artifact.sha256}"],
    }
