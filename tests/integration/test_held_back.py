"""Real processes: a machine without a disk, between mirrors that are honest, behind, or lie; with a clock or without.

The one who holds machines back is a mirror that was cut off with the first release and its statement, and goes on
offering both. Nobody can do more who has no key.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2pboot.testing.artifacts import write_image
from p2pboot.testing.processes import Finished, Mesh, Node
from p2pboot.testing.waiting import HANG_S, wait_until
from tests.forking import Zygote, forking_mesh_in
from tests.integration.images import assert_same_bytes, write_artifacts

DAY_S = 86_400
WAITED_S = 10  # for a newer statement, where nobody has one: all of it, and a busy machine has to meet its peer in it

# A client has enough two seconds after the first answer, and on a busy machine that may be the liar's alone. Of answers
# that are all refused it has enough as soon as ever, which is why the search takes its name before that is changed.
_PROGRAM = f"""
import sys, time
from p2pboot.cli.app import run
from p2pboot.fetch.asking import rounds, search
rounds.GRACE_S = {HANG_S}
shift, start = sys.argv.pop(1), time.time()
sys.exit(run(sys.argv[1:], wall=lambda: int(time.time() - start if shift == "dead" else time.time() + float(shift))))
"""


@dataclass
class HeldBack:
    """What the tests share.

    Args:
        mesh: of the publisher, which is gone, and both mirrors.
        artifacts: the newest release, which only the honest mirror has.
        trust: the arguments that name the publisher, and who says what is fresh.
        liar: has the first release and its statement.
        honest: has the newest release and the newest statement.
    """

    mesh: Mesh
    artifacts: Path
    trust: tuple[str, ...]
    liar: Node
    honest: Node
    count: int = 0

    def boot(
        self, *options: str, peers: tuple[Node, ...], clock: str = "0", timeout_s: float = HANG_S
    ) -> tuple[Finished, Path]:
        """Fetch as a machine that remembers nothing, by a clock that is so many seconds ahead, or "dead"."""
        self.count += 1
        output = self.mesh.directory / f"machine-{self.count}"
        command = [
            "fetch",
            "--channel",
            "stable",
            "--arch",
            "x86_64",
            *self.trust,
            "-o",
            str(output),
            "--json",
        ]
        for peer in peers:
            command += ["--bootstrap", peer.address]
        command += ["--no-mdns", "--timeout", str(timeout_s), *options]
        return self.mesh.complete([sys.executable, "-c", _PROGRAM, clock, *command]), output


def statement_of(node: Node) -> int:
    """The least that the newest statement names which a node holds; 0 for none."""
    from p2pboot.core.trustdocs.freshness import Freshness
    from p2pboot.store.store import Store

    with Store.read(node.state) as store:
        statements = [Freshness.parse(raw).body for raw in store.documents.statements()]
    return max((one.minimum for one in statements), default=0)


@pytest.fixture(scope="module")
def held_back(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> Iterator[HeldBack]:
    directory = tmp_path_factory.mktemp("held-back")
    artifacts = write_artifacts(directory / "artifacts", rootfs_bytes=1 << 20)
    with forking_mesh_in(directory, zygote) as mesh:
        publisher_key, freshness_key = mesh.new_key("publisher"), mesh.new_key("freshness")
        said = ("--freshness", freshness_key)
        publisher = mesh.serve(
            artifacts, "--freshness-key", str(directory / "freshness" / "node.toml"), "--settle", "1s"
        )
        liar = mesh.mirror(publisher_key, *said, "--bootstrap", publisher.address, name="liar")
        liar.wait_for_head(1)
        wait_until(lambda: statement_of(liar) == 1, "the statement of the first release")
        liar.stop()
        sizes = {"vmlinuz-6.1": 700_001, "initrd.img": 1 << 20, "rootfs.squashfs": 1 << 20}
        write_image(artifacts / "stable" / "x86_64", sizes, seed=2)
        published = mesh.run("publish", "--state", str(publisher.state), "--urgent")
        assert published.status == 0, published.stderr
        honest = mesh.mirror(publisher_key, *said, "--bootstrap", publisher.address, name="honest")
        honest.wait_for_head(2)
        wait_until(lambda: statement_of(honest) == 2, "the statement of the second release")
        publisher.stop()
        liar = mesh.mirror(publisher_key, *said, name="liar")
        yield HeldBack(mesh, artifacts, ("--trust", publisher_key, *said), liar, honest)


def test_one_honest_mirror_is_enough(held_back: HeldBack) -> None:
    done, output = held_back.boot("--freshness-required", peers=(held_back.liar, held_back.honest))
    assert done.status == 0, done.stderr
    assert_same_bytes(output, held_back.artifacts)
    assert done.document["trust"]["freshness"]["head_version"] == 2
    verified = held_back.mesh.run(
        *("manifest", "verify", str(output / "manifest.json"), *held_back.trust, "--freshness-required")
    )
    assert verified.status == 0, verified.stderr


def test_with_the_liar_alone_it_is_not_held_back_for_longer_than_it_wants(held_back: HeldBack) -> None:
    wanted = ("--freshness-required", "--max-age", "1d")
    done, output = held_back.boot(*wanted, peers=(held_back.liar,), clock=str(2 * DAY_S), timeout_s=WAITED_S)
    assert done.status == 1
    assert "at most 1 d are taken" in done.stderr
    assert not (output / "manifest.json").exists()


def test_a_dead_clock_goes_by_the_best_informed_peer_and_says_so(held_back: HeldBack) -> None:
    both = (held_back.liar, held_back.honest)
    done, output = held_back.boot("--freshness-required", peers=both, clock="dead")
    assert done.status == 0, done.stderr
    assert_same_bytes(output, held_back.artifacts)
    checks = {check["name"]: check["outcome"] for check in done.document["verdict"]["checks"]}
    assert checks["freshness"] == "noted"
    assert done.document["trust"]["clock_trusted"] is False
    done, _ = held_back.boot("--require-clock", peers=both, clock="dead")
    assert done.status == 1
    assert "set this machine's clock" in done.stderr


def test_a_publisher_that_is_away_for_eight_days(held_back: HeldBack) -> None:
    """What has to be young enough is refused, and only then; who needs the machine all the same says so."""
    honest, clock = (held_back.honest,), str(8 * DAY_S)
    done, _ = held_back.boot(peers=honest, clock=clock, timeout_s=WAITED_S)
    assert done.status == 0, done.stderr
    assert any("at most 7 d are taken" in line for line in done.document["warnings"]), done.document[
        "warnings"
    ]
    done, _ = held_back.boot("--freshness-required", peers=honest, clock=clock, timeout_s=WAITED_S)
    assert done.status == 1
    assert "--accept-stale" in done.stderr
    done, output = held_back.boot("--freshness-required", "--accept-stale", peers=honest, clock=clock)
    assert done.status == 0, done.stderr
    assert done.document["trust"]["overridden"] == ["freshness"]
    assert_same_bytes(output, held_back.artifacts)
