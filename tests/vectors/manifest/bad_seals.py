"""Documents that are not what was signed, and signatures that are none."""

import base64
import hashlib
import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from tests.vectors.manifest.faults import (
    Faults,
    outside,
    pad_bits,
)
from tests.vectors.manifest.form import (
    KIB,
    MINIMAL,
    SMALL,
    STRANGER,
    A,
    B,
    Json,
    artifact,
    b64,
    body,
    canonical,
    sealed,
    signature,
    small,
)

ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


def altered() -> Faults:
    yield (
        "altered-version",
        outside('"version":"2025.11.26"', '"version":"2025.11.27"'),
        "version: differs from what was signed",
    )
    yield (
        "altered-manifest-version",
        outside('"manifest_version":7', '"manifest_version":8'),
        "manifest_version: differs",
    )
    yield (
        "altered-expires-at",
        outside("2025-12-26", "2035-12-26"),
        "expires_at: differs from what was signed",
    )
    yield (
        "altered-created-at",
        outside("2025-11-26T", "2025-11-25T"),
        "created_at: differs from what was signed",
    )
    yield "altered-provider", outside("my-provider", "evil"), "provider: differs from what was signed"
    yield (
        "altered-spec",
        outside("p2pboot-manifest/1", "p2pboot-manifest/2"),
        "spec: 'p2pboot-manifest/2' is not",
    )
    yield (
        "added-cmdline",
        outside('"created_at"', '"cmdline":"init=/bin/sh","created_at"'),
        "cmdline: is not part of what was signed",
    )
    yield (
        "added-unknown",
        outside(',"version"', ',"urgent":true,"version"'),
        "urgent: is not part of what was signed",
    )
    yield "removed-unknown", _removed_unknown(), "x: was signed and is missing"
    moved = deepcopy(small())
    moved["artifacts"]["kernel"] = artifact("stable", "x86_64", "kernel", 100_000, 64 * KIB, 0)
    yield (
        "altered-kernel",
        canonical(json.loads(MINIMAL) | {"artifacts": moved["artifacts"]}),
        "artifacts: differs from what was signed",
    )
    other = body(A, channel="testing", sizes=SMALL)
    yield (
        "altered-channel",
        canonical(json.loads(MINIMAL) | {k: other[k] for k in ("channel", "artifacts")}),
        "artifacts: differs",
    )
    arm = body(A, arch="arm64", sizes=SMALL)
    yield (
        "altered-arch",
        canonical(json.loads(MINIMAL) | {k: arm[k] for k in ("arch", "artifacts")}),
        "arch: differs",
    )
    yield "true-for-one", _true_for_one(), "x: differs from what was signed"


def _removed_unknown() -> bytes:
    found = sealed(small() | {"x": 1}, A)
    del found["x"]
    return canonical(found)


def _true_for_one() -> bytes:
    found = sealed(small() | {"x": 1}, A)
    return canonical(found | {"x": True})


def data_faults() -> Faults:
    """What stands in `signed.data`; rightly signed, as far as it can be."""

    def around(data: bytes) -> bytes:
        return canonical(sealed(small(), A, data=data))

    def text(change: Callable[[str], str]) -> bytes:
        found = sealed(small(), A)
        found["signed"]["data"] = change(found["signed"]["data"])
        return canonical(found)

    data = canonical(small())
    while len(data) % 3 != 1:
        data = data.replace(b"my-provider", b"my-provider-")
    padded = json.loads(data)
    yield "data-empty", text(lambda _: ""), "signed.data: not padded base64"
    yield "data-not-base64", text(lambda t: "!" + t[1:]), "signed.data: not padded base64"
    yield (
        "data-unpadded",
        canonical(_with_data(padded, data, lambda t: t.rstrip("="))),
        "signed.data: not padded base64",
    )
    yield "data-pad-bits", canonical(_with_data(padded, data, pad_bits)), "signed.data: not padded base64"
    yield "data-newline", text(lambda t: t[:76] + "\n" + t[76:]), "signed.data: not padded base64"
    yield "data-space-after", text(lambda t: t + " "), "signed.data: not padded base64"
    yield "data-not-json", around(b"kernel"), "signed.data: JSON is malformed"
    yield "data-array", around(b"[]"), "signed.data: must be an object"
    yield "data-pretty", around(json.dumps(small(), indent=1).encode()), "signed.data: not in canonical form"
    yield (
        "data-duplicate",
        around(canonical(small()).replace(b'{"arch"', b'{"arch":"x86_64","arch"')),
        "signed.data: the member arch",
    )
    yield "data-trailing", around(canonical(small()) + b"\n"), "signed.data: not in canonical form"
    yield "data-has-signed", _nested("signed", {"data": "AA=="}), "signed.data: must be an object without"
    yield "data-has-signatures", _nested("signatures", []), "signed.data: must be an object without"
    yield "data-of-other", around(canonical(body(A, arch="arm64", sizes=SMALL))), "arch: differs"


