"""The chain: from a root that is believed to the newest one, version by version, never back.

Whoever knows any version (its file, or its digest out of a kernel command line) walks from there: each next version
must be signed by enough keys of the one before *and* by enough of its own, so that who lost a key can be replaced and
who was replaced can not come back. Peers only carry: they can leave the last versions out, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field, replace
from typing import Final

from p2pboot.core.dataclass import dataclass
from p2pboot.core.digests import check_digest
from p2pboot.core.trustdocs.envelope import Unchecked
from p2pboot.core.trustdocs.root import Root, check_signers, may_sign
from p2pboot.core.trustdocs.rootbody import RootBody
from p2pboot.core.trustdocs.rootreader import decode_root
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


class Gap(BadChain):
    """A root that may be good, and between it and what is known versions are missing."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the operator believes of a root: one version of it.

    Args:
        digest: of its body, hex.
        root: the root itself, where the operator gave its file.
        path: that file, for who shows what was given; two that say the same are equal, wherever they lie.
    """

    digest: str
    root: Root | None = None
    path: str | None = field(default=None, compare=False)

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
        believed_from: the version that the operator believes; 0 for the first that is here. What lies before it is
            history: it tells what the fleet is called and helps others to walk, and proves nothing, since nothing in
            a root says which one was before it.
    """

    roots: tuple[Root, ...]
    fleet: str | None
    believed_from: int = 0

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


@dataclass(frozen=True, slots=True)
class Followed:
    """How far documents led.

    Args:
        chain: to the newest root that follows; None where nothing is believed that they lead on from.
        ended_by: what ended the walk before the documents did; None for nothing.
    """

    chain: Chain | None
    ended_by: BadChain | None = None

    @property
    def lie(self) -> BadChain | None:
        """What no honest peer sends; None where nothing is its fault.

        A gap is nobody's: what comes before it counts, and what comes after it waits for the versions between, which
        others have.
        """
        return None if isinstance(self.ended_by, Gap) else self.ended_by


def follow(anchor: Anchor, chain: Chain | None, documents: Sequence[bytes]) -> Followed:
    """Go on from what is believed as far as documents lead, or begin there; the one way for whoever takes roots.

    Args:
        anchor: what the operator believes.
        chain: from there on, as far as it is known; None for not at all.
        documents: roots, ascending, from anyone.

    Raises:
        TwoRoots: see `walk`.
    """
    if chain is None or chain.roots[0].version > 1:
        try:
            begun = begin(anchor, documents)
        except Gap as error:
            if chain is None:
                return Followed(None, error)
            begun = None  # what came before stays unknown
        except BadChain as error:
            return Followed(chain, error)
        if begun is not None:
            chain = begun if chain is None else with_history(chain, begun)
    if chain is None:
        return Followed(None)
    return Followed(*walk(chain, documents))


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
    found = _up_to(anchor, documents)
    if not found:
        return None if anchor.root is None else Chain((anchor.root,), anchor.root.fleet)
    said = found[-1].claims.fleet
    is_whole = found[0].claims.version == 1
    if is_whole and said not in (None, found[0].digest):
        raise BadChain(1, "it is not of the fleet that the root names")
    roots: list[Root] = []
    for one in found:
        roots.append(_own(one) if not roots else _next(one, roots[-1]))
    root = roots[-1] if anchor.root is None else anchor.root
    if not is_whole:
        return Chain((root,), root.fleet)
    return Chain((*roots[:-1], root), roots[0].digest, root.version)


def with_history(chain: Chain, begun: Chain) -> Chain:
    """The same chain with what came before it.

    Args:
        chain: from the anchor on.
        begun: up to the anchor.
    """
    if len(begun.roots) == 1 or chain.roots[0].digest != begun.newest.digest:
        return chain
    return replace(
        chain,
        roots=(*begun.roots[:-1], *chain.roots),
        fleet=chain.fleet or begun.fleet,
        believed_from=begun.newest.version,
    )


def _up_to(anchor: Anchor, documents: Iterable[bytes]) -> list[Unchecked[RootBody]]:
    """Versions that follow each other up to the anchor's; none where that is not there.

    No signature is checked before the anchor was seen: anybody can make up a history.
    """
    found: list[Unchecked[RootBody]] = []
    for raw in _bounded(documents):
        one = _decode(raw, found[-1].claims.version + 1 if found else 1)
        if found and one.claims.version != found[-1].claims.version + 1:
            raise Gap(one.claims.version, f"version {found[-1].claims.version + 1} is missing")
        found.append(one)
        if one.digest == anchor.digest:
            return found
    return []


