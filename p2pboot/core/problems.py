"""Problems: what a person should know about and mend, in one form for log, status, metrics and whoever asks.

A problem is not an error: nothing failed that somebody waits for. It stands until its cause is gone, is told of once,
and says what to do. What the codes mean for an operator is in ``docs/troubleshooting.md``, to which every problem
links; a code, once given out, keeps its meaning.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import P2PBootError


class Severity(enum.StrEnum):
    """How bad it is, the worst first: their order here is the order in which problems are shown."""

    ERROR = "error"  # something that machines need is not offered, or soon will not be, until somebody acts
    WARNING = "warning"  # everything is offered still; somebody should look at it within days
    INFO = "info"  # it passes by itself, or may be as it is meant to be


class Code(enum.StrEnum):
    """What kind of problem it is: stable words for scripts, labels of metrics, headings of the documentation.

    Its entry there begins with a line of its own, `*Severity: what it is in a few words.*`, which is shown as a title.
    """

    DIRECTORY = "directory"  # the artifacts directory as a whole can not be read
    UNPUBLISHABLE = "unpublishable"  # what lies there for a channel and arch can not be published
    STILL_CHANGING = "still-changing"  # it is being written to, and published when that ends
    UNKNOWN_DIRECTORY = "unknown-directory"  # a directory that is no channel, or no architecture
    DIRECTORY_YANKED = "directory-yanked"  # what lies there was yanked: it is neither published nor renewed
    DIRECTORY_REPLACED = "directory-replaced"  # something else is in force than what lies there
    AUDIT_LOG = "audit-log"  # what was done can not be taken down
    STATE = "state"  # the state directory can not be read or written
    PUBLISHER_REVOKED = "publisher-revoked"  # by the root this node's key may not publish what lies there
    WITHDRAWN = "withdrawn"  # no longer offered here; mirrors keep it until it expires
    SHARED_KEY = "shared-key"  # another node signs with this node's key
    CLOCK = "clock"  # this machine's clock is wrong
    LIFETIME = "lifetime"  # what is published is valid for longer than others take
    CLOCK_WENT_BACK = "clock-went-back"  # what is published now is dated before what was published earlier
    NOT_MIRRORED = "not-mirrored"  # something trusted, an image or a snapshot, that can not be had
    DAMAGED = "damaged"  # the disk changed what was verified
    QUOTA = "quota"  # what is kept leaves no room for a next version
    REFUSED = "refused"  # a manifest of somebody that this node is to follow is not taken
    EXPIRING = "expiring"  # what is held goes out of date soon, and was not renewed when it should have been
    NEARLY_FULL = "nearly-full"  # the store's quota, or the disk under it
    NO_PEERS = "no-peers"  # nobody is connected, although somebody should be
    PUBLISHER_UNREACHABLE = (
        "publisher-unreachable"  # nobody has told for long whether what is held is the newest
    )
    POISONERS = "poisoners"  # peers sent what is not what was signed
    PORT_UNREACHABLE = "port-unreachable"  # nobody ever connected from outside, although there are peers
    EXPIRED = "expired"  # what is held is out of date and not offered any more
    EQUIVOCATION = "equivocation"  # a trusted key signed two manifests of one number
    CONTRADICTION = "contradiction"  # two roots or freshness statements can not both be honest
    FRESHNESS_UNSIGNED = "freshness-unsigned"  # what is published here is not vouched for
    FRESHNESS_OLD = "freshness-old"  # nobody has vouched for long for what is held
    FRESHNESS_OVERDUE = (
        "freshness-overdue"  # the same, and it is required: soon nothing is offered, or nothing is
    )
    ROOT_KEY = "root-key"  # a key of this node is a root key of the root in force
    ROOT_MISSING = "root-missing"  # a root that is to be believed is not at hand
    ROOT_GAP = "root-gap"  # a version of a root is missing, without which nobody goes on to later ones
    ROOT_EXPIRING = "root-expiring"  # a root runs out before long
    ROOT_EXPIRED = "root-expired"  # it has
    YANKED = "yanked"  # what is held was taken back, and nothing newer is here
    INOTIFY = "inotify"  # the system tells of no changes; the directory is looked at every few seconds
    INTERFACES = "interfaces"  # the machine's addresses can not be listed
    LOCAL_DISCOVERY = "local-discovery"  # no peers can be found on the local network
    UNSIGNED_SNAPSHOT = "unsigned-snapshot"  # a snapshot is served without a signature
    UNREADABLE_SNAPSHOT = "unreadable-snapshot"  # something in the snapshot directory can not be served


SEVERITIES: Final[Mapping[Code, Severity]] = {
    Code.DIRECTORY: Severity.ERROR,
    Code.UNPUBLISHABLE: Severity.ERROR,
    Code.STILL_CHANGING: Severity.INFO,
    Code.UNKNOWN_DIRECTORY: Severity.WARNING,
    Code.DIRECTORY_YANKED: Severity.WARNING,  # that nothing is in force, others say
    Code.DIRECTORY_REPLACED: Severity.INFO,  # as it was asked for
    Code.AUDIT_LOG: Severity.WARNING,
    Code.STATE: Severity.ERROR,
    Code.PUBLISHER_REVOKED: Severity.ERROR,
    Code.WITHDRAWN: Severity.WARNING,
    Code.SHARED_KEY: Severity.WARNING,
    Code.CLOCK: Severity.ERROR,
    Code.LIFETIME: Severity.ERROR,
    Code.CLOCK_WENT_BACK: Severity.ERROR,
    Code.NOT_MIRRORED: Severity.WARNING,
    Code.DAMAGED: Severity.WARNING,  # of what is offered nothing is wrong; what is not, others say
    Code.QUOTA: Severity.WARNING,
    Code.REFUSED: Severity.ERROR,
    Code.EXPIRING: Severity.WARNING,
    Code.NEARLY_FULL: Severity.WARNING,
    Code.NO_PEERS: Severity.WARNING,
    Code.PUBLISHER_UNREACHABLE: Severity.WARNING,
    Code.POISONERS: Severity.WARNING,
    Code.PORT_UNREACHABLE: Severity.INFO,  # nobody may have tried
    Code.EXPIRED: Severity.ERROR,
    Code.EQUIVOCATION: Severity.ERROR,
    Code.CONTRADICTION: Severity.ERROR,
    Code.FRESHNESS_UNSIGNED: Severity.ERROR,
    Code.FRESHNESS_OLD: Severity.WARNING,
    Code.FRESHNESS_OVERDUE: Severity.ERROR,
    Code.ROOT_KEY: Severity.ERROR,
    Code.ROOT_MISSING: Severity.ERROR,
    Code.ROOT_GAP: Severity.ERROR,
    Code.ROOT_EXPIRING: Severity.WARNING,
    Code.ROOT_EXPIRED: Severity.ERROR,
    Code.YANKED: Severity.ERROR,
    Code.INOTIFY: Severity.WARNING,
    Code.INTERFACES: Severity.WARNING,
    Code.LOCAL_DISCOVERY: Severity.WARNING,
    Code.UNSIGNED_SNAPSHOT: Severity.WARNING,
    Code.UNREADABLE_SNAPSHOT: Severity.WARNING,
}
"""Of every code: log level, order and colour of all that is shown come from here."""

_RANKS: Final = {severity: rank for rank, severity in enumerate(Severity)}
_DOCUMENT: Final = "docs/troubleshooting.md"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and still is.

    Args:
        code: what kind.
        subject: what it is about: ``stable/x86_64``, a path, ``clock``. Together with the code it says which problem
            it is: another text of the same two is the same problem.
        text: what was found, one line for a person.
        remedy: what to do about it, one line; None where nothing can be done but wait.
        since: unix seconds when it was first noticed; 0 until it is on the list.
    """

    code: Code
    subject: str
    text: str
    remedy: str | None = None
    since: int = 0

    @classmethod
    def of(cls, code: Code, subject: str, error: P2PBootError) -> Problem:
        """Take text and remedy of an error that stops nothing."""
        return cls(code, subject, error.message, error.remedy)

    @property
    def severity(self) -> Severity:
        """How bad a problem of this code is."""
        return SEVERITIES[self.code]

    @property
    def link(self) -> str:
        """The code's entry in the documentation, from the top of the source tree; `p2pboot explain CODE` prints it."""
        return f"{_DOCUMENT}#{self.code}"

    @property
    def order(self) -> tuple[int, str, str]:
        """A key for sorting: the most severe first, then by subject and code."""
        return _RANKS[self.severity], self.subject, self.code

    def to_json(self) -> dict[str, object]:
        """Plain values for a JSON document: the fields, `severity` and `link`."""
        return {**asdict(self), "severity": self.severity, "link": self.link}
