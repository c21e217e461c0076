"""What checks find: each finding has a stable code, a state, a line of what was seen, and what to do about it.

What the codes mean for an operator is in ``docs/doctor.md``; a code, once given out, keeps its meaning.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import ExitStatus, MachineError, NotFoundError, P2PBootError

FORMAT: Final = 1
"""Of the report as a JSON document; a higher one when what stands in it changes its meaning."""


class State(enum.StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"  # it may be why; others are found all the same
    FAILED = "failed"
    SKIPPED = "skipped"  # it does not apply, or can not be found out; the text says why


class Step(enum.StrEnum):
    """The checks, in the order in which they are made: this machine, the network, and what came from there."""

    ADDRESSES = "addresses"
    PORTS = "ports"
    STATE = "state"
    INOTIFY = "inotify"
    MULTICAST = "multicast"
    BOOTSTRAP = "bootstrap"
    ADDRESS_BOOK = "address-book"
    PEERS = "peers"
    FIREWALL = "firewall"
    CLOCK = "clock"  # before trust: what a wrong one refuses is not the publisher's fault
    TRUST = "trust"
    DISK = "disk"


class Code(enum.StrEnum):
    """What was found: stable words for scripts, headings of the documentation. Where all is well it is the step's."""

    ADDRESSES = "addresses"
    NO_ADDRESS = "no-address"
    LINK_LOCAL_ONLY = "link-local-only"
    INTERFACES = "interfaces"
    PORTS = "ports"
    PORT_TAKEN = "port-taken"
    CANNOT_LISTEN = "cannot-listen"
    NO_FAMILY = "no-family"
    NOT_LISTENING = "not-listening"
    OWN_PORT_CLOSED = "own-port-closed"
    MULTICAST = "multicast"
    MULTICAST_OFF = "multicast-off"
    MULTICAST_NOWHERE = "multicast-nowhere"
    MULTICAST_NOT_JOINED = "multicast-not-joined"
    MULTICAST_NOT_SENT = "multicast-not-sent"
    MULTICAST_NOT_HEARD = "multicast-not-heard"
    MULTICAST_ALONE = "multicast-alone"
    REACHED = "reached"
    NO_BOOTSTRAP = "no-bootstrap"
    NO_ADDRESS_BOOK = "no-address-book"
    # As `transport.interface.DialFailure` has them.
    UNRESOLVED = "unresolved"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    NOT_PERMITTED = "not-permitted"
    OTHER_PEER = "other-peer"
    OTHER_MESH = "other-mesh"
    NOT_LIBP2P = "not-libp2p"
    HUNG_UP = "hung-up"
    ITSELF = "itself"
    NOT_ALLOWED = "not-allowed"
    OTHER = "other"
    PEERS = "peers"
    NOBODY_TO_ASK = "nobody-to-ask"
    NOBODY = "nobody"
    NO_MANIFEST = "no-manifest"
    WITHHELD = "withheld"
    PEER_FAILED = "peer-failed"
    FIREWALL = "firewall"
    FIREWALL_UNREAD = "firewall-unread"
    FIREWALL_DROPS = "firewall-drops"
    FIREWALL_SUSPECTED = "firewall-suspected"
    TRUST = "trust"
    NO_TRUST = "no-trust"
    NOTHING_TO_JUDGE = "nothing-to-judge"
    MANIFEST_REFUSED = "manifest-refused"
    TWO_ROOTS = "two-roots"
    CLOCK = "clock"
    CLOCK_UNCHECKED = "clock-unchecked"
    CLOCK_BEHIND = "clock-behind"
    CLOCK_DIFFERS = "clock-differs"
    GATEWAY_SILENT = "gateway-silent"
    STATE = "state"
    NO_STATE = "no-state"
    STATE_UNUSABLE = "state-unusable"
    STATE_IN_DOUBT = "state-in-doubt"
    DISK = "disk"
    DISK_FULL = "disk-full"
    LITTLE_ROOM = "little-room"
    INOTIFY = "inotify"
    NO_DIRECTORY = "no-directory"
    DIRECTORY_UNREADABLE = "directory-unreadable"
    INOTIFY_USED_UP = "inotify-used-up"
    OUT_OF_TIME = "out-of-time"
    CHECK_BROKEN = "check-broken"


