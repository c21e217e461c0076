"""What a new root does to what is published: whose manifests count no more, and below which number nothing is taken.

A root that takes a key away takes the manifests away that need it. Machines would find nothing that they may boot, so
whoever takes a key away is told for which channels and architectures that is so, until others have signed there. And
the number at which those begin is the *floor*: a thief may have signed any number up to 2^53 - 1, and what he signed
does not count any more; what was signed long ago by those who still count must not come back in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from p2pboot.core.dataclass import dataclass
from p2pboot.core.manifest import Manifest
from p2pboot.core.names import base_channel
from p2pboot.core.policy import MAX_LIFETIME_S
from p2pboot.core.trustdocs.rootbody import PublishRole, Role, RootBody
from p2pboot.errors import Malformed, SignatureError, UsageError

if TYPE_CHECKING:
    from p2pboot.store.store import Store

Pair = tuple[str, str]

HIGHEST_FLOOR: Final = 2**52
"""Floors above this are only set where the operator says them: nobody numbers that far, and what is signed there was
signed in order to stop all others."""


class KnownHead(NamedTuple):
    """A manifest, or the memory of one.

    Args:
        pair: channel and arch.
        manifest_version: its number.
        signers: key ids.
        expires_at: unix seconds; of one that is only remembered the latest that it can be.
        is_here: whether machines can be given it from here: it is whole, or was published or signed here.
        source: where it is known from, for people.
    """

    pair: Pair
    manifest_version: int
    signers: tuple[str, ...]
    expires_at: int
    is_here: bool
    source: str


@dataclass(frozen=True, slots=True)
class Effect:
    """What a root does to one channel and arch.

    Args:
        pair: it.
        floor: the lowest number that is to be taken; 0 where nothing that counts is known.
        lost: the newest manifest that counted and does not count any more, if nothing is there in its place.
    """

    pair: Pair
    floor: int
    lost: KnownHead | None

    @property
    def shown(self) -> str:
        """For people."""
        return "/".join(self.pair)


def heads_of_state(store: Store) -> list[KnownHead]:
    """What a state directory holds, was published with it, and is remembered by it."""
    source = str(store.path)
    whole = {row.digest for row in store.manifests.heads()}
    rows = store.manifests.all()
    heads = [
        KnownHead(row.pair, row.manifest_version, row.signers, row.expires_at, row.digest in whole, source)
        for row in rows
        if row.fault is None
    ]
    for raw in (one.raw for one in store.publications.all()):
        with suppress(Malformed, SignatureError):  # what lacks signatures is nobody's yet
            if raw is not None:
                heads.append(head_of_manifest(Manifest.parse(raw), source))
    dates = {(one.channel, one.arch, one.signers): one.created_at for one in store.trust.times()}
    expiries = {row.digest: row.expires_at for row in rows}
    for one in store.trust.heads():
        latest = dates.get((one.channel, one.arch, one.signers), 0) + MAX_LIFETIME_S
        expires_at = expiries.get(one.digest, latest)
        pair = (one.channel, one.arch)
        heads.append(KnownHead(pair, one.manifest_version, one.signers, expires_at, False, source))
    return heads


def head_of_manifest(manifest: Manifest, source: str) -> KnownHead:
    """The same of a manifest that was given."""
    pair = (manifest.channel, manifest.arch)
    return KnownHead(pair, manifest.manifest_version, manifest.signers, manifest.expires_at, True, source)


def takes_away(before: RootBody, after: RootBody) -> bool:
    """Whether something that counts under one root may not count under another."""
    return any(not _still_counts(role, after.publish) for role in before.publish)


def effects(
    before: RootBody,
    after: RootBody,
    heads: Sequence[KnownHead],
    now: int,
    said: Mapping[Pair, int] | None = None,
) -> list[Effect]:
    """What becomes of every channel and arch of which a manifest is known that counts under either root.

    Args:
        before: the root in force.
        after: the next one.
        heads: what is known.
        now: unix seconds.
        said: floors that the operator names himself.

    Raises:
        UsageError: a number that no honest publisher reaches would become a floor.
    """
    found = []
    for pair in sorted({head.pair for head in heads}):
        here = [head for head in heads if head.pair == pair]
        counted = [head for head in here if counts(before, head)]
        counting = [head for head in here if counts(after, head)]
        if not counted and not counting:
            continue
        floor = (said or {}).get(pair)
        if floor is None:
            floor = _floor(after, pair, counting)
        stays = any(
            head.is_here and head.expires_at > now and head.manifest_version >= floor for head in counting
        )
        offered = [head for head in counted if head.expires_at > now]
        lost = None if stays else max(offered, key=lambda head: head.manifest_version, default=None)
        found.append(Effect(pair, floor, lost))
    return found


def counts(body: RootBody, head: KnownHead) -> bool:
    """Whether a root takes a manifest's signers for its channel and arch."""
    channel, arch = head.pair
    return any(
        Role(role.keys, role.threshold).is_met_by(head.signers)
        for role in body.publish
        if (role.channels is None or channel in role.channels or base_channel(channel) in role.channels)
        and (role.archs is None or arch in role.archs)
    )


def _floor(body: RootBody, pair: Pair, counting: Iterable[KnownHead]) -> int:
    highest = max(counting, key=lambda head: head.manifest_version, default=None)
    if highest is None:
        return body.floor(*pair)
    if highest.manifest_version > HIGHEST_FLOOR:
        shown = "/".join(pair)
        raise UsageError(
            f"{shown}: version {highest.manifest_version} is signed by {', '.join(highest.signers)} ({highest.source}),"
            " and nobody could publish above that",
            remedy=f"remove the key that signed it as well, or say where numbers begin: --floor {shown}=N",
        )
    return max(body.floor(*pair), highest.manifest_version)


def _still_counts(role: PublishRole, roles: Iterable[PublishRole]) -> bool:
    """Whether whatever a role takes is taken by a role that covers as much, too."""
    return any(
        set(role.keys).issubset(other.keys)
        and other.threshold <= role.threshold
        and _within(role.channels, other.channels)
        and _within(role.archs, other.archs)
        for other in roles
    )


def _within(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> bool:
    return other is None or (one is not None and set(one).issubset(other))
