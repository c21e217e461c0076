"""Documents with a field that is missing or breaks a rule; they are rightly signed."""

import json

from tests.vectors.manifest.faults import (
    Faults,
    changed,
    removing,
    setting,
)
from tests.vectors.manifest.form import (
    KIB,
    MIB,
    MINIMAL,
    SMALL,
    A,
    Json,
    artifact,
    body,
    canonical,
    manifest,
    small,
)


def members() -> Faults:
    for name in small():
        yield f"without-{name}", removing(name), f"object missing required field `{name}`"
    for name in ("signed", "signatures"):
        found = json.loads(MINIMAL)
        del found[name]
        yield f"without-{name}", canonical(found), f"object missing required field `{name}`"
    for name in ("peer_id", "name"):
        yield (
            f"without-provider-{name}",
            removing(f"provider/{name}"),
            f"provider: object missing required field `{name}`",
        )
    yield (
        "spec-other",
        setting("spec", "p2pboot-manifest/2"),
        "spec: 'p2pboot-manifest/2' is not 'p2pboot-manifest/1'",
    )
    yield "provider-text", setting("provider", "me"), "provider: expected `object`"
    yield "version-number", setting("version", 2025), "version: expected `str`"
    yield "arch-alias", _with_arch("aarch64"), "arch: 'aarch64' is not one of x86_64, arm64, riscv64"
    yield "arch-alias-amd64", _with_arch("amd64"), "arch: 'amd64' is not one of"
    yield "arch-upper-case", _with_arch("X86_64"), "arch: 'X86_64' is not one of"
    yield "arch-unknown", _with_arch("mips64"), "arch: 'mips64' is not one of"
    for what, channel in (
        ("upper-case", "Stable"),
        ("empty", ""),
        ("dots", ".."),
        ("slash", "a/b"),
        ("too-long", "c" * 65),
        ("dash", "-stable"),
        ("newline", "stable\n"),
        ("non-ascii", "stäble"),
    ):
        yield f"channel-{what}", manifest(body(A, channel=channel, sizes=SMALL), A), "channel: the name"


def _with_arch(arch: str) -> bytes:
    return manifest(body(A, arch=arch, sizes=SMALL), A)


