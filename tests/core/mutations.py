"""Hostile variants of signed documents, always the same for a seed; by hand a million: `make hostile`.

Whatever comes out, a reader must refuse it in one of its two ways, or it is the very document; and soon.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from p2pboot.core.manifest import Manifest
from p2pboot.core.trustdocs.chain import Anchor, BadChain, Chain, TwoRoots, begin, walk
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.yank import Yank
from p2pboot.errors import Malformed, SignatureError

GOOD: Final = Path(__file__).parents[1] / "vectors" / "trust" / "good"
READERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "root-1": Root.parse,
    "root-2": Root.parse,
    "freshness": Freshness.parse,
    "freshness-paused": Freshness.parse,
    "freshness-without-root": Freshness.parse,
    "yank": Yank.parse,
    "yank-unknown-members": Yank.parse,
    "rollout": Manifest.parse,
    "into": Manifest.parse,
}

SCALARS: Final = (
    None, True, False, 0, 1, -1, 7, 2**53 - 1, 2**53, 2**64, 10**30, 0.5, 1.0, 1e300, "", "x", "a\nb", "\u202e", "é",
    "\ud800", "never", "warn", "0" * 64, "ab" * 32, "ed25519:" + "0" * 64, "2026-01-01T00:00:00Z", "x" * 300,
    "x" * 66_000, "stable.next", "../x",
)  # fmt: skip
SPELLINGS: Final = (
    b"1.0", b"1e0", b"01", b"+1", b"-0", b"0x1", b"1E400", b"NaN", b"Infinity", b"1_0", b"9" * 400, b"-1", b"0.1e1",
    b"tru", b"null", b"[]", b"{}", b'"1"', b"[" * 3000, b'{"a":' * 2000,
)  # fmt: skip
TOKENS: Final = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b"\0", b"\xff", b"\xed\xa0\x80", b"\\u0041",
    b"\\ud800", b'"signatures":', b'"signatures":[]', b'"spec":', b'"x":1,', b"\xef\xbb\xbf", b"//", b"\xc0\xaf",
)  # fmt: skip


def variants(raw: bytes, others: list[bytes], seed: int) -> Iterator[bytes]:
    """Endlessly many; some are the document itself, since a change may change nothing.

    Args:
        raw: a good document.
        others: further ones, from which parts are taken.
        seed: of what is done.
    """
    chance = random.Random(seed)
    document = json.loads(raw)
    spots = [path for one in (document,) for path in _paths(one)]
    while True:
        yield chance.choice(_WAYS)(chance, raw, others, document, spots)


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    steps: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for step, child in steps:
        yield (*path, step)
        yield from _paths(child, (*path, step))


def _write(document: Any, *, sort: bool = True) -> bytes:
    text = json.dumps(document, separators=(",", ":"), sort_keys=sort, ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def _flip(chance: random.Random, raw: bytes, *_: Any) -> bytes:
    changed = bytearray(raw)
    for _bit in range(chance.choice((1, 1, 1, 2, 8))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(chance: random.Random, raw: bytes, *_: Any) -> bytes:
    start, end = sorted(chance.choices(range(len(raw) + 1), k=2))
    return chance.choice((raw[:start], raw[start:], raw[:start] + raw[end:], raw[start:end]))


def _copy(chance: random.Random, raw: bytes, others: list[bytes], *_: Any) -> bytes:
    source = chance.choice([raw, *others])
    start, end = sorted(chance.choices(range(len(source) + 1), k=2))
    at = chance.randrange(len(raw) + 1)
    return raw[:at] + source[start:end] + raw[at:]


def _token(chance: random.Random, raw: bytes, *_: Any) -> bytes:
    at, length = chance.randrange(len(raw) + 1), chance.choice((0, 0, 1, 5))
    return raw[:at] + chance.choice(TOKENS) * chance.choice((1, 1, 2, 50)) + raw[at + length :]


def _spell(chance: random.Random, raw: bytes, *_: Any) -> bytes:
    """A number, a member's value or a string in another spelling."""
    spots = [at for at in range(len(raw) - 1) if raw[at : at + 1] == b":" and raw[at + 1 : at + 2].isdigit()]
    if not spots or chance.random() < 0.3:
        at = chance.randrange(len(raw))
        return raw[:at] + b"\\u%04x" % raw[at] + raw[at + 1 :]
    at = end = chance.choice(spots) + 1
    while raw[end : end + 1].isdigit():
        end += 1
    return raw[:at] + chance.choice((*SPELLINGS, raw[at:end] + b".0", raw[at:end] + b"e0")) + raw[end:]


