"""Who sent what was not signed: named for a day, and few words however many they are."""

from __future__ import annotations

import trio

from p2pboot.node.observing import OBSERVE_S
from p2pboot.node.poisoners import COUNTED, KEPT_S, REMEMBERED, Poisoners
from tests.node.test_intake import with_bad_signature
from tests.node.test_node import TRUST
from tests.node.world import PAIR, Mesh, Running, signed


def texts(poisoners: Poisoners) -> list[str]:
    return [problem.text for problem in poisoners.problems()]


async def test_a_poisoner_is_named_until_a_day_after_the_last_time(autojump_clock: None) -> None:
    poisoners = Poisoners()
    assert texts(poisoners) == []
    poisoners.note("one", "piece 7 of rootfs")
    said = ["1 peer sent what is not what was signed: one (piece 7 of rootfs)"]
    assert texts(poisoners) == said
    await trio.sleep(KEPT_S - 1)
    poisoners.note("one", "piece 8 of rootfs")
    assert texts(poisoners) == said  # the same text: it is no news for the log
    await trio.sleep(KEPT_S - 1)
    assert texts(poisoners) == said
    await trio.sleep(1)
    assert texts(poisoners) == []


async def test_peer_ids_that_cost_nothing_change_the_text_a_few_times_only(autojump_clock: None) -> None:
    poisoners = Poisoners()
    seen = set()
    for number in range(10 * REMEMBERED):
        poisoners.note(f"peer {number}", "x" * 10_000)
        seen.update(texts(poisoners))
    assert len(seen) == COUNTED + 1
    (text,) = texts(poisoners)
    assert text.startswith(f"more than {COUNTED} peers sent what is not what was signed: peer 0 (x")
    assert text.endswith("), and others")
    assert len(text) < 1000


async def test_a_forged_manifest_is_told_with_its_sender(mesh: Mesh, autojump_clock: None) -> None:
    def found(node: Running) -> list[str]:
        return [one.text for one in node.node.problems.all() if one.code == "poisoners"]

    async with mesh.node("mirror", trust=TRUST) as mirror:
        intake = mirror.node._intake
        await intake.hear(PAIR, "honest", signed(3).raw)
        await trio.sleep(2 * OBSERVE_S)
        assert found(mirror) == []
        await intake.hear(PAIR, "forger", with_bad_signature(signed(4)))
        await trio.sleep(2 * OBSERVE_S)
        (text,) = found(mirror)
        assert text == (
            "1 peer sent what is not what was signed: forger (a manifest with a signature that is none)"
        )
