"""Manifests that every verifier takes, and documents that wait for signatures."""

from collections.abc import Iterator

from tests.vectors.manifest.form import (
    EXAMPLE,
    MIB,
    SMALL,
    STRANGER,
    A,
    B,
    Json,
    body,
    canonical,
    manifest,
    of_size,
    sealed,
    small,
)


def good() -> Iterator[tuple[str, bytes, str]]:
    example = body(A, arch="arm64", sizes=EXAMPLE, piece=MIB, urls=1)
    yield (
        "example",
        manifest(example, A),
        "the usual case: kernel, initramfs, rootfs; one signer, who is the provider",
    )
    yield "minimal", manifest(small(), A), "nothing optional: two artifacts, no download addresses"
    both = body(A, B, arch="arm64", sizes=SMALL) | {"cmdline": "console=ttyAMA0 root=/dev/ram0 quiet"}
    yield "two-signers", manifest(both, A, B), "two signers, a command line"
    trees = {**SMALL, "dtbs/bcm2711-rpi-4-b": 50_000, "dtbs/bcm2712-rpi-5-b": 60_000, "modules-6.1": 70_000}
    yield (
        "dtbs",
        manifest(body(A, arch="arm64", sizes=trees), A),
        "device trees and an artifact of another name",
    )
    yield (
        "dtbs-archive",
        manifest(body(A, arch="arm64", sizes={**SMALL, "dtbs.tar": 5 * 64 * 1024}), A),
        "all device trees in one archive",
    )
    yield (
        "uki",
        manifest(body(A, arch="riscv64", sizes={"uki": 300_000, "rootfs": 100_000}), A),
        "a unified kernel image in place of kernel and initramfs; riscv64",
    )
    apart = small() | {"provider": {"peer_id": STRANGER.peer_id, "name": "builder"}}
    yield (
        "separate-key",
        manifest(apart, A),
        "the provider's key is not the signing key: allowed, and worth a note",
    )
    yield (
        "unicode",
        manifest(_unicode(), A),
        "strings beyond ASCII; member names that sort by UTF-16, not by code point",
    )
    yield (
        "unknown-members",
        manifest(_unknown(), A),
        "members that the format does not name, in every place where they may be",
    )
    yield "limits", manifest(_limits(), A), "every bounded thing at its bound; nesting of exactly 8 levels"
    yield "max-size", of_size(65_535), "65,535 bytes: the largest that there is (see the README)"


def _unicode() -> Json:
    return small() | {
        "version": "2025.11.26 „Grüße“ 🚀",
        "cmdline": 'greeting="Привет" path=C:\\boot',
        "provider": {"peer_id": A.peer_id, "name": "провайдер-東京"},
        "\U0001f600": "sorts before U+FB33, because its first UTF-16 unit is D83D",
        "\ufb33": "sorts after U+1F600",
        "\u20ac": "€",
    }


def _unknown() -> Json:
    found = small() | {
        "x-note": {"a": [1, -1, 0, True, False, None, "", {}, []], "": "an empty name"},
        "signee": 1,
    }
    found["artifacts"]["kernel"]["licence"] = "GPL-2.0-only"
    found["artifacts"]["kernel"]["pieces"]["x"] = 1
    found["provider"]["contact"] = "ops@example.org"
    return found


def _limits() -> Json:
    found = body(A, channel="c" * 64, sizes=SMALL) | {
        "manifest_version": 2**53 - 1,
        "version": "v" * 128,
        "cmdline": "c" * 4096,
        "created_at": "1970-01-01T00:00:00Z",
        "expires_at": "9999-12-31T23:59:59Z",
        "x": [[[[[[[2**53 - 1]]]]]]],
    }
    found["provider"] = {"peer_id": "p" * 128, "name": "n" * 255}
    kernel, initramfs = found["artifacts"]["kernel"], found["artifacts"]["initramfs"]
    kernel["urls"] = [f"https://h/{'u' * 50}?{i}" for i in range(15)] + [
        "http://[2001:db8::1]:65535/" + "u" * 2021
    ]
    kernel |= {"size": 2**40, "pieces": {"length": 16 * MIB, "hash": kernel["pieces"]["hash"]}}
    initramfs["size"] = 1
    return found


def waiting() -> Iterator[tuple[str, bytes, list[str]]]:
    both = small(A, B)
    yield "unsigned", canonical(sealed(both)), both["signers"]
    yield "first-signed", canonical(sealed(both, A)), [B.keyid]
    yield "second-signed", canonical(sealed(both, B)), [A.keyid]
