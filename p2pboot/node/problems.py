"""The one list of what is wrong with a node now; log, status and metrics read nothing else.

Level-triggered: whoever watches over something reports all that is wrong with it, again and again, and the list finds
out what is new, what goes on and what is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from p2pboot.core.events import Event
from p2pboot.core.problems import Code, Problem, Severity

log = logging.getLogger(__name__)

MAX_OF_ONE_SOURCE: Final = 64  # a directory full of strange names is one mistake, not a thousand

_LEVELS: Final = {
    Severity.ERROR: logging.ERROR,
    Severity.WARNING: logging.WARNING,
    Severity.INFO: logging.INFO,
}


class Problems:
    """What is wrong now; for the event loop's thread, which is the only one to report. `all` may be called from any.

    Args:
        now: unix seconds.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._by_source: dict[str, dict[tuple[Code, str], Problem]] = {}

    def report(self, source: str, problems: Iterable[Problem]) -> None:
        """Say all that is wrong with one thing now, in place of what was said of it before.

        What is new or has another text is logged; so is what is over.

        Args:
            source: who says it, for example "publisher"; each has only its own problems to care for.
            problems: at most `MAX_OF_ONE_SOURCE` are kept.
        """
        before = self._by_source.get(source, {})
        now: dict[tuple[Code, str], Problem] = {}
        for problem in problems:
            key = (problem.code, problem.subject)
            if len(now) >= MAX_OF_ONE_SOURCE or key in now:
                continue
            known = before.get(key)
            now[key] = replace(problem, since=self._now() if known is None else known.since)
            if known is None or known.text != problem.text:  # the hundredth time it is no news
                log.log(
                    _LEVELS[problem.severity],
                    "%s",
                    told(problem),
                    extra=Event.PROBLEM(
                        code=problem.code.value,
                        subject=problem.subject,
                        severity=problem.severity.value,
                        link=problem.link,
                    ),
                )
        for key in before.keys() - now.keys():
            log.info(
                "%s: %s is over",
                before[key].subject,
                before[key].code,
                extra=Event.PROBLEM_OVER(code=before[key].code, subject=before[key].subject),
            )
        self._by_source[source] = now

    def all(self) -> tuple[Problem, ...]:
        """Everything that is wrong, the most severe first."""
        sources = tuple(self._by_source.values())  # in one step: servers ask in threads
        found = (problem for problems in sources for problem in problems.values())
        return tuple(sorted(found, key=lambda problem: problem.order))

    def of(self, source: str) -> tuple[Problem, ...]:
        """What one source said last."""
        return tuple(self._by_source.get(source, {}).values())


def told(problem: Problem) -> str:
    """The line of the log: what is wrong, what to do about it, and where more is said of it."""
    remedy = f" ({problem.remedy})" if problem.remedy else ""
    return f"{problem.subject}: {problem.code}: {problem.text}{remedy}; see {problem.link}"
