"""What a running node says of itself, and what is counted for it.

One document, made by `describe_node`: on the control socket, for the page and for terminals. Its form is in
``docs/status.md``. What only the event loop knows is a `RunningNode`; `document` puts that and the store together.
"""

from p2pboot.node.status.document import (
    PATHS,
    SCHEMA,
    describe_dht,
    describe_fetching,
    describe_node,
    path_of,
)
from p2pboot.node.status.running import PeerFacts, RunningNode, SnapshotsFacts
from p2pboot.node.status.trust import describe_trust

__all__ = [
    "PATHS",
    "SCHEMA",
    "PeerFacts",
    "RunningNode",
    "SnapshotsFacts",
    "describe_dht",
    "describe_fetching",
    "describe_node",
    "describe_trust",
    "path_of",
]
