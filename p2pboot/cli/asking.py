"""Asking a person on a terminal: a question with its reason and its default, checked at once, asked again if wrong.

Where standard input is no terminal its lines are the answers, in the order of the questions: nobody is asked again.
"""

from __future__ import annotations

import contextlib
import select
import sys
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import click

from p2pboot.cli.output import one_line
from p2pboot.core.dataclass import dataclass
from p2pboot.errors import P2PBootError, UsageError

T = TypeVar("T")

MAX_TRIES: Final = 3
MAX_ANSWER: Final = 4096  # characters; a terminal passes on no longer line


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Generic[T]):
    """Something to ask.

    Args:
        text: the question, a line without its question mark's default.
        why: what depends on it, one line.
        option: that answers it on the command line: "--role".
        parse: reads an answer; raises ValueError, or P2PBootError, with what is wrong: "must be …".
        default: the answer of who presses Enter only; None: there has to be one.
    """

    text: str
    why: str
    option: str
    parse: Callable[[str], T]
    default: str | None = None


class Asker:
    """Answers questions: from the command line, else from the person, else by the defaults.

    Args:
        takes_defaults: whether questions that have a default are not to be asked.
    """

    def __init__(self, *, takes_defaults: bool) -> None:
        self._takes_defaults = takes_defaults

    def answer(self, question: Question[T], given: str | None) -> T:
        """Have an answer.

        Args:
            question: what is to be known.
            given: the option's value; None: it was not given.

        Raises:
            UsageError: the option's value is wrong, nobody can be asked, or all of his answers were wrong.
            click.Abort: he ended it instead (Ctrl-C, Ctrl-D).
        """
        if given is not None:
            return _parsed(question, given)
        if self._takes_defaults and question.default is not None:
            return _parsed(question, question.default)
        if sys.stdin is not None and sys.stdin.isatty():
            if sys.stderr.isatty():  # where the question is seen
                return _ask(question)
        elif (line := _next_line(question)) is not None:
            return _parsed(question, line or question.default or "")
        usual = f", or take the default {question.default} with --yes" if question.default else ""
        raise UsageError(
            f"{question.text}: there is no terminal, so nobody can be asked",
            remedy=f"answer with {question.option}{usual}",
        )


def _next_line(question: Question[T]) -> str | None:
    """The next answer of a file or a pipe; None where there is none."""
    if sys.stdin is None:
        return None
    with contextlib.suppress(OSError, ValueError):  # what has no descriptor does not wait either
        if not select.select([sys.stdin], [], [], 0)[0]:
            _show(
                f"\n{question.text}?\n  {question.why}\n{_prompt(question)}\n"
            )  # somebody may be at the other end
    try:
        line = sys.stdin.readline(MAX_ANSWER)
    except OSError:  # a directory, a terminal that went away
        return None
    except UnicodeDecodeError:
        raise UsageError(
            f"{question.text}: the answer on standard input is no text",
            remedy=f"answer with {question.option}",
        ) from None
    return line.strip() if line else None


def _parsed(question: Question[T], text: str) -> T:
    try:
        return question.parse(text)
    except P2PBootError as error:
        raise UsageError(f"{question.option}: {error.message}", remedy=error.remedy) from None
    except ValueError as error:
        raise UsageError(
            f"{question.option}: {error}", remedy=f"{question.text[0].lower()}{question.text[1:]}?"
        ) from None


def _ask(question: Question[T]) -> T:
    _show(f"\n{question.text}?\n  {question.why}\n")
    wrong = ""
    for _ in range(MAX_TRIES):
        _show(_prompt(question))
        try:
            return question.parse(_read_line() or question.default or "")
        except P2PBootError as error:
            wrong = error.message + (f"; {error.remedy}" if error.remedy else "")
        except ValueError as error:
            wrong = str(error)
        _show(f"  {one_line(wrong)}\n")
    raise UsageError(
        f"{question.text}: {MAX_TRIES} answers, and none can be taken ({wrong})",
        remedy=f"find it out, and start again; {question.option} answers it on the command line",
    )


def _prompt(question: Question[T]) -> str:
    return f"[{question.default}] " if question.default else "> "


def _read_line() -> str:
    try:
        line = sys.stdin.readline(MAX_ANSWER)
    except KeyboardInterrupt:
        _show("\n")
        raise click.Abort from None
    if not line:  # Ctrl-D, or the terminal went away
        _show("\n")
        raise click.Abort
    return line.strip()


def _show(text: str) -> None:
    """On standard error: standard output is the result's."""
    sys.stderr.write(text)
    sys.stderr.flush()
