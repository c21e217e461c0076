"""Taking an export into a state: through the gate as from any stranger, every piece checked before it is written.

In this order: the description, which is bounded and believed in nothing; roots and yanks that are carried with it, by
the gate of trust documents; the manifest, which the gate judges by the
operator's trust (signatures, channel, expiry, nothing older, no contradiction); whether there is room; then each
artifact into a partial one, whose pieces are checked against the signed table one by one and whose whole digest decides
whether it gets its name. Only when everything is here is the manifest in force. A stick that is pulled out leaves what
came from it as a fetch that was killed does: nothing of it is offered, and the next import or fetch goes on there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import Any, Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.freshness import is_ahead, supersedes
from p2pboot.core.manifest import MAX_MANIFEST, Artifact, Manifest
from p2pboot.core.manifest.detached import MAX_DETACHED_CHARS
from p2pboot.core.manifest.facts import facts
from p2pboot.core.pieces import PieceTable
from p2pboot.core.policy import TrustPolicy
from p2pboot.core.verify import Question
from p2pboot.errors import BlobCorrupt, Contradiction, Malformed, P2PBootError, UsageError
from p2pboot.exports.layout import (
    DESCRIPTION,
    DETACHED,
    MANIFEST,
    MAX_DESCRIPTION,
    MAX_DOCUMENT,
    Carried,
    Description,
    check_fits,
    decode,
)
from p2pboot.exports.source import Content, Source
from p2pboot.exports.trusting import Bringing, Brought, asked_policy, is_known
from p2pboot.store.gate import Gate
from p2pboot.store.partials import PartialBlob
from p2pboot.store.store import Store
from p2pboot.store.trustgate import TrustGate

_DAMAGED: Final = "export it again, or take another medium"


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an import.

    Args:
        manifest: that is in force now.
        read_bytes: of artifacts that were read and written; 0 where everything was here.
        unchanged: whether it was in force before.
        documents: how many trust documents of each kind met which fate.
    """

    manifest: Manifest
    read_bytes: int
    unchanged: bool
    documents: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        said = facts(self.manifest, "channel", "arch", "version", "manifest_version", "digest", "expires_at")
        size = sum({one.sha256: one.size for one in self.manifest.artifacts.values()}.values())
        return {
            **said,
            "size": size,
            "read_bytes": self.read_bytes,
            "unchanged": self.unchanged,
            "documents": {kind: dict(fates) for kind, fates in self.documents.items()},
        }


