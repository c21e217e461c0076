from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pboot.cli import logs
from p2pboot.cli.app import run
from p2pboot.cli.logs import MAX_LINE, JournalLines, JsonLines, Limiter, Lines
from p2pboot.cli.output import is_journal
from p2pboot.core.events import Event
from p2pboot.core.loglimits import EACH_BURST

HOSTILE = "x\n<0>forged\r\x1b[31m\u2028<3>y"
TIME = 1_764_178_069.25  # 2025-11-26T17:27:49.250Z


def record(
    message: str,
    *args: object,
    level: int = logging.WARNING,
    error: BaseException | None = None,
    **said: object,
) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("p2pboot.node.images", level, __file__, 1, message, args, info)
    made.created, made.msecs = TIME, 250.0
    made.__dict__.update(said)
    return made


def raised(message: str) -> ValueError:
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


def test_json_is_an_object_a_line_with_the_events_fields() -> None:
    line = JsonLines().format(record("peer %s was dropped", "A", **Event.PEER_DROPPED(peer="A", reason=None)))
    assert json.loads(line) == {
        "time": "2025-11-26T17:27:49.250Z",
        "level": "warning",
        "event": "peer-dropped",
        "message": "peer A was dropped",
        "peer": "A",
        "module": "p2pboot.node.images",
    }


def test_json_is_ascii_on_one_line_whatever_a_peer_says() -> None:
    line = JsonLines().format(record("%s", HOSTILE + "\udc80", **Event.PEER_DROPPED(peer=HOSTILE)))
    assert line.isascii()
    assert line.splitlines() == [line]
    assert json.loads(line)["peer"] == HOSTILE


def test_json_has_the_traceback_of_a_fault() -> None:
    said = json.loads(JsonLines().format(record("a fault", error=raised(HOSTILE))))
    assert said["traceback"].startswith("Traceback")
    assert said["event"] == "other"


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.DEBUG, 7),
        (logging.INFO, 6),
        (logging.WARNING, 4),
        (logging.ERROR, 3),
        (logging.CRITICAL, 2),
    ],
)
def test_the_journal_gets_the_priority_and_the_events_name_but_no_time(level: int, priority: int) -> None:
    lines = JournalLines(tracebacks=False)
    assert lines.format(record("it was", level=level, **Event.HELD())) == f"<{priority}>held: it was"
    assert lines.format(record("it was", level=level)) == f"<{priority}>it was"


def test_each_line_of_a_traceback_has_the_priority() -> None:
    text = JournalLines(tracebacks=True).format(record("a fault", error=raised("no\n<0>forged")))
    assert len(text.split("\n")) > 3
    assert all(line.startswith("<4>") for line in text.split("\n"))
    assert not any(line.startswith("<4><0>") for line in text.split("\n"))


@pytest.mark.parametrize("form", [Lines, JournalLines])
def test_nothing_that_a_peer_says_begins_a_line_or_is_obeyed(form: type[Lines]) -> None:
    text = form(tracebacks=True).format(record("%s", HOSTILE, error=raised(HOSTILE)))
    lines = text.split("\n")
    assert text.replace("\n", "").isprintable()
    assert not any(line.startswith(("<0>", "<3>")) for line in lines)
    assert lines[0].endswith(r"x\n<0>forged\r\x1b[31m\u2028<3>y")


def test_a_traceback_is_only_for_who_asks() -> None:
    assert "\n" not in Lines(tracebacks=False).format(record("a fault", error=raised("x")))


@pytest.mark.parametrize("form", [Lines(tracebacks=True), JournalLines(tracebacks=True)])
def test_a_long_message_is_cut(form: logging.Formatter) -> None:
    assert len(form.format(record("%s", "x" * (1 << 20)))) < 2 * MAX_LINE


def test_the_journal_is_known_by_the_device_and_number_of_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "stream").open("w") as stream, (tmp_path / "other").open("w") as other:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert is_journal(stream.fileno())
        assert not is_journal(other.fileno())
        monkeypatch.delenv("JOURNAL_STREAM")
        assert not is_journal(stream.fileno())


