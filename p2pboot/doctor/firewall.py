"""Is a firewall likely to be in the way? By its rules, where they may be read, and by what became of packets."""

from __future__ import annotations

import os
from collections.abc import Sequence

from p2pboot.core.dataclass import dataclass
from p2pboot.doctor.dials import Dialled
from p2pboot.doctor.findings import Code, Finding, ok, skipped, warning
from p2pboot.doctor.patient import Patient
from p2pboot.doctor.ports import ports_of
from p2pboot.doctor.rules import Rules, managers, read_rules
from p2pboot.transport.interface import DialFailure

_SUBJECT = "firewall"
_MDNS = ("udp", 5353)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of this machine's firewall.

    Args:
        rules: its rules; None where they can not be read.
        why: they can not be.
        managers: programs that look after them.
    """

    rules: Rules | None
    why: str = ""
    managers: tuple[str, ...] = ()


def look_at_firewall() -> Seen:
    """Read what may be read; blocking."""
    if os.geteuid() != 0:
        return Seen(None, "only root may read them", tuple(managers()))
    return Seen(read_rules(), "neither nft nor iptables tells them", tuple(managers()))


def wanted_ports(patient: Patient) -> list[tuple[str, int]]:
    """What has to come in: a node's own ports, and multicast DNS."""
    found = [("tcp", port) for port in ports_of(patient)]
    return [*found, _MDNS] if patient.settings.network.mdns else found


def judge_firewall(
    seen: Seen, wanted: Sequence[tuple[str, int]], dialled: Sequence[Dialled]
) -> list[Finding]:
    """What a firewall may have to do with it.

    Args:
        seen: of this machine's.
        wanted: protocols and ports that have to come in.
        dialled: what became of the addresses that were dialled.
    """
    found = [_judge_rules(seen, wanted)]
    late = [one.address for one in dialled if one.failure is DialFailure.TIMEOUT]
    if late:
        refused = any(one.failure is DialFailure.REFUSED for one in dialled)
        text = f"nothing came back from {', '.join(late[:4])}"
        if refused:
            text += ", while others refuse at once: what is sent there is dropped, not refused"
        remedy = (
            "on the machine there let the TCP port in (`nft add rule inet filter input tcp dport PORT accept`,"
            " `firewall-cmd --add-port=PORT/tcp`, `ufw allow PORT/tcp`), and see that nothing on the way drops it"
        )
        found.append(warning(Code.FIREWALL_SUSPECTED, _SUBJECT, text, remedy))
    return found


def _judge_rules(seen: Seen, wanted: Sequence[tuple[str, int]]) -> Finding:
    manager = f"; {' and '.join(seen.managers)} looks after them" if seen.managers else ""
    if seen.rules is None:
        text = f"this machine's rules are not known: {seen.why}{manager}"
        shown = ", ".join(f"{port}/{protocol}" for protocol, port in wanted)
        remedy = f"if it has a firewall, see that it lets {shown} in" if shown else None
        return skipped(Code.FIREWALL_UNREAD, _SUBJECT, text, remedy)
    stopped = [(protocol, port) for protocol, port in wanted if seen.rules.stops(protocol, port)]
    if stopped:
        shown = ", ".join(f"{port}/{protocol}" for protocol, port in stopped)
        text = f"a rule drops what comes in to {shown}{manager}"
        if seen.rules.dropping:
            text = f"{seen.rules.dropping[0]} drops what no rule lets in, and none lets {shown} in{manager}"
        return warning(Code.FIREWALL_DROPS, _SUBJECT, text, _how_to_open(seen.managers, stopped))
    if seen.rules.stop_anything:
        return ok(
            Code.FIREWALL, _SUBJECT, f"its rules let in what has to come in, as far as they tell{manager}"
        )
    return ok(Code.FIREWALL, _SUBJECT, f"no rule of this machine drops what comes in{manager}")


def _how_to_open(programs: Sequence[str], stopped: Sequence[tuple[str, int]]) -> str:
    if "firewalld" in programs:
        return "firewall-cmd --permanent " + " ".join(f"--add-port={port}/{kind}" for kind, port in stopped)
    if "ufw" in programs:
        return "; ".join(f"ufw allow {port}/{kind}" for kind, port in stopped)
    return "have rules accept them: " + "; ".join(f"{kind} dport {port} accept" for kind, port in stopped)