class Taking:
    """One import; blocking.

    Args:
        source: of the export; read in the order of the calls below.
        store: takes it.
        gate: of the same store.
        trust_gate: likewise; the node's, where one runs.
    """

    def __init__(self, source: Source, store: Store, gate: Gate, trust_gate: TrustGate | None = None) -> None:
        self._source = source
        self._store = store
        self._gate = gate
        self._trust_gate = trust_gate or TrustGate(store, gate.catalogue, gate.audit)
        self.description = self._describe()
        self._raw = self._document(MANIFEST, self.description.manifest.size)
        self._detached = self._read_detached()
        self._brought = Brought.of(self._read_documents())
        self._bringing = Bringing(self._brought, self._trust_gate, source.shown)

    def _describe(self) -> Description:
        description = decode(self._source.document(DESCRIPTION, most=MAX_DESCRIPTION))
        if not description.complete:
            raise Malformed(
                f"the export in {self._source.shown} was not written to its end", remedy="export it again"
            )
        return description

    def _document(self, name: str, size: int) -> bytes:
        return self._source.document(name, most=max(MAX_MANIFEST, MAX_DOCUMENT), size=size)

    def _read_detached(self) -> str | None:
        place = self.description.detached
        if place is None:
            return None
        raw = self._source.document(DETACHED, most=MAX_DETACHED_CHARS, size=place.size)
        return raw.decode("ascii", "replace")  # the check says what it should be

    def _read_documents(self) -> dict[str, bytes]:
        """The documents that are known here; others are passed over."""
        found: dict[str, bytes] = {}
        for place in self.description.documents:
            content = self._source.open(place.file, place.size)
            if is_known(place.file):
                found[place.file] = content.read(place.size)
            else:
                content.skip(place.size)
        return found

    def take(
        self,
        asked: TrustPolicy | None = None,
        *,
        max_artifact_bytes: int,
        told: Callable[[str, int, int], None] = lambda _name, _done, _size: None,
    ) -> Taken:
        """Judge, bring and put into force; arguments and errors are those of `judge` and `bring`."""
        if asked is not None:
            asked = asked_policy(asked, self._store, self._brought)
        self._bringing.take_first()
        self._require_roots()
        question = self._gate.question(self.description.channel, self.description.arch)
        manifest = self.judge(question, asked)
        self._bringing.take_statements()
        return self.bring(manifest, question, max_artifact_bytes=max_artifact_bytes, told=told)

    def _require_roots(self) -> None:
        trust = self._gate.catalogue.trust
        missing = [one.anchor.shown for one in trust.roots if one.chain is None]
        if missing and not trust.configured.publishers:
            raise UsageError(
                f"the root {missing[0]} is neither known here nor in {self._source.shown}",
                remedy="give its file (--root FILE), or export from a node that knows it",
            )

    def judge(self, question: Question, asked: TrustPolicy | None = None) -> Manifest:
        """Have the gate take the manifest; from here on nothing older is taken.

        Args:
            question: what is asked for.
            asked: whom the one who asks trusts, beside what the gate's trust says.

        Raises:
            Refused: it may not be used here.
            Malformed: what the description says does not fit it.
            UsageError: this state publishes that channel and arch itself.
        """
        # Before anything is remembered of it: an export that contradicts its manifest is no news of the manifest.
        read = self._gate.read(self._raw, question.channel, question.arch)
        if isinstance(read, Manifest):
            self._check(read, asked)
            question = self._with_statement(question, read)
        verdict = self._gate.consider(self._raw, self._detached, source=self._source.shown, question=question)
        verdict.raise_if_refused()
        assert verdict.manifest is not None  # noqa: S101 - it was not refused
        return verdict.manifest

    def _with_statement(self, question: Question, manifest: Manifest) -> Question:
        """Judge by the statement that came along as well, where that is the newest: one may be required."""
        statement = self._bringing.statement_of(manifest, self._gate.catalogue.trust)
        if statement is None or not supersedes(statement, question.freshness.statement):
            return question
        if is_ahead(statement, question.clock):
            return question
        return replace(question, freshness=replace(question.freshness, statement=statement))

    def _check(self, manifest: Manifest, asked: TrustPolicy | None) -> None:
        check_fits(self.description, manifest)
        if self._gate.catalogue.trust.is_own(manifest):
            raise UsageError(
                f"{manifest.channel}/{manifest.arch} is published with this state: it is not imported there",
                remedy="import into the state of a mirror, or put the files into the publisher's directory",
            )
        if asked is not None and not asked.accepts(manifest.channel, manifest.arch, manifest.signers):
            raise UsageError(
                f"{manifest.channel}/{manifest.arch} is not signed by who is named with --trust or --root",
                remedy="leave that out to go by the running node's settings, or name its signers",
            )

    def bring(
        self,
        manifest: Manifest,
        question: Question,
        *,
        max_artifact_bytes: int,
        told: Callable[[str, int, int], None] = lambda _name, _done, _size: None,
    ) -> Taken:
        """Have everything here, and put the manifest into force.

        Args:
            manifest: that was judged.
            question: it was judged by, and is once more.
            max_artifact_bytes: a larger artifact is refused.
            told: is called with the name, the bytes done and the size of what is being read.

        Raises:
            P2PBootError: it can not be had from here; nothing of it is offered then.
        """
        catalogue, blobs = self._gate.catalogue, self._store.blobs
        row = self._store.manifests.row(manifest.digest)
        unchanged = (
            row is not None and row.role != "pending" and self._store.manifests.is_whole(manifest.digest)
        )
        read_bytes = 0
        if not unchanged:
            self._check_sizes(manifest, max_artifact_bytes)
            catalogue.check_tables(manifest)
            sizes = {one.sha256: one.size for one in manifest.artifacts.values()}
            plan = blobs.plan(sizes, catalogue.former(manifest.digest))
            try:
                for carried in self.description.artifacts:
                    artifact = manifest.artifacts[carried.key]
                    table = self._table(carried, artifact)
                    partial = blobs.begin(artifact.sha256, table, plan)
                    read_bytes += self._copy(carried, partial, told)
                self._source.end()
            except Contradiction as error:  # its signers' fault: nobody can ever bring it
                catalogue.blame(manifest.digest, error)
                raise
            finally:
                plan.close()
        self._gate.settle(manifest, self._detached, question=question)
        return Taken(manifest, read_bytes, unchanged, self._bringing.to_json())

    def _check_sizes(self, manifest: Manifest, most: int) -> None:
        for one in manifest.artifacts.values():
            if one.size > most:
                raise UsageError(
                    f"{one.key} has {one.size} bytes, more than the {most} that a publisher may make this state hold",
                    remedy="raise store.max_artifact in the configuration",
                )

    def _table(self, carried: Carried, artifact: Artifact) -> PieceTable:
        raw = self._source.open(carried.table.file, carried.table.size).read(carried.table.size)
        table = PieceTable(artifact.size, artifact.piece_length, raw)
        if table.digest != artifact.table_digest:
            raise Malformed(
                f"{carried.table.file} in {self._source.shown} is not the piece table of {artifact.key}",
                remedy=_DAMAGED,
            )
        return table

    def _copy(
        self, carried: Carried, partial: PartialBlob | None, told: Callable[[str, int, int], None]
    ) -> int:
        """Read the files of one artifact; returns how much of them was needed."""
        read_bytes, index = 0, 0
        try:
            for place in carried.parts:
                content = self._source.open(place.file, place.size)
                if partial is None:
                    content.skip(place.size)
                    continue
                left = place.size
                while left:
                    length = partial.table.span(index)[1]
                    if length > left:
                        raise Malformed(f"{place.file} in {self._source.shown} does not end with a piece")
                    read_bytes += self._copy_piece(partial, index, content, place.file)
                    left -= length
                    index += 1
                    told(carried.key, partial.table.span(index - 1)[0] + length, carried.size)
            if partial is not None:
                self._finish(partial, carried.key)
        except BaseException:
            if partial is not None:
                partial.close()
            raise
        return read_bytes

    def _finish(self, partial: PartialBlob, key: str) -> None:
        try:
            partial.finish()
        except BlobCorrupt as error:
            partial.discard()
            raise Contradiction(
                f"artifact {key}: every piece is what the manifest says, but the whole file has"
                f" sha256:{error.actual} instead of sha256:{error.expected}"
            ) from None

    def _copy_piece(self, partial: PartialBlob, index: int, content: Content, file: str) -> int:
        length = partial.table.span(index)[1]
        if partial.has(index):
            content.skip(length)
            return 0
        data = content.read(length)
        try:
            partial.write(index, data)
        except BlobCorrupt:
            raise P2PBootError(
                f"{file} in {self._source.shown} is damaged: its piece {index} is not what was signed",
                remedy=_DAMAGED,
            ) from None
        return length
