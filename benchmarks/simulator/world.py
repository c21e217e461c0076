"""Nodes, their connections, and what happens between them in virtual time.

Time goes in steps. In each, everything that is on its way moves on by what its fair share of the links lets it; what is
complete then arrives, is checked at once, and the schedulers say what is asked for next. News of what a client holds
goes out a moment later, all that came together meanwhile as one, and arrives after the latency of the network.
"""

from __future__ import annotations

import random
from collections import deque
from heapq import heappop, heappush
from typing import Any

from benchmarks.simulator.links import Flow, Links
from benchmarks.simulator.nodes import BLOB, News, Node, make_nodes
from benchmarks.simulator.scenario import Outcome, Scenario
from p2pboot.core.pieces import PieceSet
from p2pboot.core.tally import bits_of, runs_of
from p2pboot.fetch.receiving.missing import Order
from p2pboot.serving.dealing import Deal

SILENT_S = 2.0
PUMP_S = 0.25


class World:
    """One run.

    Args:
        scenario: what to run.
        trace: whether to note every piece.
    """

    def __init__(self, scenario: Scenario, *, trace: bool = False) -> None:
        self.s = scenario
        self.rng = random.Random(scenario.seed)
        self.now = 0.0
        self.outcome = Outcome(scenario)
        self._events: list[tuple[float, int, Any]] = []
        self._number = 0
        self._tracing = trace
        self.everything = (1 << scenario.pieces) - 1
        self.nodes = make_nodes(scenario, self.rng)
        for node in self.nodes[: scenario.clients]:
            self._at(node.start_s, ("start", node))
        self.flows: dict[tuple[int, int], tuple[Flow, deque[Any]]] = {}
        self._make_links()
        self._killed = False

    # Making it

    def _make_links(self) -> None:
        s = self.s
        total = s.clients + s.holders
        up = s.links_of(s.up) + [s.rate] * s.holders
        down = s.links_of(s.down) + [s.rate] * s.holders
        self.links = Links(up + down + [s.rack_rate] * (2 * s.racks))
        self._racks_at = 2 * total

    def _at(self, when: float, event: Any) -> None:
        self._number += 1
        heappush(self._events, (when, self._number, event))

    # Running it

    def run(self, longest: float = 12.0) -> Outcome:
        """Run until all honest clients are done, or for so many times the bound."""
        s = self.s
        degree = min(s.neighbours or s.clients, s.clients) + s.holders
        step = s.step_s or max(0.001, min(0.02, s.piece_length * degree / s.rate / 8))
        honest = [node for node in self.nodes[: s.clients] if not node.lies and not node.dies]
        until = longest * s.bound_s + s.stagger_s * s.clients
        sample_at = 0.0
        while self.now < until and any(node.done_at is None for node in honest):
            self._move(step)
            self.now += step
            while self._events and self._events[0][0] <= self.now:
                self._happen(heappop(self._events)[2])
            self.outcome.steps += 1
            if self.now >= sample_at:
                sample_at = self.now + s.unit_s / 100
                have = sum(node.have.bit_count() for node in honest)
                self.outcome.done.append((self.now, have / (len(honest) * s.pieces)))
            if s.killed and not self._killed and self.now >= s.killed_at * s.unit_s:
                self._killed = True
                for node in self.nodes:
                    if node.dies:
                        self._remove(node, silently=s.silently)
            first = self.nodes[s.clients]
            if s.stop_after is not None and not first.gone and first.sent >= s.stop_after * s.size:
                self._remove(first, silently=False)
        self.outcome.took_s = [
            None if node.done_at is None else node.done_at - node.start_s for node in honest
        ]
        self.outcome.copies = sum(node.sent for node in self.nodes[s.clients :]) / s.size
        self.outcome.into_racks = [0.0] * s.racks
        for (source, client), pieces in self.outcome.received.items():
            rack = self.nodes[client].rack
            if s.racks and self.nodes[source].rack != rack:
                self.outcome.into_racks[rack] += pieces / s.pieces
        return self.outcome

    def _move(self, step: float) -> None:
        links = self.links
        links.share()
        finished = []
        nodes = self.nodes
        for flow in links.active:
            sent = flow.rate * step
            flow.left -= sent
            if flow.left <= 0:
                finished.append(flow)
            source, _ = flow.owner
            nodes[source].sent += sent
        for flow in finished:
            if flow in links.active:
                self._finish(flow)

    def _finish(self, flow: Flow) -> None:
        """The message at the head of a flow is complete; what comes next may be complete as well."""
        key = flow.owner
        while flow.left <= 0 and key in self.flows:
            queue = self.flows[key][1]
            self._deliver(key[0], key[1], queue.popleft()[1])
            if key in self.flows and not self._begin(key):
                self.nodes[key[0]].sent += min(flow.left, 0.0)
                break

    def _begin(self, key: tuple[int, int]) -> bool:
        """Begin to send what is at the head of a queue, if its request was heard; whether there is anything."""
        flow, queue = self.flows[key]
        while queue:
            ready_at, message = queue[0]
            if ready_at > self.now:
                self._at(ready_at, ("begin", key))
                break
            if isinstance(message, Order):
                message = self._choose(key, message)
                if message is None:
                    queue.popleft()
                    continue
                queue[0] = (ready_at, message)
            flow.left = (min(flow.left, 0.0) if flow in self.links.active else 0.0) + message[1]
            if flow not in self.links.active:
                self.links.start(flow)
            return True
        if flow in self.links.active:
            self.links.stop(flow)
        return False

    def _choose(self, key: tuple[int, int], order: Order) -> Any:
        """A holder, or who says that it is one, begins to answer an order: (what arrives, bytes), or nothing."""
        source, client = self.nodes[key[0]], self.nodes[key[1]]
        if source.lies:
            run = order.want[0] if order.want else range(1)
            chosen: Any = Deal(run.start, 1)
        else:
            if source.dealing is None:
                self._at(self.now + self.s.latency_s, ("refused", key, order, None))
                return None
            bits = 0
            for run in order.want:
                bits |= bits_of(self.s.pieces, run)
            chosen = source.dealing.choose(
                client.number, PieceSet(self.s.pieces, bits), order.max_pieces, self.now
            )
        if not isinstance(chosen, Deal):
            self._at(self.now + self.s.latency_s, ("refused", key, order, chosen.retry_s))
            return None
        run = range(chosen.first, chosen.first + chosen.count)
        length = chosen.count * self.s.piece_length
        if client.schedule is None:
            return ((run, None), length)
        assignment = client.schedule.dealt(order, chosen.first, chosen.count, self.now)
        return ((run, assignment), length)

    def _deliver(self, source: int, client: int, message: Any) -> None:
        (run, assignment), _ = message
        peer, node = self.nodes[source], self.nodes[client]
        self.outcome.transfers += 1
        if peer.dealing is not None:
            peer.dealing.sent(client, run.start, len(run), self.now)
        if node.schedule is None:  # a liar
            node.have |= bits_of(node.count, run)
            self._tell_later(node)
            self._pump(node, source)
            return
        self.outcome.received[source, client] = self.outcome.received.get((source, client), 0) + len(run)
        if assignment is not None:
            claimed = node.schedule.arrived(assignment, self.now)
            if peer.lies:
                node.schedule.settle(assignment, ())
                node.schedule.drop(source)
                self._disconnect(node, peer)
                self._pump_all(node)
                return
            node.schedule.settle(assignment, claimed)
            for index in claimed:
                node.have |= 1 << (node.count - 1 - index)
                if self._tracing:
                    self.outcome.trace.append((self.now, client, source, index))
            if claimed:
                self._tell_later(node)
            if node.schedule.complete(BLOB):
                self._done(node)
                return
        self._pump(node, source)

    def _done(self, node: Node) -> None:
        node.done_at = self.now
        for number in list(node.peers):
            if self.nodes[number].done_at is not None:
                self._disconnect(node, self.nodes[number])
        if not self.s.linger:
            self._remove(node, silently=False)

    # News

    def _claim(self, node: Node, to: Node) -> PieceSet:
        """What a node says that it has. A liar tells clients that it has everything, and a holder what it was dealt."""
        if node.lies and not to.holder:
            return PieceSet.full(self.s.pieces)
        if not (node.lies and self.s.vouching):
            return PieceSet(self.s.pieces, node.have)
        bits = 0
        for other in self.nodes:
            if other.lies:
                bits |= other.have
        return PieceSet(self.s.pieces, bits)

    def _tell_later(self, node: Node) -> None:
        if not node.news_due:
            node.news_due = True
            self._at(max(node.news_at, self.now), ("tell", node))

    def _tell(self, node: Node) -> None:
        node.news_due = False
        node.news_at = self.now + self.s.news_s
        fetching = 0 if node.schedule is None else node.schedule.fetching(BLOB).bits
        was, node.told_fetching = node.told_fetching, fetching
        count = self.s.pieces
        news = News(
            node,
            PieceSet(count, node.have),
            runs_of(count, node.have & ~node.told, count),
            runs_of(count, fetching & ~was, count),
            runs_of(count, was & ~fetching, count),
        )
        node.told = node.have
        if not self.s.late_s:
            self._at(self.now + self.s.latency_s, ("news", news, list(node.peers)))
            return
        for number in node.peers:
            late = self.rng.random() * self.s.late_s
            self._at(self.now + self.s.latency_s + late, ("news", news, [number]))

    def _hear(self, news: News, numbers: list[int]) -> None:
        node = news.of
        if node.gone:
            return
        for number in numbers:
            peer = self.nodes[number]
            if number not in node.peers or peer.gone or not peer.started:
                continue
            if peer.dealing is not None:
                if node.lies:
                    peer.dealing.hear_bitmap(node.number, self._claim(node, peer), self.now)
                else:
                    peer.dealing.hear(node.number, news.new, news.fetching, self.now)
            elif peer.schedule is not None and peer.done_at is None and not node.lies:
                if news.fetching or news.stopped:
                    peer.schedule.note_changes(node.number, BLOB, [], news.fetching, news.stopped)
                peer.schedule.set_holdings(node.number, BLOB, news.held)
                if len(self.flows[node.number, number][1]) < 2:
                    self._pump(peer, node.number)

    # Asking

    def _pump_all(self, node: Node) -> None:
        for number in list(node.peers):
            self._pump(node, number)

    def _pump(self, node: Node, source: int) -> None:
        """A client asks a peer for what its schedule says."""
        if source not in node.peers or node.done_at is not None:
            return
        peer = self.nodes[source]
        if peer.gone or not peer.started:
            return
        ready_at = self.now + self.s.latency_s
        messages: list[tuple[float, Any]] = []
        if node.schedule is None:
            if peer.holder:
                while node.orders.get(source, 0) < 2:
                    node.orders[source] = node.orders.get(source, 0) + 1
                    number = self._number = self._number + 1
                    order = Order(number, source, BLOB, (range(self.s.pieces),), 1, self.s.piece_length)
                    messages.append((ready_at, order))
        else:
            messages += ((ready_at, order) for order in node.schedule.deals(source, self.now))
            for one in node.schedule.assign(source, self.now):
                messages.append((ready_at, ((one.pieces, one), one.length)))
        if not messages:
            return
        key = (source, node.number)
        queue = self.flows[key][1]
        waiting = bool(queue)
        queue.extend(messages)
        if not waiting:
            self._at(ready_at, ("begin", key))

    # Coming and going

    def _start(self, node: Node) -> None:
        node.started = True
        for number in list(node.peers):
            if self.nodes[number].started and not self.nodes[number].gone:
                self._meet(node, self.nodes[number])
        self._keep_looking(node)

    def _meet(self, node: Node, peer: Node) -> None:
        for source, client in ((node, peer), (peer, node)):
            if source.lies and client.lies:
                continue
            if client.holder or client.gone:
                continue
            total = self.s.clients + self.s.holders
            links = [source.number, total + client.number]
            if self.s.racks and source.rack != client.rack:
                links += [self._racks_at + source.rack] if source.rack >= 0 else []
                links += [self._racks_at + self.s.racks + client.rack] if client.rack >= 0 else []
            key = (source.number, client.number)
            self.flows[key] = (Flow(tuple(links), key), deque())
            if source.dealing is not None:
                source.dealing.join(client.number, client.number, self.now)
                source.dealing.hear_bitmap(client.number, self._claim(client, source), self.now)
            if client.schedule is not None and client.done_at is None:
                near = not self.s.racks or source.rack == client.rack
                client.schedule.add_peer(
                    source.number, self.now, swarm=True, near=near, peer_id=f"peer{source.number}"
                )
                client.schedule.set_holdings(source.number, BLOB, self._claim(source, client))
            if client.done_at is None:
                self._at(self.now, ("pump", client, source.number))

    def _keep_looking(self, node: Node) -> None:
        if node.schedule is not None and node.done_at is None and not node.gone:
            self._pump_all(node)
            self._at(self.now + PUMP_S, ("look", node))

    def _disconnect(self, node: Node, peer: Node) -> None:
        """The connection of two nodes ends."""
        for source, client in ((node, peer), (peer, node)):
            source.peers.pop(client.number, None)
            if source.schedule is not None and client.number in source.schedule._peers:
                source.schedule.remove_peer(client.number)
            if source.dealing is not None and client.number in source.dealing._clients:
                source.dealing.leave(client.number)
            flow_and_queue = self.flows.pop((source.number, client.number), None)
            if flow_and_queue is not None and flow_and_queue[0] in self.links.active:
                self.links.stop(flow_and_queue[0])

    def _remove(self, node: Node, *, silently: bool) -> None:
        node.gone = True
        if silently:
            for number in node.peers:
                flow_and_queue = self.flows.get((node.number, number))
                if flow_and_queue is not None and flow_and_queue[0] in self.links.active:
                    self.links.stop(flow_and_queue[0])
            self._at(self.now + SILENT_S, ("remove", node))
            return
        for number in list(node.peers):
            peer = self.nodes[number]
            self._disconnect(node, peer)
            if peer.done_at is None:
                self._pump_all(peer)

    def _happen(self, event: Any) -> None:
        match event:
            case ("begin", key):
                if (
                    key in self.flows
                    and self.flows[key][0] not in self.links.active
                    and not self.nodes[key[0]].gone
                ):
                    self._begin(key)
            case ("news", news, numbers):
                self._hear(news, numbers)
            case ("tell", node):
                if not node.gone:
                    self._tell(node)
            case ("pump", node, number):
                self._pump(node, number)
            case ("refused", (source, client), order, retry_s):
                self._refuse(self.nodes[client], source, order, retry_s)
            case ("look", node):
                self._keep_looking(node)
            case ("start", node):
                self._start(node)
            case ("remove", node):
                self._remove(node, silently=False)

    def _refuse(self, node: Node, source: int, order: Order, retry_s: float | None) -> None:
        """A client hears that it gets no deal, for now or from this peer at all."""
        if source not in node.peers:
            return
        if node.schedule is None:
            node.orders[source] -= 1
        else:
            node.schedule.deal_refused(order, retry_s or 0.0, self.now)
            if retry_s is None:
                node.schedule.no_deals(source)
        self._at(self.now + (retry_s or 0.0), ("pump", node, source))
