"""Pictures of storms: what came to each client over time, and when each was done, beside the bound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path

from benchmarks.drawing import INK, Bar, Chart, Line, Mark, colour, thinned
from benchmarks.storm.running import Outcome

_SIZES = "times of size/link"


def draw(outcomes: Sequence[Outcome], directory: Path) -> None:
    """Write one pair of pictures for each run, and one of all last clients."""
    directory.mkdir(parents=True, exist_ok=True)
    for outcome in outcomes:
        name = f"{outcome.row.name}-{outcome.contestant.partition(' ')[0]}"
        (directory / f"{name}.svg").write_text(waterfall(outcome).svg())
        (directory / f"{name}-done.svg").write_text(completion(outcome).svg())
    (directory / "last.svg").write_text(lasts(outcomes).svg())


def waterfall(outcome: Outcome) -> Chart:
    """What came over each client's cable, and what left the first holder, in images over time."""
    unit_s, size = outcome.row.unit_s, outcome.row.size
    lines = [
        Line(
            thinned((look.at_s / unit_s, look.of(client.number).received / size) for look in outcome.looks),
            colour(place),
        )
        for place, client in enumerate(outcome.clients)
    ]
    sent = thinned((look.at_s / unit_s, look.of(1).sent / size) for look in outcome.looks)
    return Chart(
        f"{_title(outcome)}: bytes that came to each client, and that left",
        f"{_SIZES}, from the first command",
        "images",
        lines=[*lines, Line(sent, INK, "left the first holder", wide=True)],
        marks=[Mark(outcome.row.bound, "bound"), *_goal(outcome)],
    )


def completion(outcome: Outcome) -> Chart:
    """From when to when each client ran."""
    unit_s = outcome.row.unit_s
    lanes = [f"client {place}" for place, _ in enumerate(outcome.clients, 1)]
    bars, marks = [], []
    for place, (lane, client) in enumerate(zip(lanes, outcome.clients, strict=True)):
        begin = client.began_s / unit_s
        marks.append(Mark(begin + outcome.row.bound, lane=lane))
        if client.done_s is not None:
            label = f"{client.took_s / unit_s:.2f}"
            bars.append(Bar(lane, begin, client.done_s / unit_s, colour(place), label))
    return Chart(
        f"{_title(outcome)}: from each command to its files, and the bound",
        _SIZES,
        bars=bars,
        marks=marks,
        lanes=lanes,
    )


def lasts(outcomes: Sequence[Outcome]) -> Chart:
    """The last client of each run, beside bound and goal."""
    lanes = [_title(outcome) for outcome in outcomes]
    contestants = list(dict.fromkeys(outcome.contestant for outcome in outcomes))
    bars = [
        Bar(lane, 0.0, outcome.last, colour(contestants.index(outcome.contestant)), f"{outcome.last:.2f}")
        for lane, outcome in zip(lanes, outcomes, strict=True)
        if isfinite(outcome.last)
    ]
    marks = [Mark(outcome.row.bound, lane=lane) for lane, outcome in zip(lanes, outcomes, strict=True)]
    return Chart("The last client, and the bound", _SIZES, bars=bars, marks=marks, lanes=lanes)


def _title(outcome: Outcome) -> str:
    return f"{outcome.row.name}, {outcome.contestant.partition(' ')[0]}"


def _goal(outcome: Outcome) -> Iterator[Mark]:
    if outcome.contestant == "p2pboot" and (last := outcome.row.goals.last) is not None:
        yield Mark(last, "goal")
