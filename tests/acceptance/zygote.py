"""A process that has imported the program once and forks for every command: the same code, 20 ms instead of 1.5 s.

Started by `program.Program`, which talks to it over a socket, one JSON object a line each way. A child ends as any
Python process does: the interpreter's own shutdown, its flushes and its complaints are part of what is tested.
"""

from __future__ import annotations

import contextlib
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


def preload(*, network: bool) -> None:
    """Import what commands import; with `network` all there is, even what is imported when it is needed."""
    package = p2pboot if network else p2pboot.cli
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def become(order: dict[str, Any]) -> None:
    """Turn the forked child into the process that was asked for."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    for number, path, flags in (
        (0, order.get("stdin") or os.devnull, os.O_RDONLY),
        (1, order["stdout"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, order["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(path, flags, 0o666)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(order["cwd"])
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
            pid = os.fork()
            if pid == 0:
                lines.close()
                connection.close()
                become(order)
                return dict(order)
            answer = {"pid": pid}
        lines.write(json.dumps(answer) + "\n")
        lines.flush()
    return None


def reap(pid: int, *, block: bool) -> dict[str, Any]:
    with contextlib.suppress(ChildProcessError):
        done, status = os.waitpid(pid, 0 if block else os.WNOHANG)
        if done:
            return {"status": os.waitstatus_to_exitcode(status)}
    return {"status": None}


if __name__ == "__main__":
    preload(network=sys.argv[2] == "network")
    gc.freeze()  # what was imported stays shared: a child's collector leaves it alone
    descriptor = int(sys.argv[1])
    task = serve(socket.socket(fileno=descriptor))
    if task is not None:
        from p2pboot.cli.app import run

        sys.argv = ["p2pboot", *task["args"]]
        sys.exit(run(task["args"]))
