"""Which path leads where. The paths are few, and have one form (`paths`): each is a regular expression."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from p2pboot.core.events import Event
from p2pboot.core.names import ARCH_ALIASES, ARCHS, NAME_PATTERN
from p2pboot.errors import MachineError, P2PBootError, StoreError
from p2pboot.gateway.counters import GatewayCounters
from p2pboot.gateway.replies import Reply, refusal
from p2pboot.gateway.request import Request

log = logging.getLogger(__name__)

Parts = Mapping[str, str]
"""What a path names, by the groups of its route's pattern."""
Endpoint = Callable[[Request, Parts], Awaitable[Reply]]

_ARCH: Final = "|".join(map(re.escape, (*ARCHS, *ARCH_ALIASES)))
_TREE_SEGMENT: Final = "[A-Za-z0-9_][A-Za-z0-9._+,@-]*"  # `paths` bounds its length

PAIR: Final = rf"/(?P<channel>{NAME_PATTERN.pattern})/(?P<arch>(?i:{_ARCH}))"
NAME: Final = rf"/(?P<name>{NAME_PATTERN.pattern})"
SHORT_NAME: Final = "/(?P<name>kernel|initramfs|rootfs|uki)"
TREE: Final = rf"/dtbs/(?P<tree>{_TREE_SEGMENT}(?:/{_TREE_SEGMENT}){{0,7}})"
SHA256: Final = "(?P<sha256>[0-9a-f]{64})"


class Route(NamedTuple):
    """One path, or several of one form.

    Args:
        kind: what the counters call it.
        pattern: of whole paths.
        endpoint: answers.
    """

    kind: str
    pattern: re.Pattern[str]
    endpoint: Endpoint


def route(kind: str, pattern: str, endpoint: Endpoint) -> Route:
    """A route, by the text of its pattern."""
    return Route(kind, re.compile(pattern), endpoint)


def find(routes: Sequence[Route], path: str) -> tuple[Route, Parts] | None:
    """The first route that a path matches, and what it names; None if it leads nowhere."""
    for one in routes:
        match = one.pattern.fullmatch(path)
        if match is not None:
            return one, match.groupdict()
    return None


async def answer_by(
    found: tuple[Route, Parts], request: Request, counters: GatewayCounters, *, whose: str, tells_why: bool
) -> Reply:
    """Have a route's endpoint answer; raises nothing, as one request must not end the node.

    Args:
        found: the route, and what the path names.
        request: that is answered.
        counters: told of faults of ours.
        whose: fault that is, for people: "the gateway".
        tells_why: whether who asks may know what is wrong with the store.
    """
    chosen, parts = found
    try:
        reply = await chosen.endpoint(request, parts)
    except P2PBootError as error:
        log.warning(
            "%s: %s",
            request.path,
            error,
            extra=Event.HTTP_FAILED(path=request.path, address=request.ends.client),
        )
        status = 503 if isinstance(error, StoreError | MachineError) else 500
        why = f": {error.message}" if tells_why else ""
        reply = refusal(status, f"not available at the moment{why}")
    except Exception:
        log.exception(
            "%s: a fault of %s",
            request.path,
            whose,
            extra=Event.HTTP_FAILED(path=request.path, address=request.ends.client),
        )
        counters.failures += 1
        reply = refusal(500, f"a fault of {whose}{'; the log of the node has it' if tells_why else ''}")
    return replace(reply, kind=chosen.kind)
