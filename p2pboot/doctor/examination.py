"""Makes all checks in order, each in its time and all in a bounded one, and tells what each finds as it ends."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import trio

from p2pboot import __version__
from p2pboot.core.verdict import Verdict
from p2pboot.doctor.addresses import judge_addresses
from p2pboot.doctor.clock import ask_dates, gateways_of, judge_clock, remembered
from p2pboot.doctor.dials import Dialled, check_address_book, check_bootstrap
from p2pboot.doctor.disk import Disk, judge_room, judge_state, look_at_disk
from p2pboot.doctor.findings import Code, Finding, Step, failed, report_of, skipped
from p2pboot.doctor.firewall import judge_firewall, look_at_firewall, wanted_ports
from p2pboot.doctor.inotify import Watched, judge_watching, try_watching
from p2pboot.doctor.limits import USUAL_S
from p2pboot.doctor.multicast import check_multicast
from p2pboot.doctor.patient import Patient, in_thread
from p2pboot.doctor.peers import find_peers, judge_survey
from p2pboot.doctor.ports import check_ports
from p2pboot.doctor.trust import judge_all, judge_roots, judge_trust, policy_of
from p2pboot.errors import P2PBootError, first_error, machine_error
from p2pboot.fetch.asking.survey import Survey

log = logging.getLogger(__name__)

_LIMITS_S: Final = {
    Step.ADDRESSES: 3.0,
    Step.PORTS: 8.0,
    Step.STATE: 8.0,
    Step.INOTIFY: 5.0,
    Step.MULTICAST: 4.0,
    Step.BOOTSTRAP: 16.0,
    Step.ADDRESS_BOOK: 11.0,
    Step.PEERS: 12.0,
    Step.FIREWALL: 10.0,
    Step.TRUST: 8.0,
    Step.CLOCK: 8.0,
    Step.DISK: 3.0,
}
"""What each may take; longer only what hangs does."""

_WAITING: Final = frozenset({Step.MULTICAST, Step.BOOTSTRAP, Step.ADDRESS_BOOK, Step.PEERS})
"""Those that wait for others, and end in time by themselves."""

_KEPT: Final = 0.25
"""The part of all time that these leave for those that come after them."""

_CLOSING: Final = 0.9
"""The part of its time after which such a check says what it has."""

Tell = Callable[[Finding], None]


async def examine(
    patient: Patient, timeout_s: float, tell: Tell = lambda _finding: None
) -> tuple[list[Finding], dict[str, Any]]:
    """Make all checks; returns what they found, and that as a document.

    Args:
        patient: who is examined.
        timeout_s: seconds for all checks.
        tell: is given each finding as soon as its check has ended.
    """
    began = trio.current_time()
    findings = await Examination(patient, tell).run(timeout_s)
    report = report_of(
        findings,
        by="node" if patient.is_node else "client",
        peer_id=patient.transport.peer_id,
        took_s=trio.current_time() - began,
        version=__version__,
    )
    return findings, report


class Examination:
    """One examination.

    Args:
        patient: who is examined.
        tell: is given each finding as soon as its check has ended.
    """

    def __init__(self, patient: Patient, tell: Tell = lambda _finding: None) -> None:
        self._patient = patient
        self._tell = tell
        self._findings: list[Finding] = []
        self._dialled: list[Dialled] = []
        self._survey = Survey({}, {}, {}, {}, {})
        self._verdicts: list[Verdict] = []
        self._disk: Disk | None = None
        self._within_s = 0.0  # that the present check may wait for others
        self._steps: dict[Step, Callable[[], Awaitable[Sequence[Finding]]]] = {
            Step.ADDRESSES: self._addresses,
            Step.PORTS: self._ports,
            Step.STATE: self._state,
            Step.INOTIFY: self._inotify,
            Step.MULTICAST: self._multicast,
            Step.BOOTSTRAP: self._bootstrap,
            Step.ADDRESS_BOOK: self._address_book,
            Step.PEERS: self._peers,
            Step.FIREWALL: self._firewall,
            Step.TRUST: self._trust,
            Step.CLOCK: self._clock,
            Step.DISK: self._room,
        }

    async def run(self, timeout_s: float = USUAL_S) -> list[Finding]:
        """Make all checks; what there is no time left for is skipped.

        Args:
            timeout_s: seconds for all of them.

        Returns:
            All findings, in order.
        """
        end = trio.current_time() + timeout_s
        for step in Step:
            for finding in await self._make(step, end - _KEPT * timeout_s * (step in _WAITING)):
                placed = replace(finding, check=step)
                self._findings.append(placed)
                self._tell(placed)
        return self._findings

    async def _make(self, step: Step, end: float) -> Sequence[Finding]:
        """One check. Whatever goes wrong in it, the others are made."""
        began = trio.current_time()
        limit_s = min(_LIMITS_S[step], end - began)
        if limit_s <= 0:
            text = "there was no time left for it"
            return [skipped(Code.OUT_OF_TIME, step.value, text, "give it more time: --timeout")]
        self._within_s = _CLOSING * limit_s
        found: Sequence[Finding] = ()
        try:
            with trio.move_on_after(limit_s) as scope:
                found = await self._steps[step]()
        except Exception as error:
            return [_broken(step, error)]
        if scope.cancelled_caught:
            text = f"it did not end within {limit_s:.2g} s"
            remedy = "look what hangs, or give it more time: --timeout"
            return [failed(Code.OUT_OF_TIME, step.value, text, remedy)]
        return found

    async def _addresses(self) -> Sequence[Finding]:
        return judge_addresses(await in_thread(self._patient.interfaces.listing))

    async def _ports(self) -> Sequence[Finding]:
        return await check_ports(self._patient)

    async def _state(self) -> Sequence[Finding]:
        self._disk = await in_thread(look_at_disk, self._patient)
        return judge_state(self._disk, self._patient.running)

    async def _inotify(self) -> Sequence[Finding]:
        directory = self._patient.settings.provider.directory
        return judge_watching(directory, None if directory is None else await in_thread(_watch, directory))

    async def _multicast(self) -> Sequence[Finding]:
        return await check_multicast(self._patient, self._within_s)

    async def _bootstrap(self) -> Sequence[Finding]:
        dialled, found = await check_bootstrap(self._patient, self._within_s)
        self._dialled += dialled
        return found

    async def _address_book(self) -> Sequence[Finding]:
        dialled, found = await check_address_book(self._patient, self._within_s)
        self._dialled += dialled
        return found

    async def _peers(self) -> Sequence[Finding]:
        self._survey = await find_peers(self._patient, self._within_s)
        connected = len(self._patient.transport.peers())
        return judge_survey(self._survey, self._patient, connected=connected)

    async def _firewall(self) -> Sequence[Finding]:
        seen = await in_thread(look_at_firewall)
        return judge_firewall(seen, wanted_ports(self._patient), self._dialled)

    async def _trust(self) -> Sequence[Finding]:
        is_given = not self._patient.settings.trusts_nobody
        if is_given:
            self._verdicts = await in_thread(judge_all, self._patient, self._survey)
        return [*judge_roots(self._survey), *judge_trust(self._verdicts, is_given=is_given)]

    async def _clock(self) -> Sequence[Finding]:
        patient, policy = self._patient, policy_of(self._patient, self._survey)
        try:
            clock = await in_thread(remembered, patient)
        except P2PBootError as error:  # the check of the state says so, too
            return [skipped(Code.CLOCK_UNCHECKED, "clock", error.message, error.remedy)]
        gateways = gateways_of(self._survey, policy, patient.transport.connections())
        said = await ask_dates(gateways, patient.wall)
        return judge_clock(clock, patient.wall(), said, self._survey.manifests, policy)

    async def _room(self) -> Sequence[Finding]:
        taken = [one.manifest for one in self._verdicts if one.ok and one.manifest is not None]
        return judge_room(self._disk, taken)


def _broken(step: Step, error: Exception) -> Finding:
    """What to say of a check that could not be made."""
    root = first_error(error) if isinstance(error, ExceptionGroup) else error
    if isinstance(root, OSError):
        root = machine_error(root, f"check {step.value}")
    if isinstance(root, P2PBootError):
        return failed(Code.CHECK_BROKEN, step.value, root.message, root.remedy)
    log.debug("the check of %s failed", step.value, exc_info=error)
    text = f"internal error: {type(root).__name__}: {root}"[:500]
    return failed(Code.CHECK_BROKEN, step.value, text, "please report it")


def _watch(directory: Path) -> Watched | OSError:
    try:
        return try_watching(directory)
    except OSError as error:
        return error
