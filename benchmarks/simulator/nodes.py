"""Who takes part, and who knows whom."""

from __future__ import annotations

import random
from dataclasses import dataclass

from benchmarks.simulator.scenario import Scenario
from p2pboot.core.pieces import PieceSet
from p2pboot.fetch.receiving.schedule import Schedule
from p2pboot.serving.dealing import Dealing

BLOB = "image"


@dataclass(frozen=True, slots=True)
class News:
    """What a client tells its peers."""

    of: Node
    held: PieceSet
    new: list[range]
    fetching: list[range]
    stopped: list[range]


class Node:
    """Holder, client or liar.

    Args:
        number: clients first, then holders.
        count: of pieces.
    """

    def __init__(self, number: int, count: int) -> None:
        self.number = number
        self.count = count  # of pieces
        self.peers: dict[int, None] = {}  # as a set that keeps its order, for a run must be repeatable
        self.rack = -1
        self.holder = False
        self.lies = False
        self.dies = False
        self.schedule: Schedule | None = None  # an honest client's
        self.dealing: Dealing | None = None  # a holder's
        self.orders: dict[int, int] = {}  # a liar's, by holder
        self.start_s = 0.0
        self.started = False
        self.gone = False
        self.done_at: float | None = None
        self.have = 0
        self.sent = 0.0
        self.told = 0
        self.told_fetching = 0
        self.news_at = 0.0
        self.news_due = False


def make_nodes(scenario: Scenario, rng: random.Random) -> list[Node]:
    """Return clients, then holders, each with its peers."""
    total = scenario.clients + scenario.holders
    nodes = [Node(number, scenario.pieces) for number in range(total)]
    clients = list(range(scenario.clients))
    rng.shuffle(clients)
    for number in clients[: scenario.liars]:
        nodes[number].lies = True
    for number in clients[scenario.liars : scenario.liars + scenario.killed]:
        nodes[number].dies = True
    for node in nodes[: scenario.clients]:
        _make_client(node, scenario)
    for node in nodes[scenario.clients :]:
        node.holder = node.started = True
        node.have = (1 << scenario.pieces) - 1
        own = random.Random(scenario.seed * 7919 + node.number)
        node.dealing = Dealing(scenario.pieces, scenario.piece_length, own)
    for number in range(scenario.clients):
        _find_neighbours(nodes, number, scenario, rng)
    for number in range(scenario.clients, total):
        known = min(scenario.clients, scenario.holder_neighbours or scenario.clients)
        for client in rng.sample(range(scenario.clients), known):
            nodes[number].peers[client] = None
            nodes[client].peers[number] = None
    return nodes


def _make_client(node: Node, scenario: Scenario) -> None:
    node.rack = node.number % scenario.racks if scenario.racks else -1
    node.start_s = node.number * scenario.stagger_s
    if node.lies:
        return
    node.schedule = Schedule(random.Random(scenario.seed * 100003 + node.number))
    node.schedule.set_self(f"peer{node.number}")
    node.schedule.add_blob(
        BLOB,
        size=scenario.size,
        piece_length=scenario.piece_length,
        missing=PieceSet.full(scenario.pieces),
    )


def _find_neighbours(nodes: list[Node], number: int, scenario: Scenario, rng: random.Random) -> None:
    mine = nodes[number].peers
    if scenario.neighbours is None or scenario.neighbours >= scenario.clients - 1:
        mine.update(dict.fromkeys(other for other in range(scenario.clients) if other != number))
        return
    while len(mine) < scenario.neighbours:
        other = rng.randrange(scenario.clients)
        near = not scenario.racks or nodes[other].rack == nodes[number].rack
        full = len(nodes[other].peers) >= scenario.most_neighbours and rng.random() < 0.98
        if other != number and not full and (near or len(mine) * 4 >= scenario.neighbours * 3):
            mine[other] = None
            nodes[other].peers[number] = None
