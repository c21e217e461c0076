"""What of a directory is held back, and what is in force instead of it: rules only, everything blocks on the database.

A directory whose content was yanked is neither published nor renewed. Where something else was meant to be in force
instead (`store.held`: earlier content that was gone back to, or the promoted content of a roll-out), that is published
as if it lay there, and it stays until the directory holds something that is neither yanked nor what it held by then.
"""

from __future__ import annotations

from typing import ClassVar

from p2pboot.core.manifest import Manifest, Statement, content_digest
from p2pboot.core.names import base_channel
from p2pboot.core.problems import Code
from p2pboot.core.timestamps import format_time
from p2pboot.core.trust import Pair
from p2pboot.core.trustdocs.yank import Yank
from p2pboot.errors import ArtifactError
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.held import Held
from p2pboot.store.store import Store


class DirectoryNotInForce(ArtifactError):
    """What lies in a directory is not published, on purpose."""

    code: ClassVar[Code]


class DirectoryYanked(DirectoryNotInForce):
    """It was yanked."""

    code = Code.DIRECTORY_YANKED


class DirectoryReplaced(DirectoryNotInForce):
    """Something else is in force instead."""

    code = Code.DIRECTORY_REPLACED


class Holding:
    """Any thread. All methods raise StoreError or MachineError where the state can not be read or written.

    Args:
        store: of the publisher.
        catalogue: of the same store; knows the yanks that count.
        signers: key ids of who signs what is published here.
    """

    def __init__(self, store: Store, catalogue: Catalogue, signers: tuple[str, ...]) -> None:
        self._held = store.held
        self._catalogue = catalogue
        self._signers = signers

    def of(self, pair: Pair) -> Held | None:
        """What is to be in force for a channel and arch instead of what the directory holds, and may still be."""
        held = self._held.get(pair)
        if held is None or not self._may_stand_for(held) or held.content in self._catalogue.yanks(*pair):
            return None
        return held

    def _may_stand_for(self, held: Held) -> bool:
        """Whether somebody who has a say here signed it for this: the disk may have changed the row."""
        manifest, (channel, arch) = held.manifest, held.pair
        if manifest is None:
            return True
        publisher = self._catalogue.trust.publisher_for(channel, arch)
        signed = manifest.signers == self._signers or (
            publisher is not None and publisher.is_met_by(manifest.signers)
        )
        return signed and (base_channel(manifest.channel), manifest.arch) == (base_channel(channel), arch)

    def pairs(self) -> set[Pair]:
        """The channels and archs for which something is."""
        held = (self.of(pair) for pair in self._held.pairs())
        return {one.pair for one in held if one is not None and one.manifest is not None}

    def yank_of(self, pair: Pair, content: str) -> Yank | None:
        """The yank of certain content of a channel and arch, if it counts."""
        return self._catalogue.yanks(*pair).get(content)

    def is_yanked(self, manifest: Statement) -> bool:
        """Whether the content of a manifest was yanked."""
        return self.yank_of((manifest.channel, manifest.arch), content_digest(manifest)) is not None

    def admit(self, pair: Pair, content: str) -> None:
        """Let the content of a directory be published, or say why not.

        Raises:
            DirectoryNotInForce: it was yanked, or something else is in force instead of just this.
        """
        yank, held = self.yank_of(pair, content), self.of(pair)
        if yank is not None:
            raise self._yanked(yank, held)
        if held is not None and content == held.instead_of and content != held.content:
            raise DirectoryReplaced(
                f"{_what(held)} is in force instead of what lies there",
                remedy="nothing, if that was meant; or put another release there, which is published as usual",
            )

    def _yanked(self, yank: Yank, held: Held | None) -> DirectoryYanked:
        reason = f" ({yank.body.reason})" if yank.body.reason else ""
        return DirectoryYanked(
            f"what lies there was yanked at {format_time(yank.body.created_at)}{reason}: it is neither published nor"
            f" renewed, and {_what(held)} is in force",
            remedy="put a release there that mends it; it is published under the next number",
        )

    def hold(self, pair: Pair, manifest: Manifest | None, instead_of: str) -> None:
        """Have the content of a manifest, or nothing, in force instead of what a directory holds.

        Args:
            pair: the channel and arch.
            manifest: whose content; None for nothing.
            instead_of: the content of the directory, as far as is known. Where something is in force instead of it
                already, the directory has not changed since: else that would have ended.
        """
        before = self._held.get(pair)
        self._held.put(Held(pair, instead_of if before is None else before.instead_of, manifest))

    def hold_nothing(self, pair: Pair) -> None:
        """Have nothing in force from now on, also where the directory holds what something else was in place of."""
        held = self.of(pair)
        if held is None:
            self.end(pair)
        else:
            self.hold(pair, None, held.instead_of)

    def end(self, pair: Pair) -> None:
        """What the directory holds is in force, or nothing."""
        self._held.drop(pair)


def _what(held: Held | None) -> str:
    if held is None or held.manifest is None:
        return "nothing"
    promoted = ", promoted from its roll-out," if held.manifest.channel != held.pair[0] else ""
    return f"the content of version {held.manifest.version}{promoted}"
