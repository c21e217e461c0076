"""What a node offers now, and what it knows of but does not: one answer for gateway, sync and status.

Of each channel and arch the newest manifest that is wholly here, trusted and in date is offered. Whoever asks for one
that is known and not offered is told why, instead of hearing that there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from p2pboot.core.timestamps import format_time
from p2pboot.node.trust import Pair
from p2pboot.serving.withheld import Why, Withheld
from p2pboot.store.manifests import HeadRow
from p2pboot.store.store import Store

SOON_S: Final = 10  # when to ask again for what is on its way


@dataclass(frozen=True, slots=True)
class Awaited:
    """A channel that the operator wants to have here, of which there may be nothing yet.

    Args:
        channel: its name.
        arch: its canonical name; None where whatever there is will do.
        text: what is waited for, one line for a person; without anything that only the operator may know.
        retry_after_s: when it makes sense to ask again; None where the operator has to do something first.
    """

    channel: str
    arch: str | None
    text: str
    retry_after_s: int | None = SOON_S


class Offering:
    """Reads the catalogue; every method blocks on the database and may be called from any thread.

    Args:
        store: what is held.
        now: unix seconds by which manifests expire.
        takes: whether a manifest's signers are trusted for what it is for.
    """

    def __init__(self, store: Store, now: Callable[[], int], takes: Callable[[HeadRow], bool]) -> None:
        self._store = store
        self._now = now
        self._takes = takes

    def offered(self, channel: str | None = None, arch: str | None = None) -> list[HeadRow]:
        """The manifests that are wholly here, trusted and in date.

        One at most for each channel and arch: where several streams of a publisher's keys exist, the newest.

        Args:
            channel: only this one.
            arch: only this (canonical) one.
        """
        now = self._now()
        newest = _newest(
            row
            for row in self._store.manifests.heads(channel, arch)
            if row.expires_at > now and self._takes(row)
        )
        return list(newest.values())

    def withheld(self, channel: str | None = None, arch: str | None = None) -> list[Withheld]:
        """What is known and trusted, but not offered, and why; arguments as for `offered`."""
        manifests = self._store.manifests
        offered = {(row.channel, row.arch) for row in self.offered(channel, arch)}
        whole = {row.digest for row in manifests.heads(channel, arch)}
        known = _newest(
            row
            for row in (*manifests.current(), *manifests.pending())
            if (channel, arch)
            in ((row.channel, row.arch), (row.channel, None), (None, row.arch), (None, None))
            and self._takes(row)
        )
        return [
            self._withhold(row, whole=row.digest in whole)
            for pair, row in known.items()
            if pair not in offered
        ]

    def missing(self, sha256: str) -> Withheld | None:
        """Why an artifact is not here that a trusted manifest of the catalogue names; None if none does."""
        manifests = self._store.manifests
        rows = [row for row in manifests.naming(sha256) if self._takes(row)]
        if not rows:
            return None
        now = self._now()
        # What only a former or an expired manifest names is not fetched any more.
        expected = {
            row.digest for row in (*manifests.current(), *manifests.pending()) if row.expires_at > now
        }
        row = max(rows, key=lambda one: one.digest in expected)
        return Withheld(
            row.channel,
            row.arch,
            Why.INCOMPLETE,
            f"an artifact of manifest version {row.manifest_version} is not complete here",
            retry_after_s=SOON_S if row.digest in expected else None,
        )

    def _withhold(self, row: HeadRow, *, whole: bool) -> Withheld:
        number = row.manifest_version
        if row.expires_at <= self._now():
            text = f"manifest version {number} expired at {format_time(row.expires_at)}"
            return Withheld(row.channel, row.arch, Why.EXPIRED, text)
        state = "is not in force yet" if whole else "is not complete here"
        return Withheld(
            row.channel, row.arch, Why.INCOMPLETE, f"manifest version {number} {state}", retry_after_s=SOON_S
        )


def _newest(rows: Iterable[HeadRow]) -> dict[Pair, HeadRow]:
    newest: dict[Pair, HeadRow] = {}
    for row in rows:
        pair = (row.channel, row.arch)
        newest[pair] = max(newest.get(pair, row), row, key=lambda one: one.manifest_version)
    return newest
