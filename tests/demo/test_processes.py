"""The demo's processes all end, and what went wrong is named."""

from __future__ import annotations

import io
import os
import signal
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from p2pboot.demo.processes import processes_in
from p2pboot.demo.story import Story
from p2pboot.errors import P2PBootError
from p2pboot.testing.processes import PYTHON, Processes


def start_waiting(directory: Path, processes: Processes) -> subprocess.Popen[bytes]:
    """A command of the program that waits for ever: for somebody to write into a FIFO."""
    os.mkfifo(directory / "fifo")
    return processes.start([*PYTHON, "manifest", "show", "fifo"], directory / "log")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), P2PBootError("a step failed")])
def test_no_process_is_left_however_it_ends(tmp_path: Path, error: BaseException) -> None:
    started = []

    def story() -> None:
        with processes_in(tmp_path) as processes:
            started.append(start_waiting(tmp_path, processes))
            assert started[0].poll() is None
            raise error

    with pytest.raises(type(error)):
        story()
    assert started[0].poll() is not None


def test_terminate_ends_it_like_an_interrupt_and_handlers_are_restored(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), processes_in(tmp_path):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_node_that_does_not_come_up_names_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with processes_in(tmp_path) as processes, pytest.raises(P2PBootError) as caught:
        processes.node([*PYTHON, "serve", "absent"], state=tmp_path / "state", log=log)
    assert str(log) in (caught.value.remedy or "")
    assert "absent" in log.read_text()


def test_command_is_run_to_its_end(tmp_path: Path) -> None:
    with processes_in(tmp_path) as processes:
        done = processes.run("key", "show", "--key", "absent.toml")
    assert done.status == 2
    assert "absent.toml" in done.stderr


def test_story_is_plain_text_where_there_is_no_terminal() -> None:
    text = io.StringIO()
    story = Story(Console(file=text, highlight=False, width=80), clock=lambda: 0.0)
    story.step("One")
    story.command(("serve", "a directory"))
    story.output("[bold]not markup[/bold]\nsecond")
    with story.waiting("something"):
        story.good("done")
    assert text.getvalue().splitlines() == [
        "",
        "1. One",
        "   $ p2pboot serve 'a directory'",
        "     [bold]not markup[/bold]",
        "     second",
        "   ✓ done",
    ]
