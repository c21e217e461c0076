"""A running node looks itself why nothing is found, when it is asked to on its control socket: one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from p2pboot.config.settings import NodeSettings
from p2pboot.core.names import normalise_arch
from p2pboot.doctor.limits import LONGEST_S, USUAL_S
from p2pboot.errors import P2PBootError, UsageError
from p2pboot.store.store import Store
from p2pboot.transport.interface import Transport


class Examining:
    """See above.

    Args:
        transport: the node's network.
        store: its state.
        wall: the machine's clock, unix seconds; called from any thread.
    """

    def __init__(self, transport: Transport, store: Store, wall: Callable[[], float]) -> None:
        self._transport = transport
        self._store = store
        self._wall = wall
        self._is_busy = False

    async def answer(self, settings: NodeSettings, message: dict[str, Any]) -> dict[str, Any]:
        """Make the checks that a request asks for.

        Args:
            settings: that are in force.
            message: with `timeout`, seconds for all checks, and `channel` and `arch`, if only these are meant.

        Returns:
            The document, as `report`.

        Raises:
            P2PBootError: an examination is under way, or the request makes no sense.
        """
        timeout_s = _seconds(message.get("timeout", USUAL_S))
        channel, arch = _word(message, "channel"), _arch(message)
        if self._is_busy:
            raise P2PBootError("this node is being examined already", remedy="try again in a minute")
        # Who never asks need not have these loaded.
        from p2pboot.doctor.examination import examine
        from p2pboot.doctor.patient import Patient
        from p2pboot.transport.interfaces import Interfaces

        self._is_busy = True
        try:
            patient = Patient(
                settings=settings,
                transport=self._transport,
                interfaces=Interfaces(),
                wall=self._wall,
                channel=channel,
                arch=arch,
                is_node=True,
                store=self._store,
            )
            _, report = await examine(patient, timeout_s)
        finally:
            self._is_busy = False
        return {"report": report}


def _seconds(said: object) -> float:
    if isinstance(said, bool) or not isinstance(said, (int, float)) or not 0 < said <= LONGEST_S:
        raise UsageError(f"timeout must be a number of seconds, at most {LONGEST_S:g}")
    return float(said)


def _word(message: dict[str, Any], name: str) -> str | None:
    said = message.get(name)
    if said is not None and not isinstance(said, str):
        raise UsageError(f"{name} must be text")
    return said


def _arch(message: dict[str, Any]) -> str | None:
    said = _word(message, "arch")
    try:
        return None if said is None else normalise_arch(said)
    except ValueError as error:
        raise UsageError(str(error)) from None
