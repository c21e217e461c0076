"""Boot manifests: the format, reading it from anyone, and writing it.

A manifest that is read goes :class:`Candidate` → :class:`Manifest` → :func:`p2pboot.core.verify.judge`.
One that is written goes :func:`compose` → :func:`sign` (or :func:`unsigned` and :func:`add_signature` on
several machines) → :func:`sign_detached`. The format is in ``docs/protocol.md``.
"""

from p2pboot.core.manifest.candidate import Candidate, Manifest
from p2pboot.core.manifest.content import content_digest, content_digest_of
from p2pboot.core.manifest.detached import check_detached, sign_detached
from p2pboot.core.manifest.document import MAX_MANIFEST, SPEC
from p2pboot.core.manifest.model import Artifact, Statement
from p2pboot.core.manifest.rollout import Rollout
from p2pboot.core.manifest.signing import (
    ManifestBody,
    ManifestTooLarge,
    add_signature,
    compose,
    missing_signers,
    sign,
    unsigned,
)

__all__ = [
    "MAX_MANIFEST",
    "SPEC",
    "Artifact",
    "Candidate",
    "Manifest",
    "ManifestBody",
    "ManifestTooLarge",
    "Rollout",
    "Statement",
    "add_signature",
    "check_detached",
    "compose",
    "content_digest",
    "content_digest_of",
    "missing_signers",
    "sign",
    "sign_detached",
    "unsigned",
]
