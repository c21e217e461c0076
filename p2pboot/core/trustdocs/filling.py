"""Roots that somebody has as files, beside those that are known: which of them can be walked, and which one is missing.

A peer has a chain, or nothing; whoever carries files has some of them, and may have left one at home.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from p2pboot.core.dataclass import dataclass
from p2pboot.core.trustdocs.chain import claims_version


@dataclass(frozen=True, slots=True)
class Filled:
    """What can be walked of roots that were brought, unchecked.

    Args:
        documents: roots without a gap, ascending.
        missing: the version without which more of what was brought could be; None where that is all.
    """

    documents: tuple[bytes, ...]
    missing: int | None


def by_version(documents: Iterable[bytes]) -> dict[int, bytes]:
    """Roots by the version that they claim; what is no root is left out, of two of one version the last counts."""
    found = ((claims_version(raw), raw) for raw in documents)
    return {version: raw for version, raw in found if version is not None}


def fill(brought: Mapping[int, bytes], known: Mapping[int, bytes], at: int) -> Filled:
    """Put what was brought together with what is known.

    Args:
        brought: roots by version; they stand for those that are known of the same version. Not empty.
        known: likewise.
        at: the version that is believed; of a walk it is one.
    """
    every = {**known, **brought}
    first = last = at
    while first - 1 in every:
        first -= 1
    while last + 1 in every:
        last += 1
    missing = None
    if max(brought) > last:
        missing = last + 1
    elif min(brought) < first:
        missing = first - 1
    return Filled(tuple(every[version] for version in range(first, last + 1) if version in every), missing)
