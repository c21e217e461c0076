"""A manifest that others signed, beside its artifacts."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path

import pytest

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import Manifest, add_signature, sign_detached
from p2pboot.core.timestamps import parse_time
from p2pboot.errors import ArtifactError, MachineError
from p2pboot.publish.build import BuildOptions, build
from p2pboot.publish.presigned import Presigned, signers_beside, take_presigned
from p2pboot.publish.scan import Tree
from p2pboot.store.store import Store
from tests.publish.trees import scan

OWN, FLEET, SECOND = (SecretKey(bytes([number]) * 32) for number in (1, 2, 3))
NOW = parse_time("2025-11-26T12:00:00Z")
DAY = 86_400


@pytest.fixture
def image(tmp_path: Path) -> Path:
    leaf = tmp_path / "image"
    leaf.mkdir()
    for name in ("vmlinuz", "initrd"):
        (leaf / name).write_bytes(name.encode())
    return leaf


def tree_of(image: Path, channel: str = "stable") -> Tree:
    (tree,) = scan(image, channel, "arm64")
    return tree


def signed(image: Path, *keys: SecretKey, **options: object) -> Manifest:
    with Store.open(image.parent / "elsewhere") as elsewhere:
        wanted = BuildOptions(name="fleet", **options)  # type: ignore[arg-type]
        return build(tree_of(image), wanted, keys=keys, store=elsewhere, now=NOW).manifest


def put(image: Path, raw: bytes, detached: str | None = None) -> None:
    (image / "manifest.json").write_bytes(raw)
    if detached is not None:
        (image / "manifest.json.sig").write_text(detached)


def take(image: Path, store: Store, now: int = NOW) -> Presigned | None:
    return take_presigned(tree_of(image), own_keyid=OWN.public.keyid, store=store, now=now)


def refusal(image: Path, store: Store, now: int = NOW) -> str:
    with pytest.raises(ArtifactError) as caught:
        take(image, store, now)
    assert caught.value.remedy
    return caught.value.message


@pytest.mark.parametrize(("before", "after"), [("", "\n"), ("\ufeff", ""), ("\ufeff", "\r\n")])
def test_a_complete_manifest_is_taken_as_it_is(image: Path, store: Store, before: str, after: str) -> None:
    manifest = signed(image, FLEET, SECOND)
    detached = sign_detached(manifest.raw, SECOND)
    put(image, manifest.raw, before + detached + after)  # what editors add goes no further
    taken = take(image, store)
    assert taken is not None
    assert (taken.manifest, taken.detached) == (manifest, detached)
    assert {file.digest for file in taken.files} == {one.sha256 for one in manifest.artifacts.values()}


def test_it_is_still_taken_where_the_own_key_is_one_of_several(image: Path, store: Store) -> None:
    put(image, signed(image, OWN, FLEET).raw)
    assert take(image, store) is not None


def test_without_one_or_with_one_of_the_own_key_the_node_builds_its_own(image: Path, store: Store) -> None:
    assert take(image, store) is None
    put(image, signed(image, OWN).raw)
    assert take(image, store) is None


def test_one_that_waits_for_a_signature_names_who_is_missing(image: Path, store: Store) -> None:
    with Store.open(image.parent / "elsewhere") as elsewhere:
        built = build(
            tree_of(image),
            BuildOptions(name="fleet"),
            signers=[FLEET.public, SECOND.public],
            store=elsewhere,
            now=NOW,
        )
    put(image, add_signature(built.raw, FLEET))
    message = refusal(image, store)
    assert SECOND.public.keyid in message
    assert FLEET.public.keyid not in message
    put(image, add_signature(add_signature(built.raw, FLEET), SECOND))
    assert take(image, store) is not None


def test_an_expired_one_is_refused_to_the_second(image: Path, store: Store) -> None:
    manifest = signed(image, FLEET)
    put(image, manifest.raw)
    assert take(image, store, manifest.expires_at - 1) is not None
    assert "expired" in refusal(image, store, manifest.expires_at)


def test_another_channels_manifest_is_refused(image: Path, store: Store) -> None:
    put(image, signed(image, FLEET).raw)
    with pytest.raises(ArtifactError, match="stable/arm64, not testing/arm64"):
        take_presigned(tree_of(image, "testing"), own_keyid=OWN.public.keyid, store=store, now=NOW)


def test_files_that_are_not_what_it_says_are_refused(image: Path, store: Store) -> None:
    put(image, signed(image, FLEET).raw)
    (image / "vmlinuz").write_bytes(b"another")
    assert "is not the kernel" in refusal(image, store)


def test_files_that_are_missing_or_too_many_are_refused(image: Path, store: Store) -> None:
    put(image, signed(image, FLEET).raw)
    (image / "rootfs.squashfs").write_bytes(b"new")
    assert "does not name rootfs" in refusal(image, store)
    put(image, signed(image, FLEET).raw)
    assert take(image, store) is not None
    (image / "rootfs.squashfs").unlink()
    assert "names rootfs, which is not there" in refusal(image, store)


def test_a_command_line_that_was_not_signed_is_refused(image: Path, store: Store) -> None:
    put(image, signed(image, FLEET, cmdline="quiet").raw)
    assert take(image, store) is not None
    (image / "cmdline").write_text("quiet\n")
    assert take(image, store) is not None
    (image / "cmdline").write_text("quiet init=/bin/sh\n")
    assert "is not what" in refusal(image, store)


@pytest.mark.parametrize("change", ["truncated", "field", "signature", "large", "empty"])
def test_a_broken_manifest_is_refused_by_name(image: Path, store: Store, change: str) -> None:
    raw = signed(image, FLEET).raw
    broken = {
        "truncated": raw[:-20],
        "field": raw.replace(b"stable", b"sxable"),
        "signature": raw.replace(b'"sig":"', b'"sig":"AAAA'),
        "large": raw + b" " * 65_536,
        "empty": b"",
    }
    put(image, broken[change])
    assert str(image / "manifest.json") in refusal(image, store)


def test_the_detached_signature_of_something_else_is_left_out(image: Path, store: Store) -> None:
    manifest = signed(image, FLEET)
    for text in (
        b64encode(FLEET.sign(b"other")).decode(),
        sign_detached(manifest.raw, OWN),
        "ä",
        "",
        "x" * 5000,
    ):
        put(image, manifest.raw, text)
        taken = take(image, store)
        assert taken is not None
        assert taken.detached is None


@pytest.mark.parametrize("kind", ["directory", "link to nothing", "pipe"])
def test_what_is_no_file_is_refused_and_not_passed_over(image: Path, store: Store, kind: str) -> None:
    """Else the node would sign by itself what others were to sign."""
    path = image / "manifest.json"
    tree = tree_of(image)
    match kind:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case _:
            path.symlink_to(image / "gone")
    with pytest.raises(ArtifactError, match="not a regular file"):
        take_presigned(tree, own_keyid=OWN.public.keyid, store=store, now=NOW)


def test_one_that_can_not_be_read_is_the_machines_fault(
    image: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(image, signed(image, FLEET).raw)
    tree = tree_of(image)

    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MachineError, match=r"manifest\.json"):
        take_presigned(tree, own_keyid=OWN.public.keyid, store=store, now=NOW)


def test_who_signs_is_told_without_hashing_anything(image: Path) -> None:
    assert signers_beside(tree_of(image)) is None
    put(image, signed(image, FLEET, SECOND).raw)
    (image / "vmlinuz").write_bytes(b"another")
    assert signers_beside(tree_of(image)) == tuple(sorted((FLEET.public.keyid, SECOND.public.keyid)))
    put(image, b"nonsense")
    assert signers_beside(tree_of(image)) is None
