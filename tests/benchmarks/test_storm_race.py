"""Real processes, little ones: what is timed, what is ended, and what is left of it."""

from collections.abc import Callable
from math import inf
from pathlib import Path

from benchmarks.lab import Moved
from benchmarks.storm.race import Look, Race, Start, Watch


def start(number: int, script: str, directory: Path) -> Start:
    return Start(number, 0.0, ["sh", "-c", script], directory / "file", directory / f"log{number}")


def nothing(_race: Race, _look: Look) -> None:
    pass


def race(referee: Callable[[Race, Look], None] = nothing, patience_s: float = 60.0) -> Race:
    return Race(Watch(lambda: {"1": Moved()}), referee, patience_s)


def test_a_client_is_done_when_it_printed_its_document_and_goes_on(tmp_path: Path) -> None:
    seen = race().run([start(1, """echo '{"a":'; echo '1}'; exec sleep 600""", tmp_path)], tmp_path)
    (client,) = seen.clients
    assert client.document == {"a": 1}
    assert client.done_s is not None
    assert client.status == -15


def test_a_client_that_ends_without_a_document_is_not_done(tmp_path: Path) -> None:
    seen = race().run([start(1, "echo no >&2; exit 3", tmp_path), start(2, "echo {}", tmp_path)], tmp_path)
    assert [client.document for client in seen.clients] == [None, {}]
    assert seen.clients[0].status == 3
    assert Path(tmp_path / "log1").read_text() == "no\n"


def test_a_client_that_says_it_failed_is_not_done(tmp_path: Path) -> None:
    seen = race().run([start(1, """echo '{"ok": false}'""", tmp_path)], tmp_path)
    assert [(client.done_s, client.status) for client in seen.clients] == [(None, 0)]


def test_a_client_that_closes_its_output_goes_on(tmp_path: Path) -> None:
    script = "echo {}; exec >&-; exec sleep 600"
    other = "sleep 0.2; echo {}"  # until the first one's end of output was seen
    seen = race().run([start(1, script, tmp_path), start(2, other, tmp_path)], tmp_path)
    assert seen.clients[0].status == -15


def test_nothing_is_expected_of_who_was_killed(tmp_path: Path) -> None:
    def referee(run: Race, _look: Look) -> None:
        if 1 in run.clients and run.clients[1].expected:
            run.kill(1)

    seen = race(referee).run([start(1, "exec sleep 600", tmp_path)], tmp_path)
    assert [(client.expected, client.status, client.took_s) for client in seen.clients] == [(False, -9, inf)]


def test_whoever_is_not_done_in_time_is_given_up(tmp_path: Path) -> None:
    seen = race(patience_s=0.0).run([start(1, "exec sleep 600", tmp_path)], tmp_path)
    assert not seen.clients  # not even started
    assert len(seen.looks) == 1


def test_looks_tell_what_moved_since_the_beginning(tmp_path: Path) -> None:
    counts = iter(range(100, 200))
    watch = Watch(lambda: {"1": Moved(next(counts), 0)})
    assert [watch.look().of(1).sent, watch.look().of(1).sent] == [1, 2]
    assert watch.look().of(9) == Moved()
