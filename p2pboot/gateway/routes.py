"""Which path leads where. The paths are few, and have one form (`paths`): each is a regular expression."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from p2pboot.core.names import ARCH_ALIASES, ARCHS, NAME_PATTERN
from p2pboot.gateway.replies import Reply
from p2pboot.gateway.request import Request

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
