"""What the forms of progress look like, as text: in a log, on terminals wide and narrow, on one that goes away."""

from __future__ import annotations

import errno
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pboot.cli.fetch import bytes_text
from p2pboot.cli.progress import BarProgress, PlainProgress, open_progress
from p2pboot.core.headway import Source
from p2pboot.fetch.ledger import Ledger
from p2pboot.fetch.progress import NoProgress, Progress
from p2pboot.fetch.result import FetchedFile
from tests.cli.conftest import Cli

MB = 1_000_000


TurnOn = Callable[..., "Screen"]


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    """A terminal, as far as anybody can tell."""

    def isatty(self) -> bool:
        return True


class GoneScreen(Screen):
    """One that was closed."""

    def write(self, _text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def flush(self) -> None:
        raise OSError(errno.EIO, "Input/output error")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turn_on(monkeypatch: pytest.MonkeyPatch) -> TurnOn:
    """Has standard error be a terminal; to be called in the test, for pytest sets its own between fixture and test."""

    def turn_on(kind: type[Screen] = Screen, **environment: str) -> Screen:
        monkeypatch.delenv("NO_COLOR", raising=False)
        for name, value in {"TERM": "xterm-256color", **environment}.items():
            monkeypatch.setenv(name, value)
        screen = kind()
        monkeypatch.setattr(sys, "stderr", screen)
        return screen

    return turn_on


def transfer(progress: Progress, clock: Clock, seconds: int) -> None:
    """A file of 100 MB, of which 40 are here; 1 MB/s comes."""
    progress.plan({"kernel": 100 * MB})
    progress.artifact("kernel", 40 * MB, 100 * MB)
    for second in range(1, seconds + 1):
        clock.now += 1
        progress.arrived("A", "lan", MB)
        progress.artifact("kernel", (40 + second) * MB, 100 * MB)
        progress.pulse(0.0, 2)


def wait(progress: Progress, clock: Clock, seconds: int, peers: Callable[[int], int]) -> None:
    for second in range(1, seconds + 1):
        clock.now += 1
        progress.pulse(float(second), peers(second))


def test_a_log_gets_a_line_every_few_seconds_and_seldom_one_while_nothing_comes(clock: Clock) -> None:
    lines: list[str] = []
    progress = PlainProgress("fetching", "fetched", transfers=True, write=lines.append, clock=clock)
    transfer(progress, clock, 11)
    rest = " left, 1 peer, 100 % LAN, 40.0 MB were here"
    assert all(
        re.fullmatch(r"fetching (\d+) % of 100\.0 MB, 1\.[0-3] MB/s, \d+ s(.*)", line) for line in lines
    )
    assert [line.partition(",")[0] for line in lines] == [
        "fetching 45 % of 100.0 MB",
        "fetching 50 % of 100.0 MB",
    ]
    assert all(line.endswith(rest) for line in lines)
    del lines[:]
    wait(progress, clock, 120, lambda second: 0 if second > 60 else 2)
    assert [line.split(", ")[1:3] for line in lines] == [
        ["waiting for 2 peers", "no byte for 4 s"],
        ["waiting for 2 peers", "no byte for 14 s"],
        ["waiting for 2 peers", "no byte for 34 s"],
        ["waiting for a peer", "1 min 14 s"],
    ]


def test_a_bar_says_all_of_it_where_there_is_room(clock: Clock, turn_on: TurnOn) -> None:
    screen = turn_on()
    with BarProgress("fetching", "fetched", transfers=True, clock=clock, width=100) as progress:
        transfer(progress, clock, 10)
        progress.note("somebody\x1b[2J is odd")
    text = screen.getvalue()
    assert "\nfetching 50 % of 100.0 MB, 1.0 MB/s, 50 s left" in text
    assert "1 peer, 100 % LAN" in text
    assert "━" in text
    assert "somebody\\x1b[2J is odd" in text


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_nothing_is_wider_than_the_terminal(clock: Clock, turn_on: TurnOn, width: int) -> None:
    screen = turn_on()
    with BarProgress("fetching", "fetched", transfers=True, clock=clock, width=width) as progress:
        transfer(progress, clock, 10)
        wait(progress, clock, 12, lambda _second: 0)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    lines = re.split(r"[\r\n]+", shown)
    assert max(map(len, lines)) <= width
    assert any("waiting for a peer, 12 s"[: width - 1] == line[: width - 1] for line in lines) is (
        width <= 40
    )
    assert ("fetching 50 % of 100.0 MB, waiting for a peer, 12 s" in shown) is (width > 60)


def test_without_colour_a_bar_has_none(clock: Clock, turn_on: TurnOn) -> None:
    screen = turn_on(NO_COLOR="1")
    with BarProgress("fetching", "fetched", transfers=True, clock=clock, width=80) as progress:
        transfer(progress, clock, 10)
    assert "fetching 50 %" in screen.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", screen.getvalue())


def test_a_terminal_that_goes_away_ends_nothing(clock: Clock, turn_on: TurnOn) -> None:
    turn_on(GoneScreen)
    with BarProgress("fetching", "fetched", transfers=True, clock=clock, width=80) as progress:
        transfer(progress, clock, 10)
        progress.note("nobody reads this")
        progress.stalled("nor this")
    plain = PlainProgress("hashing", "hashed", clock=clock)
    plain.artifact("kernel", 0, MB)
    plain.artifact("kernel", MB, MB)
    plain.note("nor this")
    assert plain.headway().percent == 100


def test_a_terminal_that_can_not_move_its_cursor_gets_lines(turn_on: TurnOn) -> None:
    turn_on()
    assert isinstance(open_progress("hashing", "hashed"), BarProgress)
    turn_on(TERM="dumb")
    assert type(open_progress("hashing", "hashed")) is PlainProgress


@pytest.mark.parametrize(
    ("zeros", "stored", "sources", "line"),
    [
        (0, 6 * MB, {"mesh": 6 * MB}, "fetched 6.0 MB of 6.0 MB in 2.0 s from 1 peer: 100 % mesh"),
        (
            MB,
            2 * MB,
            {"lan": 2 * MB, "publisher": MB // 2},
            "fetched 2.0 MB of 6.0 MB in 2.0 s (3.0 MB were here, 1.0 MB are zeros, which nobody sends,"
            " 500.0 kB came for nothing) from 1 peer: 80 % LAN, 20 % publisher",
        ),
        (6 * MB, 0, {}, "fetched 0 B of 6.0 MB in 2.0 s (6.0 MB are zeros, which nobody sends)"),
    ],
)
def test_in_the_end_it_is_told_what_came_of_what_and_from_where(
    zeros: int, stored: int, sources: dict[Source, int], line: str
) -> None:
    ledger = Ledger(NoProgress())
    ledger.zero_bytes, ledger.stored_bytes = zeros, stored
    ledger.sources.update(sources)
    ledger.received["A"] = sum(sources.values())
    files = tuple(
        FetchedFile(key, Path(key), digest, 3 * MB, written=True)
        for key, digest in (("kernel", "1"), ("rootfs", "2"), ("the same again", "2"))
    )
    assert bytes_text(files, ledger, 2.0) == line


def test_quiet_is_quiet_and_json_leaves_standard_output_to_the_document(cli: Cli, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.mkdir()
    for name in ("vmlinuz", "initrd"):
        (image / name).write_bytes(name.encode() * 500)
    assert cli("key", "generate", "--key", "k.toml").status == 0
    built = (
        image,
        "--channel",
        "stable",
        "--arch",
        "arm64",
        "--state",
        tmp_path / "state",
        "--key",
        "k.toml",
    )
    ran = cli("manifest", "build", *built, "-o", tmp_path / "m.json", "--json")
    assert ran.status == 0, ran
    assert ran.document["manifest"]["channel"] == "stable"
    assert "hashed artifacts: 6.5 kB" in ran.stderr
    quiet = cli("manifest", "build", *built, "--version", "2", "-o", tmp_path / "m.json", "--quiet")
    assert "hash" not in quiet.stderr
