"""Documents that are wrong as JSON: syntax, spelling, numbers and strings."""

import json

from tests.vectors.manifest.faults import (
    Faults,
    around,
    outside,
    setting,
    spelled,
)
from tests.vectors.manifest.form import (
    MINIMAL,
    canonical,
    of_size,
    small,
)


def syntax() -> Faults:
    yield "empty", b"", "truncated"
    yield "truncated", MINIMAL[:-1], "truncated"
    yield "truncated-half", MINIMAL[: len(MINIMAL) // 2], "truncated"
    yield "not-json", b"kernel", "JSON is malformed"
    yield "array", b"[]", "expected `object`"
    yield "trailing-newline", MINIMAL + b"\n", "not in canonical form"
    yield "trailing-data", MINIMAL + b"{}", "trailing characters"
    yield "trailing-zero-byte", MINIMAL + b"\0", "trailing characters"
    yield "leading-space", b" " + MINIMAL, "not in canonical form"
    yield "byte-order-mark", b"\xef\xbb\xbf" + MINIMAL, "invalid character"
    yield "utf-16", MINIMAL.decode().encode("utf-16"), "invalid character"
    yield "pretty-printed", json.dumps(json.loads(MINIMAL), indent=1).encode(), "not in canonical form"
    yield "size-65536", of_size(65_535) + b"\n", "not in canonical form"
    yield "size-65537", of_size(65_535) + b"\n\n", "65537 bytes are more than the 65536"
    yield "too-large", of_size(65_540), "65540 bytes are more than the 65536"
    deep = b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"," + MINIMAL[1:]
    yield "deep-30000", deep, "nested more than 8 levels"
    yield "deep-9-lists", setting("x", [[[[[[[[1]]]]]]]]), "x[0][0][0][0][0][0][0]: nested more than 8 levels"
    yield (
        "deep-9-objects",
        setting("x", {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}),
        "nested more than 8 levels",
    )
    yield (
        "duplicate-member",
        outside('{"arch":"x86_64",', '{"arch":"x86_64","arch":"x86_64",'),
        "arch is there twice",
    )
    yield (
        "duplicate-member-other",
        outside('{"arch":"x86_64",', '{"arch":"arm64","arch":"x86_64",'),
        "arch is there twice",
    )
    yield "duplicate-signed", spelled('"size":65536', '"size":65536,"size":65536'), "size is there twice"
    yield "duplicate-unknown", spelled('"version"', '"v":1,"v":1,"version"'), "v is there twice"


def spelling() -> Faults:
    form = "not in canonical form"
    yield (
        "order-of-members",
        outside('{"arch":"x86_64",', "{").replace(b',"version"', b',"arch":"x86_64","version"'),
        form,
    )
    yield "order-signed", _swapped(), form
    yield "space-signed", spelled('"size":65536', '"size": 65536'), form
    yield "escaped-letter", spelled('"my-provider"', '"\\u006dy-provider"'), form
    yield "escaped-slash", spelled('"/stable/x86_64/kernel"', '"\\/stable/x86_64/kernel"'), form
    yield "escaped-non-ascii", spelled('"my-provider"', '"gr\\u00fcn"'), form
    yield "minus-zero", spelled('"version"', '"v":-0,"version"'), form


def _swapped() -> bytes:
    data = canonical(small())
    arch = b'"arch":"x86_64",'
    return around(b"{" + data[1 + len(arch) : -1] + b"," + arch[:-1] + b"}")


def numbers() -> Faults:
    seven, size = '"manifest_version":7', '"size":65536'
    for name, text in (("1.0", "7.0"), ("exponent", "7e0"), ("1e3", "1e3")):
        yield (
            f"version-float-{name}",
            spelled(seven, f'"manifest_version":{text}'),
            "manifest_version: expected `int`",
        )
    yield "size-float", spelled(size, '"size":65536.0'), "artifacts.initramfs.size: expected `int`"
    yield "version-true", setting("manifest_version", True), "manifest_version: expected `int`, got `bool`"
    yield "version-text", setting("manifest_version", "7"), "manifest_version: expected `int`, got `str`"
    yield "version-null", setting("manifest_version", None), "manifest_version: expected `int`, got `null`"
    yield "version-zero", setting("manifest_version", 0), "manifest_version: 0 is not from 1"
    yield "version-negative", setting("manifest_version", -1), "manifest_version: -1 is not from 1"
    yield (
        "version-2-to-53",
        setting("manifest_version", 2**53),
        "manifest_version: 9007199254740992 is not from 1",
    )
    yield (
        "version-2-to-64",
        setting("manifest_version", 2**64),
        "manifest_version: 18446744073709551616 is not",
    )
    yield (
        "version-5000-digits",
        spelled(seven, '"manifest_version":' + "7" * 5000),
        "manifest_version: integer value out",
    )
    yield "version-leading-zero", spelled(seven, '"manifest_version":07'), "invalid number"
    yield "version-plus", spelled(seven, '"manifest_version":+7'), "invalid character"
    yield "size-zero", setting("artifacts/initramfs/size", 0), "artifacts.initramfs.size: 0 is not from 1"
    yield "size-negative", setting("artifacts/kernel/size", -1), "artifacts.kernel.size: -1 is not from 1"
    yield (
        "size-true",
        setting("artifacts/kernel/size", True),
        "artifacts.kernel.size: expected `int`, got `bool`",
    )
    yield (
        "size-2-to-53",
        setting("artifacts/kernel/size", 2**53),
        "artifacts.kernel.size: 9007199254740992 is not",
    )
    yield "unknown-float", setting("x", {"a": [0.5]}), "x.a[0]: a number with fraction or exponent"
    yield "unknown-float-integral", spelled('"version"', '"v":1.0,"version"'), "v: a number with fraction"
    yield "unknown-float-large", spelled('"version"', '"v":1e+21,"version"'), "v: a number with fraction"
    yield "unknown-2-to-53", setting("x", 2**53), "x: the integer is beyond 2^53-1"
    yield "unknown-minus-2-to-53", setting("x", -(2**53)), "x: the integer is beyond 2^53-1"
    yield "unknown-30-digits", setting("x", 10**30), "x: the integer is beyond 2^53-1"
    yield "nan", spelled('"version"', '"v":NaN,"version"'), "invalid character"
    yield "infinity", spelled('"version"', '"v":-Infinity,"version"'), "invalid character"
    yield "number-out-of-range", spelled('"version"', '"v":1e999,"version"'), "out of range"


def strings() -> Faults:
    name = '"name":"my-provider"'
    yield "lone-surrogate", spelled(name, '"name":"\\ud800"'), "JSON is malformed"
    yield "lone-surrogate-low", spelled(name, '"name":"\\udc00"'), "JSON is malformed"
    yield "lone-surrogate-unknown", spelled('"version"', '"v":"\\ud800!","version"'), "JSON is malformed"
    yield "lone-surrogate-raw", spelled(name, '"name":"\ud800"'), "not UTF-8"
    yield "invalid-utf-8", _raw_bytes(b"my-provider", b"my-\xffrovider"), "not UTF-8"
    yield "invalid-utf-8-unknown", _raw_bytes(b'"version"', b'"v":"\xc0\x80","version"'), "not UTF-8"
    yield "invalid-utf-8-name", _raw_bytes(b'"version"', b'"v\xff":1,"version"'), "not UTF-8"
    for what, character in (
        ("newline", "\n"),
        ("tab", "\t"),
        ("zero", "\0"),
        ("escape", "\x1b"),
        ("delete", "\x7f"),
        ("c1", "\x85"),
        ("line-separator", "\u2028"),
        ("bidi-override", "\u202e"),
        ("bidi-isolate", "\u2066"),
    ):
        yield (
            f"control-{what}",
            setting("cmdline", f"quiet{character}ro"),
            f"cmdline: control character U+{ord(character):04X}",
        )
    yield "control-version", setting("version", "1\n2"), "version: control character U+000A"
    yield "control-name", setting("provider/name", "a\rb"), "provider.name: control character U+000D"
    yield "control-peer-id", setting("provider/peer_id", "a\0"), "provider.peer_id: control character U+0000"
    yield "control-unknown", setting("x", ["fine", "a\x1b[31m"]), "x[1]: control character U+001B"
    yield "control-unknown-name", setting("a\nb", 1), "control character U+000A"
    yield "control-raw", spelled(name, '"name":"a\nb"'), "JSON is malformed"
    yield "version-empty", setting("version", ""), "version: must not be empty"
    yield "version-too-long", setting("version", "v" * 129), "version: 129 bytes are more than the 128"
    yield "version-too-long-utf-8", setting("version", "ü" * 65), "version: 130 bytes are more than the 128"
    yield "cmdline-too-long", setting("cmdline", "c" * 4097), "cmdline: 4097 bytes are more than the 4096"
    yield "cmdline-null", setting("cmdline", None), "cmdline: expected `str`, got `null`"
    yield "provider-name-empty", setting("provider/name", ""), "provider.name: must not be empty"
    yield (
        "provider-name-too-long",
        setting("provider/name", "n" * 256),
        "provider.name: 256 bytes are more than the 255",
    )
    yield "peer-id-empty", setting("provider/peer_id", ""), "provider.peer_id: must not be empty"
    yield "peer-id-too-long", setting("provider/peer_id", "p" * 129), "provider.peer_id: 129 bytes are more"


def _raw_bytes(old: bytes, new: bytes) -> bytes:
    return around(canonical(small()).replace(old, new))