_STATUS_OF_STEP: Final[Mapping[Step, ExitStatus]] = {
    Step.BOOTSTRAP: ExitStatus.NOT_FOUND,
    Step.ADDRESS_BOOK: ExitStatus.NOT_FOUND,
    Step.PEERS: ExitStatus.NOT_FOUND,
    Step.TRUST: ExitStatus.REFUSED,
}
"""What the shell gets to know where something failed; everything else is this machine's fault."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found.

    Args:
        code: what it is.
        state: how bad.
        subject: what it is about: an interface, an address, a path, ``stable/x86_64``.
        text: what was seen, one line for a person. Peers chose parts of it.
        remedy: what to do about it, one line; None where nothing has to be done.
        check: the step in which it was found; the examination fills it in.
    """

    code: Code
    state: State
    subject: str
    text: str
    remedy: str | None = None
    check: Step = Step.ADDRESSES

    @property
    def exit_status(self) -> ExitStatus:
        """For the shell, where this is what failed."""
        return _STATUS_OF_STEP.get(self.check, ExitStatus.MACHINE)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return {
            "check": self.check,
            **{name: value for name, value in asdict(self).items() if name != "check"},
        }


def ok(code: Code, subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(code, State.OK, subject, text)


def warning(code: Code, subject: str, text: str, remedy: str | None = None) -> Finding:
    """It may be why nothing is found."""
    return Finding(code, State.WARNING, subject, text, remedy)


def failed(code: Code, subject: str, text: str, remedy: str | None = None) -> Finding:
    """It is in the way."""
    return Finding(code, State.FAILED, subject, text, remedy)


def skipped(code: Code, subject: str, text: str, remedy: str | None = None) -> Finding:
    """It was not found out, or there is nothing to find out."""
    return Finding(code, State.SKIPPED, subject, text, remedy)


class Unwell(P2PBootError):
    """Something failed; the exit status is that of the first finding which did.

    Args:
        report: the document.
        first: that finding.
        count: how many failed.
    """

    def __init__(self, report: Mapping[str, object], first: Finding, count: int) -> None:
        more = f" (and {count - 1} more)" if count > 1 else ""
        is_same = first.subject.replace(" ", "-") == first.check
        subject = first.check if is_same else f"{first.check}: {first.subject}"
        super().__init__(f"{subject}: {first.text}{more}", remedy=first.remedy, details=report)


class _UnwellMachine(Unwell, MachineError):
    exit_status: ClassVar[ExitStatus] = ExitStatus.MACHINE


class _UnwellNetwork(Unwell, NotFoundError):
    exit_status: ClassVar[ExitStatus] = ExitStatus.NOT_FOUND


_ERRORS: Final[Mapping[ExitStatus, type[Unwell]]] = {
    ExitStatus.MACHINE: _UnwellMachine,
    ExitStatus.NOT_FOUND: _UnwellNetwork,
}


def raise_if_unwell(report: Mapping[str, object], findings: Sequence[Finding]) -> None:
    """Raise `Unwell` where something failed."""
    bad = [finding for finding in findings if finding.state is State.FAILED]
    if bad:
        raise _ERRORS.get(bad[0].exit_status, Unwell)(report, bad[0], len(bad))


def report_of(
    findings: Sequence[Finding], *, by: str, peer_id: str, took_s: float, version: str
) -> dict[str, Any]:
    """The report as a JSON document of `FORMAT`.

    Args:
        findings: in the order in which they were made.
        by: who looked: "client" or "node".
        peer_id: its own.
        took_s: how long it took, seconds.
        version: of the program.
    """
    counts = Counter(finding.state for finding in findings)
    return {
        "ok": not counts[State.FAILED],
        "format": FORMAT,
        "version": version,
        "by": by,
        "peer_id": peer_id,
        "took_s": round(took_s, 1),
        "counts": {state.value: counts[state] for state in State},
        "findings": [finding.to_json() for finding in findings],
    }


def findings_of(report: Mapping[str, Any]) -> list[Finding]:
    """Read the findings of a report that another process of this version made."""
    return [
        Finding(
            Code(one["code"]),
            State(one["state"]),
            str(one["subject"]),
            str(one["text"]),
            one["remedy"],
            Step(one["check"]),
        )
        for one in report["findings"]
    ]
