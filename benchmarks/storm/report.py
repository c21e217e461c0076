"""What runs came to, for people: one line each, a table, and the goals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

from benchmarks.results import MIB, Goal, Table
from benchmarks.storm.running import Outcome

_COLUMNS = (
    *("", "Mbit/s", "MiB", "bound", "last", "mean", "transfer", "start s", "copies", "egress", "waste %"),
    *("CPU s", "busy %", "own %", "peak MiB", "into racks", "named", "wrong"),
)
_FAR_TOO_MANY = 3.0  # where eight clients that know nothing of each other take eight


def table(outcomes: Sequence[Outcome]) -> Table:
    notes = (
        "last, mean, bound: times of size/link, from the start of each client's command; transfer: the longest, alone;",
        "start: seconds besides it; copies: piece bytes that whole holders sent, by their counters; egress: bytes on",
        "their interfaces; waste: second copies and wrong bytes; CPU: of all processes from start to end; busy: of all",
        "cores, by anything; own: by these processes; named: by how many clients, each poisoner.",
    )
    return Table("Storms", _COLUMNS, [_cells(each) for each in outcomes], notes)


def line(outcome: Outcome) -> str:
    """One run in a line."""
    return "  ".join(
        f"{name} {cell}" if name else cell
        for name, cell in zip(_COLUMNS, _cells(outcome), strict=True)
        if cell
    )


def _cells(outcome: Outcome) -> tuple[str, ...]:
    row = outcome.row
    return (
        f"{row.name}, {row.clients} x {outcome.contestant}",
        f"{row.mbit:g}" + (f"/{row.up_mbit:g}" if row.up_mbit else ""),
        str(row.size_mib),
        f"{row.bound:.2f}",
        _times(outcome.last),
        _times(outcome.mean),
        _maybe(outcome.transfer, 2),
        _maybe(outcome.start_s, 1),
        _maybe(outcome.copies, 2),
        f"{outcome.egress:.2f}",
        _maybe(outcome.wasted, 1, 100),
        f"{outcome.cpu_s:.0f}",
        f"{outcome.busy * 100:.0f}",
        f"{outcome.own * 100:.0f}",
        f"{outcome.holder_peak_bytes / MIB:.0f}",
        ", ".join(f"{each:.2f}" for each in outcome.into_racks),
        ", ".join(f"{count} of {row.clients}" for count in outcome.named.values()),
        ", ".join(map(str, outcome.wrong)),
    )


def goals(outcome: Outcome) -> Iterator[Goal]:
    """What p2pboot was to reach, and did or did not."""
    if outcome.contestant != "p2pboot":
        return
    row, wanted = outcome.row, outcome.row.goals
    yield Goal.at_most(f"{row.name}: clients without the image", 0, len(outcome.wrong))
    if outcome.poisoners:
        unnamed = sum(peer not in outcome.named for peer in outcome.poisoners)
        yield Goal.at_most(f"{row.name}: poisoners that nobody named", 0, unnamed)
        yield Goal.at_most(f"{row.name}: others that were named", 0, len(_innocent(outcome)))
    if wanted.last is not None:
        yield Goal.at_most(f"{row.name}: last client", wanted.last, outcome.last)
    if wanted.mean is not None:
        yield Goal.at_most(f"{row.name}: mean", wanted.mean, outcome.mean)
    if wanted.copies is not None and outcome.copies is not None:
        yield Goal.at_most(f"{row.name}: copies", wanted.copies, outcome.copies)
    if wanted.into_rack is not None:
        yield Goal.at_most(f"{row.name}: copies into a rack", wanted.into_rack, max(outcome.into_racks))


def _innocent(outcome: Outcome) -> set[str]:
    """Who was named and gave nothing wrong."""
    return outcome.named.keys() - set(outcome.poisoners)


def failures(outcome: Outcome) -> Iterator[str]:
    """What may not be on any machine, however busy."""
    if outcome.wrong:
        yield f"{outcome.row.name}: clients {', '.join(map(str, outcome.wrong))} did not get the image"
    if innocent := _innocent(outcome):
        yield f"{outcome.row.name}: {', '.join(sorted(innocent))} named as poisoners, which they are not"
    if outcome.contestant == "p2pboot" and outcome.copies is not None and outcome.copies > _FAR_TOO_MANY:
        yield f"{outcome.row.name}: {outcome.copies:.1f} copies left the holders"


def _maybe(value: float | None, digits: int, factor: int = 1) -> str:
    return "" if value is None else f"{value * factor:.{digits}f}"


def _times(value: float) -> str:
    return f"{value:.2f}" if isfinite(value) else "never"
