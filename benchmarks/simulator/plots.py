"""Pictures of runs, as SVG: who got what from whom, and how far all are compared with what is possible."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.simulator.scenario import Outcome

_WIDTH, _LEFT, _TOP, _ROW = 900, 70, 40, 44
_HOLDER = "#111111"


def waterfall(outcome: Outcome) -> str:
    """Draw a band for each client, in it a dot for each piece: when it came, which it is, and by its colour from whom.

    Args:
        outcome: of a run that was traced.
    """
    scenario = outcome.scenario
    until = max(time for time, *_ in outcome.trace)
    height = _TOP + _ROW * scenario.clients + 40
    paths: dict[int, list[str]] = {}
    for time, client, source, piece in outcome.trace:
        x = _LEFT + time / until * (_WIDTH - _LEFT - 20)
        y = _TOP + client * _ROW + (1 - piece / scenario.pieces) * (_ROW - 4)
        paths.setdefault(source, []).append(f"M{x:.1f} {y:.1f}h1.2")
    body = [
        f'<path d="{"".join(path)}" stroke="{_colour(source, scenario.clients)}" stroke-width="1.2"/>'
        for source, path in sorted(paths.items())
    ]
    for client in range(scenario.clients):
        y = _TOP + client * _ROW + _ROW / 2
        body.append(
            _text(_LEFT - 8, y, f"client {client}", anchor="end", fill=_colour(client, scenario.clients))
        )
    body.append(_text(_LEFT, height - 12, "0"))
    unit = _LEFT + scenario.unit_s / until * (_WIDTH - _LEFT - 20)
    body.append(f'<path d="M{unit:.1f} {_TOP}V{height - 28}" stroke="#c00" stroke-dasharray="4 3"/>')
    body.append(_text(unit, height - 12, "size / link", anchor="middle"))
    title = f"{scenario.name}: each piece when it came; black from the publisher, else in the colour of who gave it"
    return _svg(height, title, body)


def completion(outcomes: Sequence[Outcome]) -> str:
    """Draw how much of everything all honest clients have over time, each run in multiples of its own bound."""
    height, until = 460, max(1.5, *(min(outcome.of_bound, 2.5) for outcome in outcomes)) * 1.02
    wide, high = _WIDTH - _LEFT - 240, height - _TOP - 50
    body = []
    for tenth in range(0, 11, 2):
        y = _TOP + high * (1 - tenth / 10)
        body.append(f'<path d="M{_LEFT} {y:.1f}h{wide}" stroke="#ddd"/>')
        body.append(_text(_LEFT - 8, y + 4, f"{tenth * 10} %", anchor="end"))
    for quarter in range(int(until * 4) + 1):
        x = _LEFT + quarter / 4 / until * wide
        body.append(_text(x, height - 28, f"{quarter / 4:g}", anchor="middle"))
    bound = _LEFT + wide / until
    body.append(
        f'<path d="M{_LEFT} {_TOP + high}L{bound:.1f} {_TOP}" stroke="#c00" stroke-dasharray="4 3" fill="none"/>'
    )
    for number, outcome in enumerate(outcomes):
        colour = _colour(number, len(outcomes))
        points = [
            f"{_LEFT + time / outcome.scenario.bound_s / until * wide:.1f} {_TOP + high * (1 - share):.1f}"
            for time, share in outcome.done
            if time / outcome.scenario.bound_s <= until
        ]
        body.append(f'<path d="M{"L".join(points)}" stroke="{colour}" fill="none" stroke-width="1.5"/>')
        body.append(_text(_WIDTH - 235, _TOP + 10 + number * 16, outcome.scenario.name, fill=colour))
    body.append(_text(_WIDTH - 235, _TOP + 10 + len(outcomes) * 16, "the bound", fill="#c00"))
    return _svg(height, "What all clients have, over time in multiples of each run's bound", body)


def _colour(number: int, count: int) -> str:
    return _HOLDER if number >= count else f"hsl({number * 360 // count} 75% 42%)"


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = "#333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'


def _svg(height: float, title: str, body: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" font-family="sans-serif"'
            ' font-size="12">',
            f'<rect width="{_WIDTH}" height="{height:.0f}" fill="white"/>',
            _text(_LEFT, 22, title),
            *body,
            "</svg>\n",
        ]
    )
