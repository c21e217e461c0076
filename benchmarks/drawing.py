"""Charts as SVG: lines, bars and marks over two axes. Enough for what the benchmarks show, and nothing to install."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from math import ceil, floor, log10
from typing import Final

_WIDTH: Final = 760
_LEFT, _RIGHT, _TOP, _BOTTOM = 150, 20, 34, 46
_TICKS: Final = 6
# Told apart by those who see no red or green as well (Okabe, Ito).
COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999900", "#666666")
INK: Final = "#222222"
_GREY: Final = "#dddddd"

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """Points that are joined.

    Args:
        points: by x.
        colour: of it.
        label: beside its end; empty for none.
        wide: whether it stands out.
    """

    points: Sequence[Point]
    colour: str = INK
    label: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Bar:
    """A bar along x in the lane of its name."""

    lane: str
    begin: float
    end: float
    colour: str = COLOURS[0]
    label: str = ""


@dataclass(frozen=True)
class Mark:
    """A value of x that is pointed out: over the whole height, or in one lane."""

    x: float
    label: str = ""
    lane: str = ""


@dataclass(frozen=True)
class Chart:
    """One picture; with lanes it has names at its left side instead of a scale.

    Args:
        title: above it.
        x_label: below it.
        y_label: of the scale.
        lines: drawn in order.
        bars: of the lanes.
        marks: drawn last.
        lanes: names from top to bottom.
    """

    title: str
    x_label: str
    y_label: str = ""
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    marks: Sequence[Mark] = ()
    lanes: Sequence[str] = field(default=())

    def svg(self) -> str:
        """The picture as a document."""
        return "\n".join(_Drawn(self).parts()) + "\n"


def ticks(most: float, count: int = _TICKS) -> list[float]:
    """Round values from 0 to about `most`, at most `count` steps."""
    if most <= 0:
        return [0.0]
    rough = most / count
    size = 10.0 ** floor(log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * (1 - 1e-9))
    return [step * number for number in range(ceil(most / step - 1e-9) + 1)]


class _Drawn:
    def __init__(self, chart: Chart) -> None:
        self._chart = chart
        self._height = 18 * len(chart.lanes) if chart.lanes else 300
        xs = [point[0] for line in chart.lines for point in line.points]
        xs += [bar.end for bar in chart.bars] + [mark.x for mark in chart.marks]
        self._x_ticks = ticks(max(xs, default=1.0))
        self._y_ticks = ticks(max((y for line in chart.lines for _, y in line.points), default=1.0))

    def parts(self) -> Iterator[str]:
        chart, height = self._chart, self._height + _TOP + _BOTTOM
        style = 'font-family="sans-serif" font-size="11"'
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            f'width="{_WIDTH}" height="{height}" {style}>'
        )
        yield f'<rect width="{_WIDTH}" height="{height}" fill="white"/>'
        yield self._text(_LEFT, 20, chart.title, size=14)
        yield from self._axes()
        yield from (self._bar(bar) for bar in chart.bars)
        yield from (self._line(line) for line in chart.lines)
        for mark in chart.marks:
            yield from self._mark(mark)
        for bar in chart.bars:
            if bar.label:
                yield self._text(self._x(bar.end) + 4, self._lane(bar.lane) + 13, bar.label)
        yield "</svg>"

    def _axes(self) -> Iterator[str]:
        bottom = _TOP + self._height
        for x in self._x_ticks:
            yield self._stroke((self._x(x), _TOP), (self._x(x), bottom), _GREY)
            yield self._text(self._x(x), bottom + 15, f"{x:g}", anchor="middle")
        yield self._text((_LEFT + _WIDTH - _RIGHT) / 2, bottom + 34, self._chart.x_label, anchor="middle")
        for lane in self._chart.lanes:
            yield self._text(_LEFT - 6, self._lane(lane) + 13, lane, anchor="end")
        if not self._chart.lanes:
            for y in self._y_ticks:
                yield self._stroke((_LEFT, self._y(y)), (_WIDTH - _RIGHT, self._y(y)), _GREY)
                yield self._text(_LEFT - 6, self._y(y) + 4, f"{y:g}", anchor="end")
            yield self._text(_LEFT - 40, _TOP + 4, self._chart.y_label, anchor="end")

    def _line(self, line: Line) -> str:
        points = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in line.points)
        width = 2.5 if line.wide else 1.2
        drawn = f'<polyline points="{points}" fill="none" stroke="{line.colour}" stroke-width="{width}"/>'
        if line.label and line.points:
            x, y = line.points[-1]
            drawn += self._text(self._x(x) - 4, self._y(y) - 4, line.label, anchor="end", colour=line.colour)
        return drawn

    def _bar(self, bar: Bar) -> str:
        x, top = self._x(bar.begin), self._lane(bar.lane) + 3
        width = max(0.5, self._x(bar.end) - x)
        return f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="12" fill="{bar.colour}"/>'

    def _mark(self, mark: Mark) -> Iterator[str]:
        top = self._lane(mark.lane) if mark.lane else _TOP
        bottom = top + 18 if mark.lane else _TOP + self._height
        x = self._x(mark.x)
        yield self._stroke((x, top), (x, bottom), INK, dashed=not mark.lane)
        if mark.label:
            yield self._text(x + 3, top - 3, mark.label)

    def _x(self, value: float) -> float:
        return _LEFT + value / (self._x_ticks[-1] or 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        return _TOP + self._height * (1 - value / (self._y_ticks[-1] or 1.0))

    def _lane(self, name: str) -> float:
        return _TOP + 18 * self._chart.lanes.index(name)

    @staticmethod
    def _stroke(begin: Point, end: Point, colour: str, *, dashed: bool = False) -> str:
        dashes = ' stroke-dasharray="4 3"' if dashed else ""
        return (
            f'<line x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" '
            f'stroke="{colour}"{dashes}/>'
        )

    @staticmethod
    def _text(
        x: float, y: float, text: str, *, anchor: str = "start", size: int = 11, colour: str = INK
    ) -> str:
        return (
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">'
            f"{escape(text)}</text>"
        )


def colour(number: int) -> str:
    """The colour of so manieth line; after the last they begin again."""
    return COLOURS[number % len(COLOURS)]


def thinned(points: Iterable[Point], most: int = 200) -> list[Point]:
    """At most about so many of the points, the last among them."""
    every = list(points)
    step = max(1, len(every) // most)
    return [*every[:-1:step], *every[-1:]]
