"""What a publisher can go back to: the releases that it published of a channel and arch, and which one is meant.

Nothing is changed here, and nothing fetched. Everything blocks on the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from p2pboot.core.manifest import Manifest, content_digest
from p2pboot.core.timestamps import format_time
from p2pboot.core.trust import Pair
from p2pboot.core.trustdocs.yank import Yank
from p2pboot.errors import Malformed, NotFoundError, SignatureError, UsageError
from p2pboot.store.releases import Release
from p2pboot.store.store import Store

_NAMED = 8  # numbers that one line names


def released(store: Store, series: Iterable[tuple[str, ...]], pair: Pair) -> list[Release]:
    """What was published of a channel and arch, as far as this state remembers, the newest first.

    A state of a program that did not record releases remembers what it still offers, and what that replaced.

    Args:
        store: of the publisher.
        series: the sets of keys that signed it.
        pair: the channel and arch.
    """
    found: dict[str, Release] = {}
    for signers in series:
        last = store.publications.last(signers, *pair)
        kept = [row.digest for row in store.manifests.of_pair(pair) if row.signers == signers]
        documents = [stored.raw for digest in kept if (stored := store.manifests.get(digest)) is not None]
        recorded = [one.raw for one in store.releases.of(signers, *pair)]
        for raw in (*documents, *(() if last is None else (last,)), *recorded):
            with suppress(Malformed, SignatureError):  # it waits for signatures, or the disk changed it
                manifest = Manifest.parse(raw)
                # What these keys did not sign would be signed by this node if it went back to it.
                if (manifest.signers, (manifest.channel, manifest.arch)) == (tuple(signers), pair):
                    one = Release(manifest.manifest_version, manifest.digest, content_digest(manifest), raw)
                    found[manifest.digest] = one
    return sorted(found.values(), key=lambda one: one.manifest_version, reverse=True)


def numbered(releases: list[Release], number: int, option: str) -> Release:
    """The release with a number.

    Args:
        releases: those that are remembered.
        number: that was named.
        option: by which.

    Raises:
        UsageError: none has it.
    """
    for one in releases:
        if one.manifest_version == number:
            return one
    known = ", ".join(str(one.manifest_version) for one in releases[:_NAMED])
    raise UsageError(
        f"{option} {number}: this node remembers no such release",
        remedy=f"name one of {known}" if known else "nothing was published here yet",
    )


def to_go_back_to(
    releases: list[Release], bad: str, yanks: Mapping[str, Yank], number: int | None
) -> Release:
    """The release whose content takes the place of what is yanked.

    Args:
        releases: those that are remembered, the newest first.
        bad: the content that is yanked.
        yanks: those that count already, by content.
        number: of the one that is meant; None for the newest that brings something else.

    Raises:
        UsageError: the one that is meant brings the same, or was yanked.
        NotFoundError: there is none.
    """
    if number is None:
        for one in releases:
            if one.content != bad and one.content not in yanks:
                return one
        raise NotFoundError(
            "there is nothing to go back to: this node remembers no release with another content that was not yanked",
            remedy="--leave-none, so that nothing is booted until another release is published",
        )
    one = numbered(releases, number, "--back-to")
    if one.content == bad:
        raise UsageError(
            f"--back-to {number}: it brings the very content that is to be yanked",
            remedy="name an earlier one; `p2pboot yank list CHANNEL` shows them",
        )
    if (yank := yanks.get(one.content)) is not None:
        raise UsageError(
            f"--back-to {number}: its content was yanked at {format_time(yank.body.created_at)}, for good",
            remedy="name another one; `p2pboot yank list CHANNEL` shows them",
        )
    return one
