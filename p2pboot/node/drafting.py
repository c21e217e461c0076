"""Yanks as documents: written by the publisher, signed there or carried to who else has to sign, and read again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from p2pboot.core.amounts import counted
from p2pboot.core.identity import SecretKey
from p2pboot.core.names import base_channel
from p2pboot.core.policy import Publisher
from p2pboot.core.timestamps import format_time
from p2pboot.core.trust import Pair
from p2pboot.core.trustdocs.envelope import add_signature
from p2pboot.core.trustdocs.rootbody import NO_FLEET
from p2pboot.core.trustdocs.yank import Yank, YankBody
from p2pboot.errors import Malformed, SignatureError, UsageError
from p2pboot.publish.numbering import publishing_time


class Drafts:
    """Writes yanks and reads those that come back.

    Args:
        key: of the node.
        wall: the machine's clock, unix seconds.
    """

    def __init__(self, key: SecretKey, wall: Callable[[], float]) -> None:
        self._key = key
        self._wall = wall

    def write(self, pair: Pair, publisher: Publisher, content: str, reason: str) -> bytes:
        """A yank with the node's signature, if that counts. It is of the channel itself, also for its roll-out.

        Args:
            pair: channel and arch.
            publisher: of these; its fleet is known.
            content: what is yanked.
            reason: for people.

        Raises:
            UsageError: the reason can not be said in a yank.
        """
        raw = YankBody(
            fleet=publisher.fleet or NO_FLEET,
            channel=base_channel(pair[0]),
            arch=pair[1],
            content=content,
            reason=reason,
            created_at=publishing_time(int(self._wall())),
        ).document()
        return add_signature(raw, self._key) if self._key.public.keyid in publisher.keys else raw

    def read(self, pair: Pair, publisher: Publisher, raw: bytes) -> Yank:
        """A yank that somebody brings.

        Raises:
            UsageError: it is none, or of another channel, arch or fleet.
        """
        named = (base_channel(pair[0]), pair[1])
        try:
            yank = Yank.parse(raw)
        except (Malformed, SignatureError) as error:
            raise UsageError(f"the yank: {error.message}", remedy="write it with --prepare FILE") from None
        if yank.pair != named or yank.body.fleet != publisher.fleet:
            raise UsageError(
                f"the yank is for {'/'.join(yank.pair)} of the fleet {yank.body.fleet[:16]}…, not for {'/'.join(named)}"
                " of this one",
                remedy="write it with --prepare FILE",
            )
        return yank


def check_met(yank: Yank, pair: Pair, publisher: Publisher) -> None:
    """Refuse a yank that too few signed who have a say.

    Raises:
        UsageError: it says how many are missing, and how they are brought.
    """
    if publisher.is_met_by(yank.signed_by):
        return
    have = len(publisher.trusted_among(yank.signed_by))
    raise UsageError(
        f"a yank of {'/'.join(pair)} takes {counted(publisher.threshold, 'signature')} of"
        f" {', '.join(publisher.keys)}, and has {have}",
        remedy="write it with --prepare FILE, have others sign it (p2pboot yank sign FILE --key PATH), and give it with"
        " --document FILE; or name their keys here with --key",
    )


def said(yank: Yank) -> dict[str, Any]:
    """What a yank says, as plain values for a JSON document."""
    body = yank.body
    return {
        "channel": body.channel,
        "arch": body.arch,
        "content": body.content,
        "reason": body.reason,
        "created_at": format_time(body.created_at),
        "signed_by": list(yank.signed_by),
    }
