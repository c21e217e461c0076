"""What a state directory remembers, what is wrong with it, and how that is mended: `p2pboot state recover`.

A check looks at the open store and yields findings; a finding that can be mended carries its repair. Looking changes
nothing, and no repair takes a version back: whatever is forgotten, an older manifest is refused as before.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from p2pboot import RELEASE_DATE
from p2pboot.core.clock import AcceptedTime
from p2pboot.core.dataclass import dataclass
from p2pboot.core.timestamps import format_time
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.verify import MAX_AHEAD_S
from p2pboot.errors import MachineError, Malformed, SignatureError, machine_error
from p2pboot.store.errors import NoState
from p2pboot.store.filenames import DATABASE_NAME
from p2pboot.store.publications import Publication
from p2pboot.store.reading import open_regular
from p2pboot.store.schema import SCHEMA_VERSION
from p2pboot.store.store import Store
from p2pboot.store.truststate import RememberedHead

_SQLITE: Final = b"SQLite format 3\0"
_VERSION_AT: Final = 60  # of the user's version: https://www.sqlite.org/fileformat2.html#the_database_header


@dataclass(frozen=True, slots=True)
class Repair:
    """How one finding is mended.

    Args:
        what: what it does, one line for a person.
        mend: does it; raises StoreError or MachineError.
    """

    what: str
    mend: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Args:
        code: what kind, a stable word.
        subject: what it is about, such as `stable/x86_64`.
        text: what was found, one line for a person.
        repair: how it is mended; None where it passes by itself.
    """

    code: str
    subject: str
    text: str
    repair: Repair | None = None


@dataclass(frozen=True, slots=True)
class Examined:
    """A state directory as it was found.

    Args:
        now: the machine's clock it was judged by, unix seconds.
        heads: the highest versions accepted, with the date of the manifest where that is kept.
        times: the newest dates accepted.
        published: the publisher's counters.
        roots: the highest version of each root that was in force: fleet, version, digest.
        findings: what is wrong, in the order of the checks.
    """

    now: int
    heads: tuple[RememberedHead, ...]
    times: tuple[AcceptedTime, ...]
    published: tuple[Publication, ...]
    roots: tuple[tuple[str, int, str], ...]
    findings: tuple[Finding, ...]

    def is_ahead(self, created_at: int | None) -> bool:
        """Whether a date lies further in the future than clocks differ."""
        return created_at is not None and created_at > self.now + MAX_AHEAD_S


def open_existing(path: Path) -> Store:
    """Open a state directory that there is; nothing is made.

    Raises:
        NoState: it is no state directory.
        StoreError, MachineError: as :meth:`Store.open`.
    """
    try:
        with open(open_regular(path / DATABASE_NAME), "rb") as file:
            start = file.read(len(_SQLITE))
    except (FileNotFoundError, NotADirectoryError):
        start = b""
    except OSError as error:
        if error.errno != errno.EINVAL:  # a directory, or a pipe
            raise machine_error(error, f"read {path / DATABASE_NAME}") from error
        start = b""
    if start != _SQLITE:
        raise NoState(path)
    return Store.open(path)


def is_outdated(path: Path) -> bool:
    """Whether opening this state would bring its database up to date, after which an earlier p2pboot can not use it.

    Args:
        path: of the state directory.

    Raises:
        MachineError: it can not be read.
    """
    try:
        with open(open_regular(path / DATABASE_NAME), "rb") as file:
            start = file.read(_VERSION_AT + 4)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise machine_error(error, f"read {path / DATABASE_NAME}") from error
    version = int.from_bytes(start[_VERSION_AT:], "big")
    return start.startswith(_SQLITE) and 0 < version < SCHEMA_VERSION


