"""The audit log: what was published, accepted and refused, and by whose key. Why it is like this: docs/adr/0048.

A file of JSON lines that is only ever appended to, for its owner's eyes. It is bounded: a full one gets the ending
``.1``, older ones count up, and the oldest goes. Strangers can offer things to be refused as long as they like, so of
refusals only some are taken down. That it can not be written ends nothing; it is told (`trouble`), and what is missing
is counted in the next line that can be.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import json
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from p2pboot import __version__
from p2pboot.core.manifest import Manifest
from p2pboot.core.policy import Publisher
from p2pboot.core.problems import Code, Problem
from p2pboot.core.timestamps import clock_text
from p2pboot.core.token_bucket import TokenBucket
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.yank import Yank
from p2pboot.core.verdict import Verdict
from p2pboot.store.durable import fsync_directory
from p2pboot.store.manifests import HeadRow

MAX_BYTES: Final = 10 * 1000 * 1000
"""Of one file; a line has some 500."""

KEPT: Final = 4
"""Full files beside the one that is written."""

MAX_WORD: Final = 1024
"""Characters of one value; what somebody says at greater length is cut."""

# Refusals. With 500 bytes each these are 120 kB a day: what matters stays for a year, whoever wants to push it out.
PEER_BURST: Final = 10
PEER_PER_S: Final = 1 / 3600
ALL_BURST: Final = 50
ALL_PER_S: Final = 240 / 86_400
REMEMBERED: Final = 1024
"""Refusals that are not taken down a second time, and peers of which it is known how many there were."""


class Deed(enum.StrEnum):
    """What was done; ``docs/logs.md`` has them one by one."""

    STARTED = "started"
    PUBLISHED = "published"
    WITHDRAWN = "withdrawn"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    EQUIVOCATION = "equivocation"
    CONTRADICTION = "contradiction"
    ROOT = "root"
    YANKED = "yanked"
    TRUST_CHANGED = "trust-changed"
    SNAPSHOT_ACCEPTED = "snapshot-accepted"
    SNAPSHOT_CONFLICT = "snapshot-conflict"
    LOST = "lost"


Facts = Mapping[str, Any]


class AuditLog:
    """One audit log; any thread. Several processes may write the same file.

    Args:
        path: the file; its directory exists.
        wall: the machine's clock, unix seconds.
        clock: one that does not jump, seconds.
        max_bytes: from which on a file is full.
    """

    def __init__(
        self,
        path: Path,
        wall: Callable[[], float],
        *,
        clock: Callable[[], float] = time.monotonic,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.path = path
        self.trouble: str | None = None
        """Why it could not be written the last time."""
        self._wall = wall
        self._max_bytes = max_bytes
        self._writing = threading.Lock()
        self._lost = 0
        self._refusals = _Refusals(clock)

    def note(self, deed: Deed, **facts: Any) -> None:
        """Take down what was done, durably; blocking, and raises nothing.

        Args:
            deed: what.
            facts: JSON-able, by name; None is left out.
        """
        self._append(deed, facts, durably=True)

    def started(self, peer_id: str, key: str | None, publishers: Sequence[Publisher]) -> None:
        """A node begins, with these keys: its peer id, the key id with which it signs, and whom it trusts."""
        self.note(
            Deed.STARTED, program=__version__, peer_id=peer_id, signing_key=key, trust=_trusted(publishers)
        )

    def trust_changed(self, publishers: Sequence[Publisher]) -> None:
        """The operator trusts somebody else from now on."""
        self.note(Deed.TRUST_CHANGED, trust=_trusted(publishers))

    def published(self, manifest: Manifest) -> None:
        """Take down that a manifest is this machine's own."""
        self.note(Deed.PUBLISHED, **_about(manifest))

    def accepted(self, manifest: Manifest, source: str) -> None:
        """Take down that a manifest from a source is the head now."""
        self.note(Deed.ACCEPTED, **_about(manifest), source=source)

    def contradicted(self, manifest: Manifest, source: str, accepted: str) -> None:
        """Take down that a manifest from a source has the number of another one; `accepted`: the digest of that."""
        self.note(Deed.EQUIVOCATION, **_about(manifest), source=source, accepted=accepted)

    def contradiction(self, kind: str, subject: str, digests: Sequence[str], source: str) -> None:
        """Take down that two roots or freshness statements can not both be honest; the second came from a source."""
        self.note(Deed.CONTRADICTION, kind=kind, subject=subject, digests=list(digests), source=source)

    def root(self, root: Root, fleet: str | None, source: str) -> None:
        """Take down that a root from a source is in force now, and by whose signatures."""
        body = root.body
        self.note(
            Deed.ROOT,
            name=body.name,
            fleet=fleet,
            version=body.version,
            digest=root.digest,
            expires_at=None if body.expires_at is None else clock_text(body.expires_at),
            signers=list(root.signed_by),
            source=source,
        )

    def yanked(self, yank: Yank, source: str) -> None:
        """Take down that a content is taken back, and by whose signatures; the document is from a source."""
        body = yank.body
        self.note(
            Deed.YANKED,
            channel=body.channel,
            arch=body.arch,
            content=body.content,
            reason=body.reason,
            signers=list(yank.signed_by),
            source=source,
        )

    def withdrawn(self, rows: Sequence[HeadRow]) -> None:
        """Take down that these are not offered any more, because what they were made of is gone."""
        for row in rows:
            self.note(
                Deed.WITHDRAWN,
                channel=row.channel,
                arch=row.arch,
                manifest_version=row.manifest_version,
                digest=row.digest,
                signers=list(row.signers),
            )

    def refusal(
        self, reason: str, source: str, *, manifest: Manifest | None = None, **facts: Any
    ) -> Facts | None:
        """What `write_refusal` is to take down of a refusal; quick.

        Args:
            reason: a stable word.
            source: the peer that offered it.
            manifest: that was refused, if it is one.
            facts: what else is known.

        Returns:
            None, where it was taken down before, or the source or all together had more than their part.
        """
        about = {} if manifest is None else _about(manifest)
        left_out = self._refusals.admit(source, (source, reason, about.get("digest") or facts.get("digest")))
        if left_out is None:
            return None
        return {"reason": reason, "source": source, **about, **facts, "left_out": left_out or None}

    def refused(self, verdict: Verdict, source: str) -> None:
        """Take down that a manifest was refused, unless that was said; blocking, and raises nothing."""
        detail = None if verdict.failed is None else verdict.failed.detail
        entry = self.refusal(verdict.reason or "", source, manifest=verdict.manifest, detail=detail)
        if entry is not None:
            self.write_refusal(entry)

    def write_refusal(self, facts: Facts) -> None:
        """Take a refusal down; blocking, and raises nothing. Not durably: the disk is not a stranger's to command."""
        self._append(Deed.REFUSED, facts, durably=False)

    def retry(self) -> None:
        """Say how many lines are missing, if any are and it can be said by now; blocking, and raises nothing."""
        with self._writing:
            if self._lost:
                self._try(self._line(Deed.LOST, {"count": self._lost}), durably=True, lines=0)

    def problems(self) -> Iterator[Problem]:
        """What is wrong with it now; quick."""
        trouble = self.trouble
        if trouble is not None:
            yield Problem(
                Code.AUDIT_LOG,
                str(self.path),
                f"the audit log can not be written: {trouble}",
                "free space on its disk, or mend its permissions; or name another file with --audit-log",
            )

    def _append(self, deed: Deed, facts: Facts, *, durably: bool) -> None:
        line = self._line(deed, facts)
        with self._writing:
            if self._lost:
                line = self._line(Deed.LOST, {"count": self._lost}) + line
            self._try(line, durably=durably, lines=1)

    def _try(self, text: bytes, *, durably: bool, lines: int) -> None:
        """Write, with the lock; `lines`: how many more are missing where that fails."""
        try:
            self._write(text, durably=durably)
        except OSError as error:
            self._lost += lines
            self.trouble = error.strerror or str(error)
        else:
            self._lost, self.trouble = 0, None

    def _line(self, deed: Deed, facts: Facts) -> bytes:
        now = clock_text(self._wall())
        said = {name: _cut(value) for name, value in facts.items() if value is not None}
        return json.dumps({"time": now, "event": deed.value, **said}).encode() + b"\n"

    def _write(self, line: bytes, *, durably: bool) -> None:
        """Append all of it or nothing: a disk that is full in the middle of a line leaves none of it."""
        fd = self._open()
        try:
            size = os.fstat(fd).st_size
            try:
                written = os.write(fd, line)
            except OSError:
                os.ftruncate(fd, size)
                raise
            if written < len(line):
                os.ftruncate(fd, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durably:
                os.fdatasync(fd)
        finally:
            os.close(fd)  # and with it the lock

    def _open(self) -> int:
        """The file under its name now, locked, with room in it: whoever rotates it moves it, here or elsewhere."""
        while True:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(self.path, flags, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                mine = os.fstat(fd)
                if not stat.S_ISREG(mine.st_mode):
                    raise OSError(errno.EINVAL, "it is no file")
                if not self._is_named(mine):
                    os.close(fd)
                    continue
                if mine.st_size == 0:
                    fsync_directory(self.path.parent)
                if mine.st_size < self._max_bytes:
                    return fd
                self._rotate()
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _is_named(self, mine: os.stat_result) -> bool:
        try:
            named = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino)

    def _rotate(self) -> None:
        """Called with the lock: the oldest goes first, so that no more than these are there at any moment."""
        for number in range(KEPT, 0, -1):
            former = self.path if number == 1 else self._former(number - 1)
            try:
                os.replace(former, self._former(number))
            except FileNotFoundError:
                continue

    def _former(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


class _Refusals:
    """Which refusals are taken down, and how many were not."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._all = TokenBucket(ALL_PER_S, ALL_BURST, clock())
        self._peers: OrderedDict[str, TokenBucket] = OrderedDict()
        self._seen: OrderedDict[object, None] = OrderedDict()
        self._left_out = 0

    def admit(self, source: str, what: object) -> int | None:
        """How many were left out before this one; None: this one is, too, or it is known."""
        with self._lock:
            if what in self._seen:
                self._seen.move_to_end(what)
                return None
            self._seen[what] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            now = self._clock()
            if not (self._bucket(source, now).try_take(1, now) and self._all.try_take(1, now)):
                self._left_out += 1
                return None
            left_out, self._left_out = self._left_out, 0
            return left_out

    def _bucket(self, source: str, now: float) -> TokenBucket:
        bucket = self._peers.pop(source, None) or TokenBucket(PEER_PER_S, PEER_BURST, now)
        self._peers[source] = bucket
        if len(self._peers) > REMEMBERED:
            self._peers.popitem(last=False)
        return bucket


def _about(manifest: Manifest) -> dict[str, Any]:
    return {
        "channel": manifest.channel,
        "arch": manifest.arch,
        "version": manifest.version,
        "manifest_version": manifest.manifest_version,
        "digest": manifest.digest,
        "signers": list(manifest.signers),
    }


def _trusted(publishers: Sequence[Publisher]) -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "keys": list(one.keys),
            "threshold": one.threshold,
            "channels": None if one.channels is None else list(one.channels),
            "archs": None if one.archs is None else list(one.archs),
        }
        for one in publishers
    ]


def _cut(value: Any) -> Any:
    return value[:MAX_WORD] if isinstance(value, str) else value
