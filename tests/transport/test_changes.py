"""Changes of interfaces and addresses, as the kernel tells of them."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio
import trio.testing

from p2pboot.transport.changes import Changes
from tests.transport.namespaces import namespace, run_python

TOLD = """
import json, subprocess, trio
from p2pboot.transport.changes import Changes
async def main():
    changes = Changes()
    told = []
    addresses = ("addr add 192.0.2.1/32 dev lo", "addr add fd00::1/128 dev lo")
    for change in ("link add eth0 type veth peer name far", *addresses):
        subprocess.run(["ip", *change.split()], check=True)
        await changes.wait()
        told.append(change)
    with trio.move_on_after(0.05):
        await changes.wait()
        told.append("nothing")
    changes.close()
    print(json.dumps(len(told)))
trio.run(main)
"""


def test_each_change_is_told_and_nothing_else() -> None:
    with namespace() as inside:
        assert run_python(inside, TOLD) == 3


async def test_where_the_kernel_may_not_be_asked_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def refuse(family: int, *arguments: Any) -> socket.socket:
        if family == socket.AF_NETLINK:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *arguments)

    monkeypatch.setattr(socket, "socket", refuse)
    changes = Changes()
    with trio.move_on_after(0.01) as scope:
        await changes.wait()
    assert scope.cancelled_caught
    changes.close()
