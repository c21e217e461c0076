"""Documents that are no manifest of ours and easily taken for one: what they are, and what to do with them.

Only a message depends on it. It is asked after a document was refused, and reads no more of it than its outline.
"""

from __future__ import annotations

from typing import Final

import msgspec

from p2pboot.core.manifest.document import SPEC
from p2pboot.errors import Malformed

_FAMILY: Final = SPEC.partition("/")[0]


class _Artifact(msgspec.Struct, frozen=True):
    download_url: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Artifacts(msgspec.Struct, frozen=True):
    kernel: _Artifact | None = None


class _Outline(msgspec.Struct, frozen=True):
    artifacts: _Artifacts
    spec: str | None = None
    signers: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_OUTLINE: Final = msgspec.json.Decoder(_Outline)


def explain_foreign(raw: bytes, error: Malformed) -> Malformed:
    """Say what a refused document is, if that can be seen; otherwise give back what was found wrong with it.

    Args:
        raw: the document.
        error: why it was refused.
    """
    try:
        outline = _OUTLINE.decode(raw)
    except (ValueError, RecursionError):
        return error
    kernel = outline.artifacts.kernel
    if outline.spec is None and isinstance(outline.signers, msgspec.UnsetType):
        return Malformed(
            f"{error.message} (a manifest of Phase's own tools, such as plasmd, which p2pboot can not verify)",
            remedy="publish its artifacts with `p2pboot serve`, or check it with phase-verify",
        )
    if outline.spec is not None and outline.spec != SPEC and outline.spec.startswith(f"{_FAMILY}/"):
        return Malformed(error.message, remedy="upgrade p2pboot: this manifest is of another version's form")
    if kernel is not None and not isinstance(kernel.download_url, msgspec.UnsetType):
        return Malformed(
            f"{error.message} (a gateway's view for Phase's tools, of which only signed.data is signed)",
            remedy="get the manifest itself: the same address without /phase",
        )
    return error
