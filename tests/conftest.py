"""What every test may rely on: it stands alone.

No test reads or writes the settings and state of the person who runs it, and none sees what another one did to the
process: what the program changes on purpose is put back, and who leaves anything else behind fails himself.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import settings

from p2pboot.store import room
from p2pboot.store.store import Store
from tests.forking import Zygote

# A slow machine is no defect: nothing here judges by the clock. The examples are the same in every run, so that
# a failure is the change's; `--hypothesis-profile=explore` looks for new ones.
settings.register_profile("p2pboot", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, derandomize=False, max_examples=1000, print_blob=True)
settings.load_profile("p2pboot")

_KEPT = {"P2PBOOT_KILLS"}

# The program's own root of loggers, which commands set a level on. It comes into being with the first that asks for it:
# here, or the first test that runs a command would leave one behind that nobody saw before it.
logging.getLogger("p2pboot")


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Also for the processes that tests start: they inherit the environment."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("XDG_") or (name.startswith("P2PBOOT_") and name not in _KEPT):
                patch.delenv(name)
        patch.setenv("HOME", str(home))
        yield


@pytest.fixture(scope="session", autouse=True)
def _heeds_ctrl_c() -> None:
    """A shell has what it starts in the background ignore SIGINT, and so would all processes that tests start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _however_full_the_disk() -> Iterator[None]:
    """A tenth of the disk stays free, but tests run on a fuller one as well; processes that they start are told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "SPARED", sys.maxsize)
        yield


@pytest.fixture(autouse=True)
def _process_settings_put_back() -> Iterator[None]:
    """Commands set up logging for their process, and nodes how long a thread may run."""
    loggers = [
        logger
        for logger in (logging.root, *logging.root.manager.loggerDict.values())
        if isinstance(logger, logging.Logger)
    ]
    before = [(each, each.level, each.propagate, each.disabled, list(each.handlers)) for each in loggers]
    interval_s = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval_s)
    for logger, level, propagate, disabled, handlers in before:
        logger.setLevel(level)
        logger.propagate, logger.disabled = propagate, disabled
        logger.handlers[:] = handlers


@pytest.fixture(autouse=True)
def _nothing_left_behind(_process_settings_put_back: None) -> Iterator[None]:
    before = _process_state()
    yield
    after = _process_state()
    assert after == before, "the test leaves this behind"


def _process_state() -> dict[str, Any]:
    """What one test could break another one with."""
    os.umask(umask := os.umask(0o077))
    return {
        "directory": Path.cwd(),
        "environment": {name: os.environ[name] for name in os.environ if name != "PYTEST_CURRENT_TEST"},
        "umask": umask,
        # SIGALRM is the test runner's own, for hangs.
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals() - {signal.SIGALRM}},
        "streams": (sys.excepthook, sys.unraisablehook),
        "path": list(sys.path),
    }


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Forks for nodes and commands, whatever they import."""
    started = Zygote(tmp_path_factory.mktemp("zygote"), network=True)
    yield started
    started.close()


@pytest.fixture
def inline_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work for threads happens at once: a clock that jumps when nothing moves would not wait for it."""

    async def run_sync(function: Callable[..., Any], *args: Any, **_options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    monkeypatch.setattr(trio.from_thread, "check_cancelled", lambda: None)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory that is not there yet."""
    return tmp_path / "state"


@pytest.fixture
def store(state: Path) -> Iterator[Store]:
    with Store.open(state) as opened:
        yield opened
