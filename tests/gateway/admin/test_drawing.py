from __future__ import annotations

import re
from typing import Any

import pytest

from p2pboot.gateway.admin.drawing import HEIGHT, INTERVALS, graph, piece_map
from p2pboot.node.overview import CLASS_WORDS


def covered(path: str) -> list[int]:
    """The whole pieces that a path covers."""
    bars = re.findall(r"M(\d+) 0h(\d+)v1h-(\d+)z", path)
    assert "".join(f"M{start} 0h{width}v1h-{back}z" for start, width, back in bars) == path
    return [piece for start, width, _ in bars for piece in range(int(start), int(start) + int(width))]


@pytest.mark.parametrize(
    ("runs", "pieces", "held"),
    [
        ([4], 4, []),
        ([0, 4], 4, [0, 1, 2, 3]),
        ([1, 2, 1], 4, [1, 2]),
        ([0, 1, 2, 1], 4, [0, 3]),
        ([0, 1, 1, 1, 1], 4, [0, 2]),
        ([0], 0, []),
    ],
)
def test_runs_become_bars(runs: list[int], pieces: int, held: list[int]) -> None:
    drawn = piece_map({"pieces": pieces, "held": runs, "held_of": None})
    assert drawn.width == max(1, pieces)
    assert covered(drawn.shades.get(4, "")) == held


def test_parts_become_shades() -> None:
    drawn = piece_map({"pieces": 65536, "held": None, "held_of": [0, 1, 25, 50, 75, 99, 100]})
    assert drawn.width == 7
    assert {shade: covered(path) for shade, path in drawn.shades.items()} == {
        1: [1, 2],
        2: [3],
        3: [4, 5],
        4: [6],
    }


def flows(**bars: list[int]) -> dict[str, Any]:
    count = max(map(len, bars.values()))
    return {"interval_s": 5, "received": {one: bars.get(one, [0] * count) for one in CLASS_WORDS}}


def test_layers_lie_upon_each_other_and_end_at_the_right() -> None:
    drawn = graph(flows(lan=[0, 50], http=[100, 50]), "received")
    assert drawn.highest == 20
    assert drawn.totals == {"lan": 50, "mesh": 0, "publisher": 0, "http": 150}
    assert drawn.latest == {"lan": 10, "mesh": 0, "publisher": 0, "http": 10}
    half, last = HEIGHT / 2, INTERVALS - 1
    assert drawn.layers == {
        "lan": f"M{last} {half:.2f}h1v{half:.2f}h-1z",
        "http": f"M{last - 1} 0.00h1v{HEIGHT:.2f}h-1zM{last} 0.00h1v{half:.2f}h-1z",
    }


@pytest.mark.parametrize("bars", [[], [0, 0]])
def test_nothing_is_drawn_of_nothing(bars: list[int]) -> None:
    drawn = graph(flows(lan=bars, mesh=bars, publisher=bars, http=bars), "received")
    assert (drawn.layers, drawn.highest) == ({}, 0)
