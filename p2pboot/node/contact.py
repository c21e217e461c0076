"""With whom the node is in contact, and how long it has not been: with anybody, with a publisher, with who dials in.

Looks at the network's connections every few seconds and remembers when it last saw what it expects to see. What peers
say of the heads they hold is their word only: whoever lies delays a warning, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

import trio

from p2pboot.core.dataclass import dataclass
from p2pboot.core.identity import PublicKey
from p2pboot.core.problems import Code, Problem
from p2pboot.core.timestamps import clock_text
from p2pboot.core.trust import Pair, Trust
from p2pboot.store.manifests import HeadRow
from p2pboot.transport.addresses import parse_address
from p2pboot.transport.interface import Connection, Transport

LOOK_S: Final = 2.0  # how often it is looked who is connected
ALONE_S: Final = 600.0  # so long without any peer is a problem: machines restart, switches too
UNMET_S: Final = (
    60.0  # the same where nobody has been here since the start: then it is the address, or the network
)
SILENT_S: Final = 3600.0  # so long without a word of the publisher; heads are compared every minute
OUTGOING_S: Final = 3600.0  # so long with peers that were all dialled from here …
OUTGOING_PEERS: Final = 3  # … at least so many: one or two are whoever was there first
INCOMING_S: Final = 86_400.0  # and nobody from outside in so long, or since the start

_DOCTOR: Final = "`p2pboot doctor` dials every address that is known here and says what fails"

_REACH: Final = f"see that the publisher runs, and that it is reached from here: {_DOCTOR}"


@dataclass(frozen=True, slots=True)
class _Moment:
    """A moment by both clocks: what lasts is measured by trio's; the date, in unix seconds, is for people."""

    at: float
    wall: int

    def __str__(self) -> str:
        return clock_text(self.wall)


class Contact:
    """Remembers contacts; for the event loop's thread.

    Args:
        transport: the node's network.
        expects_peers: whether the node is to have peers: it follows somebody, or was given addresses.
        addressed: tells the peer ids of whom the operator named by an address; they are kept connected.
        syncs: whether heads are compared with peers. Gossip alone does not tell who holds what: an announcement that
            comes minutes after one's own of the same is taken for a repeat, and not heard.
        followed: tells the channels and archs that the operator named.
        wall: unix seconds.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        expects_peers: Callable[[], bool],
        addressed: Callable[[], Collection[str]],
        syncs: bool,
        followed: Callable[[], Collection[Pair]],
        wall: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._expects_peers = expects_peers
        self._addressed = addressed
        self._syncs = syncs
        self._followed = followed
        self._wall = wall
        now = self._now()
        self._started = now
        self._company = now  # when anybody was connected last
        self._has_met = False  # whether anybody was, since the start
        self._connected: dict[str, _Moment] = {}  # the same of whom the operator named
        self._offered: dict[
            str, _Moment
        ] = {}  # when a manifest that is known was offered last, by its digest
        self._crowd_since = now.at  # since when enough peers are there, and all were dialled from here
        self._incoming: _Moment | None = None  # when somebody was here who dialled from outside
        self._seen: frozenset[Connection] = frozenset()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await trio.sleep(LOOK_S)

    def look(self) -> None:
        """Take down who is connected now."""
        now, connections = self._now(), self._transport.connections()
        peers = {connection.peer_id for connection in connections}
        if peers:
            self._company, self._has_met = now, True
        named = self._addressed()
        self._connected = {peer: moment for peer, moment in self._connected.items() if peer in named}
        self._connected.update(dict.fromkeys(peers.intersection(named), now))
        # One that this end dials is known as such a moment after it is up: what was there at the last look counts.
        settled, self._seen = connections & self._seen, connections
        if any(_is_from_outside(self._transport, connection) for connection in settled):
            self._incoming = now
        if self._incoming is now or len(peers) < OUTGOING_PEERS:
            self._crowd_since = now.at

    def offered(self, digests: Iterable[str]) -> None:
        """A peer offers manifests with these digests; what is not known here counts nothing."""
        now = self._now()
        self._offered.update({digest: now for digest in digests if digest in self._offered})

    def problems(self, rows: Collection[HeadRow], trust: Trust) -> list[Problem]:
        """All that is wrong now.

        Args:
            rows: the manifests that are known, held whole or not.
            trust: whom the node follows.
        """
        newest: dict[Pair, HeadRow] = {}
        for row in rows:
            if trust.takes(row) and not trust.is_own(row):
                newest[row.pair] = max(row, newest.get(row.pair, row), key=lambda one: one.manifest_version)
        self._offered = {row.digest: self._offered.get(row.digest, self._started) for row in newest.values()}
        silent = [self._silent(row, trust) for row in newest.values()]
        found = [self._alone(), *silent, self._unreachable()]
        if not newest and any(pair not in trust.own for pair in self._followed()):
            found.append(self._nothing())
        return [problem for problem in found if problem is not None]

    def _alone(self) -> Problem | None:
        if not self._expects_peers() or not self._is_past(
            self._company, ALONE_S if self._has_met else UNMET_S
        ):
            return None
        return Problem(Code.NO_PEERS, "network", f"nobody is connected, since {self._company}", _DOCTOR)

    def _nothing(self) -> Problem | None:
        if not self._is_past(self._started, SILENT_S):
            return None
        text = f"nobody has offered anything that is followed here since this node started, {self._started}"
        return Problem(
            Code.PUBLISHER_UNREACHABLE, "network", text, f"{_REACH}; and that it is the one that is trusted"
        )

    def _silent(self, row: HeadRow, trust: Trust) -> Problem | None:
        publisher = trust.publisher_for(*row.pair)
        keys = () if publisher is None else publisher.keys
        peers = {PublicKey.from_keyid(key).peer_id for key in keys}.intersection(self._addressed())
        if peers:  # it is kept connected, so what others say is not asked
            moments = [self._connected.get(peer, self._started) for peer in peers]
            last = max(moments, key=lambda one: one.at)
            text = f"its publisher, peer {' or '.join(sorted(peers))}, has not been connected since {last}"
        elif not self._syncs:
            return None
        else:
            last = self._offered[row.digest]
            text = f"nobody has said since {last} that version {row.manifest_version} is the newest"
        if not self._is_past(last, SILENT_S):
            return None
        return Problem(Code.PUBLISHER_UNREACHABLE, "/".join(row.pair), text, _REACH)

    def _unreachable(self) -> Problem | None:
        if trio.current_time() - self._crowd_since < OUTGOING_S:
            return None
        last = self._incoming
        if last is not None and not self._is_past(last, INCOMING_S):
            return None
        if not any(map(_is_elsewhere, self._transport.addresses())):
            return None  # nobody is to come from outside
        return Problem(
            Code.PORT_UNREACHABLE,
            "network",
            f"all peers were dialled from here: nobody has connected from outside since {last or self._started}",
            "try from another machine whether the port lets it in (nc -vz HOST PORT); if not, open it in the firewall"
            " or forward it",
        )

    def _now(self) -> _Moment:
        return _Moment(trio.current_time(), int(self._wall()))

    def _is_past(self, moment: _Moment, seconds: float) -> bool:
        return trio.current_time() - moment.at >= seconds


def _is_from_outside(transport: Transport, connection: Connection) -> bool:
    """Whether another machine has dialled this one."""
    return not transport.was_dialled(connection) and _is_elsewhere(connection.address)


def _is_elsewhere(address: str) -> bool:
    """Whether an address is not one that a machine has for itself alone."""
    parsed = parse_address(address)
    return not (parsed.is_ip and parsed.is_loopback)
