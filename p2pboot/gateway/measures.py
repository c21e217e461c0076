"""The metrics: each declared here, once, with all that is said of it.

What a scrape shows (`metrics`) and the tables of ``docs/metrics.md`` (`make document`) are made of the declarations;
tests hold both to it, and `promtool` looks at names and units. Nothing here counts anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from p2pboot.core.dataclass import dataclass

Kind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One metric.

    Args:
        name: as it stands in a scrape, by Prometheus' conventions: base units, `_total` for what only grows.
        kind: its type.
        text: what it is. The first sentence is its HELP, all of it is for the documentation.
        labels: their names, in the order in which values are given.
        bound: how many series there are at most, in words; for one without labels there is nothing to say.
    """

    name: str
    kind: Kind = "gauge"
    text: str
    labels: tuple[str, ...] = ()
    bound: str = "1"

    @property
    def help(self) -> str:
        """What it is, in a sentence."""
        return self.text.partition(". ")[0].removesuffix(".") + "."


_RELEASE: Final = ("channel", "arch", "publisher")
_RELEASES: Final = "one for each release that is known: at most `max_pairs` of each trusted publisher"

# -- the node ---------------------------------------------------------------------------------------------------------

INFO: Final = Measure(
    name="p2pboot_info",
    text="Always 1, with what the node is as labels. `role` is `publisher`, `mirror` or `snapshots`, `name` the one"
    " in the settings.",
    labels=("version", "peer_id", "role", "name"),
    bound="1 at a time",
)
READY: Final = Measure(
    name="p2pboot_ready",
    text="1 while something is offered, as `/ready` says; else 0.",
)
PROBLEM: Final = Measure(
    name="p2pboot_problem",
    text="1 for everything that is wrong now. What the codes mean and what to do is in"
    " [troubleshooting.md](troubleshooting.md). A series ends with its problem.",
    labels=("code", "subject", "severity"),
    bound="64 of each part of the node that reports any",
)
LAG: Final = Measure(
    name="p2pboot_event_loop_lag_seconds",
    kind="histogram",
    text="How much later than asked for the event loop came back from a sleep of a second. Everything else waits as"
    " long: what is above a second is a machine that is overloaded, or a fault of this program.",
    bound="13: the buckets, sum and count",
)

WATCHDOG_INTERVAL: Final = Measure(
    name="p2pboot_watchdog_interval_seconds",
    text="How often the service manager wants to hear of the event loop. Without a series where none does.",
)
WATCHDOG_BEATS: Final = Measure(
    name="p2pboot_watchdog_beats_total",
    kind="counter",
    text="How often the service manager was told that the event loop goes round. Likewise.",
)

# -- releases ---------------------------------------------------------------------------------------------------------

MANIFEST_INFO: Final = Measure(
    name="p2pboot_manifest_info",
    text="Always 1, with the image version that the publisher chose. `version` is its words, at most 128 bytes; a"
    " series ends when the next version is in force.",
    labels=(*_RELEASE, "version"),
    bound=_RELEASES,
)
MANIFEST_VERSION: Final = Measure(
    name="p2pboot_manifest_version",
    text="The counter of the manifest in force, manifest_version. It never goes back.",
    labels=_RELEASE,
    bound=_RELEASES,
)
MANIFEST_CREATED: Final = Measure(
    name="p2pboot_manifest_created_timestamp_seconds",
    text="When the manifest in force was made, in unix time. By its publisher's clock.",
    labels=_RELEASE,
    bound=_RELEASES,
)
MANIFEST_EXPIRY: Final = Measure(
    name="p2pboot_manifest_expiry_timestamp_seconds",
    text="When the manifest in force expires, in unix time. It is told after that too, though then nothing is"
    " offered. A publisher renews when a third of the time is left.",
    labels=_RELEASE,
    bound=_RELEASES,
)
MANIFESTS_REFUSED: Final = Measure(
    name="p2pboot_manifests_refused_total",
    kind="counter",
    text="Manifests from peers that were not taken. The reasons are those of `manifest verify`, and `wrong_topic`,"
    " `not_recorded`, `too_many` and `undecided`.",
    labels=("reason",),
    bound="one for each reason: at most 20",
)
EQUIVOCATIONS: Final = Measure(
    name="p2pboot_equivocations",
    text="Pairs of contradicting manifests of one publisher that are kept as evidence. Above 0 it is always an alarm:"
    " a key is misused, or its counter was lost.",
)

