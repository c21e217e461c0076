"""The program's entry. It imports little, so that even Ctrl-C during the imports ends quietly."""

from __future__ import annotations

import gc
import os
import sys

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_LOOKED_THROUGH = 5_000  # new objects; of the usual 700 most are still in use, and looked through in vain
_STREAMS = {"stdin": (0, "r"), "stdout": (1, "w"), "stderr": (2, "w")}


def main() -> None:
    """Run the command line of this process and end the process with its exit status.

    The garbage collector is off until `collect_garbage`: what imports make is there for good, and looking through it
    is a tenth of a short command's time; as it is again at the end, for an interpreter that is going away.
    """
    gc.disable()
    try:
        _replace_closed_streams()
        from p2pboot.cli.app import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = INTERRUPTED
    gc.freeze()
    sys.exit(status)


def collect_garbage() -> None:
    """Have garbage collected from now on, but not looked for in what is there already; for a command that runs on."""
    gc.freeze()
    gc.set_threshold(_LOOKED_THROUGH)
    gc.enable()


def _replace_closed_streams() -> None:
    """Let standard streams that are closed lead nowhere.

    Else the next files that are opened, a database or a socket, get their numbers, and what other libraries write to
    "standard error" ends in them.
    """
    closed = [name for name in _STREAMS if getattr(sys, name) is None]  # that is what Python makes of them
    if not closed:
        return
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    for name in closed:
        number, mode = _STREAMS[name]
        setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