def examine(store: Store, now: int) -> Examined:
    """Look at everything that the state remembers; nothing is changed.

    Args:
        store: open.
        now: the machine's own clock, unix seconds: what lies in its future is wrong.

    Raises:
        MachineError: that clock is wrong itself: it is before this program's release.
    """
    if now < RELEASE_DATE:
        raise MachineError(
            f"this machine's clock says {format_time(max(now, 0))}, which is before this program was released",
            remedy="set the clock first: what lies in the future is found by it",
        )
    seen = Examined(
        now,
        tuple(store.trust.heads()),
        tuple(store.trust.times()),
        tuple(store.publications.all()),
        store.documents.remembered(),
        (),
    )
    findings = tuple(finding for check in CHECKS for finding in check(store, seen))
    return replace(seen, findings=findings)


def _times_ahead(store: Store, seen: Examined) -> Iterator[Finding]:
    """A date that holds the clock of this state in the future: everything published since counts as expired."""
    for one in seen.times:
        if seen.is_ahead(one.created_at):
            yield Finding(
                "future-time",
                f"{one.channel}/{one.arch}",
                f"a manifest created at {format_time(one.created_at)} was accepted, which this machine's clock has"
                " not reached: this state's time stands there, and manifests of today count as expired",
                Repair(
                    "the date is forgotten; the version is remembered, nothing older is taken",
                    partial(store.trust.forget_time, one),
                ),
            )


def _statements_ahead(store: Store, seen: Examined) -> Iterator[Finding]:
    """The same of a freshness statement: whoever signed it goes on with one of today."""
    for raw in store.documents.statements():
        with suppress(Malformed, SignatureError):
            body = Freshness.parse(raw).body
            if seen.is_ahead(body.created_at):
                yield Finding(
                    "future-time",
                    f"{body.channel}/{body.arch}",
                    f"a freshness statement of {format_time(body.created_at)} was accepted, which this machine's clock"
                    " has not reached: this state's time stands there, and manifests of today count as expired",
                    Repair(
                        "it is forgotten; the next one that comes is taken",
                        partial(store.documents.drop_statement, body.fleet, *body.pair),
                    ),
                )


def _roots_ahead(store: Store, seen: Examined) -> Iterator[Finding]:
    """Nothing to mend here: whom to believe is not forgotten, and a next version bears another date."""
    for raw in store.documents.root():
        with suppress(Malformed, SignatureError):
            body = Root.parse(raw).body
            if seen.is_ahead(body.created_at):
                yield Finding(
                    "future-root",
                    body.name,
                    f"root version {body.version} is dated {format_time(body.created_at)}, which this machine's clock"
                    " has not reached: this state's time stands there until its owners sign a next version with the"
                    " right date",
                )


def _publications_ahead(_store: Store, seen: Examined) -> Iterator[Finding]:
    """Nothing to mend: the next manifest is dated by the clock as it is now, and clients take that."""
    for one in seen.published:
        if (created_at := one.created_at) is not None and seen.is_ahead(created_at):
            yield Finding(
                "future-publication",
                f"{one.channel}/{one.arch}",
                f"manifest version {one.counter} was published here with the date {format_time(created_at)}:"
                " clients refuse it as not valid yet; a running `serve` publishes a new one by itself",
            )


def _dates_ahead(store: Store, seen: Examined) -> Iterator[Finding]:
    """A date that was published in the future stands as a problem until it passes, which may take years."""
    for signers, channel, arch, dated in store.publications.latest_dates():
        if seen.is_ahead(dated.created_at):
            yield Finding(
                "future-date",
                f"{channel}/{arch}",
                f"manifest version {dated.manifest_version} was once published here with the date"
                f" {format_time(dated.created_at)}: `clock-went-back` stands for it on the list of problems",
                Repair(
                    "it is no problem any more; machines that took that version have to be mended themselves",
                    partial(store.publications.forget_date, signers, channel, arch),
                ),
            )


CHECKS: Final[tuple[Callable[[Store, Examined], Iterator[Finding]], ...]] = (
    _times_ahead,
    _statements_ahead,
    _roots_ahead,
    _publications_ahead,
    _dates_ahead,
)
