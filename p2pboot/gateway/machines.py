"""What a machine that asks for its boot script calls itself, and which manifest a roll-out gives it for that.

``?machine=`` is believed as it comes. It is for this one answer: nothing here or behind may log it, keep it or count by
it, and no cache may keep the answer.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

from p2pboot.core.freshness import paused_since
from p2pboot.core.names import next_channel
from p2pboot.core.rollouts import MAX_MACHINE_CHARS, Machine, decide, is_nobodys, machine_name
from p2pboot.gateway.backend import Backend
from p2pboot.gateway.offers import Offer, Offers
from p2pboot.gateway.replies import Reply, refusal

_MEMBER: Final = "machine"
_MEMBERS: Final = 16  # of one query; what boots has one


def asked_machine(query: str) -> Machine | Reply | None:
    """Who a machine says it is.

    Args:
        query: of the request, without the question mark; "" for none.

    Returns:
        None where nothing is said; a machine without a name where that is empty, or all 0 or f: firmware's word for not
        knowing. A refusal of what can not be a name.
    """
    try:
        said = parse_qs(query, keep_blank_values=True, max_num_fields=_MEMBERS).get(_MEMBER, [])
        if not any(said):
            return Machine(None) if said else None
        (text,) = said
        name = machine_name(text)
    except ValueError:  # its text is not repeated
        return refusal(
            400, f"machine is one name of at most {MAX_MACHINE_CHARS} letters, digits, colons, dots, dashes"
        )
    return Machine(None if is_nobodys(name) else name, "the name that it gave")


class RollOutOffers:
    """Chooses for a machine; blocks on the database, any thread.

    Args:
        node: whose manifests they are.
        offers: those.
    """

    def __init__(self, node: Backend, offers: Offers) -> None:
        self._node = node
        self._offers = offers

    def of(self, offer: Offer, machine: Machine) -> Offer:
        """What a machine gets that asks for what is offered of a channel: that, or what is rolled out into it."""
        into, catalogue = offer.manifest, self._node.catalogue
        channel = next_channel(into.channel)
        rolled_out = None if channel is None else self._offers.current(channel, into.arch)
        if rolled_out is None:
            return offer
        statement = catalogue.statement(rolled_out.manifest.channel, into.arch)
        decision = decide(
            into,
            rolled_out.manifest,
            machine,
            now=catalogue.clock().now,
            paused_since=paused_since(statement),
        )
        return rolled_out if decision.takes_next else offer
