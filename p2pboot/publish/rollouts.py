"""Roll-outs that this machine publishes: what is being rolled out, and whether that is over.

Nothing is kept for it: the last manifest that was published for ``<channel>.next`` says what the plan is, and what the
channel itself has says whether it still goes on. So it survives a restart, and is the same for everybody who looks.
"""

from __future__ import annotations

import contextlib

from p2pboot.core.dataclass import dataclass
from p2pboot.core.freshness import paused_since
from p2pboot.core.manifest import Candidate, Manifest, Rollout, Statement, content_digest
from p2pboot.core.names import NEXT, is_next
from p2pboot.core.rollouts import Ended, ended
from p2pboot.core.trust import Pair
from p2pboot.errors import ArtifactError, Malformed, SignatureError, StoreError, UsageError
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.publications import Publications


@dataclass(frozen=True, slots=True)
class Staged:
    """What was published last for a ``.next`` channel.

    Args:
        claims: what the manifest says.
        rollout: its plan.
        ended: why that is over; None while it is not.
    """

    claims: Statement
    rollout: Rollout
    ended: Ended | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What an operator wants of a new roll-out; the terms of :class:`p2pboot.core.manifest.Rollout`."""

    start: int
    duration_s: int
    percent: int
    salt: str


class Rollouts:
    """The roll-outs of one key; everything blocks.

    Args:
        publications: what was published last.
        catalogue: what the channels themselves have, and what is yanked.
        signers: who signs what is rolled out.
    """

    def __init__(self, publications: Publications, catalogue: Catalogue, signers: tuple[str, ...]) -> None:
        self._publications = publications
        self._catalogue = catalogue
        self._signers = signers

    def staged(self, pair: Pair) -> Staged | None:
        """What was rolled out last, as a ``.next`` channel and arch; None for nothing."""
        raw = self._publications.last(self._signers, *pair) if is_next(pair[0]) else None
        with contextlib.suppress(Malformed):  # of a newer format
            claims = None if raw is None else Candidate.decode(raw).claims
            if claims is not None and claims.rollout is not None:
                into = self.in_force(claims.rollout.into, pair[1])
                why = ended(claims, into, self._catalogue.yanks(*pair))
                return Staged(claims, claims.rollout, why)
        return None

    def all(self) -> list[Staged]:
        """Everything that was rolled out last, sorted by channel and arch."""
        pairs = filter(lambda pair: is_next(pair[0]), self._publications.pairs(self._signers))
        return [staged for pair in pairs if (staged := self.staged(pair)) is not None]

    def is_over(self, pair: Pair) -> bool:
        """Whether a channel and arch is a roll-out's, and none is on: then there is nothing to publish of it."""
        if not is_next(pair[0]):
            return False
        staged = self.staged(pair)
        return staged is None or staged.ended is not None

    def promoted(self, into: str, arch: str) -> Manifest | None:
        """What was rolled out last, if the last that was published of the channel itself brings the same content.

        Who promoted it need not be this machine: another one with the same key, or this one before its state was lost.
        """
        staged = self.staged((into + NEXT, arch))
        last = None if staged is None else self._publications.last(self._signers, into, arch)
        raw = None if last is None else self._publications.last(self._signers, into + NEXT, arch)
        if staged is None or last is None or raw is None or staged.rollout.into != into:
            return None
        with contextlib.suppress(Malformed, SignatureError):
            if content_digest(Candidate.decode(last).claims) == content_digest(staged.claims):
                return Manifest.parse(raw)
        return None

    def head(self, channel: str, arch: str) -> Manifest | None:
        """What is offered of a channel; None where that is nothing, or can not be read."""
        with contextlib.suppress(StoreError, Malformed, SignatureError):
            for row in self._catalogue.offered(channel, arch):
                return self._catalogue.manifest(row.digest)
        return None

    def in_force(self, channel: str, arch: str) -> Manifest | None:
        """What a channel has: what was accepted last, also where its files are missing here and mirrors have them."""
        yanked = self._catalogue.yanks(channel, arch)
        for one in self._catalogue.accepted(channel, arch):
            with contextlib.suppress(StoreError, Malformed, SignatureError):
                manifest = self._catalogue.manifest(one.digest)
                if content_digest(manifest) not in yanked:
                    return manifest
        return self.head(channel, arch)

    def begin(self, into: str, arch: str, content: str, plan: Plan) -> Rollout:
        """What goes into the manifest of a new roll-out.

        Args:
            into: the channel.
            arch: canonical.
            content: digest of what is to be rolled out, hex.
            plan: of the operator.

        Raises:
            UsageError: it can not begin, and why.
        """
        shown = f"{into}/{arch}"
        head = self.in_force(into, arch)
        if head is None:
            raise UsageError(
                f"{shown} has nothing in force here that a roll-out could replace",
                remedy=f"publish a first image in {shown}; machines take it at once",
            )
        staged = self.staged((f"{into}.next", arch))
        if staged is not None and staged.ended is None:
            raise UsageError(
                f"a roll-out into {shown} is on already, of version {staged.claims.version}",
                remedy=f"end it first: `p2pboot rollout promote {into}` or `p2pboot rollout abort {into}`",
            )
        over = content_digest(head)
        if over == content:
            raise UsageError(
                f"{shown} has the same content as {into}.next/{arch}: there is nothing to roll out",
                remedy=f"put the new image into {into}.next/{arch}",
            )
        if content in self._catalogue.yanks(into, arch):
            raise UsageError(
                f"the content of {into}.next/{arch} is yanked: no machine would take it",
                remedy=f"put another image into {into}.next/{arch}",
            )
        since = paused_since(self._catalogue.statement(into + NEXT, arch))
        resumed = None if since is None else since + 1  # the one before was paused, this one is not
        return Rollout(into, over, plan.start, plan.duration_s, plan.percent, plan.salt, resumed)


