"""What this side knows of and does not offer at the moment, and why."""

from __future__ import annotations

import enum

from p2pboot.core.dataclass import dataclass


class Why(enum.StrEnum):
    """Why something that is known is not offered; stable words for scripts."""

    EXPIRED = "expired"
    INCOMPLETE = "incomplete"  # on its way, or a part of it is damaged or being replaced
    REFUSED = "refused"  # others offer it, and this node takes none of that
    UNTRUSTED = "untrusted"  # its signers have no say any more, by a newer root
    FLOOR = "floor"  # below the lowest version that the root takes
    YANKED = "yanked"  # its publisher took back what it brings
    STALE = (
        "stale"  # nobody who has a say said lately that it is the newest, or somebody said that it is too old
    )
    ROOT_EXPIRED = "root-expired"  # the root in force is out of date, and says that nothing is taken then
    UNPUBLISHABLE = "unpublishable"  # its directory is there, and no image


@dataclass(frozen=True, slots=True)
class Withheld:
    """A channel and arch that the node knows of, and does not offer at the moment.

    Args:
        channel: its name.
        arch: its canonical name.
        why: the kind of reason.
        text: the reason, one line for a person, without anything that only the operator may know.
        retry_after_s: when it makes sense to ask again; None where it does not pass by itself.
    """

    channel: str
    arch: str
    why: Why
    text: str
    retry_after_s: int | None = None

    def to_json(self) -> dict[str, str]:
        """Plain values for a JSON document."""
        return {"channel": self.channel, "arch": self.arch, "reason": self.why.value, "text": self.text}
