"""How many lines of the log somebody may cause: each peer or address a few, and all of them together.

Peer ids are free, so a limit of each would be none. What is left out is counted, and said.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from p2pboot.core.events import ADDRESS, PEER, Event, Fields
from p2pboot.core.origins import origin_of
from p2pboot.core.token_bucket import TokenBucket

EACH_BURST: Final = 10
EACH_PER_S: Final = 1 / 30
"""Two lines a minute say that it goes on."""

ALL_BURST: Final = 100
ALL_PER_S: Final = 1.0
"""At most 90,000 lines a day, about 20 MB, whoever comes."""

REMEMBERED: Final = 1024

TELL_AFTER_S: Final = 60.0
"""How long after the first line that was left out it is said how many there were."""

_RECURRING: Final = (Event.HTTP_FAILED, Event.NOT_KEPT, Event.SERVING_FAILED, Event.TASK_FAILED)
"""What goes wrong at every try, as long as it is so: without a peer or address that caused it, each has a limit of its
own. Strangers try as often as they like."""

_OF_PROBLEMS: Final = (Event.PROBLEM, Event.PROBLEM_OVER)


class LogLimits:
    """Decides about one line after the other; times are seconds of a clock that does not jump."""

    def __init__(self, now: float) -> None:
        self._all = TokenBucket(ALL_PER_S, ALL_BURST, now)
        self._each: OrderedDict[str, TokenBucket] = OrderedDict()  # the one that was used last is last
        self._lines = 0
        self._whose: set[str] = set()

    def admits(self, event: Event, fields: Fields, now: float) -> bool:
        """Whether a line may be written."""
        who = _cause_of(fields)
        if event in _OF_PROBLEMS:  # one that comes and goes; it takes nothing of what is for peers
            who, is_strangers = f"problem {fields.get('code')} {fields.get('subject')}", False
        elif who is None and event in _RECURRING:
            who, is_strangers = f"{event.value} {fields.get('task')}", False
        else:
            is_strangers = who is not None
        if who is None:
            return True
        if self._bucket(who, now).try_take(1, now) and (not is_strangers or self._all.try_take(1, now)):
            return True
        self._lines += 1
        if len(self._whose) < REMEMBERED:
            self._whose.add(who)
        return False

    def take(self) -> tuple[int, int] | None:
        """How many lines were left out since the last call, and of how many causes; None: none were."""
        found = self._lines, len(self._whose)
        self._lines = 0
        self._whose.clear()
        return found if found[0] else None

    def _bucket(self, who: str, now: float) -> TokenBucket:
        bucket = self._each.pop(who, None)
        if bucket is None:
            bucket = TokenBucket(EACH_PER_S, EACH_BURST, now)
            if len(self._each) >= REMEMBERED:
                self._each.popitem(last=False)
        self._each[who] = bucket
        return bucket


def _cause_of(fields: Fields) -> str | None:
    """Whom a line is put down to: the address, which costs something, before the peer id."""
    address, peer = fields.get(ADDRESS), fields.get(PEER)
    if address is not None:
        return origin_of(str(address))
    return None if peer is None else str(peer)