def artifacts() -> Faults:
    yield "no-kernel", removing("artifacts/kernel"), "artifacts.kernel: missing"
    yield "no-initramfs", removing("artifacts/initramfs"), "artifacts.initramfs: missing"
    for what, sizes, beside in (
        ("kernel", {"kernel": 200_000, "uki": 300_000}, "kernel"),
        ("initramfs", {"initramfs": 65_536, "uki": 300_000}, "initramfs"),
        ("both", {**SMALL, "uki": 300_000}, "kernel"),
    ):
        yield (
            f"uki-beside-{what}",
            manifest(body(A, sizes=sizes), A),
            f"artifacts.{beside}: not allowed beside uki",
        )
    both_kinds = {**SMALL, "dtbs/board": 1000, "dtbs.tar": 5000}
    yield (
        "dtbs-twice",
        manifest(body(A, arch="arm64", sizes=both_kinds), A),
        "artifacts.dtbs.tar: not allowed beside dtbs",
    )
    yield "no-artifacts", setting("artifacts", {}), "artifacts.kernel: missing"
    yield "artifacts-list", setting("artifacts", []), "artifacts: expected `object`"
    for name in ("hash", "size", "path", "urls", "pieces", "cid"):
        yield (
            f"without-kernel-{name}",
            removing(f"artifacts/kernel/{name}"),
            f"artifacts.kernel: object missing required field `{name}`",
        )
    for name in ("length", "hash"):
        yield (
            f"without-pieces-{name}",
            removing(f"artifacts/kernel/pieces/{name}"),
            f"artifacts.kernel.pieces: object missing required field `{name}`",
        )
    for what, key in (
        ("upper-case", "Rootfs"),
        ("hidden", ".rootfs"),
        ("empty", ""),
        ("parent", ".."),
        ("slash", "a/b"),
        ("device-tree-flat", "dtbs/a"),
        ("escape", "a\x1b[31m"),
        ("too-long", "a" * 65),
    ):
        yield (
            f"artifact-name-{what}",
            _with_artifact(key),
            "is not allowed" if what != "device-tree-flat" else "not allowed",
        )
    for key in ("cmdline", "manifest.json", "manifest.json.sig"):
        yield (
            f"artifact-name-{key}",
            _with_artifact(key),
            f"artifacts.{key}: artifact name '{key}' is reserved",
        )
    yield "artifact-name-dtbs", _with_artifact("dtbs"), "artifacts.dtbs"
    yield "dtbs-list", setting("artifacts/dtbs", []), "artifacts.dtbs: expected `object`"
    tree = artifact("stable", "x86_64", "dtbs/Board", 1000, 64 * KIB, 0)
    yield (
        "dtb-name",
        setting("artifacts/dtbs", {"Board": tree}),
        "artifacts.dtbs.Board: device tree name 'Board'",
    )
    yield (
        "dtb-path",
        setting("artifacts/dtbs", {"board": tree | {"path": "/stable/x86_64/board"}}),
        "artifacts.dtbs.board.path: must be",
    )
    kernel = small()["artifacts"]["kernel"]
    digest = kernel["hash"][7:]
    for what, value in (
        ("sha512", "sha512:" + digest * 2),
        ("sha1", "sha1:" + digest[:40]),
        ("bare", digest),
        ("upper-name", "SHA256:" + digest),
        ("blake3", "blake3:" + digest),
        ("empty", ""),
    ):
        yield f"hash-{what}", setting("artifacts/kernel/hash", value), "is not the hash algorithm sha256"
    for what, value in (
        ("upper-case", digest.upper()),
        ("short", digest[1:]),
        ("long", digest + "0"),
        ("not-hex", "g" + digest[1:]),
    ):
        yield (
            f"hash-{what}",
            setting("artifacts/kernel/hash", "sha256:" + value),
            "artifacts.kernel.hash: must be sha256:",
        )
    yield (
        "hash-other",
        setting("artifacts/kernel/hash", "sha256:" + "0" * 64),
        "artifacts.kernel.cid: must be",
    )
    for what, value in (
        ("other-channel", "/testing/x86_64/kernel"),
        ("other-arch", "/stable/arm64/kernel"),
        ("other-name", "/stable/x86_64/initramfs"),
        ("relative", "stable/x86_64/kernel"),
        ("parent", "/stable/x86_64/../x86_64/kernel"),
        ("empty", ""),
        ("double-slash", "//stable/x86_64/kernel"),
    ):
        yield (
            f"path-{what}",
            setting("artifacts/kernel/path", value),
            "artifacts.kernel.path: must be '/stable/x86_64/kernel'",
        )
    other = small()["artifacts"]["initramfs"]["cid"]
    for what, value in (
        ("other", other),
        ("upper-case", kernel["cid"].upper()),
        ("padded", kernel["cid"] + "="),
        ("empty", ""),
    ):
        yield (
            f"cid-{what}",
            setting("artifacts/kernel/cid", value),
            f"artifacts.kernel.cid: must be {kernel['cid']}",
        )
    for what, length in (
        ("zero", 0),
        ("negative", -65536),
        ("32-kib", 32 * KIB),
        ("32-mib", 32 * MIB),
        ("not-a-power", 100_000),
    ):
        yield (
            f"piece-length-{what}",
            setting("artifacts/kernel/pieces/length", length),
            "artifacts.kernel.pieces.length: piece length",
        )
    yield (
        "too-many-pieces",
        setting("artifacts/kernel/size", 65_536 * 64 * KIB + 1),
        "artifacts.kernel.pieces.length: 4294967297 bytes",
    )
    table = kernel["pieces"]["hash"][7:]
    yield (
        "table-sha256",
        setting("artifacts/kernel/pieces/hash", "sha256:" + table),
        "is not the hash algorithm blake3",
    )
    yield (
        "table-short",
        setting("artifacts/kernel/pieces/hash", "blake3:" + table[2:]),
        "artifacts.kernel.pieces.hash: must be blake3:",
    )


def _with_artifact(key: str) -> bytes:
    return _setting_artifact(key, artifact("stable", "x86_64", key, 1000, 64 * KIB, 0))


def _setting_artifact(key: str, value: Json) -> bytes:
    def change(found: Json) -> None:
        found["artifacts"][key] = value

    return changed(change)
