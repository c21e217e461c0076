"""Machines that booted lately: who took what a release boots from, over HTTP or from peer to peer.

Addresses can not be multiplied by whoever has one, so they share the room: a stranger that fetches as many clients
pushes out his own entries. Pure but for the clock that it is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.names import INITRAMFS, KERNEL, UKI
from p2pboot.core.origins import Party, ip_of, party_of
from p2pboot.core.shares import Shares
from p2pboot.node.status.known import Release

MAX_BOOTS: Final = 64
BOOT_S: Final = 600.0
"""Who comes back after so long boots again."""

LATELY_S: Final = 86_400.0
ROOTFS: Final = "rootfs"

_BOOTS: Final = frozenset({KERNEL, INITRAMFS, UKI, ROOTFS})
"""Who takes one of these boots; anything else counts when that is so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """A machine that took what a release boots from.

    Args:
        address: of an HTTP client, an IP address; of a peer, the one it is connected from.
        peer_id: of a peer; None for HTTP.
        via: "http" or "p2p".
        channel, arch, version: of the release.
        began_at, last_at: unix seconds.
        sent_bytes: to it.
        done: whether it has all that it needs to boot.
    """

    address: str
    peer_id: str | None
    via: str
    channel: str
    arch: str
    version: str
    began_at: float
    last_at: float
    sent_bytes: int
    done: bool


@dataclass(eq=False, slots=True)
class _Entry:
    """One machine and one release."""

    party: Party
    address: str
    peer_id: str | None
    release: Release
    began_at: float
    last_at: float
    taken: dict[str, int] = field(default_factory=dict)  # bytes by artifact
    said: set[str] = field(default_factory=set)  # artifacts that it says it has

    @property
    def is_done(self) -> bool:
        whole = self.said | {key for key, size in self.taken.items() if size >= self.release.sizes[key]}
        return UKI in whole or {KERNEL, INITRAMFS} <= whole or whole == self.release.sizes.keys()

    def facts(self) -> Boot:
        return Boot(
            address=self.address,
            peer_id=self.peer_id,
            via="http" if self.peer_id is None else "p2p",
            channel=self.release.channel,
            arch=self.release.arch,
            version=self.release.version,
            began_at=self.began_at,
            last_at=self.last_at,
            sent_bytes=sum(self.taken.values()),
            done=self.is_done,
        )


class Boots:
    """Notes who takes what.

    Args:
        releases_of: the releases that name an artifact, by its SHA-256, with the key that it has there; the newest
            first.
        wall: the machine's clock, unix seconds.
    """

    def __init__(
        self, releases_of: Callable[[str], Sequence[tuple[Release, str]]], wall: Callable[[], float]
    ) -> None:
        self._releases_of = releases_of
        self._wall = wall
        self._shares = Shares(MAX_BOOTS, 0)
        self._entries: list[_Entry] = []  # who took something last is the last
        self.begun: Counter[str] = Counter({"http": 0, "p2p": 0})
        """How many began, by the way, since the start; also those that are forgotten."""

    def took_http(self, address: str, sha256: str, size_bytes: int) -> None:
        """An HTTP client at an address took bytes of an artifact; of what no release names, nothing is noted."""
        self._took(party_of(address), address, None, sha256, size_bytes)

    def took_p2p(self, peer_id: str, address: str, sha256: str, size_bytes: int) -> None:
        """A peer that is connected from a multiaddr was given bytes of an artifact."""
        self._took(party_of(address, peer_id), str(ip_of(address) or address), peer_id, sha256, size_bytes)

    def has_p2p(self, peer_id: str, address: str, sha256: str) -> None:
        """A peer that took something says that it has all of an artifact, from wherever."""
        party = party_of(address, peer_id)
        entry, key = self._known(
            party, str(ip_of(address) or address), self._releases_of(sha256), self._wall()
        )
        if entry is not None:
            entry.said.add(key)

    def forget(self, peer_ids: Iterable[str]) -> None:
        """These peers turned out to boot nothing."""
        gone = set(peer_ids)
        for entry in [entry for entry in self._entries if entry.peer_id in gone]:
            self._remove(entry)

    @property
    def peers(self) -> set[str]:
        """The peers among them."""
        return {entry.peer_id for entry in self._entries if entry.peer_id is not None}

    def lately(self) -> list[Boot]:
        """Who booted in the last day, the latest first; at most `MAX_BOOTS`."""
        since = self._wall() - LATELY_S
        return [entry.facts() for entry in reversed(self._entries) if entry.last_at >= since]

    def _took(self, party: Party, address: str, peer_id: str | None, sha256: str, size_bytes: int) -> None:
        named = self._releases_of(sha256)
        if not named or size_bytes <= 0:
            return
        now = self._wall()
        entry, key = self._known(party, address, named, now)
        if entry is None:
            release, key = named[0]
            if key not in _BOOTS:
                return
            self._make_room(party)
            self._shares.take(party)
            self.begun["http" if peer_id is None else "p2p"] += 1
            entry = _Entry(party, address, peer_id, release, now, now)
        else:
            self._entries.remove(entry)
        self._entries.append(entry)
        entry.last_at = now
        entry.taken[key] = entry.taken.get(key, 0) + size_bytes

    def _known(
        self, party: Party, address: str, named: Sequence[tuple[Release, str]], now: float
    ) -> tuple[_Entry | None, str]:
        """The entry that goes on, which tells which of several releases is meant; and the artifact's key there."""
        for entry in reversed(self._entries):
            if (entry.party, entry.address) == (party, address) and now - entry.last_at < BOOT_S:
                for release, key in named:
                    if release.digest == entry.release.digest:
                        return entry, key
        return None, ""

    def _make_room(self, party: Party) -> None:
        if len(self._entries) < MAX_BOOTS:
            return
        origin = self._shares.gives_way(party)
        theirs = (entry for entry in self._entries if entry.party.origin == origin)
        self._remove(next(theirs, self._entries[0]))

    def _remove(self, entry: _Entry) -> None:
        self._entries.remove(entry)
        self._shares.give_back(entry.party)
