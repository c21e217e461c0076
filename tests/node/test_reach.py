"""Where a node can be reached, as it changes; on a clock that jumps."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import trio
import trio.testing

from p2pboot.core.problems import Code, Problem
from p2pboot.node.reach import LOOK_S, SETTLED_S, Reachability
from p2pboot.transport.interface import Transport
from p2pboot.transport.interfaces import Interfaces, Listing

LOOPBACK, LAN, OTHER_LAN = (f"/ip4/{host}/tcp/4001" for host in ("127.0.0.1", "192.168.77.1", "192.168.88.1"))
LONG_S = 2 * (SETTLED_S + 2 * LOOK_S)


@dataclass
class Machine:
    """Addresses and URLs as they are at the moment, and what was made of them."""

    here: tuple[str, ...] = (LOOPBACK,)
    live_urls: tuple[str, ...] = ()
    moves: list[str] = field(default_factory=list)
    signed: list[tuple[str, ...]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    interfaces: Interfaces = field(default_factory=lambda: Interfaces(lambda: Listing(())))

    def addresses(self) -> tuple[str, ...]:
        return self.here

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[Reachability]:
        reach = Reachability(cast(Transport, self), lambda: self.live_urls, self.interfaces)

        async def follow() -> None:
            await reach.follow(
                moved=self.moves.append,
                urls_changed=lambda: self.signed.append(tuple(reach.urls())),
                report=lambda problems: self.problems.__setitem__(slice(None), problems),
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            yield reach
            nursery.cancel_scope.cancel()


async def test_what_stays_as_it_is_is_said_once(autojump_clock: Any) -> None:
    machine = Machine(here=(LAN,), live_urls=("http://192.168.77.1",))
    async with machine.followed() as reach:
        await trio.sleep(LONG_S)
        assert (reach.best, reach.urls()) == (LAN, ("http://192.168.77.1",))
    assert (machine.moves, machine.signed) == ([], [])


async def test_when_dhcp_answers_the_address_is_told_and_the_urls_are_signed(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="p2pboot.node.reach")
    machine = Machine()
    async with machine.followed() as reach:
        assert (reach.best, reach.urls()) == (LOOPBACK, ())
        machine.here, machine.live_urls = (LAN,), ("http://192.168.77.1",)
        await trio.sleep(LONG_S)
        assert (machine.moves, machine.signed) == ([LAN], [("http://192.168.77.1",)])
        machine.here, machine.live_urls = (OTHER_LAN,), ("http://192.168.88.1",)
        await trio.sleep(LONG_S)
    assert machine.moves == [LAN, OTHER_LAN]
    assert machine.signed == [("http://192.168.77.1",), ("http://192.168.88.1",)]
    assert "reachable at /ip4/192.168.88.1" in caplog.text


async def test_a_flapping_interface_changes_nothing_while_it_flaps(autojump_clock: Any) -> None:
    machine = Machine(here=(LAN,), live_urls=("http://192.168.77.1",))
    async with machine.followed():
        for _ in range(20):
            machine.here, machine.live_urls = (LOOPBACK,), ()
            await trio.sleep(SETTLED_S - LOOK_S)
            machine.here, machine.live_urls = (LAN,), ("http://192.168.77.1",)
            await trio.sleep(SETTLED_S - LOOK_S)
        await trio.sleep(LONG_S)
    assert (machine.moves, machine.signed) == ([], [])


async def test_another_order_of_urls_is_no_new_version(autojump_clock: Any) -> None:
    machine = Machine(live_urls=("http://192.168.77.1", "http://172.17.0.1"))
    async with machine.followed():
        machine.live_urls = machine.live_urls[::-1]
        await trio.sleep(LONG_S)
        assert machine.signed == []
        machine.live_urls = ("http://192.168.77.1",)
        await trio.sleep(LONG_S)
    assert machine.signed == [("http://192.168.77.1",)]


async def test_the_last_address_that_goes_is_no_move(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(here=(LAN,))
    async with machine.followed() as reach:
        machine.here = ()
        await trio.sleep(LONG_S)
        assert (reach.best, machine.moves) == (None, [])
        assert "no address left" in caplog.text
        machine.here = (LAN,)
        await trio.sleep(LONG_S)
    assert machine.moves == [LAN]


async def test_what_keeps_from_knowing_is_a_problem_until_it_is_over(autojump_clock: Any) -> None:
    refused = [True]

    def look() -> Listing:
        return Listing((), "Address family not supported by protocol" if refused[0] else None)

    machine = Machine(interfaces=Interfaces(look, now=trio.current_time))
    async with machine.followed() as reach:
        await trio.sleep(LONG_S)
        assert machine.problems == []  # nobody needed the list
        machine.interfaces.listing()
        reach.note_discovery("no interface takes part in multicast")
        await trio.sleep(LONG_S)
        (problem,) = machine.problems  # one cause, one line
        assert problem.code is Code.INTERFACES
        assert "no discovery" in problem.text
        assert "RestrictAddressFamilies" in str(problem.remedy)
        refused[0] = False
        machine.interfaces.listing()
        await trio.sleep(LONG_S)
        assert [problem.code for problem in machine.problems] == [Code.LOCAL_DISCOVERY]
        reach.note_discovery(None)
        await trio.sleep(LONG_S)
    assert machine.problems == []


async def test_a_machine_without_an_address_is_told_to_get_one(autojump_clock: Any) -> None:
    machine = Machine()
    async with machine.followed() as reach:
        machine.interfaces.listing()
        reach.note_discovery("this machine has no address on it")
        await trio.sleep(LONG_S)
        (problem,) = machine.problems
    assert problem.code is Code.LOCAL_DISCOVERY
    assert "DHCP" in str(problem.remedy)