PROGRAM = """
import logging
from p2pboot.cli import logs
from p2pboot.core.events import Event
logs.configure(verbose=False, quiet=False, form={form!r})
logging.getLogger("p2pboot.x").warning("it was", extra=Event.HELD(channel="stable"))
"""


@pytest.mark.parametrize(
    ("form", "names_journal", "begins"),
    [
        ("auto", True, "<4>held: it was"),
        ("auto", False, ""),
        ("text", True, ""),
        ("journal", False, "<4>held"),
        ("json", True, '{"time"'),
    ],
)
def test_the_form_is_what_was_said_or_what_standard_error_is(
    tmp_path: Path, form: str, names_journal: bool, begins: str
) -> None:
    with (tmp_path / "stream").open("w") as stream:
        found = os.fstat(stream.fileno())
        named = f"{found.st_dev}:{found.st_ino}" if names_journal else "1:1"
        subprocess.run(
            [sys.executable, "-c", PROGRAM.format(form=form)],
            stderr=stream,
            env={**os.environ, "JOURNAL_STREAM": named},
            check=True,
        )
    text = (tmp_path / "stream").read_text()
    assert text.startswith(begins) if begins else text[2] == ":" and text.endswith("WARNING it was\n")


@pytest.fixture
def told() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    handler.addFilter(Limiter())
    logger = logging.getLogger("p2pboot")
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)
    for limiter in handler.filters:
        assert isinstance(limiter, Limiter)
        if limiter._timer is not None:
            limiter._timer.cancel()


def test_a_peer_that_causes_many_lines_has_few_and_the_rest_is_counted(told: io.StringIO) -> None:
    logger = logging.getLogger("p2pboot")
    for _ in range(1000):
        logger.warning("peer was dropped", extra=Event.PEER_DROPPED(peer="A"))
    (handler,) = (
        one for one in logger.handlers if isinstance(one, logging.StreamHandler) and one.stream is told
    )
    (limiter,) = handler.filters
    assert isinstance(limiter, Limiter)
    assert limiter._timer is not None
    assert limiter._timer.daemon
    limiter.tell()
    limiter.tell()
    lines = [json.loads(line) for line in told.getvalue().splitlines()]
    assert [one["event"] for one in lines] == ["peer-dropped"] * EACH_BURST + ["suppressed"]
    assert (lines[-1]["lines"], lines[-1]["causes"]) == (1000 - EACH_BURST, 1)


def test_a_field_that_is_called_like_what_every_line_has_is_a_fault() -> None:
    with pytest.raises(ValueError, match="message"):
        JsonLines().format(record("x", **Event.HELD(message="y")))


def test_a_second_set_up_takes_the_place_of_the_first() -> None:
    root = logging.getLogger()
    before = [*root.handlers]
    try:
        logs.configure(verbose=False, quiet=True)
        logs.configure(verbose=False, quiet=True, form="json")
        (mine,) = (one for one in root.handlers if one not in before)
        assert isinstance(mine.formatter, JsonLines)
    finally:
        root.handlers[:] = before


def test_what_ends_a_command_is_an_error_in_the_journal_too(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        found = os.fstat(stream.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        command = [
            sys.executable,
            "-m",
            "p2pboot",
            "serve",
            str(tmp_path / "missing"),
            "--state",
            str(tmp_path),
        ]
        ended = subprocess.run(command, stderr=stream, env=environment, cwd=tmp_path, check=False)
    assert ended.returncode != 0
    *_, last = (tmp_path / "stream").read_text().splitlines()
    assert last.startswith("<3>p2pboot: error: ")


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_line_with_which_a_node_fails_has_the_logs_form(
    form: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Also that of settings which can not be read: what a collector can not parse is lost when it matters most."""
    status = run(["serve", str(tmp_path), "--quota", "much", "--log-format", form])
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 2
    if form == "json":
        said = json.loads(line)
        assert (said["event"], said["level"], said["reason"]) == ("command-failed", "error", "usage")
        assert "'much'" in said["message"]
        assert said["exit_status"] == status
    else:
        assert line.startswith("p2pboot: error: --quota")
