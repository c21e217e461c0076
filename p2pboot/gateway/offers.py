"""The manifests that the gateway offers: those that the node holds wholly, trusts, and that are in date.

An artifact's name leads nowhere but through here, so a name can only mean what a signed manifest says it means.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Manifest
from p2pboot.core.names import is_next, normalise_arch
from p2pboot.core.withheld import Withheld
from p2pboot.errors import ManifestError, SignatureError, StoreError
from p2pboot.gateway.backend import Backend
from p2pboot.gateway.replies import Reply, refusal, unavailable
from p2pboot.node.awaiting import Awaited
from p2pboot.store.manifests import HeadRow

_REMEMBERED: Final = 64  # parsed manifests, at most 64 KiB each
_SHOWN: Final = 8  # channels and archs that one refusal names


@dataclass(frozen=True, slots=True)
class Offer:
    """A manifest with its detached signature, where there is one."""

    manifest: Manifest
    detached: str | None


class Offers:
    """Looks manifests up; every method blocks on the database and may be called from any thread."""

    def __init__(self, node: Backend) -> None:
        self._node = node
        # By all their bytes, and with the signatures checked once more: the disk may have rotted.
        self._parse = lru_cache(_REMEMBERED)(Manifest.parse)

    def all(self) -> list[Offer]:
        """Every manifest on offer, sorted by channel and arch."""
        return [offer for row in self._node.catalogue.offered() if (offer := self._offer(row)) is not None]

    def any(self) -> bool:
        """Whether any manifest is on offer."""
        return any(self._offer(row) is not None for row in self._node.catalogue.offered())

    def why_none(self, awaited: Sequence[Awaited]) -> Reply | None:
        """Why nothing at all is on offer, of what is known or awaited; None where neither is.

        Args:
            awaited: what the node is to have.
        """
        return _why_not(self._node.catalogue.withheld(), awaited, awaited)

    def of(self, channel: str, arch: str, awaited: Sequence[Awaited] = ()) -> Offer | Reply:
        """The current manifest of a channel and arch, or why there is none to offer.

        Args:
            channel: its name.
            arch: any name of it, in any case.
            awaited: what the node is to have.
        """
        arch = normalise_arch(arch.lower())
        catalogue = self._node.catalogue
        rows = catalogue.offered(channel, arch)
        if rows:
            return self._present(rows[0])
        # "Whatever there is" is there already where something of the channel is known.
        is_known = bool(catalogue.offered(channel) or catalogue.withheld(channel))
        archs = (arch,) if is_known else (arch, None)
        expected = [one for one in awaited if one.channel == channel and one.arch in archs]
        withheld = catalogue.withheld(channel, arch)
        return _why_not(withheld, expected, awaited) or refusal(
            404, f"nothing is known here of {channel}/{arch}"
        )

    def current(self, channel: str, arch: str) -> Offer | None:
        """The current manifest of a channel and (canonical) arch; None where there is none to offer."""
        rows = self._node.catalogue.offered(channel, arch)
        return self._offer(rows[0]) if rows else None

    def default(self, awaited: Sequence[Awaited] = ()) -> Offer | Reply:
        """What the short names (`/kernel`, `/boot.ipxe`) mean: the operator's channel and arch, or the only ones.

        What is rolled out into a channel is none beside it.

        Args:
            awaited: what the node is to have.

        Returns:
            The offer, or why there is none: there are several and nothing says which one, or none.
        """
        channel, arch = self._node.default_pair()
        rows = self._node.catalogue.offered(channel, arch)
        rows = [row for row in rows if not is_next(row.channel)] or rows
        if len(rows) > 1:
            names = _some([f"/{row.channel}/{row.arch}" for row in rows])
            return refusal(404, f"name the channel and arch, for example {names}")
        if rows:
            return self._present(rows[0])
        expected = [
            one
            for one in awaited
            if channel in (None, one.channel) and (arch is None or one.arch in (arch, None))
        ]
        withheld = self._node.catalogue.withheld(channel, arch)
        return _why_not(withheld, expected, awaited) or refusal(404, "no manifest is held here")

    def _present(self, row: HeadRow) -> Offer | Reply:
        return self._offer(row) or unavailable(f"{row.channel}/{row.arch} is being replaced", 1)

    def _offer(self, row: HeadRow) -> Offer | None:
        stored = self._node.store.manifests.get(row.digest)
        if stored is None:
            return None  # replaced since it was looked up
        try:
            return Offer(self._parse(stored.raw), stored.detached)
        except (ManifestError, SignatureError) as error:
            raise StoreError(f"manifest {row.digest} is damaged: {error.message}") from error


def retry_after(one: Withheld, awaited: Sequence[Awaited]) -> int | None:
    """When to ask again for what is withheld: not while the operator has to do something first."""
    lasting = {(each.channel, each.arch) for each in awaited if each.retry_after_s is None}
    return None if (one.channel, one.arch) in lasting else one.retry_after_s


def _why_not(
    withheld: Sequence[Withheld], expected: Sequence[Awaited], awaited: Sequence[Awaited]
) -> Reply | None:
    """What there is, or will be, of what is asked for, and is not offered; None if there is nothing."""
    reasons = [(f"{one.channel}/{one.arch}: {one.text}", retry_after(one, awaited)) for one in withheld]
    reasons = reasons or [(one.text, one.retry_after_s) for one in expected]
    if not reasons:
        return None
    soonest = min((time_s for _, time_s in reasons if time_s is not None), default=None)
    return unavailable(_some([text for text, _ in reasons], "; "), soonest)


def _some(texts: Sequence[str], between: str = ", ") -> str:
    """As many as fit into one line."""
    more = [] if len(texts) <= _SHOWN else [f"and {len(texts) - _SHOWN} more"]
    return between.join([*texts[:_SHOWN], *more])
