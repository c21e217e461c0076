"""What becomes of the peers that `p2pboot discover --watch` finds: on a terminal the whole, elsewhere what changed.

What counts as a change of a peer is what it offers and withholds, whether it answers, and whether the trust takes it.
Further ways to it and its round trip are shown with that, and are no events.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, redirect_stderr
from typing import TYPE_CHECKING, Final, Protocol

from p2pboot.cli.output import check_reader, counted, one_line, say, warn
from p2pboot.cli.peers import (
    Verdicts,
    judge_all,
    judgement,
    peer_document,
    round_trip_of,
    source_of,
    survey_lines,
    title_of,
    unreached_lines,
)
from p2pboot.core.dataclass import dataclass
from p2pboot.core.timestamps import format_time

if TYPE_CHECKING:
    from p2pboot.fetch.asking.survey import Peer, Survey

_HOME: Final = "\x1b[H"
_CLEAR_BELOW: Final = "\x1b[J"


Facts = dict[str, tuple[str, str]]
"""What is known of a peer, by what it is about: a verb, and a text."""

_NO_MORE: Final = {"offers": "withdrew", "withholds": "released", "fails": "answers"}


_NOTES: Final = 3  # lines of the log that a terminal shows


class Show(Protocol):
    """One form of showing."""

    def in_use(self) -> AbstractContextManager[None]:
        """The time in which it is used."""

    def show(self, survey: Survey) -> None:
        """Show what there is now."""

    def nobody(self, why: str) -> None:
        """Say that nobody was found in the time that this usually takes, and what helps."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to one peer.

    Args:
        name: "found", "changed" or "lost".
        peer: as it is now; as it was, where it is lost.
        before: what was known of it before; empty where it is found.
        after: what is known now; empty where it is lost.
    """

    name: str
    peer: Peer
    before: Facts
    after: Facts

    @property
    def news(self) -> Iterator[tuple[str, str]]:
        """What is not as it was: a verb, and of what."""
        for subject, (verb, text) in self.after.items():
            if self.before.get(subject) != (verb, text):
                yield verb, text
        for subject, (verb, text) in self.before.items():
            if subject not in self.after:
                yield _NO_MORE[verb], text


class Events:
    """Tells what happened from one survey to the next."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Peer, Facts]] = {}

    def between(self, survey: Survey, verdicts: Verdicts) -> list[Event]:
        """What happened since the last call.

        Args:
            survey: as it is now.
            verdicts: on its manifests.
        """
        known = {peer_id: (peer, _facts_of(peer, survey, verdicts)) for peer_id, peer in survey.peers.items()}
        events = []
        for peer_id, (peer, facts) in known.items():
            _, before = self._known.get(peer_id, (peer, {}))
            if peer_id not in self._known:
                events.append(Event("found", peer, {}, facts))
            elif before != facts:
                events.append(Event("changed", peer, before, facts))
        events += [
            Event("lost", peer, facts, {})
            for peer_id, (peer, facts) in self._known.items()
            if peer_id not in known
        ]
        self._known = known
        return events


def _facts_of(peer: Peer, survey: Survey, verdicts: Verdicts) -> Facts:
    facts: Facts = {}
    for digest in peer.offers:
        verdict = judgement(verdicts.get(digest))
        offer = f"{title_of(survey.manifests[digest])}  sha256:{digest}"
        facts[digest] = ("offers", offer if verdict is None else f"{offer}  {verdict}")
    for one in peer.word.withheld:
        facts[f"{one.channel}/{one.arch}"] = ("withholds", f"{one.channel}/{one.arch}: {one.text}")
    if peer.failure is not None:
        facts["failure"] = ("fails", peer.failure)
    return facts


class Lines:
    """One line for each event, for logs.

    Args:
        now: this machine's clock, unix seconds.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._events = Events()

    def in_use(self) -> AbstractContextManager[None]:
        """Nothing has to be done for it."""
        return nullcontext()

    def show(self, survey: Survey) -> None:
        """Say what happened.

        Raises:
            BrokenPipeError: nobody reads it any more.
        """
        check_reader()
        now = self._now()
        verdicts = judge_all(survey, now)
        for event in self._events.between(survey, verdicts):
            self._say(event, survey, verdicts, format_time(now))
        sys.stdout.flush()

    def nobody(self, why: str) -> None:
        """Say it on standard error."""
        warn(why)

    def _say(self, event: Event, survey: Survey, verdicts: Verdicts, at: str) -> None:
        peer = event.peer
        if event.name != "changed":
            where = "" if event.name == "lost" else f"  {round_trip_of(peer)}  {' '.join(peer.addresses)}"
            say(f"{at}  {event.name:<9}  {peer.peer_id}  {source_of(peer)}{where}")
        if event.name != "lost":
            for verb, text in event.news:
                say(f"{at}  {verb:<9}  {peer.peer_id}  {text}")


class Documents(Lines):
    """JSON Lines: one document for each event."""

    def _say(self, event: Event, survey: Survey, verdicts: Verdicts, at: str) -> None:
        gone = event.name == "lost"
        peer = {"peer_id": event.peer.peer_id} if gone else peer_document(event.peer, survey, verdicts)
        print(json.dumps({"event": event.name, "at": at, "peer": peer}, ensure_ascii=False))


class Screen:
    """A terminal, which always shows the whole.

    Args:
        now: this machine's clock, unix seconds.
        named: addresses that the user gave.
    """

    def __init__(self, now: Callable[[], int], named: Sequence[str]) -> None:
        self._now, self._named = now, named
        self._why_nobody = ""
        self._shown = ""
        self._notes: deque[str] = deque(maxlen=_NOTES)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """What goes to standard error meanwhile, the log above all, is shown with the rest where that is one too."""
        if not sys.stderr.isatty():
            yield
            return
        logging_there = [
            handler
            for handler in logging.getLogger().handlers
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr
        ]
        with ExitStack() as stack:
            for handler in logging_there:
                stack.callback(handler.setStream, handler.setStream(self))
            stack.enter_context(redirect_stderr(self))
            yield

    def write(self, text: str) -> int:
        """Take what was meant for standard error."""
        self._notes.extend(line for line in text.splitlines() if line)
        return len(text)

    def flush(self) -> None:
        """It is shown with the next picture."""

    def show(self, survey: Survey) -> None:
        """Draw it, where it looks otherwise than before."""
        now = self._now()
        verdicts = judge_all(survey, now)
        lines = [f"{counted(len(survey.peers), 'peer')}, Ctrl-C ends", *self._notes, ""]
        lines += survey_lines(survey, verdicts, now)
        lines += unreached_lines(survey, self._named)
        if not survey.peers and self._why_nobody:
            lines.append(self._why_nobody)
        text = "\n".join(_fitting([one_line(line) for line in lines]))
        if text != self._shown:
            sys.stdout.write(f"{_HOME}{_CLEAR_BELOW}{text}\n")
            sys.stdout.flush()
            self._shown = text

    def nobody(self, why: str) -> None:
        """Have it on the screen as long as it is so."""
        self._why_nobody = why


def _fitting(lines: list[str]) -> list[str]:
    """As many lines as the terminal has room for; longer ones take several of its rows."""
    columns, rows = shutil.get_terminal_size()
    room = max(rows - 2, 1)  # one to say that there are more, and one for the cursor
    shown: list[str] = []
    for line in lines:
        room -= max(1, -(-len(line) // columns))
        if room < 0:
            return [*shown, f"… and {counted(len(lines) - len(shown), 'line')} more"]
        shown.append(line)
    return shown
