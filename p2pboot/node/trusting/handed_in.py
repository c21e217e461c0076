"""Roots that an operator hands in: `p2pboot root publish`, to a running node or to a state that none runs with.

They come through the gate like everybody's; from there sync and gossip carry them on. What is said in return is what
an operator has to know: which version is in force, what it took away, or why it is not taken.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Any, Final

from p2pboot.core.amounts import duration_text
from p2pboot.core.policy import TrustedRoot
from p2pboot.core.trustdocs.chain import MAX_CHAIN, MAX_CHAIN_BYTES
from p2pboot.core.trustdocs.filling import by_version
from p2pboot.errors import P2PBootError, UsageError, machine_error
from p2pboot.store.catalogue import Catalogue
from p2pboot.store.parking import PARKED_S
from p2pboot.store.store import Store
from p2pboot.store.trustgate import Fate, Judged, TrustGate

SOURCE: Final = "root publish"
"""Who brought them, for people."""

_REMEDIES: Final = {
    Fate.EARLY: "bring that file as well: p2pboot root publish FILE FILE",
    Fate.BAD: "`p2pboot root verify`, with the versions before, says what it lacks",
    Fate.OLDER: "bring the newest version, and those between",
    Fate.EVIDENCE: "ask the fleet's owners: root keys are misused; they begin anew with another root (--root)",
    Fate.UNTRUSTED: "name the root where whom to believe is said: `root` in [[trust]], or --root",
}


def lines_of(documents: Sequence[bytes]) -> bytes:
    """Roots on their way to a node: canonical JSON has no line end in it."""
    return b"".join(raw + b"\n" for raw in documents)


def read_lines(descriptor: int) -> list[bytes]:
    """The roots in a file that somebody sent along; blocking.

    Raises:
        UsageError: it is no file, or holds more than a chain may.
        MachineError: it can not be read.
    """
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError("roots have to be sent along as a file")
        raw = os.pread(descriptor, MAX_CHAIN_BYTES + 1, 0)
    except OSError as error:
        raise machine_error(error, "read the roots that were sent along") from error
    documents = raw.splitlines()
    if len(raw) > MAX_CHAIN_BYTES or len(documents) > MAX_CHAIN:
        raise UsageError(
            f"a chain has at most {MAX_CHAIN} versions and {MAX_CHAIN_BYTES} bytes",
            remedy="bring the later versions alone: what is known here needs not be brought",
        )
    return documents


class RootDesk:
    """Takes roots that an operator brings; blocking, any thread.

    Args:
        store: the state.
        catalogue: of the same store.
        gate: of the same store.
    """

    def __init__(self, store: Store, catalogue: Catalogue, gate: TrustGate) -> None:
        self._store = store
        self._catalogue = catalogue
        self._gate = gate

    def take(self, documents: Sequence[bytes]) -> dict[str, Any]:
        """Bring the newest of these roots into force, and say what came of it.

        Args:
            documents: roots of one fleet, in any order.

        Returns:
            `name`, `fleet`, `version`, `digest` of the root in force; `before`, the version that was, or None;
            `given`, the newest version that was brought; `taken_away`: what this took the offer away from, each with
            `channel`, `arch`, `manifest_version`, `digest`, `reason`, `text`; `revoked`: what this node publishes and
            its key has no say in any more, each with `channel`, `arch`.

        Raises:
            UsageError: there is none among them.
            ConfigError: a root names a publisher of what another one publishes already.
            P2PBootError: the newest of them is not in force now; what could be taken was.
            StoreError, MachineError: the state can not be read or written.
        """
        versions = by_version(documents)
        if not versions:
            raise UsageError("no root was brought", remedy="name its file")
        self._gate.keep_roots()  # what is believed as a file is a part of the chain
        clock, forbids = self._catalogue.clock(), self._catalogue.offering.forbids
        counting = [row for row in self._store.manifests.known() if forbids(row, clock) is None]
        before = {one.anchor.digest: one for one in self._catalogue.trust.roots}
        judged = self._gate.hand_in(versions.values(), source=SOURCE)
        trusted = self._meant(versions, before)
        if trusted is None or trusted.newest is None or _is_refused(judged, trusted, max(versions)):
            raise _refusal(judged, trusted, max(versions))
        known = before[trusted.anchor.digest].newest if trusted.anchor.digest in before else None
        lost = ((row, forbids(row, clock)) for row in counting)
        trust = self._catalogue.trust
        return {
            "name": trusted.newest.body.name,
            "fleet": trusted.fleet,
            "version": trusted.newest.version,
            "digest": trusted.newest.digest,
            "before": None if known is None else known.version,
            "given": max(versions),
            "taken_away": [
                {
                    "channel": row.channel,
                    "arch": row.arch,
                    "manifest_version": row.manifest_version,
                    "digest": row.digest,
                    "reason": objection.why.value,
                    "text": objection.text,
                }
                for row, objection in lost
                if objection is not None
            ],
            "kept_s": PARKED_S,
            "revoked": [
                {"channel": pair[0], "arch": pair[1]}
                for pair, signers in sorted(trust.own.items())
                if trust.revokes(pair, signers)
            ],
        }

    def _meant(self, brought: dict[int, bytes], before: dict[str, TrustedRoot]) -> TrustedRoot | None:
        """The root that what was brought is of: one that changed, or has one of them; None where nobody can tell."""
        roots = self._catalogue.trust.roots
        for one in roots:
            known_before = before.get(one.anchor.digest)
            if known_before is not None and known_before.chain != one.chain:
                return one
        for one in roots:
            known = {} if one.chain is None else {root.version: root for root in one.chain.roots}
            if any(version in known and known[version].raw == raw for version, raw in brought.items()):
                return one
        return roots[0] if len(roots) == 1 else None


def _is_refused(judged: Judged, trusted: TrustedRoot, newest: int) -> bool:
    if judged.lies or judged.fate not in (Fate.NEWS, Fate.KNOWN):
        return True
    return trusted.newest is None or trusted.newest.version < newest


def _refusal(judged: Judged, trusted: TrustedRoot | None, newest: int) -> P2PBootError:
    in_force = "nothing has changed"
    if trusted is not None and judged.fate is not Fate.UNTRUSTED:
        version = None if trusted.newest is None else trusted.newest.version
        in_force = f"{'no version' if version is None else f'version {version}'} is in force"
    fate = Fate.BAD if judged.lies else judged.fate
    return P2PBootError(
        f"root version {newest} is not taken: {judged.why or 'it does not follow'}; {in_force}",
        remedy=_REMEDIES.get(fate),
    )


def kept_text(answer: dict[str, Any]) -> str:
    """For how long what was taken away is kept, for people."""
    return duration_text(answer["kept_s"])
