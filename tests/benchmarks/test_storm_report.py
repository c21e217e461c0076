from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.lab import Moved
from benchmarks.storm.memory import Memory
from benchmarks.storm.plots import completion, lasts, waterfall
from benchmarks.storm.race import Client, Look
from benchmarks.storm.report import failures, goals, line, table
from benchmarks.storm.rows import ROWS
from benchmarks.storm.running import Outcome

ROW = ROWS["n8"]
UNIT_S = ROW.unit_s


def client(number: int, done: float | None = 1.1, **more: Any) -> Client:
    return Client(number, 0.0, Path("file"), None if done is None else done * UNIT_S, **more)


def outcome(*clients: Client, **more: Any) -> Outcome:
    looks = [Look(UNIT_S * at / 4, {"1": Moved(ROW.size * at // 4, 0)}) for at in range(5)]
    facts: dict[str, Any] = {
        "copies": 1.02,
        "egress": 1.07,
        "cpu_s": 11.0,
        "busy": 0.6,
        "own": 0.5,
        "holder_peak_bytes": 100 << 20,
    }
    return Outcome(contestant="p2pboot", row=ROW, clients=clients, looks=looks, **(facts | more))


def test_the_last_client_and_the_mean_are_of_those_who_were_not_killed() -> None:
    one = outcome(client(2, 1.0), client(3, 1.2), client(4, None, expected=False))
    assert round(one.last, 6) == 1.2
    assert round(one.mean, 6) == 1.1


def test_what_never_came_is_never_and_null() -> None:
    one = outcome(client(2), client(3, None), wrong=(3,))
    assert one.last == inf
    assert "never" in line(one)
    assert one.to_json()["last"] is None
    assert [goal.met for goal in goals(one)] == [False, False, True]


def test_goals_are_those_of_the_row() -> None:
    told = {goal.what: goal.met for goal in goals(outcome(client(2, 1.19), copies=1.06))}
    assert told == {"n8: clients without the image": True, "n8: last client": True, "n8: copies": False}
    assert not list(goals(replace(outcome(client(2)), contestant="libtorrent")))


def test_whoever_poisons_is_to_be_named_and_nobody_else() -> None:
    document = {"transfer_s": 1.0, "wasted_bytes": 0, "dropped_peers": {"bad": "", "good": ""}}
    one = outcome(client(2, document=document), client(3, document=document), poisoners=("bad", "worse"))
    told = {goal.what: goal.measured for goal in goals(one)}
    assert told["n8: poisoners that nobody named"] == 1
    assert told["n8: others that were named"] == 1
    assert list(failures(one)) == ["n8: good named as poisoners, which they are not"]
    assert "named 2 of 8, 2 of 8" in line(one)


def test_start_is_what_a_client_took_besides_its_transfer() -> None:
    told = outcome(client(2, 1.0, document={"transfer_s": UNIT_S - 0.5}), client(3, 1.0))
    assert told.start_s == pytest.approx(0.5)
    assert told.transfer == pytest.approx(1 - 0.5 / UNIT_S)
    assert outcome(client(2, 1.0)).start_s is None


def test_no_machine_may_fail_to_deliver_or_send_many_copies() -> None:
    assert not list(failures(outcome(client(2, 9.0))))
    assert len(list(failures(outcome(client(2, None), wrong=(2,), copies=7.9)))) == 2


def test_the_table_has_a_cell_for_each_column() -> None:
    drawn = table([outcome(client(2))])
    assert {len(row) for row in drawn.rows} == {len(drawn.columns)}


def test_all_pictures_are_documents() -> None:
    one = outcome(client(2), client(3, None))
    for chart in (waterfall(one), completion(one), lasts([one, outcome(client(2))])):
        ElementTree.fromstring(chart.svg())


def test_memory_is_flat_where_the_last_quarter_is_like_the_second() -> None:
    flat = Memory([(sent, 50 if sent < 25 else 100) for sent in range(101)], 100)
    grows = Memory([(sent, sent) for sent in range(1, 101)], 100)
    assert flat.growth == 1.0
    assert grows.growth > 2
    assert [goal.met for goal in grows.goals()] == [True, False]
