import logging

import pytest

from p2pboot.core.problems import Code, Problem
from p2pboot.node.problems import MAX_OF_ONE_SOURCE, Problems

HALF = Problem(Code.UNPUBLISHABLE, "testing/x86_64", "no initramfs", "put it there")
LOST = Problem(Code.INOTIFY, "/srv/images", "the system tells of no changes")


class Clock:
    now = 1000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def problems(clock: Clock) -> Problems:
    return Problems(clock)


def test_a_problem_keeps_the_time_when_it_was_first_noticed(problems: Problems, clock: Clock) -> None:
    problems.report("publisher", [HALF])
    clock.now = 2000
    problems.report("publisher", [Problem(HALF.code, HALF.subject, "no kernel")])
    (found,) = problems.all()
    assert (found.since, found.text) == (1000, "no kernel")
    problems.report("publisher", [])
    problems.report("publisher", [HALF])
    assert problems.all()[0].since == 2000


def test_what_one_source_says_leaves_the_others_alone(problems: Problems) -> None:
    problems.report("publisher", [HALF])
    problems.report("watching", [LOST])
    problems.report("publisher", [])
    assert [problem.code for problem in problems.all()] == [Code.INOTIFY]
    assert {one.subject for one in problems.all()} == {"/srv/images"}


def test_a_problem_is_told_once_and_again_when_it_is_over(
    problems: Problems, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "p2pboot.node.problems")
    for _ in range(3):
        problems.report("publisher", [HALF])
    line = "testing/x86_64: unpublishable: no initramfs (put it there); see docs/troubleshooting.md#unpublishable"
    assert caplog.messages == [line]
    problems.report("publisher", [])
    assert caplog.messages[1:] == ["testing/x86_64: unpublishable is over"]


def test_a_problem_is_logged_as_loud_as_it_is_severe(
    problems: Problems, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "p2pboot.node.problems")
    problems.report("publisher", [Problem(Code.STILL_CHANGING, "testing/x86_64", "it grows"), LOST, HALF])
    assert [record.levelno for record in caplog.records] == [logging.INFO, logging.WARNING, logging.ERROR]
    assert [problem.code for problem in problems.all()] == [HALF.code, LOST.code, Code.STILL_CHANGING]


def test_a_thousand_problems_of_one_source_are_bounded(problems: Problems) -> None:
    problems.report("publisher", [Problem(Code.UNKNOWN_DIRECTORY, f"d{n}", "?") for n in range(1000)])
    assert len(problems.all()) == MAX_OF_ONE_SOURCE
