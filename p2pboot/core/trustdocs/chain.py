"""The chain: from a root that is believed to the newest one, version by version, never back.

Whoever knows any version (its file, or its digest out of a kernel command line) walks from there: each next version
must be signed by enough keys of the one before *and* by enough of its own, so that who lost a key can be replaced and
who was replaced can not come back. Peers only carry: they can leave the last versions out, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.digests import check_digest
from p2pboot.core.trustdocs.root import Root, check_signers, decode_root
from p2pboot.errors import Malformed, ManifestError, SignatureError

MAX_CHAIN: Final = 1024
"""Versions that one walk takes."""
MAX_CHAIN_BYTES: Final = 16 * 1024 * 1024
"""Bytes that one walk takes."""

DIGEST_PREFIX: Final = "sha256:"


class TwoRoots(ManifestError):
    """Two roots of one version, both signed by enough keys: evidence, and neither can be told to be the right one.

    Args:
        first: the one that was known, or came first.
        second: the other.
    """

    def __init__(self, first: Root, second: Root) -> None:
        super().__init__(
            f"two roots of version {first.version} are signed: sha256:{first.digest} and sha256:{second.digest}",
            remedy="ask the fleet's owners: root keys are misused; they begin anew with another root (--root)",
        )
        self.first = first
        self.second = second


class BadChain(ManifestError):
    """A root in a chain that does not follow from the one before.

    Args:
        version: which one.
        why: one line for a person.
    """

    def __init__(self, version: int, why: str) -> None:
        super().__init__(
            f"root version {version} does not follow: {why}", remedy="get the chain from another peer"
        )
        self.version = version


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the operator believes of a root: one version of it.

    Args:
        digest: of its body, hex.
        root: the root itself, where the operator gave its file.
    """

    digest: str
    root: Root | None = None

    @classmethod
    def of_digest(cls, text: str) -> Anchor:
        """Read ``sha256:`` and 64 hex digits.

        Raises:
            ValueError: anything else.
        """
        if not text.startswith(DIGEST_PREFIX):
            raise ValueError(f"{text[:80]!r} is not sha256: and 64 hex digits")
        return cls(check_digest(text.removeprefix(DIGEST_PREFIX).lower()))

    @classmethod
    def of_root(cls, root: Root) -> Anchor:
        """Believe a root that is at hand.

        Raises:
            SignatureError: it is not signed by enough of its own root keys.
        """
        check_signers(root, None)
        return cls(root.digest, root)

    @property
    def shown(self) -> str:
        """How to name it again."""
        return DIGEST_PREFIX + self.digest


@dataclass(frozen=True, slots=True)
class Chain:
    """Roots that follow each other, the last of which is in force.

    Args:
        roots: from a version that was believed on; not empty.
        fleet: the digest of version 1; None as long as nobody said it.
    """

    roots: tuple[Root, ...]
    fleet: str | None

    @property
    def newest(self) -> Root:
        """The root in force."""
        return self.roots[-1]

    def at(self, version: int) -> Root | None:
        """The root of a version, if the chain has it."""
        index = version - self.roots[0].version
        return self.roots[index] if 0 <= index < len(self.roots) else None

    def after(self, version: int) -> tuple[Root, ...]:
        """Those above a version."""
        return tuple(root for root in self.roots if root.version > version)


def begin(anchor: Anchor, documents: Iterable[bytes] = ()) -> Chain | None:
    """Begin at what the operator believes.

    Args:
        anchor: it.
        documents: roots, from anyone, from version 1 on or from any other; those before the anchor say what the fleet
            is called, where the anchor does not.

    Returns:
        The chain up to the anchor; None where its root is not among the documents.

    Raises:
        BadChain: the documents do not follow each other up to the anchor.
    """
    earlier = _earlier(anchor, documents)
    if anchor.root is None and (not earlier or earlier[-1].digest != anchor.digest):
        return None
    root = anchor.root or earlier[-1]
    fleet = root.fleet
    if earlier and earlier[-1].digest == anchor.digest and earlier[0].version == 1:
        if fleet is not None and fleet != earlier[0].digest:
            raise BadChain(1, "it is not of the fleet that the root names")
        return Chain(tuple(earlier), earlier[0].digest)
    return Chain((root,), fleet)


