"""Who is examined in tests, and what is said of him in short."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from p2pboot.config.settings import NodeSettings, with_values
from p2pboot.doctor.findings import Code, Finding, State
from p2pboot.doctor.patient import Patient
from p2pboot.testing.manifests import NOW
from p2pboot.transport.interface import Transport
from p2pboot.transport.interfaces import Interfaces, Listing, OwnAddress, Reach


def own(ip: str, reach: Reach = Reach.ROUTED, interface: str = "eth0", index: int = 2) -> OwnAddress:
    return OwnAddress(ipaddress.ip_address(ip), interface, index, reach)


LOOPBACK = own("127.0.0.1", Reach.LOOPBACK, "lo", 1)
LISTING = Listing((own("192.0.2.7"), LOOPBACK))


def patient(
    transport: Transport,
    *,
    state: Path | None = None,
    listing: Callable[[], Listing] = lambda: LISTING,
    said: dict[str, object] | None = None,
    **attributes: Any,
) -> Patient:
    """One that is told nothing but what is said here; its state directory is one that is not there."""
    quiet = {"network.mdns": False, "store.state": state or Path("/nonexistent/state")}
    trusted = NodeSettings(trust=attributes.pop("trust", ()), roots=attributes.pop("roots", ()))
    settings = with_values(trusted, {**quiet, **(said or {})})
    usual: dict[str, Any] = {"wall": lambda: NOW, "interfaces": Interfaces(listing)}
    return Patient(settings=settings, transport=transport, **{**usual, **attributes})


def short(findings: Sequence[Finding]) -> list[tuple[Code, State]]:
    return [(finding.code, finding.state) for finding in findings]