def not_there(into: str, arch: str | None, directory: object, *, only: str | None) -> ArtifactError:
    """The error for a roll-out of what nobody put there, or of a directory where nobody looks.

    Args:
        into: the channel.
        arch: that is meant; None for any.
        directory: that of all channels.
        only: the one channel that the node publishes; None for all that lie there.
    """
    where = f"{directory}/{into}.next/{arch or '<arch>'}"
    if only is not None:
        return ArtifactError(
            f"this node publishes the channel {only} alone, and does not look at {where}",
            remedy="start it without --channel, with DIR/<channel>/<arch>/ for each",
        )
    return ArtifactError(
        f"there is no image to roll out: {where} is not there",
        remedy="put the new image there, beside the directory of the channel itself",
    )


def changed_while_on(staged: Staged, directory: object) -> ArtifactError:
    """The error for files that are not what was begun with: machines that are in are promised just that."""
    into = staged.rollout.into
    return ArtifactError(
        f"{directory} holds something else than the roll-out into {into} that is on, of version"
        f" {staged.claims.version}: it is not published",
        remedy=f"put the files back, or end it (`p2pboot rollout abort {into}`) and start again",
    )


def signed_elsewhere(directory: object) -> UsageError:
    """The error for a directory with a manifest of others, who would have to sign the plan."""
    return UsageError(
        f"{directory} has a manifest that others signed: a plan can not be put into it",
        remedy="have it signed for a channel of its own, for the machines that are to have it first (`p2pboot manifest"
        " build DIR --unsigned --signer KEYID …`, `p2pboot manifest sign`), and later for all; or remove the manifest"
        " beside the files, if this node's key alone may sign",
    )


def not_whole(into: str, arch: str) -> ArtifactError:
    """The error for a roll-out whose files are not here."""
    return ArtifactError(
        f"what is rolled out into {into}/{arch} is not wholly here",
        remedy=f"put the files back into {into}.next/{arch}",
    )