def walk(chain: Chain, documents: Iterable[bytes]) -> tuple[Chain, BadChain | None]:
    """Go on from a chain with what a peer offers; never back.

    Args:
        chain: what is believed.
        documents: roots, ascending; those that are known already are compared with what is known.

    Returns:
        The chain, longer or as it was, and what ended the walk before the documents did.

    Raises:
        TwoRoots: a version that is known, or that was just read, comes with another body, rightly signed.
    """
    roots, fleet = list(chain.roots), chain.fleet
    first, believed = roots[0].version, chain.believed_from or roots[0].version
    size_bytes = sum(len(one.raw) for one in roots)
    known_already = {one.raw for one in roots}
    ended_by = None
    try:
        for raw in _bounded(documents):
            if raw in known_already:
                continue
            one = _decode(raw, roots[-1].version + 1)
            version = one.claims.version
            if version < believed:
                continue
            if version <= roots[-1].version:
                known = roots[version - first]
                if one.digest != known.digest:  # else it says the same: its signatures do not matter
                    before = roots[version - first - 1] if version > believed else None
                    raise TwoRoots(known, _other(one, known, before))
                continue
            size_bytes += len(raw)
            if len(roots) >= MAX_CHAIN or size_bytes > MAX_CHAIN_BYTES:
                raise BadChain(version, _TOO_LONG)
            if one.claims.fleet is not None and fleet not in (None, one.claims.fleet):
                raise BadChain(version, "it is of another fleet")
            roots.append(_next(one, roots[-1]))
            fleet = fleet or one.claims.fleet
    except BadChain as error:
        ended_by = error
    return replace(chain, roots=tuple(roots), fleet=fleet), ended_by


_TOO_LONG: Final = f"a walk has at most {MAX_CHAIN} versions and {MAX_CHAIN_BYTES} bytes"


def _bounded(documents: Iterable[bytes]) -> Iterator[bytes]:
    count, size_bytes = 0, 0
    for raw in documents:
        count, size_bytes = count + 1, size_bytes + len(raw)
        if count > MAX_CHAIN or size_bytes > MAX_CHAIN_BYTES:
            raise BadChain(count, _TOO_LONG)
        yield raw


def _decode(raw: bytes, expected: int) -> Unchecked[RootBody]:
    try:
        return decode_root(raw)
    except (Malformed, SignatureError) as error:
        raise BadChain(expected, error.message) from None


def _own(one: Unchecked[RootBody]) -> Root:
    """The first of a chain: nothing before it is at hand."""
    return _checked(one, None)


def _next(one: Unchecked[RootBody], before: Root) -> Root:
    if one.claims.version != before.version + 1:
        raise Gap(one.claims.version, f"version {before.version + 1} is missing")
    return _checked(one, before.body)


def _other(one: Unchecked[RootBody], known: Root, before: Root | None) -> Root:
    """A second body of a version that is known: no evidence unless it is signed as the first had to be."""
    if before is None and not known.body.root.is_met_by(one.signers):
        # What was before is not known for sure, and anybody can sign with keys of his own making.
        raise BadChain(known.version, "it is not signed by the root keys that are known of that version")
    return _checked(one, None if before is None else before.body)


def _checked(one: Unchecked[RootBody], before: RootBody | None) -> Root:
    """Check a root, whether its signers have a say first: what costs more comes after a trusted signature."""
    try:
        may_sign(one.claims, one.signers, before)
        one.check(first=() if before is None else before.root.keys)
    except (Malformed, SignatureError) as error:
        raise BadChain(one.claims.version, error.message) from None
    return Root(raw=one.raw, digest=one.digest, signed_by=one.signers, body=one.claims)


def without_gaps(documents: Iterable[bytes]) -> list[list[bytes]]:
    """Roots in parts in each of which one version follows the other; what is no root is a part of its own.

    Args:
        documents: roots, of any number of fleets one after the other, each ascending.
    """
    parts: list[list[bytes]] = []
    expected: int | None = None
    for raw in documents:
        version = claims_version(raw)
        if version is None or version != expected:
            parts.append([])
        parts[-1].append(raw)
        expected = None if version is None else version + 1
    return parts


def claims_version(raw: bytes) -> int | None:
    """The version that a document claims to be of, unchecked; None where it is no root."""
    try:
        return decode_root(raw).claims.version
    except (Malformed, SignatureError):
        return None
