"""The table of a siege."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from siege.attack import Attack
from siege.attacks import ATTACKS
from siege.campaign import Window, mean, typical
from siege.honest import Sample

COLUMNS = (
    "attack",
    "node MiB",
    "node CPU",
    "theirs",
    "machine ×",
    "fetch ×",
    "fetches",
    "HTTP ×",
    "HTTP served",
    "gossip s",
    "gossip came",
    "disk MiB",
)


def described(attacks: Iterable[type[Attack]]) -> str:
    """A table in Markdown of what attacks do, and what has to hold each."""
    rows = (f"| `{attack.name}` | {attack.what} | {attack.bound} |" for attack in attacks)
    return "\n".join(["| attack | what it does | against |", "|---|---|---|", *rows])


def render(windows: Sequence[Window]) -> str:
    """A table in Markdown; ratios are to the first window."""
    if not windows:
        return "nothing was measured"
    quiet = windows[0]
    rows = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1)), *(_row(one, quiet) for one in windows)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    base = ", ".join(
        f"{what} {_seconds(typical(samples))}"
        for what, samples in (("fetch", quiet.fetch), ("HTTP", quiet.http), ("gossip", quiet.gossip))
    )
    failures = sorted({f"{w.name}: {s.why}" for w in windows for s in (*w.fetch, *w.http) if s.why})
    counts = [f"{w.name}: {', '.join(f'{k} {v}' for k, v in w.counts.items())}" for w in windows if w.counts]
    return "\n".join([*lines, "", f"Quiet: {base}.", "", *failures, "", *counts])


def _row(window: Window, quiet: Window) -> tuple[str, ...]:
    return (
        f"`{window.name}`" if window.name in ATTACKS else window.name,
        f"{window.rss_before_mib:.0f} → {window.rss_mib:.0f}",
        f"{window.cpu:.2f}",
        f"{window.attackers_cpu:.2f}",
        _quotient(mean(window.machine), mean(quiet.machine)),
        _ratio(window.fetch, quiet.fetch),
        _served(window.fetch),
        _ratio(window.http, quiet.http),
        _served(window.http),
        _seconds(typical(window.gossip)),
        _served(window.gossip),
        f"{window.disk_mib:.0f}",
    )


def _ratio(samples: Sequence[Sample], quiet: Sequence[Sample]) -> str:
    return _quotient(typical(samples), typical(quiet))


def _quotient(now: float | None, then: float | None) -> str:
    return "–" if now is None or then is None else f"{now / then:.1f}"


def _served(samples: Sequence[Sample]) -> str:
    return f"{sum(sample.took_s is not None for sample in samples)}/{len(samples)}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
