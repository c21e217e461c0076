from xml.etree import ElementTree

import pytest

from benchmarks.drawing import Bar, Chart, Line, Mark, thinned, ticks

SVG = "{http://www.w3.org/2000/svg}"


def test_ticks_are_round_and_reach_the_most() -> None:
    assert ticks(0.9) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(8.97)[-1] == 10
    assert ticks(0) == [0]


def test_a_chart_of_lines_is_a_document_within_its_frame() -> None:
    chart = Chart(
        "A < B", "s", "images", lines=[Line([(0, 0), (2, 1)], label="all")], marks=[Mark(1, "bound")]
    )
    document = ElementTree.fromstring(chart.svg())
    width, height = float(document.get("width", 0)), float(document.get("height", 0))
    (line,) = document.iter(f"{SVG}polyline")
    points = [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
    assert points[0][0] < points[1][0] < width
    assert height > points[0][1] > points[1][1] > 0
    assert {text.text for text in document.iter(f"{SVG}text")} >= {"A < B", "s", "images", "all", "bound"}


def test_each_bar_lies_in_its_lane() -> None:
    chart = Chart("", "s", bars=[Bar("a", 0, 1, label="1.00"), Bar("b", 1, 3)], lanes=["a", "b"])
    _frame, first, second = ElementTree.fromstring(chart.svg()).iter(f"{SVG}rect")
    assert float(first.get("y", 0)) < float(second.get("y", 0))
    assert float(second.get("width", 0)) == pytest.approx(2 * float(first.get("width", 0)), abs=0.2)


def test_thinned_points_keep_the_last() -> None:
    points = [(float(x), 0.0) for x in range(1001)]
    assert len(thinned(points)) <= 202
    assert thinned(points)[-1] == (1000.0, 0.0)
    assert thinned([]) == []