def _with_data(found: Json, data: bytes, change: Callable[[str], str]) -> Json:
    return found | {"signed": {"data": change(b64(data))}, "signatures": [signature(A, data)]}


def _nested(name: str, value: Any) -> bytes:
    data = canonical(small() | {name: value})
    return canonical(sealed(small(), A, data=data))


def envelope() -> Faults:
    document = json.loads(MINIMAL)
    entry = document["signatures"][0]
    yield (
        "unknown-in-signed",
        canonical(document | {"signed": document["signed"] | {"x": 1}}),
        "signed: object contains unknown field `x`",
    )
    yield (
        "unknown-in-signature",
        canonical(document | {"signatures": [entry | {"x": 1}]}),
        "signatures[0]: object contains unknown field `x`",
    )
    yield "signatures-object", canonical(document | {"signatures": entry}), "signatures: expected `array`"
    yield (
        "signature-text",
        canonical(document | {"signatures": [entry["sig"]]}),
        "signatures[0]: expected `object`",
    )
    yield (
        "signature-without-keyid",
        canonical(document | {"signatures": [{"sig": entry["sig"]}]}),
        "signatures[0]: object missing required field `keyid`",
    )
    yield "signatures-33", canonical(document | {"signatures": [entry] * 33}), "signatures: more than 32"


def signatures() -> Faults:
    document = json.loads(MINIMAL)
    data = base64.b64decode(document["signed"]["data"])
    entry = document["signatures"][0]
    whole = base64.b64decode(entry["sig"])

    def with_sig(sig: str) -> bytes:
        return canonical(document | {"signatures": [entry | {"sig": sig}]})

    yield "unsigned", canonical(sealed(small())), f"not signed yet by {A.keyid}"
    yield "half-signed", canonical(sealed(small(A, B), A)), f"not signed yet by {B.keyid}"
    two = sealed(small(A, B), A, B)
    yield "signatures-swapped", canonical(two | {"signatures": two["signatures"][::-1]}), "in the same order"
    yield "signature-twice", canonical(document | {"signatures": [entry, entry]}), "in the same order"
    foreign = sorted([entry, signature(STRANGER, data)], key=lambda one: one["keyid"])
    yield "signature-foreign-extra", canonical(document | {"signatures": foreign}), "in the same order"
    yield (
        "signature-foreign-only",
        canonical(document | {"signatures": [signature(STRANGER, data)]}),
        "not signed yet by",
    )
    yield "signature-of-stranger", with_sig(signature(STRANGER, data)["sig"]), "does not match"
    yield "signature-flipped", with_sig(b64(bytes([whole[0] ^ 1]) + whole[1:])), "does not match"
    yield "signature-zero", with_sig(b64(bytes(64))), "does not match"
    yield "signature-over-data", with_sig(b64(A.secret.sign(data))), "does not match"
    yield (
        "signature-over-hex",
        with_sig(b64(A.secret.sign(hashlib.sha256(data).hexdigest().encode()))),
        "does not match",
    )
    large = int.from_bytes(whole[32:], "little") + ED25519_ORDER
    yield "signature-malleable", with_sig(b64(whole[:32] + large.to_bytes(32, "little"))), "does not match"
    yield (
        "signature-of-older",
        with_sig(signature(A, canonical(small() | {"manifest_version": 6}))["sig"]),
        "does not match",
    )
    for what, sig in (
        ("empty", ""),
        ("63-bytes", b64(whole[:63])),
        ("65-bytes", b64(whole + b"\0")),
        ("unpadded", entry["sig"].rstrip("=")),
        ("space", entry["sig"] + " "),
        ("pad-bits", pad_bits(entry["sig"])),
        ("hex", whole.hex()),
        ("non-ascii", "ü" + entry["sig"][1:]),
        ("url-alphabet", base64.urlsafe_b64encode(b"\xff" * 64).decode()),
    ):
        yield f"signature-{what}", with_sig(sig), "is not base64 of 64 bytes"
    # The neutral element as public key: under a verifier that takes it, this signs everything.
    weak = "ed25519:" + (1).to_bytes(32, "little").hex()
    forged = {"keyid": weak, "sig": b64((1).to_bytes(32, "little") + bytes(32))}
    loose = small() | {"signers": [weak]}
    yield "key-of-small-order", canonical(sealed(loose) | {"signatures": [forged]}), "does not match"
