"""What a new root does to what is published: whose manifests count no more, and below which number nothing is taken.

A root that takes a key away takes the manifests away that need it. Machines would find nothing that they may boot, so
whoever takes a key away is told for which channels and architectures that is so, until others have signed there. And
the number at which those begin is the *floor*: a thief may have signed any number up to 2^53 - 1, and what he signed
does not count any more; what was signed long ago by those who still count must not come back in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from p2pboot.core.dataclass import dataclass
from p2pboot.core.names import base_channel
from p2pboot.core.trustdocs.root import PublishRole, Role, RootBody
from p2pboot.errors import UsageError

if TYPE_CHECKING:
    from p2pboot.core.manifest import Manifest
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
        expires_at: unix seconds; None where only its number is remembered, and it can not be offered to anybody.
        source: where it is known from, for people.
    """

    pair: Pair
    manifest_version: int
    signers: tuple[str, ...]
    expires_at: int | None
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
    """What a state directory holds wholly and remembers."""
    source = str(store.path)
    held = [
        KnownHead(row.pair, row.manifest_version, row.signers, row.expires_at, source)
        for row in store.manifests.heads()
    ]
    remembered = [
        KnownHead((one.channel, one.arch), one.manifest_version, one.signers, None, source)
        for one in store.trust.heads()
    ]
    return held + remembered


def head_of_manifest(manifest: Manifest, source: str) -> KnownHead:
    """The same of a manifest that was given."""
    pair = (manifest.channel, manifest.arch)
    return KnownHead(pair, manifest.manifest_version, manifest.signers, manifest.expires_at, source)


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
        stays = any(_can_be_had(head, now) and head.manifest_version >= floor for head in counting)
        offered = [head for head in counted if _can_be_had(head, now)]
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


def _can_be_had(head: KnownHead, now: int) -> bool:
    return head.expires_at is not None and head.expires_at > now


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
