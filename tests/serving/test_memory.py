"""Memory for replies: bounded, in order, and taken from who does not use it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from p2pboot.serving.memory import BodyMemory, ByteBudget, Grant


async def test_budget_is_served_in_order_and_never_exceeded() -> None:
    budget = ByteBudget(10)
    order: list[int] = []

    async def take(size: int) -> None:
        await budget.acquire(size)
        order.append(size)

    await budget.acquire(6)
    async with trio.open_nursery() as nursery:
        for size in (8, 3, 1):  # 3 and 1 would fit, and wait behind 8
            nursery.start_soon(take, size)
            await trio.testing.wait_all_tasks_blocked()
        assert order == []
        budget.release(6)
        await trio.testing.wait_all_tasks_blocked()
        assert order == [8]  # 1 would fit, and waits behind 3
        budget.release(8)
    assert sorted(order) == [1, 3, 8]
    assert budget.free == 6


async def test_waiter_that_is_cancelled_lets_the_next_one_through() -> None:
    budget = ByteBudget(10)
    await budget.acquire(5)
    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(acquire_in, scope, budget, 10)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(budget.acquire, 5)
        await trio.testing.wait_all_tasks_blocked()
        assert budget.free == 5
        scope.cancel()
    assert budget.free == 0


async def test_bytes_that_are_granted_to_a_cancelled_waiter_are_not_lost() -> None:
    budget = ByteBudget(10)
    await budget.acquire(10)
    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(acquire_in, scope, budget, 10)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        budget.release(10)  # in the same moment
    assert scope.cancelled_caught
    assert budget.free == 10


async def acquire_in(scope: trio.CancelScope, budget: ByteBudget, size: int) -> None:
    with scope:
        await budget.acquire(size)


async def held(memory: BodyMemory, size: int, share: ByteBudget | None = None) -> tuple[Grant, trio.Event]:
    revoked = trio.Event()
    return await memory.acquire(share or ByteBudget(100), size, revoked.set), revoked


async def test_peer_waits_for_its_own_share_and_not_before_others() -> None:
    memory = BodyMemory(100, patience_s=10)
    share = ByteBudget(40)
    first, _ = await held(memory, 40, share)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held, memory, 40, share)
        await trio.testing.wait_all_tasks_blocked()
        await held(memory, 60)  # another peer is not behind it
        assert memory.free == 0
        first.release()
    assert memory.free == 0


async def test_share_is_free_again_when_the_wait_is_cancelled() -> None:
    memory = BodyMemory(100, patience_s=10)
    await held(memory, 100)
    share = ByteBudget(40)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held, memory, 40, share)
        await trio.testing.wait_all_tasks_blocked()
        assert share.free == 0
        nursery.cancel_scope.cancel()
    assert share.free == 40


async def test_release_counts_once() -> None:
    memory = BodyMemory(100, patience_s=10)
    share = ByteBudget(40)
    grant, _ = await held(memory, 40, share)
    grant.release()
    grant.release()
    assert (memory.free, share.free) == (100, 40)


async def test_reply_that_waits_for_its_peer_is_given_up_once_others_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    memory = BodyMemory(100, patience_s=10)
    slow, slow_revoked = await held(memory, 60)
    ours, ours_revoked = await held(memory, 40)  # its peer is quick, our own cap delays it
    slow.begin_wait(trio.current_time())
    await trio.sleep(1000)
    assert not slow_revoked.is_set()  # nobody needs the memory
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held, memory, 60)
        await slow_revoked.wait()
        slow.release()
    assert not ours_revoked.is_set()
    ours.release()


async def test_time_that_a_peer_takes_adds_up_over_writes(autojump_clock: trio.testing.MockClock) -> None:
    memory = BodyMemory(100, patience_s=10)
    grant, _ = await held(memory, 1)
    for _ in range(3):
        grant.begin_wait(trio.current_time())
        await trio.sleep(2)
        grant.end_wait(trio.current_time())
        await trio.sleep(100)
    assert grant.kept_waiting_s(trio.current_time()) == pytest.approx(6)


async def test_quick_holders_are_left_alone_however_long_others_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    memory = BodyMemory(100, patience_s=10)
    grant, revoked = await held(memory, 100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held, memory, 1)
        for _ in range(5):
            grant.begin_wait(trio.current_time())
            await trio.sleep(1)
            grant.end_wait(trio.current_time())
            await trio.sleep(30)
        assert not revoked.is_set()
        grant.release()
