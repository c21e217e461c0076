"""What is changed inside py-libp2p for the whole process: few names, each checked to exist, and its logging.

Everything else is done by subclasses that only our own hosts use (`swarm`, `host`, `gossip`). The
reason for each change is in docs/adr/0002-py-libp2p-adapter.md.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping
from typing import Final

from libp2p.exceptions import ParseError
from libp2p.host.basic_host import BasicHost
from libp2p.identity.identify import identify
from libp2p.io.abc import Reader
from libp2p.io.exceptions import IOException
from libp2p.network.connection import swarm_connection
from libp2p.network.swarm import Swarm
from libp2p.peer.peerstore import PeerStore
from libp2p.protocol_muxer import multiselect_communicator
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.mcache import MessageCache
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.pubsub.score import PeerScorer
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from p2pboot import __version__
from p2pboot.errors import MachineError

log = logging.getLogger("p2pboot.transport.libp2p")

SUPPORTED_VERSION: Final = "0.8.1"

# Longest protocol id we would want to hear of. Stock libp2p reads what a stranger asks for, up to 25 MB.
_MAX_NEGOTIATION_LINE: Final = 1024

# The private and public names that our subclasses override or call, by class or module.
_NAMES: Final[Mapping[object, str]] = {
    multiselect_communicator: "read_delim",
    identify: "AGENT_VERSION",
    swarm_connection: "logging",
    swarm_connection.SwarmConn: "new_stream",
    Swarm: "add_conn remove_conn get_connections notify_connected",
    BasicHost: "run close _swarm_stream_handler _schedule_identify _identify_peer",
    PeerStore: "add_addrs set_protocols add_protocols consume_peer_record clear_peerdata",
    Pubsub: "push_msg stream_handler continuously_read_stream handle_subscription notify_subscriptions"
    " _handle_new_peer _handle_dead_peer _peer_stream_retry_task handle_sending_messages get_hello_packet"
    " _replay_recent_messages _send_recent_messages_to_new_peer _build_announce_rpc topic_ids"
    " _forget_subscription _forget_all_subscriptions",
    GossipSub: "send_rpc heartbeat mesh_heartbeat _maintain_mesh_quality _emit_control_msgs emit_graft"
    " handle_rpc handle_ihave handle_graft handle_prune send_recent_messages _check_back_off _is_gossipsub_peer"
    " _handle_dropped_rpc publish remove_peer on_peer_subscribed flush_pending_messages",
    MessageCache: "put window shift",
    PeerScorer: "allow_publish allow_gossip is_graylisted allow_px_from penalize_graft_flood on_heartbeat"
    " on_join_mesh add_peer_ip",
    RpcQueue: "push pop close split_rpc",
}


def check_library() -> None:
    """Refuse to run on a libp2p that does not have what is replaced here.

    Raises:
        MachineError: naming the version that is needed.
    """
    remedy = f"install the version that p2pboot is made for: pip install libp2p=={SUPPORTED_VERSION}"
    version = importlib.metadata.version("libp2p")
    if version != SUPPORTED_VERSION:
        raise MachineError(f"libp2p {version} is installed, not {SUPPORTED_VERSION}", remedy=remedy)
    for owner, names in _NAMES.items():
        for name in names.split():
            if not hasattr(owner, name):
                shown = getattr(owner, "__qualname__", None) or getattr(owner, "__name__", owner)
                raise MachineError(f"the installed libp2p has no {shown}.{name}", remedy=remedy)


async def _read_line(reader: Reader) -> bytes:
    """Read one multistream-select message of bounded length (replaces `read_delim`)."""
    try:
        line = await read_varint_prefixed_bytes_limited(reader, _MAX_NEGOTIATION_LINE)
        line.decode()  # its caller does, outside of any except clause
    except (ValueError, IOException) as error:
        raise ParseError(f"no multistream-select message: {error}") from error
    if line[-1:] != b"\n":
        raise ParseError("multistream-select message without a newline")
    return line[:-1]


class _Demoted(logging.Handler):
    """Passes the library's records on as our debug messages: a stranger can cause any of them."""

    def emit(self, record: logging.LogRecord) -> None:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s: %s", record.name, record.getMessage(), exc_info=record.exc_info)


_demoted: Final = _Demoted()


def quieten() -> None:
    """Send what libp2p logs, from INFO upwards, to our debug log, and nothing to stderr.

    Call it again when the level of our log changed: where nobody listens, nothing is formatted.
    """
    root = logging.getLogger("libp2p")
    root.handlers[:] = [_demoted]
    root.propagate = False
    root.setLevel(logging.INFO if log.isEnabledFor(logging.DEBUG) else logging.CRITICAL + 1)
    # This module logs through `logging.warning(...)`, which puts a handler on the root logger and prints.
    setattr(swarm_connection, "logging", logging.getLogger("libp2p.network.connection"))  # noqa: B010


def apply() -> None:
    """Check the library and make the process-wide changes. Idempotent.

    Raises:
        MachineError: as `check_library`.
    """
    check_library()
    setattr(multiselect_communicator, "read_delim", _read_line)  # noqa: B010
    setattr(identify, "AGENT_VERSION", f"p2pboot/{__version__}")  # noqa: B010
    quieten()