def _earlier(anchor: Anchor, documents: Iterable[bytes]) -> list[Root]:
    """Versions that follow each other up to the anchor's, as far as they are there."""
    found: list[Root] = []
    for raw in _bounded(documents):
        root = _parse(raw, found[-1].version + 1 if found else 1)
        if found:
            _check_next(root, found[-1])
        else:
            _check_own(root)
        found.append(root)
        if root.digest == anchor.digest:
            return found
    return found


def walk(chain: Chain, documents: Iterable[bytes]) -> tuple[Chain, BadChain | None]:
    """Go on from a chain with what a peer offers; never back.

    Args:
        chain: what is believed.
        documents: roots, ascending; those that are known already are compared with what is known.

    Returns:
        The chain, longer or as it was, and what ended the walk before the documents did: whoever sent that is to be
        dropped.

    Raises:
        TwoRoots: a version that is known, or that was just read, comes with another body, rightly signed.
    """
    roots = list(chain.roots)
    try:
        for raw in _bounded(documents):
            root = _parse(raw, roots[-1].version + 1)
            known = next((one for one in roots if one.version == root.version), None)
            if root.version < roots[0].version or (known is not None and known.digest == root.digest):
                continue
            if known is not None:
                _check_against(root, roots)
                raise TwoRoots(known, root)
            if len(roots) >= MAX_CHAIN:
                raise BadChain(root.version, f"a walk has at most {MAX_CHAIN} versions")
            _check_next(root, roots[-1])
            if root.body.fleet is not None and chain.fleet is not None and root.body.fleet != chain.fleet:
                raise BadChain(root.version, "it is of another fleet")
            roots.append(root)
    except BadChain as error:
        return _with(chain, roots), error
    return _with(chain, roots), None


def _with(chain: Chain, roots: Sequence[Root]) -> Chain:
    fleet = chain.fleet or next((one.body.fleet for one in roots if one.body.fleet is not None), None)
    return Chain(tuple(roots), fleet)


def _bounded(documents: Iterable[bytes]) -> Iterable[bytes]:
    count, size = 0, 0
    for raw in documents:
        count, size = count + 1, size + len(raw)
        if count > MAX_CHAIN or size > MAX_CHAIN_BYTES:
            raise BadChain(count, f"a walk has at most {MAX_CHAIN} versions and {MAX_CHAIN_BYTES} bytes")
        yield raw


def _parse(raw: bytes, expected: int) -> Root:
    try:
        return Root.parse(raw)
    except (Malformed, SignatureError) as error:
        raise BadChain(expected, error.message) from None


def _check_own(root: Root) -> None:
    try:
        check_signers(root, None)
    except SignatureError as error:
        raise BadChain(root.version, error.message) from None


def _check_next(root: Root, before: Root) -> None:
    if root.version != before.version + 1:
        raise BadChain(root.version, f"version {before.version + 1} is missing")
    try:
        check_signers(root, before)
    except SignatureError as error:
        raise BadChain(root.version, error.message) from None


def _check_against(root: Root, roots: Sequence[Root]) -> None:
    """Whether a second body of a version that is known is signed as the first had to be: else it is no evidence."""
    before = next((one for one in roots if one.version == root.version - 1), None)
    try:
        check_signers(root, before)
    except SignatureError as error:
        raise BadChain(root.version, error.message) from None
    if before is None and not roots[0].body.root.is_met_by(root.signed_by):
        # The version before is not at hand, and anybody can sign with keys of his own making.
        raise BadChain(root.version, "it is not signed by the root keys that are known of that version")


def claims_version(raw: bytes) -> int | None:
    """The version that a document claims to be of, unchecked; None where it is no root."""
    try:
        return decode_root(raw).claims.version
    except (Malformed, SignatureError):
        return None