def _value(chance: random.Random, _raw: bytes, others: list[bytes], document: Any, spots: list[Any]) -> bytes:
    """One member replaced, taken away, doubled in another place, or exchanged with another."""
    changed = json.loads(json.dumps(document))
    path = chance.choice(spots)
    target, step = _target(changed, path)
    how = chance.randrange(6)
    if how == 0:
        del target[step]
    elif how == 1:
        target[step] = _nested(chance)
    elif how == 2:
        other = json.loads(chance.choice(others))
        elsewhere, name = _target(other, chance.choice(list(_paths(other))))
        target[step] = elsewhere[name]
    elif how == 3:
        elsewhere, name = _target(changed, chance.choice(spots))
        target[step], elsewhere[name] = elsewhere[name], target[step]
        if _is_endless(changed):
            return _write(document, sort=False)
    elif isinstance(target, list):
        target.insert(step, _nested(chance) if how == 4 else target[step])
    else:
        target[chance.choice(("x", "", "zz", "é", "\x00", "signatures", "spec", "sig", step + "\u0301"))] = (
            _nested(chance) if how == 4 else target[step]
        )
    return _write(changed, sort=chance.random() < 0.9)


def _twice(chance: random.Random, raw: bytes, _others: list[bytes], document: Any, spots: list[Any]) -> bytes:
    """A member of an object a second time, with the same value or another."""
    path = chance.choice([path for path in spots if isinstance(path[-1], str)])
    target, step = _target(document, path)
    member = _write({step: target[step]})[1:-1]
    at = raw.find(member)
    if at < 0:
        return raw + member
    value = target[step] if chance.random() < 0.5 else chance.choice(SCALARS)
    other = _write({step: value})[1:-1]
    return (
        raw[:at]
        + (other + b"," + member if chance.random() < 0.5 else member + b"," + other)
        + raw[at + len(member) :]
    )


def _pad(chance: random.Random, raw: bytes, *_: Any) -> bytes:
    """As large as may be, or a little larger."""
    room = chance.choice((4096, 65_536)) - len(raw) + chance.choice((-8, -1, 0, 1))
    filling = chance.choice((b" ", b"[", b"1,", b'"a":1,', b'{"a":', b"\\u0041", b"\xf0\x9f\x98\x80"))
    return raw[:-1] + b',"x":' + filling * max(room // len(filling), 1) + raw[-1:]


_WAYS: Final = (
    _flip,
    _flip,
    _cut,
    _copy,
    _token,
    _spell,
    _value,
    _value,
    _value,
    _value,
    _twice,
    _twice,
    _pad,
)


def _target(document: Any, path: tuple[str | int, ...]) -> tuple[Any, Any]:
    for step in path[:-1]:
        document = document[step]
    return document, path[-1]


def _nested(chance: random.Random) -> Any:
    value: Any = chance.choice(SCALARS)
    for _ in range(chance.choice((0, 0, 0, 1, 3, 9, 200))):
        value = [value] if chance.random() < 0.5 else {"x": value}
    return value


def _is_endless(value: Any) -> bool:
    try:
        json.dumps(value)
    except (ValueError, RecursionError):
        return True
    return False


class Judge:
    """Reads variants as a stranger's, and complains of whatever is not one of the two refusals.

    Args:
        name: of the vector in `READERS`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.raw = (GOOD / f"{name}.json").read_bytes()
        self._read = READERS[name]
        first = Root.parse((GOOD / "root-1.json").read_bytes())
        chain = begin(Anchor.of_root(first), [first.raw])
        assert chain is not None
        self._chain = chain
        self.slowest_s, self.slowest = 0.0, b""
        self.taken = self.refused = 0

    def judge(self, variant: bytes) -> None:
        """Raises AssertionError, or whatever the reader should not have raised."""
        began = time.thread_time()
        try:
            found = self._read(variant)
        except (Malformed, SignatureError) as error:
            said = error.message
            self.refused += 1
            if not said.isprintable() or len(said) > 1000:
                raise AssertionError(f"this is nothing for a person: {said[:1000]!r}") from error
        else:
            # Signatures may be left out of a root or a yank; what it says is the same.
            assert found.raw == variant
            assert variant == self.raw or (
                found.digest == self._digest() and self.name[:4] in ("root", "yank")
            )
            self.taken += 1
        if self.name.startswith("root"):
            self._walk(variant)
        took = time.thread_time() - began
        if took > self.slowest_s:
            self.slowest_s, self.slowest = took, variant

    def _digest(self) -> str:
        return self._read(self.raw).digest  # type: ignore[no-any-return]

    def _walk(self, variant: bytes) -> None:
        try:
            longer, ended_by = walk(self._chain, [variant])
        except TwoRoots as error:
            raise AssertionError(f"evidence was made up of {variant[:200]!r}") from error
        if longer != self._chain:
            assert longer.newest.digest == self._digest()
        assert ended_by is None or isinstance(ended_by, BadChain)
        assert isinstance(longer, Chain)


def main(count: int) -> None:
    """Judge so many variants, and say how that went."""
    began = time.perf_counter()
    judges = [Judge(name) for name in READERS]
    raws = [one.raw for one in judges]
    for index, one in enumerate(judges):
        share = count // len(judges) + (index < count % len(judges))
        for _, variant in zip(range(share), variants(one.raw, raws, index), strict=False):
            one.judge(variant)
        print(
            f"{one.name:<24} {one.refused:>9,} refused {one.taken:>6,} taken (the same said)"
            f"  slowest {one.slowest_s * 1000:.1f} ms of {len(one.slowest):,} bytes",
            flush=True,
        )
    print(f"{count:,} variants in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
