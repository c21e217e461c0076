"""What is on its way, for who looks now and then: how far each artifact is, and who gives it. Costs nothing else.

A job shows itself in a view for as long as it runs; whoever made the view asks when he wants to know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from p2pboot.core.dataclass import dataclass
from p2pboot.core.pieces import PieceSet

if TYPE_CHECKING:
    from p2pboot.fetch.receiving.downloads import Download
    from p2pboot.fetch.receiving.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerGave:
    """What one peer gave of one artifact: bytes, useful or not, and bytes per second lately."""

    peer_id: str
    given_bytes: int
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactOnItsWay:
    """How far the fetch of one artifact is.

    Args:
        sha256: of the artifact, lowercase hex.
        done_bytes: verified, in whole pieces.
        held: which pieces; None while its piece table is not here.
        rate: bytes per second lately.
        idle_s: seconds since a piece was stored, or since it was begun; 0 while a peer sends the job anything.
        given: by whom, who gave most first.
    """

    sha256: str
    done_bytes: int
    held: PieceSet | None
    rate: float
    idle_s: float
    given: Sequence[PeerGave] = ()


class FetchView:
    """What one job, or one after the other, has on its way."""

    def __init__(self) -> None:
        self._open: Mapping[str, Download] = {}
        self._sessions: Sequence[Session] = ()

    @contextmanager
    def showing(self, downloads: Mapping[str, Download], sessions: Sequence[Session]) -> Iterator[None]:
        """Show these, by digest, as they are whenever somebody looks, while the block lasts."""
        self._open, self._sessions = downloads, sessions
        try:
            yield
        finally:
            self._open, self._sessions = {}, ()

    def artifacts(self, now: float) -> list[ArtifactOnItsWay]:
        """All that is asked for at this moment.

        Args:
            now: of trio's clock, seconds.
        """
        # On a thin line a piece takes long: what counts is that bytes come.
        comes = any(session.delivering for session in self._sessions)
        return [_seen(download, now, comes=comes) for download in self._open.values()]


def _seen(download: Download, now: float, *, comes: bool) -> ArtifactOnItsWay:
    given = sorted(download.given.items(), key=lambda item: item[1].total, reverse=True)
    return ArtifactOnItsWay(
        sha256=download.blob,
        done_bytes=download.done_bytes,
        held=None if download.partial is None else download.partial.held,
        rate=download.stored.rate(now),
        idle_s=0.0 if comes else download.stored.idle_s(now),
        given=[
            PeerGave(peer_id=peer_id, given_bytes=window.total, rate=window.rate(now))
            for peer_id, window in given
        ],
    )
