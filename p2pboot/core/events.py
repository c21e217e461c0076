"""Events: what a line of the log is about, by a stable name, for whoever reads logs with a program.

A name, once given out, keeps its meaning; the words of the line do not have to. ``docs/logs.md`` has them one by one.
Fields are facts of their own beside the words. A peer's or client's is `peer` or `address`: by these, and nothing else,
it is decided how many lines somebody may cause.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

EVENT: Final = "p2pboot_event"
FIELDS: Final = "p2pboot_fields"
"""The attributes of a log record that hold them."""

PEER: Final = "peer"
ADDRESS: Final = "address"
RESERVED: Final = frozenset({"time", "level", "event", "message", "module", "traceback"})
"""What stands in every line as JSON, and is no field of an event."""

Fields = Mapping[str, str | int | float | bool | None]


class Event(enum.StrEnum):
    """What happened. Called with fields, it is what a log call takes as `extra`."""

    # the node
    COMMAND_FAILED = "command-failed"
    NODE_ENDING = "node-ending"
    SETTINGS_RELOADED = "settings-reloaded"
    SETTINGS_REFUSED = "settings-refused"
    RESTART_NEEDED = "restart-needed"
    PORT_TAKEN = "port-taken"
    SOCKET_UNUSED = "socket-unused"
    PROBLEM = "problem"
    PROBLEM_OVER = "problem-over"
    REACHABLE = "reachable"
    NOT_REACHABLE = "not-reachable"
    TASK_FAILED = "task-failed"
    SUPPRESSED = "suppressed"

    # releases and snapshots
    PUBLISHED = "published"
    VOUCHED = "vouched"
    YANKED = "yanked"
    TAKEN_OVER = "taken-over"
    OUTBID = "outbid"
    KNOWN_ELSEWHERE = "known-elsewhere"
    FETCHING = "fetching"
    HELD = "held"
    NOT_FOLLOWED = "not-followed"
    MOVES_TOO_OFTEN = "moves-too-often"
    UNUSABLE = "unusable"
    EQUIVOCATION = "equivocation"
    CONTRADICTION = "contradiction"
    ROOT_IN_FORCE = "root-in-force"
    SNAPSHOT_HELD = "snapshot-held"
    SNAPSHOT_CONFLICT = "snapshot-conflict"
    SNAPSHOT_UNSIGNED = "snapshot-unsigned"

    # the store
    DAMAGED = "damaged"
    REPAIRED = "repaired"
    MEMORY_LOST = "memory-lost"
    NOT_KEPT = "not-kept"
    KEY_FILE = "key-file"

    # peers
    PEER_DROPPED = "peer-dropped"
    PEER_UNREACHABLE = "peer-unreachable"
    SIGNATURE_DROPPED = "signature-dropped"
    CONNECTION_ENDED = "connection-ended"
    KEPT_OUT = "kept-out"
    HUNG_UP = "hung-up"
    SERVING_FAILED = "serving-failed"
    GOSSIP_FAILED = "gossip-failed"
    DISCOVERY_FAILED = "discovery-failed"

    # HTTP
    HTTP_LISTENING = "http-listening"
    HTTP_FAILED = "http-failed"
    HTTP_HIDDEN = "http-hidden"

    # whatever has no name of its own
    OTHER = "other"

    def __call__(self, **fields: str | int | float | bool | None) -> dict[str, Any]:
        """Give it to a log call: ``log.info("…", …, extra=Event.HELD(channel=…))``.

        Args:
            fields: facts, by names that are not `RESERVED`; None is left out.
        """
        return {EVENT: self, FIELDS: {name: value for name, value in fields.items() if value is not None}}


def event_of(record: object) -> Event:
    """What a log record is about."""
    event: Event = getattr(record, EVENT, Event.OTHER)
    return event


def fields_of(record: object) -> Fields:
    """The facts that a log record has beside its words."""
    fields: Fields = getattr(record, FIELDS, {})
    return fields
