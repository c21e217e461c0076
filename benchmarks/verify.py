"""How many manifests one core verifies a second, and what the most expensive document costs.

Run it with `python -m benchmarks.verify`. Three sizes of honest manifests, the stages apart, and documents
that were made to be expensive. Nothing is asserted: the tests say what is right, this says what it costs.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from benchmarks.results import Table, run_alone
from p2pboot.core.clock import Clock
from p2pboot.core.identity import SecretKey
from p2pboot.core.jsonform import canonical
from p2pboot.core.manifest import Candidate, Manifest
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.verify import Question, verify
from p2pboot.errors import Malformed, SignatureError
from p2pboot.testing.artifacts import artifact_of
from p2pboot.testing.manifests import CREATED, signed_manifest

KEYS = [SecretKey(bytes([byte]) * 32) for byte in range(1, 33)]
MEASURE_S = 0.4


@dataclass(frozen=True)
class Cost:
    """One line of the result: what was measured, and the seconds that one run takes (the best of many)."""

    name: str
    seconds: float


def manifest(artifacts: Sequence[str], keys: Sequence[SecretKey]) -> bytes:
    """A signed manifest with these artifacts."""
    described = []
    for key in artifacts:
        digest = hashlib.sha256(key.encode()).hexdigest()
        urls = [f"http://192.0.2.7:8080/blobs/{digest}"]
        described.append(
            artifact_of(key, arch="arm64", sha256=digest, size=8 << 20, piece_length=1 << 20, urls=urls)
        )
    return signed_manifest(described, keys, arch="arm64").raw


def with_member(raw: bytes, value: object) -> bytes:
    """The manifest with one more member, rightly signed: a hostile signer signs what he likes."""
    document = msgspec.json.decode(raw)
    del document["signed"], document["signatures"]
    data = canonical(document | {"x": value})
    sig = base64.b64encode(KEYS[0].sign(hashlib.sha256(data).digest())).decode()
    envelope = {
        "signed": {"data": base64.b64encode(data).decode()},
        "signatures": [{"keyid": KEYS[0].public.keyid, "sig": sig}],
    }
    return canonical(document | {"x": value} | envelope)


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of the runs that fit into a moment."""
    fastest, end = float("inf"), time.perf_counter() + MEASURE_S
    while time.perf_counter() < end:
        start = time.perf_counter()
        with contextlib.suppress(Malformed, SignatureError):
            work()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def measure() -> Iterator[Cost]:
    """Measure everything, line by line."""
    policy, clock = TrustPolicy((Publisher((KEYS[0].public.keyid,)),)), Clock(CREATED + 1)
    small = manifest(["kernel", "initramfs", "rootfs"], KEYS[:1])
    many = ["kernel", "initramfs", *(f"dtbs/board-{number}" for number in range(50))]
    honest = {
        "3 artifacts, 1 signer": small,
        "3 artifacts, 3 signers": manifest(["kernel", "initramfs", "rootfs"], KEYS[:3]),
        "52 artifacts, 1 signer": manifest(many, KEYS[:1]),
    }
    for name, raw in honest.items():
        yield Cost(f"verify: {name}, {len(raw)} bytes", best(partial(verify, raw, Question(policy, clock))))
    yield Cost("stage 1, decode", best(lambda: Candidate.decode(small)))
    yield Cost("stages 1 and 2, and signatures", best(lambda: Candidate.decode(small).check_signatures()))
    yield Cost("all stages (Manifest.parse)", best(lambda: Manifest.parse(small)))
    yield from _hostile(small, many)


def _hostile(small: bytes, many: Sequence[str]) -> Iterator[Cost]:
    """What a stranger can ask for with one message."""
    forged = manifest(many, KEYS[:32]).replace(b'"sig":"', b'"sig":"A', 1)
    yield Cost("hostile: many artifacts, bad signature", best(lambda: Manifest.parse(forged)))
    document = msgspec.json.decode(small) | {"x": [[[[[[]]]]]] * 4000}
    junk = canonical(document)
    yield Cost(f"hostile: {len(junk)} bytes around a genuine signature", best(lambda: Manifest.parse(junk)))
    own = with_member(small, [{"a": {"": {}}}] * 1800)
    yield Cost(f"hostile: {len(own)} bytes under the stranger's own key", best(lambda: Manifest.parse(own)))
    nested = b'{"x":' + b"[" * 60_000
    yield Cost("hostile: 60,000 levels deep", best(lambda: Manifest.parse(nested)))


@dataclass(frozen=True)
class Costs:
    """All lines."""

    lines: Sequence[Cost]

    def tables(self) -> Iterator[Table]:
        rows = [(cost.name, f"{cost.seconds * 1e6:.0f}", f"{1 / cost.seconds:.0f}") for cost in self.lines]
        yield Table("Manifests on one core, the best of many runs", ("", "µs", "a second"), rows)

    def to_json(self) -> dict[str, Any]:
        return {"verify": {cost.name: {"seconds": cost.seconds} for cost in self.lines}}


def measure_as_told(_arguments: argparse.Namespace) -> Costs:
    return Costs(tuple(measure()))


if __name__ == "__main__":
    run_alone("Measure how many manifests a core verifies a second.", measure_as_told)
