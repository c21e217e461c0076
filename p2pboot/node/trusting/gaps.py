"""Versions of roots that are missing: nobody goes on from the last that he knows, however many there are after it.

Peers are asked for them by themselves; what lasts is a problem, since then somebody has left a file at home.
"""

from __future__ import annotations

import threading
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.policy import TrustedRoot
from p2pboot.core.problems import Code, Problem
from p2pboot.core.trustdocs.rootreader import decode_root
from p2pboot.errors import Malformed, SignatureError
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.trustdocs import TrustDocuments

PATIENCE_S: Final = 120.0
"""How long a version may be missing: peers are asked for it meanwhile."""
FORGOTTEN_S: Final = 3600.0
"""Since the later version was heard last: whoever has it says so every few minutes."""

_REMEDY: Final = "bring the file of each missing version to any node of the fleet: p2pboot root publish FILE"


@dataclass(frozen=True, slots=True)
class _Heard:
    """A later version than the next one.

    Args:
        version: it.
        known: the version in force here when it was heard.
        since: when it was heard first, trio's clock.
        last: when last.
    """

    version: int
    known: int
    since: float
    last: float


class Gaps:
    """Which versions of the roots in force are missing, here or between here and what others have.

    Args:
        catalogue: has the roots in force.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._heard: dict[str, _Heard] = {}  # by the anchor's digest
        self._own: dict[str, float] = {}  # likewise, since when
        self._lock = threading.Lock()

    def note(self, raw: bytes, now: float) -> None:
        """A root came that does not follow the one in force; blocking, any thread.

        Nobody can tell yet whether it is a good one. It is heeded where a root key that is known here has signed it:
        strangers cause no alarm.

        Args:
            raw: it, from anyone.
            now: trio's clock.
        """
        try:
            found = decode_root(raw)
        except (Malformed, SignatureError):
            return
        version, said = found.claims.version, found.claims.fleet
        for trusted in self._catalogue.trust.roots:
            newest = trusted.newest
            if newest is None or version <= newest.version + 1:
                continue
            signers = set(newest.body.root.keys).intersection(found.signers)
            if not signers or (None not in (said, trusted.fleet) and said != trusted.fleet):
                continue
            try:
                found.check(first=signers)
            except (Malformed, SignatureError):
                return
            self._heed(trusted.anchor.digest, version, newest.version, now)

    def _heed(self, anchor: str, version: int, known: int, now: float) -> None:
        with self._lock:
            before = self._heard.get(anchor)
            stands = before is not None and before.known == known and now - before.last < FORGOTTEN_S
            since = before.since if before is not None and stands else now
            highest = max(version, before.version) if before is not None and stands else version
            self._heard[anchor] = _Heard(highest, known, since, now)

    def look(self, documents: TrustDocuments, now: float) -> list[Problem]:
        """What has been missing for `PATIENCE_S` or longer; blocking.

        Args:
            documents: what is kept here.
            now: trio's clock.

        Raises:
            StoreError, MachineError: the state can not be read.
        """
        found = [self._look(trusted, documents, now) for trusted in self._catalogue.trust.roots]
        return [problem for problem in found if problem is not None]

    def _look(self, trusted: TrustedRoot, documents: TrustDocuments, now: float) -> Problem | None:
        newest, anchor = trusted.newest, trusted.anchor.digest
        if newest is None:
            return None  # `root-missing` says so
        subject = trusted.name or newest.body.name
        missing = documents.missing(trusted.fleet or anchor)
        if missing is None:
            self._own.pop(anchor, None)
        elif now - self._own.setdefault(anchor, now) >= PATIENCE_S:
            text = (
                f"version {missing} is not here, and version {newest.version} is in force: who knows an earlier one"
                " can not go on from it"
            )
            return Problem(Code.ROOT_GAP, subject, text, _REMEDY)
        with self._lock:
            heard = self._heard.get(anchor)
            if heard is None:
                return None
            if heard.version <= newest.version or now - heard.last >= FORGOTTEN_S:
                del self._heard[anchor]
                return None
        if heard.known != newest.version or now - heard.since < PATIENCE_S:
            return None
        text = (
            f"others have version {heard.version}, and nobody who was asked has version {newest.version + 1}:"
            f" version {newest.version} stays in force here"
        )
        return Problem(Code.ROOT_GAP, subject, text, _REMEDY)
