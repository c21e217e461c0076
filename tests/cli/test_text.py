"""Small pieces of output: sizes, durations, progress lines, options that take several key ids."""

from __future__ import annotations

import logging

import pytest

from p2pboot.cli.logs import Lines
from p2pboot.cli.options import _spread_key_ids
from p2pboot.cli.output import one_line
from p2pboot.cli.progress import PlainProgress
from p2pboot.core.amounts import duration_text, size_text

A, B = "ed25519:" + "a" * 64, "12D3KooW" + "b" * 44


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (8_388_608, "8.4 MB"),
        (999_999, "1.0 MB"),
        (10**15, "1000.0 TB"),
    ],
)
def test_size_for_people(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (90061, "1 d 1 h"), (-7200, "2 h")]
)
def test_duration_for_people(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_terminal_sequences_become_text() -> None:
    assert one_line("a\x1b[31m\nb\u202e") == r"a\x1b[31m\nb\u202e"
    assert one_line("Zürich …") == "Zürich …"


def test_log_line_is_one_line_whatever_a_peer_put_into_it() -> None:
    record = logging.LogRecord("p2pboot", logging.WARNING, __file__, 1, "peer %s", ("x\n\x1b]0;",), None)
    line = Lines(tracebacks=False).format(record)
    assert line.endswith(r"WARNING peer x\n\x1b]0;")


@pytest.mark.parametrize(
    ("args", "spread"),
    [
        (["--trust", A, B, "-o", "x"], ["--trust", A, "--trust", B, "-o", "x"]),
        (["--trust", A, "--trust", B], ["--trust", A, "--trust", B]),
        (["--trust", A, "m.json"], ["--trust", A, "m.json"]),
        (["m.json", "--trust", A], ["m.json", "--trust", A]),
        (["--trust", A, "m.json", B], ["--trust", A, "m.json", B]),
        (["--trust"], ["--trust"]),
        (["--signer", A, B, A], ["--signer", A, "--signer", B, "--signer", A]),
        (["--channel", A, B], ["--channel", A, B]),
    ],
)
def test_key_ids_in_a_row_belong_to_their_option(args: list[str], spread: list[str]) -> None:
    assert _spread_key_ids(args, ["--trust", "--signer"]) == spread


def test_plain_progress_says_the_end_of_each_artifact_and_seldom_more() -> None:
    lines: list[str] = []
    now = 0.0
    progress = PlainProgress("hashing", "hashed", write=lines.append, clock=lambda: now)
    for done in (0, 100, 200):
        progress.artifact("kernel", done, 1000)
    now = 6.0
    progress.artifact("kernel", 500, 1000)
    now = 7.0
    progress.artifact("kernel", 700, 1000)
    progress.artifact("kernel", 1000, 1000)
    progress.artifact("kernel", 1000, 1000)
    assert lines == ["hashing 50 % of 1.0 kB, 83 B/s, 6 s left", "hashed kernel: 1.0 kB"]
