"""Numbers as paths of SVG: which pieces are here, and the bytes of the last minutes.

Coordinates are pieces and intervals, which the browser stretches; colours are the stylesheet's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.node.overview import CLASS_WORDS

HEIGHT: Final = 100  # of a graph, in its own units
INTERVALS: Final = 60  # that a graph is wide: five minutes
_SHADES: Final = 4  # of parts that are not wholly here


@dataclass(frozen=True, slots=True)
class Map:
    """Pieces in their order.

    Args:
        width: of the whole, in pieces or parts.
        shades: paths by how much of what they cover is here: from 1, a quarter or less, to 4, all of it.
    """

    width: int
    shades: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Graph:
    """Bytes by class, one upon the other.

    Args:
        layers: a path for each class with bytes.
        highest: what the height stands for, bytes per second.
        totals: bytes of each class in all intervals.
        latest: bytes per second of each class in the last interval.
    """

    layers: Mapping[str, str]
    highest: float
    totals: Mapping[str, int]
    latest: Mapping[str, float]


def piece_map(artifact: Mapping[str, Any]) -> Map:
    """The pieces of an artifact of `fetching`, as the status document has them."""
    runs, parts = artifact.get("held"), artifact.get("held_of")
    if runs is not None:
        ends = [0, *accumulate(runs)]
        held = "".join(map(_bar, ends[1::2], runs[1::2]))
        return Map(max(1, artifact["pieces"]), {_SHADES: held} if held else {})
    shades: dict[int, str] = {}
    for place, percent in enumerate(parts or ()):
        if percent:
            shade = max(1, percent * _SHADES // 100)
            shades[shade] = shades.get(shade, "") + _bar(place, 1)
    return Map(max(1, len(parts or ())), shades)


def _bar(start: int, width: int) -> str:
    return f"M{start} 0h{width}v1h-{width}z" if width else ""


def graph(flows: Mapping[str, Any], direction: str) -> Graph:
    """The flows of one direction ("received" or "sent"), the latest at the right."""
    sizes: dict[str, Sequence[int]] = {
        one: flows[direction][one] for one in CLASS_WORDS
    }  # from the bottom up
    count = max(map(len, sizes.values()), default=0)
    first = INTERVALS - count
    highest = max(map(sum, zip(*sizes.values(), strict=False)), default=0)
    below = [0.0] * count
    layers = {}
    for one, bars in sizes.items():
        path = ""
        for place, size in enumerate(bars):
            if size:
                height = HEIGHT * size / highest
                top = HEIGHT - below[place] - height
                path += f"M{first + place} {top:.2f}h1v{height:.2f}h-1z"
                below[place] += height
        if path:
            layers[one] = path
    interval_s = flows["interval_s"]
    return Graph(
        layers,
        highest / interval_s,
        {one: sum(bars) for one, bars in sizes.items()},
        {one: (bars[-1] if bars else 0) / interval_s for one, bars in sizes.items()},
    )