# -- trust ------------------------------------------------------------------------------------------------------------

_PAIR: Final = ("channel", "arch")
_ROOT: Final = ("name", "fleet")
_PAIRS: Final = "one for each channel and arch that is known: at most 256"
_ROOTS: Final = "one for each root that is configured and at hand"

ROOT_VERSION: Final = Measure(
    name="p2pboot_root_version", text="The version of the root in force.", labels=_ROOT, bound=_ROOTS
)
ROOT_EXPIRY: Final = Measure(
    name="p2pboot_root_expiry_timestamp_seconds",
    text="When the root in force expires, in unix time. Without a series where it never does.",
    labels=_ROOT,
    bound=_ROOTS,
)
FRESHNESS_CREATED: Final = Measure(
    name="p2pboot_freshness_created_timestamp_seconds",
    text="When it was last vouched for what the newest manifest is, in unix time. By the clock of who signed. It is"
    " renewed every six hours; without a series where nobody did.",
    labels=_PAIR,
    bound=_PAIRS,
)
FRESHNESS_MINIMUM: Final = Measure(
    name="p2pboot_freshness_minimum",
    text="The lowest manifest_version that is to be taken, as the newest freshness statement says.",
    labels=_PAIR,
    bound=_PAIRS,
)
YANKS: Final = Measure(
    name="p2pboot_yanks", text="Releases that were taken back.", labels=_PAIR, bound=_PAIRS
)
ROLLOUT: Final = Measure(
    name="p2pboot_rollout_ratio",
    text="How many of the machines a roll-out has reached by its plan, from 0 to 1. Without a series where none is on.",
    labels=_PAIR,
    bound=_PAIRS,
)
EVIDENCE: Final = Measure(
    name="p2pboot_evidence",
    text="Pairs of roots or freshness statements that can not both be honest, kept as evidence. `p2pboot evidence list`"
    " says which.",
)

# -- the store --------------------------------------------------------------------------------------------------------

STORE_USED: Final = Measure(name="p2pboot_store_used_bytes", text="What fetched artifacts take up.")
STORE_LIMIT: Final = Measure(
    name="p2pboot_store_limit_bytes",
    text="What they may take up now. Without a series where there is no limit.",
)
STORE_FREE: Final = Measure(
    name="p2pboot_store_free_bytes",
    text="What is left on the file system of the state directory, for this node's user.",
)
STORE_SIZE: Final = Measure(
    name="p2pboot_store_size_bytes",
    text="The size of the file system of the state directory.",
)
STORE_KEPT: Final = Measure(
    name="p2pboot_store_kept_versions",
    text="How many versions of an image are kept, at most.",
)

SCRUB_RUNNING: Final = Measure(
    name="p2pboot_scrub_running",
    text="1 while what is held is being read again, to find what the disk changed; else 0.",
)
SCRUB_READ: Final = Measure(
    name="p2pboot_scrub_read_bytes", text="How much the last pass has read. It begins at 0 with each pass."
)
SCRUB_SIZE: Final = Measure(name="p2pboot_scrub_size_bytes", text="How much the last pass has to read.")
SCRUB_FINISHED: Final = Measure(
    name="p2pboot_scrub_last_finished_timestamp_seconds",
    text="When a pass was last finished, in unix time. Without a series until one was, since the node began.",
)
DAMAGED: Final = Measure(
    name="p2pboot_scrub_damaged_total",
    kind="counter",
    text="Artifacts that were found damaged on the disk. By reading them again, or when somebody asked for them.",
)
MENDED: Final = Measure(
    name="p2pboot_scrub_mended_total",
    kind="counter",
    text="Of the damaged artifacts those that are whole again. What is missing for long can not be fetched from"
    " anybody.",
)
SNAPSHOTS: Final = Measure(
    name="p2pboot_snapshots",
    text="Timetoke snapshots that are held. Without a series where the node has no part in them.",
)
SNAPSHOTS_SIZE: Final = Measure(
    name="p2pboot_snapshots_size_bytes", text="What these snapshots take up. Likewise."
)

# -- peers and bytes --------------------------------------------------------------------------------------------------

