"""Which pieces of an artifact are here, short enough for a document: runs, or how full each part is."""

from __future__ import annotations

import itertools
from typing import Any, Final

from p2pboot.core.pieces import PieceSet

MAX_RUNS: Final = 512


def run_lengths(held: PieceSet | None, pieces: int, *, is_whole: bool) -> dict[str, Any]:
    """Describe a set of pieces.

    Args:
        held: the set; None where it is not known which there are.
        pieces: how many there are, held or not.
        is_whole: whether all of them are here; counts where `held` is None.

    Returns:
        ``held``: lengths of runs, absent and held by turns, the first absent and perhaps 0, together `pieces`. Where
        these would be more than `MAX_RUNS`, it is None, and ``held_of`` has for each of `MAX_RUNS` equal parts how
        many percent of it are here, rounded down; otherwise ``held_of`` is None.
    """
    if held is None:
        return {"held": [0, pieces] if is_whole else [pieces], "held_of": None}
    runs: list[int] = []
    end = 0
    for run in held.runs():
        if len(runs) + 3 > MAX_RUNS:
            return {"held": None, "held_of": _shares(held)}
        runs += [run.start - end, len(run)]
        end = run.stop
    if end < pieces:
        runs.append(pieces - end)
    return {"held": runs, "held_of": None}


def _shares(held: PieceSet) -> list[int]:
    bounds = [held.count * number // MAX_RUNS for number in range(MAX_RUNS + 1)]
    parts = (range(start, stop) for start, stop in itertools.pairwise(bounds))
    return [100 * len(held.part(part)) // len(part) for part in parts]
