"""A process that has imported the program once and forks for every command: the same code, 20 ms instead of 1.5 s.

Started by `tests.forking.Zygote`, which talks to it over a socket, one JSON object a line each way. A child ends as any
Python process does: the interpreter's own shutdown, its flushes and its complaints are part of what is tested.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import socket
import sys
import time
from typing import Any

import p2pboot
import p2pboot.cli
from p2pboot.testing.waiting import HANG_S
from tests.permissions import give_up_overrides

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def preload(*, network: bool) -> None:
    """Import what commands import; with `network` all there is, even what is imported when it is needed."""
    package = p2pboot if network else p2pboot.cli
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def open_outputs(order: dict[str, Any]) -> tuple[int, int]:
    """Before there is a child: a pipe of whoever gave the order may be closed by it as soon as it has the answer."""
    how = os.O_APPEND if order.get("append") else os.O_TRUNC
    out, err = (os.open(order[name], os.O_WRONLY | os.O_CREAT | how, 0o666) for name in ("stdout", "stderr"))
    return out, err


def open_streams() -> None:
    """As Python does at its start: whether a stream can seek, say, it looks at only then."""
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def become(order: dict[str, Any], outputs: tuple[int, int]) -> None:
    """Turn the forked child into the process that was asked for."""
    # A run of the tests that is interrupted leaves no node behind: the zygote ends with it, and its children then.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    opened = (os.open(order.get("stdin") or os.devnull, os.O_RDONLY), *outputs)
    for number, descriptor in enumerate(opened):
        os.dup2(descriptor, number)
        os.close(descriptor)
    open_streams()
    os.chdir(order["cwd"])
    if "environment" in order:
        os.environ.clear()
        os.environ.update(order["environment"])
    os.environ.update(order.get("env", {}))
    if order.get("clock_s"):
        real, ahead_s = time.time, order["clock_s"]
        time.time = lambda: real() + ahead_s
    if order.get("hears_all"):
        from p2pboot.fetch.asking import rounds

        rounds.GRACE_S = HANG_S
    if order.get("fsize") is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["fsize"], order["fsize"]))
    if order.get("permissions_apply"):
        give_up_overrides()


def serve(connection: socket.socket) -> dict[str, Any] | None:
    """Answer orders until the other side goes; in a forked child return what it is to do instead."""
    lines = connection.makefile("rw")
    for line in lines:
        order = json.loads(line)
        if "wait" in order:
            answer = reap(order["wait"], block=order["block"])
        else:
            outputs = open_outputs(order)
            pid = os.fork()
            if pid == 0:
                lines.close()
                connection.close()
                become(order, outputs)
                return dict(order)
            for descriptor in outputs:
                os.close(descriptor)
            answer = {"pid": pid}
        lines.write(json.dumps(answer) + "\n")
        lines.flush()
    return None


def reap(pid: int, *, block: bool) -> dict[str, Any]:
    with contextlib.suppress(ChildProcessError):
        done, status, usage = os.wait4(pid, 0 if block else os.WNOHANG)
        if done:
            taken = (usage.ru_utime, usage.ru_stime, usage.ru_maxrss)
            return {"status": os.waitstatus_to_exitcode(status), "taken": taken}
    return {"status": None}


if __name__ == "__main__":
    preload(network=sys.argv[2] == "network")
    gc.freeze()  # what was imported stays shared: a child's collector leaves it alone
    descriptor = int(sys.argv[1])
    task = serve(socket.socket(fileno=descriptor))
    if task is not None:
        from p2pboot.cli.main import main

        sys.argv = ["p2pboot", *task["args"]]
        main()
