"""What decides about a release, carried with it: the chain of roots, freshness statements and yanks.

Each kind lies in files of its own, `_export/<kind>-<n>.json`, which are arrays of base64 documents as on the wire.
Whoever does not know them passes over them, and the description says nothing of them: they are signed, and judged by
the same gate as what gossip brings.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from p2pboot.core.dataclass import dataclass
from p2pboot.core.jsonform import decode_typed
from p2pboot.core.manifest import Manifest
from p2pboot.core.manifest.fields import check_base64
from p2pboot.core.names import base_channel
from p2pboot.core.policy import TrustPolicy
from p2pboot.core.trust import Pair, Trust
from p2pboot.core.trustdocs.chain import Chain, TwoRoots, follow, without_gaps
from p2pboot.core.trustdocs.envelope import MAX_DOCUMENT, Unchecked
from p2pboot.core.trustdocs.freshness import Freshness, check_freshness, decode_freshness
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import NO_FLEET
from p2pboot.core.trustdocs.yank import decode_yank
from p2pboot.errors import Malformed, SignatureError
from p2pboot.exports.layout import MAX_DOCUMENT as MAX_FILE
from p2pboot.exports.layout import OWN
from p2pboot.store.store import Store
from p2pboot.store.trustdocs import resolved
from p2pboot.store.trustgate import Fate, Judged, TrustGate

ROOTS: Final = "roots"
FRESHNESS: Final = "freshness"
YANKS: Final = "yanks"
_MOST_FILES: Final[Mapping[str, int]] = {ROOTS: 8, FRESHNESS: 1, YANKS: 4}
"""With `cmdline` fewer than the 16 that an export may have; of longer chains the last versions are carried."""

_DECODER: Final = msgspec.json.Decoder(list[str])
_AGAIN: Final = "export it again, from a node that has not been tampered with"


def is_known(name: str) -> bool:
    """Whether a document of an export is one of these."""
    return name in {_file(kind, index) for kind, most in _MOST_FILES.items() for index in range(most)}


def trust_documents(store: Store, manifest: Manifest) -> dict[str, bytes]:
    """What a state knows that decides about a manifest, as files by name.

    Args:
        store: is only read. What it has was judged when it came in; who imports judges it again.
        manifest: of the release.

    Raises:
        StoreError, MachineError: the store can not be read.
    """
    kept = store.documents
    pair = (manifest.channel, manifest.arch)
    roots = next((chain for chain in _chains(store) if _covers(chain[-1], manifest)), [])
    fleets = {NO_FLEET} | {name for one in roots for name in (one.digest, one.fleet) if name is not None}
    statements = [raw for raw in kept.statements() if _is_of(raw, decode_freshness, {pair}, fleets)]
    pairs = {pair, (base_channel(manifest.channel), manifest.arch)}
    yanks = [raw for raw in kept.all_yanks() if _is_of(raw, decode_yank, pairs, fleets)]
    return {
        **_files(ROOTS, [one.raw for one in reversed(roots)], newest_first=True),
        **_files(FRESHNESS, statements),
        **_files(YANKS, yanks),
    }


def _chains(store: Store) -> Iterable[list[Root]]:
    for raw in store.documents.root():
        try:
            newest = Root.parse(raw)
            yield [Root.parse(one) for one in store.documents.roots(newest.digest)]
        except (Malformed, SignatureError):  # the disk changed it
            continue


def _covers(root: Root, manifest: Manifest) -> bool:
    names = {manifest.channel, base_channel(manifest.channel)}
    return any(
        (role.channels is None or not names.isdisjoint(role.channels))
        and (role.archs is None or manifest.arch in role.archs)
        and len(set(role.keys).intersection(manifest.signers)) >= role.threshold
        for role in root.body.publish
    )


def _is_of(
    raw: bytes,
    decode: Callable[[bytes], Unchecked[Any]],
    pairs: set[Pair],
    fleets: set[str],
) -> bool:
    try:
        claims = decode(raw).claims
    except (Malformed, SignatureError):
        return False
    return claims.pair in pairs and claims.fleet in fleets


def _files(kind: str, documents: Sequence[bytes], *, newest_first: bool = False) -> dict[str, bytes]:
    """As many as may be carried, in files that are not too large."""
    files: list[list[str]] = [[]]
    size_bytes = 2
    for raw in documents:
        text = base64.b64encode(raw).decode("ascii")
        if size_bytes + len(text) + 3 > MAX_FILE:
            files.append([])
            size_bytes = 2
        files[-1].append(text)
        size_bytes += len(text) + 3
    kept = [one for one in files[: _MOST_FILES[kind]] if one]
    if newest_first:
        kept = [one[::-1] for one in reversed(kept)]
    return {_file(kind, index): msgspec.json.encode(one) for index, one in enumerate(kept)}


def _file(kind: str, index: int) -> str:
    return f"{OWN}/{kind}-{index}.json"


@dataclass(frozen=True, slots=True)
class Brought:
    """The trust documents of an export, unjudged; bytes.

    Args:
        roots: ascending.
        statements: of any number of fleets.
        yanks: likewise.
    """

    roots: tuple[bytes, ...] = ()
    statements: tuple[bytes, ...] = ()
    yanks: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> Brought:
        """Read the files of an export.

        Raises:
            Malformed: one is no array of base64 documents.
        """
        return cls(*(tuple(_read(kind, files)) for kind in _MOST_FILES))

    @property
    def is_empty(self) -> bool:
        """Whether there are none, as in exports of earlier versions."""
        return not (self.roots or self.statements or self.yanks)


def _read(kind: str, files: Mapping[str, bytes]) -> Iterable[bytes]:
    for index in range(_MOST_FILES[kind]):
        name = _file(kind, index)
        if name not in files:
            return
        for text in decode_typed(files[name], _DECODER, place=name):
            raw = check_base64(name, text)
            if len(raw) > MAX_DOCUMENT:
                raise Malformed(f"{name}: a document has {len(raw)} bytes, more than {MAX_DOCUMENT}")
            yield raw


class Bringing:
    """Takes what an export brings through the gate; blocking.

    Args:
        brought: the documents.
        gate: judges them.
        source: what the export is called.
    """

    def __init__(self, brought: Brought, gate: TrustGate, source: str) -> None:
        self._brought = brought
        self._gate = gate
        self._source = source
        self.fates: dict[str, list[Judged]] = {kind: [] for kind in _MOST_FILES}
        """What became of them, by kind."""

    def take_first(self) -> None:
        """What is to be known before the manifest is judged: roots, then yanks.

        Raises:
            Malformed: one that no honest node passes on.
            P2PBootError: a root can not be brought into force here.
        """
        for chain in without_gaps(self._brought.roots):
            self._note(ROOTS, self._gate.take_roots(chain, source=self._source))
        for raw in self._brought.yanks:
            self._note(YANKS, self._gate.take_yank(raw, source=self._source))

    def take_statements(self) -> None:
        """What is believed only with its manifest at hand; raises as `take_first`."""
        for raw in self._brought.statements:
            self._note(FRESHNESS, self._gate.take_freshness(raw, source=self._source))

    def _note(self, kind: str, judged: Judged) -> None:
        if judged.fate is Fate.BAD or judged.lies:
            raise self._lie(kind, judged.why)
        self.fates[kind].append(judged)

    def _lie(self, kind: str, why: str) -> Malformed:
        return Malformed(f"{kind} in {self._source} can not be believed: {why}", remedy=_AGAIN)

    def statement_of(self, manifest: Manifest, trust: Trust) -> Freshness | None:
        """The statement that was brought of this very manifest, by who says what is fresh.

        Raises:
            Malformed: one that no honest node passes on.
        """
        try:
            return self._statement_of(manifest, trust)
        except (Malformed, SignatureError) as error:
            raise self._lie(FRESHNESS, error.message) from None

    def _statement_of(self, manifest: Manifest, trust: Trust) -> Freshness | None:
        publisher = trust.publisher_for(manifest.channel, manifest.arch)
        for raw in self._brought.statements:
            found = decode_freshness(raw)
            claims = found.claims
            is_of_it = (claims.pair, claims.head_digest, claims.head_version) == (
                (manifest.channel, manifest.arch),
                manifest.digest,
                manifest.manifest_version,
            )
            if is_of_it and publisher is not None and publisher.may_vouch(claims.fleet, found.signers):
                return check_freshness(found)
        return None

    def to_json(self) -> dict[str, dict[str, int]]:
        """How many of each kind met which fate, as plain values."""
        counted: dict[str, dict[str, int]] = {}
        for kind, fates in self.fates.items():
            for judged in fates:
                of_kind = counted.setdefault(kind, {})
                of_kind[judged.fate.value] = of_kind.get(judged.fate.value, 0) + 1
        return counted


def asked_policy(asked: TrustPolicy, store: Store, brought: Brought) -> TrustPolicy:
    """A policy with the roots that a state or an export has of its chains.

    Raises:
        ConfigError: two publishers cover the same channel and architecture.
    """
    policy = resolved(asked, store.documents)
    chains: dict[str, Chain] = {}
    for trusted in policy.roots:
        for documents in without_gaps(brought.roots):
            with suppress(TwoRoots):  # the gate says so
                known = chains.get(trusted.anchor.digest, trusted.chain)
                chain = follow(trusted.anchor, known, documents).chain
                if chain is not None:
                    chains[trusted.anchor.digest] = chain
    return policy.with_chains(chains)
