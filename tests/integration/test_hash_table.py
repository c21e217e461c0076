"""What only the hash table knows is found there: through a stock py-libp2p, which speaks nothing else of ours."""

from __future__ import annotations

from pathlib import Path

from p2pboot.testing.processes import Mesh, first_line
from tests.dht.test_stock import PROGRAM
from tests.integration.images import assert_same_bytes


def test_a_client_finds_its_publisher_through_a_stranger_who_keeps_the_table(
    mesh: Mesh, artifacts: Path
) -> None:
    log = mesh.directory / "stock.log"
    stock = mesh.start(PROGRAM, log)
    address = first_line(stock, log)
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts, "--bootstrap", address, "--http", "127.0.0.1:0")
    output = mesh.directory / "out"
    done = mesh.run(*mesh.fetch_arguments(trust, output, address), "--dht", "client")
    assert done.status == 0, done.stderr
    assert_same_bytes(output, artifacts)
    assert set(done.document["peers"]) >= {publisher.peer_id}
    nothing = mesh.run(
        *mesh.fetch_arguments(trust, mesh.directory / "none", address), "--dht", "off", "--timeout", "2"
    )
    assert nothing.status == 3
