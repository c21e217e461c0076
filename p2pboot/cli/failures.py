"""Any exception as what a person, a script and the shell get to know of it."""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Final

import click

from p2pboot.core.dataclass import dataclass
from p2pboot.errors import (
    ArtifactError,
    ConfigError,
    ExitStatus,
    FetchError,
    KeyFileError,
    MachineError,
    Malformed,
    ManifestError,
    NotFoundError,
    P2PBootError,
    ProtocolError,
    SignatureError,
    StoreError,
    UsageError,
    machine_error,
)

INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h: a bug of ours, unlike all statuses of `ExitStatus`
INTERRUPTED = 130

# What somebody gave in place of a number or a name; a path of that length can not exist.
_ENDLESS_WORD: Final = re.compile(r"\S{1024,}")

_REASONS: dict[type, str] = {
    ArtifactError: "artifact",
    ConfigError: "config",
    FetchError: "fetch",
    KeyFileError: "key_file",
    MachineError: "machine",
    Malformed: "malformed",
    ManifestError: "manifest",
    NotFoundError: "not_found",
    ProtocolError: "protocol",
    SignatureError: "signature",
    StoreError: "store",
    UsageError: "usage",
    P2PBootError: "refused",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a command failed.

    Args:
        message: one line without a full stop; empty when nothing is to be said.
        remedy: one line, or None.
        reason: a stable word for scripts: "usage", "config", "not_found", "machine", …
        exit_status: for the shell.
        details: further members of the JSON document; for a refused manifest every check.
    """

    message: str
    remedy: str | None
    reason: str
    exit_status: int
    details: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The document that a command with `--json` prints when it fails."""
        return {
            **self.details,
            "ok": False,
            "reason": self.reason,
            "error": self.message,
            "remedy": self.remedy,
            "exit_status": self.exit_status,
        }


def explain(error: BaseException) -> Failure | None:
    """What to say of an exception; None for a reader that closed our standard output."""
    said = _explain(_root_of(error))
    return said and replace(said, message=_ENDLESS_WORD.sub(_shorter, said.message))


def _shorter(word: re.Match[str]) -> str:
    return f"{word[0][:80]}… ({len(word[0])} characters)"


def _explain(error: BaseException) -> Failure | None:  # noqa: PLR0911 - one return for each kind
    match error:
        case P2PBootError():
            return Failure(error.message, error.remedy, _reason(error), error.exit_status, _details(error))
        case click.exceptions.Exit():
            return Failure("", None, "exit", error.exit_code)
        case click.Abort() | KeyboardInterrupt():
            return Failure("", None, "interrupted", INTERRUPTED)
        case click.exceptions.NoArgsIsHelpError():  # the whole help, and nothing to complain about
            click.echo(error.format_message(), err=True)
            return Failure("", None, "usage", ExitStatus.USAGE)
        case click.UsageError():
            return Failure(_sentence(error.format_message()), _usage_remedy(error), "usage", ExitStatus.USAGE)
        case click.ClickException():
            return Failure(_sentence(error.format_message()), None, "usage", ExitStatus.USAGE)
        case BrokenPipeError():
            return None
        case SystemExit():  # click's way to end when standard output is a closed pipe
            return None
        case OSError():
            return _machine(error)
        case ModuleNotFoundError() if error.name and not error.name.startswith("p2pboot"):
            return Failure(
                f"the Python package {error.name.partition('.')[0]} is not installed",
                "install p2pboot with its dependencies, for example by `make venv`",
                "machine",
                ExitStatus.MACHINE,
            )
        case MemoryError():
            return Failure("the machine has no memory left for this", None, "machine", ExitStatus.MACHINE)
        case _:
            return _internal(error)


def _root_of(error: BaseException) -> BaseException:
    """The exception to speak of: inside a group the first of ours, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    ours, _ = error.split((P2PBootError, KeyboardInterrupt))
    return _root_of((ours or error).exceptions[0])


def _reason(error: P2PBootError) -> str:
    """The verdict's word where there is one, else that of the nearest class in the table."""
    verdict = getattr(error, "verdict", None)
    if verdict is not None and verdict.reason:
        return str(verdict.reason)
    return next(_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS)


def _details(error: P2PBootError) -> Mapping[str, object]:
    verdict = getattr(error, "verdict", None)
    return {**({} if verdict is None else verdict.to_json()), **error.details}


def _machine(error: OSError) -> Failure:
    """An operating system's error that no module gave words to."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and error.filename:
        return Failure(
            f"there is no {os.fsdecode(error.filename)}", "check the path", "usage", ExitStatus.USAGE
        )
    if error.errno == errno.ENOENT and not _current_directory_exists():
        return Failure(
            "the current directory does not exist any more",
            "change to another one, or give whole paths",
            "machine",
            ExitStatus.MACHINE,
        )
    known = machine_error(error, "go on")
    return Failure(known.message, known.remedy, "machine", known.exit_status)


def _current_directory_exists() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _internal(error: BaseException) -> Failure:
    if os.environ.get("P2PBOOT_DEBUG"):
        traceback.print_exception(error)
    words = f"{type(error).__name__}: {error}".strip(": ")
    return Failure(
        f"internal error: {words[:500]}",
        "please report it; with P2PBOOT_DEBUG=1 in the environment the traceback is shown",
        "internal",
        INTERNAL_ERROR,
    )


def _usage_remedy(error: click.UsageError) -> str | None:
    return f"`{error.ctx.command_path} --help` shows the usage" if error.ctx else None


def _sentence(text: str) -> str:
    """Click's messages in our form: no full stop, no capital, one line."""
    text = " ".join(text.split()).rstrip(".")
    return text[:1].lower() + text[1:]