PEERS: Final = Measure(
    name="p2pboot_peers",
    text="Connected peers, by the way that bytes take. `lan`: near, or found by multicast DNS; `mesh`: another peer"
    " told of it, or it was reached earlier; `dht`: the hash table; `bootstrap`: an address in the settings;"
    " `incoming`: it called. Of more than 256 peers only these are counted.",
    labels=("path",),
    bound="5",
)
TRAFFIC: Final = Measure(
    name="p2pboot_traffic_bytes_total",
    kind="counter",
    text="Bytes exchanged, by who is at the other end. `class` is `http`, clients of the gateway; `publisher`,"
    " wherever it is; `lan`, peers that are near; or `mesh`, all others. `direction` is `sent` or `received`. Counted"
    " every five seconds.",
    labels=("class", "direction"),
    bound="8",
)
PEER_BYTES: Final = Measure(
    name="p2pboot_peer_bytes_total",
    kind="counter",
    text="Bytes exchanged with peers, by protocol. Without HTTP; `protocol` is one of this program's, or `gossip`;"
    " `direction` is `sent` or `received`.",
    labels=("protocol", "direction"),
    bound="two for each protocol: at most 20",
)
POISONINGS: Final = Measure(
    name="p2pboot_poisonings_total",
    kind="counter",
    text="How often a peer sent what is not what was signed: pieces, or manifests and announcements that no honest"
    " node sends. Who they were stands in the log and in `p2pboot status`: peer ids are free, and would be series"
    " without end.",
)
POISONERS: Final = Measure(
    name="p2pboot_poisoners",
    text="Peers that did so in the last day. At most 256.",
)

# -- what is brought in -----------------------------------------------------------------------------------------------

FETCH_DONE: Final = Measure(
    name="p2pboot_fetch_done_bytes",
    text="How much is here and verified of a release that is being fetched. The series begins when its manifest is"
    " accepted and ends when it is whole.",
    labels=_RELEASE,
    bound=_RELEASES,
)
FETCH_SIZE: Final = Measure(
    name="p2pboot_fetch_size_bytes",
    text="How large the release is that is being fetched.",
    labels=_RELEASE,
    bound=_RELEASES,
)
FETCH_WAITING: Final = Measure(
    name="p2pboot_fetch_waiting_seconds",
    text="For how long no piece has come of any artifact of a release that is being fetched; 0 while some come.",
    labels=_RELEASE,
    bound=_RELEASES,
)

FETCHES: Final = Measure(
    name="p2pboot_fetches_total",
    kind="counter",
    text="How fetching releases came out. `completed`: it is whole; `failed`: not this time, and it is tried again;"
    " `unusable`: it can never be had, by its publisher's fault.",
    labels=("result",),
    bound="3",
)
BOOTED: Final = Measure(
    name="p2pboot_clients_total",
    kind="counter",
    text="Machines that began to take what they boot from. `via` is `http`, or `p2p` for `fetch`; a machine that"
    " comes back after long is counted again.",
    labels=("via",),
    bound="2",
)
RECENT: Final = Measure(
    name="p2pboot_recent_clients",
    text="Machines that booted in the last day, as `p2pboot status` lists them. At most 64 are remembered; `done` is"
    " `true` where it has taken here all that it boots from.",
    labels=("via", "done"),
    bound="4",
)

# -- the hash table ---------------------------------------------------------------------------------------------------

DHT_PEERS: Final = Measure(
    name="p2pboot_dht_peers",
    text="Peers in the routing table of the [hash table](discovery.md#the-hash-table).",
)
DHT_RECORDS: Final = Measure(
    name="p2pboot_dht_records",
    text="Records of others that are kept. `value`: at most 1,000; `provider`: at most 4,000.",
    labels=("kind",),
    bound="2",
)
DHT_REQUESTS: Final = Measure(
    name="p2pboot_dht_requests_total",
    kind="counter",
    text="Requests answered. The types are those of Kademlia: `get_value`, `find_node` and so on.",
    labels=("type",),
    bound="one for each type: 6",
)
DHT_REFUSED: Final = Measure(
    name="p2pboot_dht_refused_total",
    kind="counter",
    text="Requests, records and streams refused. `quota`: no place for a record; `streams`: none for a stream;"
    " `malformed`; `guest`: not on the allow-list.",
    labels=("reason",),
    bound="4",
)

# -- HTTP -------------------------------------------------------------------------------------------------------------

