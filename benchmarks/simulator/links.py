"""Links that are shared fairly: how fast everything goes that is on its way at a moment.

Rates are max-min fair, as those of long TCP connections are about: nobody's can grow without that of somebody slower.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any


class Flow:
    """What one node sends another: messages one after the other.

    Args:
        links: whose capacity it takes, as `Links` numbers them.
        owner: what the caller knows it by.
    """

    __slots__ = ("left", "links", "mark", "owner", "rate")

    def __init__(self, links: tuple[int, ...], owner: Any) -> None:
        self.links = links
        self.owner = owner
        self.rate = 0.0
        """Bytes per second, as of the last `share`."""
        self.left = 0.0
        """Bytes of the message that is being sent; negative where more could have been."""
        self.mark = 0


class Links:
    """All links of a network; each is used by some flows.

    Args:
        capacities: bytes per second.
    """

    def __init__(self, capacities: list[float]) -> None:
        self.capacities = capacities
        self._members: list[dict[Flow, None]] = [{} for _ in capacities]
        self.active: dict[Flow, None] = {}
        """Flows that send something, in the order in which they began: a run must not depend on addresses."""
        self._round = 0

    def start(self, flow: Flow) -> None:
        """A flow sends from now on."""
        self.active[flow] = None
        for link in flow.links:
            self._members[link][flow] = None

    def stop(self, flow: Flow) -> None:
        """A flow sends nothing any more."""
        del self.active[flow]
        flow.rate = 0.0
        for link in flow.links:
            del self._members[link][flow]

    def share(self) -> None:
        """Give every active flow its rate, filling link after link, the scarcest first."""
        self._round += 1
        now = self._round
        left = self.capacities.copy()
        count = [len(members) for members in self._members]
        heap = [(left[link] / flows, link) for link, flows in enumerate(count) if flows]
        heapify(heap)
        while heap:
            key, link = heappop(heap)
            if not count[link]:
                continue
            rate = left[link] / count[link]
            if (
                rate > key * 1.000001
            ):  # flows that go elsewhere as well are slower, so there is more for the others
                heappush(heap, (rate, link))
                continue
            for flow in self._members[link]:
                if flow.mark != now:
                    flow.mark = now
                    flow.rate = rate
                    for other in flow.links:
                        left[other] -= rate
                        count[other] -= 1
