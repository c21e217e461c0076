"""Looking around with real processes: how each peer was found, and a watch of who comes and goes."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

from p2pboot.cli.app import BROKEN_PIPE
from p2pboot.testing.processes import PYTHON, Mesh
from p2pboot.testing.waiting import HANG_S


def event(process: subprocess.Popen[bytes]) -> Any:
    """The next line of a watch."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def sources(event: Any) -> tuple[str, str]:
    return event["peer"]["peer_id"], event["peer"]["sources"][0]


def test_a_watch_tells_who_comes_and_who_goes_until_it_is_ended(mesh: Mesh, artifacts: Path) -> None:
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address)
    mirror.wait_for_head(1)
    looking = ("discover", "--no-mdns", "--trust", trust, "--json")
    command = [*PYTHON, *looking, "--watch", "--bootstrap", mirror.address]
    watch, other = (mesh.start(command, mesh.directory / "watch.log") for _ in range(2))
    found = [event(watch), event(watch)]
    assert {one["event"] for one in found} == {"found"}
    assert {sources(one) for one in found} == {(mirror.peer_id, "bootstrap"), (publisher.peer_id, "peers")}
    for one in found:
        (offer,) = one["peer"]["manifests"]
        assert offer["accepted"] is True
        assert 0 < one["peer"]["round_trip_ms"] < HANG_S * 1000

    assert publisher.stop() == 0
    gone = event(watch)
    assert (gone["event"], gone["peer"]["peer_id"]) == ("lost", publisher.peer_id)
    event(other)
    unread = mesh.start(command, mesh.directory / "watch.log")
    event(unread)
    assert unread.stdout is not None
    unread.stdout.close()
    assert unread.wait(HANG_S) == BROKEN_PIPE  # although it has nothing to say
    for process, number in ((watch, signal.SIGINT), (other, signal.SIGTERM)):
        process.send_signal(number)
        assert process.wait(HANG_S) == 0
    assert (mesh.directory / "watch.log").read_text() == ""

    again = mesh.run(*looking, "--state", str(publisher.state), "--timeout", str(HANG_S))
    assert again.status == 0, again.stderr
    (provider,) = again.document["providers"]
    assert (provider["peer_id"], provider["sources"]) == (mirror.peer_id, ["address-book"])