HTTP_REQUESTS: Final = Measure(
    name="p2pboot_http_requests_total",
    kind="counter",
    text="Requests answered. Status 0: the client went before it was answered; route `other`: a path that is none.",
    labels=("route", "status"),
    bound="one for each route and status that came up: at most 150",
)
HTTP_BYTES: Final = Measure(
    name="p2pboot_http_bytes_total",
    kind="counter",
    text="Bytes exchanged over HTTP, heads and bodies.",
    labels=("direction",),
    bound="2",
)
HTTP_FAILURES: Final = Measure(
    name="p2pboot_http_failures_total",
    kind="counter",
    text="Requests that failed by a fault of this program.",
)
HTTP_CONNECTIONS: Final = Measure(name="p2pboot_http_connections", text="Open connections.")
HTTP_CUT: Final = Measure(
    name="p2pboot_http_connections_cut_total",
    kind="counter",
    text="Connections that had to make room for others.",
)
HTTP_REFUSED: Final = Measure(
    name="p2pboot_http_connections_refused_total",
    kind="counter",
    text="Connections for which there was no place.",
)

ADMIN_REQUESTS: Final = Measure(
    name="p2pboot_admin_requests_total",
    kind="counter",
    text="Requests answered at the admin address. Statuses and routes as above; route `events` counts a stream when"
    " it ends.",
    labels=("route", "status"),
    bound="one for each route and status that came up: at most 60",
)
ADMIN_FAILURES: Final = Measure(
    name="p2pboot_admin_failures_total",
    kind="counter",
    text="Requests at the admin address that failed by a fault of this program.",
)
EVENT_STREAMS: Final = Measure(
    name="p2pboot_event_streams",
    text="Open streams of events: pages and programs that watch. At most 16.",
)

# -- the process: in the words of Prometheus' library, as every program has them ---------------------------------------

CPU: Final = Measure(
    name="process_cpu_seconds_total",
    kind="counter",
    text="Total user and system CPU time spent in seconds.",
)
MEMORY: Final = Measure(name="process_resident_memory_bytes", text="Resident memory size in bytes.")
VIRTUAL: Final = Measure(name="process_virtual_memory_bytes", text="Virtual memory size in bytes.")
STARTED: Final = Measure(
    name="process_start_time_seconds", text="Start time of the process since unix epoch in seconds."
)
FILES: Final = Measure(name="process_open_fds", text="Number of open file descriptors.")
MOST_FILES: Final = Measure(name="process_max_fds", text="Maximum number of open file descriptors.")

SECTIONS: Final[dict[str, tuple[Measure, ...]]] = {
    "The node": (INFO, READY, PROBLEM, LAG, WATCHDOG_INTERVAL, WATCHDOG_BEATS),
    "Releases": (
        MANIFEST_INFO,
        MANIFEST_VERSION,
        MANIFEST_CREATED,
        MANIFEST_EXPIRY,
        MANIFESTS_REFUSED,
        EQUIVOCATIONS,
    ),
    "Trust": (ROOT_VERSION, ROOT_EXPIRY, FRESHNESS_CREATED, FRESHNESS_MINIMUM, YANKS, ROLLOUT, EVIDENCE),
    "The store": (
        *(STORE_USED, STORE_LIMIT, STORE_FREE, STORE_SIZE, STORE_KEPT),
        *(SCRUB_RUNNING, SCRUB_READ, SCRUB_SIZE, SCRUB_FINISHED, DAMAGED, MENDED),
        *(SNAPSHOTS, SNAPSHOTS_SIZE),
    ),
    "Peers and bytes": (PEERS, TRAFFIC, PEER_BYTES, POISONINGS, POISONERS),
    "What is fetched": (FETCH_DONE, FETCH_SIZE, FETCH_WAITING, FETCHES),
    "Clients": (BOOTED, RECENT),
    "The hash table": (DHT_PEERS, DHT_RECORDS, DHT_REQUESTS, DHT_REFUSED),
    "HTTP": (HTTP_REQUESTS, HTTP_BYTES, HTTP_FAILURES, HTTP_CONNECTIONS, HTTP_CUT, HTTP_REFUSED),
    "The admin address": (ADMIN_REQUESTS, ADMIN_FAILURES, EVENT_STREAMS),
    "The process": (CPU, MEMORY, VIRTUAL, STARTED, FILES, MOST_FILES),
}
"""Every metric, under the heading that it stands below in the documentation."""


def measures() -> Iterator[Measure]:
    """All of them."""
    for section in SECTIONS.values():
        yield from section
