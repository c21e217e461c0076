"""What a person named is opened without waiting for ever, be it a file, a pipe, or a pipe with nobody at its end."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from p2pboot.errors import UsageError
from p2pboot.store import inputs
from p2pboot.store.inputs import open_named, write_stream


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "COMING_S", 0.01)
    monkeypatch.setattr(inputs, "PATIENCE_S", 0.01)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def test_a_file_is_opened_and_a_directory_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with open_named(tmp_path / "file") as file:
        assert file.read() == b"content"
    with pytest.raises(IsADirectoryError):
        open_named(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_named(tmp_path / "none")
    with open_named(Path(os.devnull)) as file:
        assert file.read() == b""


def test_a_pipe_that_nobody_writes_to_is_refused(fifo: Path) -> None:
    with open_named(fifo) as file, pytest.raises(UsageError, match="a pipe that nobody writes to"):
        file.read()


def test_a_pipe_whose_writer_is_silent_is_given_up(fifo: Path) -> None:
    with open_named(fifo) as file:
        writer = os.open(fifo, os.O_WRONLY)
        try:
            os.write(writer, b"beginning")
            assert file.read(9) == b"beginning"
            with pytest.raises(UsageError, match="nothing came out"):
                file.read(1)
        finally:
            os.close(writer)


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_what_a_shell_substitutes_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """As `<(command)`: the path of a pipe whose writer is there before us, and may take its time."""
    monkeypatch.setattr(inputs, "PATIENCE_S", 60.0)
    reader, writer = os.pipe()
    content = b"x" * size

    def write() -> None:
        with open(writer, "wb") as file:
            file.write(content)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with open_named(Path(f"/dev/fd/{reader}")) as file:
            if size:
                assert file.read() == content
            else:
                with pytest.raises(UsageError, match="nobody writes"):
                    file.read()
    finally:
        thread.join()
        os.close(reader)


def test_a_pipe_that_nobody_reads_is_not_waited_for(fifo: Path) -> None:
    with pytest.raises(UsageError, match="a pipe that nobody reads"):
        write_stream(fifo, b"content")
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_stream(fifo, b"content")
        assert os.read(reader, 100) == b"content"
        with pytest.raises(UsageError, match="nothing was taken"):
            write_stream(fifo, bytes(1 << 20))
    finally:
        os.close(reader)
