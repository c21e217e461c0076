import dataclasses
import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.identity import SecretKey
from p2pboot.core.jsonform import MAX_INTEGER
from p2pboot.core.manifest import Candidate, Manifest, add_signature
from p2pboot.core.pieces import MIB, MIN_PIECE
from p2pboot.core.timestamps import parse_time
from p2pboot.errors import ArtifactError, StoreError, UsageError
from p2pboot.publish.build import DEFAULT_EXPIRES_IN_S, BuildOptions, Built, build
from p2pboot.store.errors import CounterTaken
from p2pboot.store.hashing import ChangedWhileHashing
from p2pboot.store.publications import Publications
from p2pboot.store.store import Store
from tests.publish.trees import scan

KEY = SecretKey(b"\x01" * 32)
OTHER = SecretKey(b"\x02" * 32)
NOW = parse_time("2025-11-26T23:59:00Z")
DAY_S = 86_400
OPTIONS = BuildOptions(name="my-provider")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    leaf = tmp_path / "image"
    leaf.mkdir()
    for name in ("vmlinuz", "initrd", "board.dtb"):
        (leaf / name).write_bytes(name.encode())
    return leaf


def build_image(image: Path, store: Store, now: int = NOW, *, floor: int = 0, **options: Any) -> Built:
    (tree,) = scan(image, "stable", "arm64")
    wanted = dataclasses.replace(OPTIONS, **options)
    return build(tree, wanted, keys=[KEY], store=store, now=now, floor=floor)


def change(image: Path, content: bytes) -> None:
    (image / "new").write_bytes(content)
    (image / "new").rename(image / "vmlinuz")


def test_a_first_build_says_everything(image: Path, store: Store) -> None:
    built = build_image(image, store)
    manifest = built.manifest
    assert Manifest.parse(built.raw) == manifest
    assert (built.first, built.unchanged) == (True, False)
    assert (manifest.version, manifest.manifest_version) == ("2025.11.26", 1)
    assert (manifest.channel, manifest.arch, manifest.cmdline) == ("stable", "arm64", None)
    assert manifest.created_at == NOW
    assert manifest.expires_at == NOW + DEFAULT_EXPIRES_IN_S == NOW + 30 * DAY_S
    assert manifest.signers == (KEY.public.keyid,)
    assert (manifest.provider_peer_id, manifest.provider_name) == (KEY.public.peer_id, "my-provider")
    assert list(manifest.artifacts) == ["dtbs/board", "initramfs", "kernel"]
    kernel = manifest.artifacts["kernel"]
    assert kernel.sha256 == hashlib.sha256(b"vmlinuz").hexdigest()
    assert (kernel.size, kernel.urls, kernel.path) == (7, (), "/stable/arm64/kernel")
    assert {hashed.path.name for hashed in built.files} == {"board.dtb", "initrd", "vmlinuz"}
    assert {hashed.table.digest for hashed in built.files} == {
        artifact.table_digest for artifact in manifest.artifacts.values()
    }


def test_every_option_is_said(image: Path, store: Store) -> None:
    (image / "cmdline").write_text("from the file\n")
    assert build_image(image, store).manifest.cmdline == "from the file"
    manifest = build_image(
        image,
        store,
        version="1.0",
        manifest_version=9,
        expires_in_s=3600,
        cmdline="quiet",
        urls=("http://192.0.2.7:8080/", "https://example.org/x"),
        peer_id=OTHER.public.peer_id,
    ).manifest
    assert (manifest.version, manifest.manifest_version, manifest.cmdline) == ("1.0", 9, "quiet")
    assert manifest.expires_at == NOW + 3600
    assert manifest.provider_peer_id == OTHER.public.peer_id
    kernel = manifest.artifacts["kernel"]
    assert kernel.urls == (
        f"http://192.0.2.7:8080/blobs/{kernel.sha256}",
        f"https://example.org/x/blobs/{kernel.sha256}",
    )


def test_the_same_content_gives_the_stored_bytes_also_after_midnight(image: Path, store: Store) -> None:
    first = build_image(image, store)
    again = build_image(image, store, NOW + DAY_S, expires_in_s=99)
    assert again.raw == first.raw
    assert (again.unchanged, again.first) == (True, False)
    assert again.files == first.files


def test_unchanged_files_are_not_opened(image: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_image(image, store)
    opened = list[str]()
    original = os.open

    def recording(path: Any, *rest: Any, **more: Any) -> int:
        opened.append(os.fspath(path))
        return original(path, *rest, **more)

    monkeypatch.setattr(os, "open", recording)
    assert build_image(image, store).raw == first.raw
    assert not [path for path in opened if path.startswith(str(image))]


@pytest.mark.parametrize(
    "options",
    [{"version": "2"}, {"name": "other"}, {"cmdline": "x"}, {"urls": ("http://a",)}, {"peer_id": "x"}],
)
def test_every_change_makes_the_next_number(image: Path, store: Store, options: dict[str, Any]) -> None:
    build_image(image, store)
    changed = build_image(image, store, NOW + 5, **options)
    assert (changed.manifest.manifest_version, changed.unchanged, changed.first) == (2, False, False)
    assert changed.manifest.created_at == NOW + 5
    change(image, b"new kernel")
    assert build_image(image, store, NOW + DAY_S, **options).manifest.manifest_version == 3
    assert build_image(image, store, NOW + DAY_S, **options).unchanged


def test_changed_content_gets_the_version_of_its_day(image: Path, store: Store) -> None:
    build_image(image, store)
    change(image, b"new kernel")
    assert build_image(image, store, NOW + DAY_S).manifest.version == "2025.11.27"


def test_with_a_third_of_the_validity_left_it_is_renewed(image: Path, store: Store) -> None:
    first = build_image(image, store)
    assert build_image(image, store, NOW + 20 * DAY_S - 1).raw == first.raw
    renewed = build_image(image, store, NOW + 20 * DAY_S).manifest
    assert renewed.manifest_version == 2
    assert (renewed.version, renewed.artifacts) == (first.manifest.version, first.manifest.artifacts)
    assert (renewed.created_at, renewed.expires_at) == (NOW + 20 * DAY_S, NOW + 50 * DAY_S)
    assert build_image(image, store, NOW + 90 * DAY_S).manifest.manifest_version == 3, "expired"


def test_what_a_clock_far_ahead_has_dated_is_built_again(image: Path, store: Store) -> None:
    build_image(image, store, NOW + 1000 * DAY_S)
    corrected = build_image(image, store, NOW).manifest
    assert (corrected.manifest_version, corrected.created_at) == (2, NOW)


def test_the_number_is_above_what_the_mesh_knows(image: Path, store: Store) -> None:
    first = build_image(image, store, floor=7)
    assert (first.manifest.manifest_version, first.first) == (8, True)
    assert build_image(image, store, floor=7).raw == first.raw
    # Another manifest of the number 8 is out there: ours must not be handed out again.
    assert build_image(image, store, floor=8).manifest.manifest_version == 9


def test_a_raised_counter_overtakes_what_is_stored(image: Path, store: Store) -> None:
    build_image(image, store)
    store.publications.raise_counter([KEY.public.keyid], "stable", "arm64", 5)
    assert build_image(image, store).manifest.manifest_version == 6


def test_no_number_follows_the_highest_and_that_is_said(image: Path, store: Store) -> None:
    with pytest.raises(UsageError, match=f"at most {MAX_INTEGER}"):
        build_image(image, store, manifest_version=MAX_INTEGER + 1)
    assert build_image(image, store, manifest_version=MAX_INTEGER).manifest.manifest_version == MAX_INTEGER
    with pytest.raises(UsageError, match="no manifest can have a higher one") as caught:
        build_image(image, store, cmdline="changed")
    assert "another key" in (caught.value.remedy or "")
    with pytest.raises(UsageError, match="no manifest can have a higher one"):
        build_image(image, store, cmdline="changed", floor=MAX_INTEGER, manifest_version=8)


def test_an_explicit_number_must_be_new(image: Path, store: Store) -> None:
    first = build_image(image, store, manifest_version=5)
    assert build_image(image, store, manifest_version=5).raw == first.raw
    assert build_image(image, store).raw == first.raw
    for number, cmdline in ((4, None), (5, "x")):
        with pytest.raises(UsageError, match=f"manifest_version {number} is used up") as caught:
            build_image(image, store, manifest_version=number, cmdline=cmdline)
        assert "use 6" in (caught.value.remedy or "")
    with pytest.raises(UsageError, match="is used up: stable/arm64 is at 9"):
        build_image(image, store, manifest_version=8, floor=9)
    with pytest.raises(UsageError, match="manifest_version"):
        build_image(image, store, manifest_version=0)
    assert build_image(image, store, manifest_version=6).manifest.manifest_version == 6
    with pytest.raises(UsageError, match="is used up"):
        build_image(image, store, NOW + 29 * DAY_S, manifest_version=6)


def test_every_set_of_signers_channel_and_arch_counts_for_itself(image: Path, store: Store) -> None:
    build_image(image, store)
    build_image(image, store, version="x")
    (other_arch,) = scan(image, "stable", "x86_64")
    (tree,) = scan(image, "stable", "arm64")
    for keys, place in (([KEY], other_arch), ([OTHER], tree), ([KEY, OTHER], tree), ([OTHER, KEY], tree)):
        built = build(place, OPTIONS, keys=keys, store=store, now=NOW)
        assert built.manifest.manifest_version == 1, "the order of the signers does not matter"
        assert built.manifest.signers == tuple(sorted(key.public.keyid for key in keys))


def test_what_was_handed_out_is_stored_first(image: Path, store: Store) -> None:
    built = build_image(image, store)
    assert store.publications.last([KEY.public.keyid], "stable", "arm64") == built.raw
    with Store.open(store.path) as reopened:
        assert build_image(image, reopened).raw == built.raw


def test_a_build_that_fails_uses_no_number(image: Path, store: Store) -> None:
    for options in ({"cmdline": "a\nb"}, {"urls": ("ftp://x",)}, {"name": ""}, {"expires_in_s": 10**12}):
        with pytest.raises(UsageError):
            build_image(image, store, **options)
    with pytest.raises(UsageError, match="clock is wrong"):
        build_image(image, store, -5)
    assert build_image(image, store).manifest.manifest_version == 1


def test_somebody_has_to_sign(image: Path, store: Store) -> None:
    (tree,) = scan(image, "stable", "arm64")
    with pytest.raises(UsageError, match="nobody is named to sign"):
        build(tree, OPTIONS, signers=[], store=store, now=NOW)


def test_more_artifacts_than_a_manifest_holds_are_refused_with_counts(image: Path, store: Store) -> None:
    for number in range(200):
        (image / f"module-{number}").write_bytes(b"%d" % number)
    with pytest.raises(ArtifactError, match=r"203 artifacts, more than the 65536") as caught:
        build_image(image, store)
    assert "fewer artifacts" in (caught.value.remedy or "")


GATEWAYS = tuple(f"http://192.168.{number}.1:8080" for number in range(16))


@pytest.mark.parametrize("kind", ["dtb", "bin"])
def test_addresses_that_find_no_room_are_left_out_from_the_last(image: Path, store: Store, kind: str) -> None:
    """A machine with many networks, times many artifacts: the best addresses are kept."""
    for number in range(31 if kind == "dtb" else 40):
        (image / f"thing-{number}.{kind}").write_bytes(b"%d" % number)
    built = build_image(image, store, urls=GATEWAYS)
    kept = len(built.manifest.artifacts["kernel"].urls)
    assert 0 < kept < len(GATEWAYS)
    assert built.urls_left_out == GATEWAYS[kept:]
    for artifact in built.manifest.artifacts.values():
        assert artifact.urls == tuple(f"{base}/blobs/{artifact.sha256}" for base in GATEWAYS[:kept])
    assert len(built.raw) <= 65_536
    again = build_image(image, store, urls=GATEWAYS)
    assert (again.raw, again.unchanged, again.urls_left_out) == (built.raw, True, built.urls_left_out)


def test_all_addresses_are_kept_where_there_is_room(image: Path, store: Store) -> None:
    built = build_image(image, store, urls=GATEWAYS)
    assert len(built.manifest.artifacts["kernel"].urls) == len(GATEWAYS)
    assert built.urls_left_out == ()


def test_what_finds_room_without_any_address_is_published_without(image: Path, store: Store) -> None:
    for number in range(75):
        (image / f"module-{number}").write_bytes(b"%d" % number)
    built = build_image(image, store, urls=GATEWAYS)
    assert built.manifest.artifacts["kernel"].urls == ()
    assert built.urls_left_out == GATEWAYS
    (tree,) = scan(image, "stable", "arm64")
    options = dataclasses.replace(OPTIONS, urls=GATEWAYS)
    waiting = build(tree, options, signers=[OTHER.public], store=store, now=NOW)
    assert waiting.urls_left_out == GATEWAYS


def test_a_file_that_vanishes_is_still_being_changed(image: Path, store: Store) -> None:
    (tree,) = scan(image, "stable", "arm64")
    (image / "vmlinuz").unlink()
    with pytest.raises(ChangedWhileHashing):
        build(tree, OPTIONS, keys=[KEY], store=store, now=NOW)


def test_progress_counts_all_files_also_known_ones(image: Path, store: Store) -> None:
    (tree,) = scan(image, "stable", "arm64")
    total = sum(path.stat().st_size for path in tree.files.values())
    for already in (0, total):
        seen, known = list[tuple[int, int]](), list[int]()
        build(
            tree,
            OPTIONS,
            keys=[KEY],
            store=store,
            now=NOW,
            progress=lambda done, in_all, seen=seen: seen.append((done, in_all)),  # type: ignore[misc]
            known=known.append,
        )
        assert sum(known) == already
        assert seen == sorted(seen)
        assert (seen[0], seen[-1]) == ((0, total), (total, total))


def test_builds_that_race_never_give_two_manifests_one_number(image: Path, store: Store) -> None:
    versions = [str(number) for number in range(6)]
    start, built = threading.Barrier(len(versions)), list[Built]()

    def run(version: str) -> None:
        with Store.open(store.path) as own:
            start.wait()
            built.append(build_image(image, own, version=version))

    threads = [threading.Thread(target=run, args=[version]) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.manifest.manifest_version for one in built) == [1, 2, 3, 4, 5, 6]


def test_who_loses_the_race_for_a_number_takes_the_next(
    image: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Publications.record

    def another_was_faster(*arguments: Any, **fields: Any) -> None:
        monkeypatch.setattr(Publications, "record", original)
        build_image(image, store, version="theirs")
        original(*arguments, **fields)

    monkeypatch.setattr(Publications, "record", another_was_faster)
    assert build_image(image, store, version="ours").manifest.manifest_version == 2


def test_losing_every_race_ends_with_a_clear_error(
    image: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def always_taken(*_: Any, **__: Any) -> None:
        raise CounterTaken("stable", "arm64", 1)

    monkeypatch.setattr(Publications, "record", always_taken)
    with pytest.raises(StoreError, match="another process publishes stable/arm64"):
        build_image(image, store)


def test_an_unsigned_document_waits_for_all_its_signers(image: Path, store: Store) -> None:
    (tree,) = scan(image, "stable", "arm64")
    signers = [OTHER.public, KEY.public]
    built = build(tree, OPTIONS, signers=signers, store=store, now=NOW)
    assert (built.first, built.unchanged, built.statement.manifest_version) == (True, False, 1)
    assert built.missing == tuple(sorted(key.keyid for key in signers))
    assert built.statement.provider_peer_id == min(signers, key=str).peer_id
    complete = add_signature(add_signature(built.raw, KEY), OTHER)
    assert Manifest.parse(complete).digest == Candidate.decode(built.raw).digest


def test_an_unsigned_document_keeps_its_number(image: Path, store: Store) -> None:
    (tree,) = scan(image, "stable", "arm64")

    def prepare(version: str) -> Any:
        options = dataclasses.replace(OPTIONS, version=version)
        return build(tree, options, signers=[KEY.public], store=store, now=NOW)

    first = prepare("1")
    again = prepare("1")
    assert (again.raw, again.unchanged, again.first) == (first.raw, True, False)
    assert prepare("2").statement.manifest_version == 2, "somebody may still sign the first one"


def test_a_key_that_is_here_signs_the_document_that_waits(image: Path, store: Store) -> None:
    (tree,) = scan(image, "stable", "arm64")
    waiting = build(tree, OPTIONS, signers=[KEY.public], store=store, now=NOW)
    built = build_image(image, store, NOW + 60)
    assert built.raw == add_signature(waiting.raw, KEY)
    assert built.unchanged
    assert store.publications.last([KEY.public.keyid], "stable", "arm64") == built.raw
    assert build_image(image, store).raw == built.raw


def test_an_unreadable_record_still_counts(image: Path, store: Store) -> None:
    store.publications.record(
        b"{}",
        signers=[KEY.public.keyid],
        channel="stable",
        arch="arm64",
        manifest_version=3,
        digest="0" * 64,
    )
    built = build_image(image, store)
    assert (built.manifest.manifest_version, built.first) == (4, False)


# how it is cut


def lengths(built: Built) -> dict[str, int]:
    return {key: artifact.piece_length for key, artifact in built.manifest.artifacts.items()}


def test_new_content_is_cut_by_its_size_and_what_is_published_keeps_its_cut(
    image: Path, store: Store
) -> None:
    """The first one as an earlier version made it: everything in pieces of 1 MiB."""
    former = build_image(image, store, piece_length=MIB)
    assert set(lengths(former).values()) == {MIB}
    again = build_image(image, store)
    assert again.unchanged
    assert again.raw == former.raw
    change(image, b"another")
    changed = build_image(image, store)
    assert lengths(changed) == {**lengths(former), "kernel": MIN_PIECE}


def test_unchanged_files_are_not_read_however_they_are_cut(
    image: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = build_image(image, store, piece_length=MIB)
    monkeypatch.setattr("p2pboot.store.hashing._hash", lambda *_: pytest.fail("a file was read"))
    assert build_image(image, store).raw == former.raw


def test_a_wanted_piece_length_cuts_anew_and_the_cut_stays(image: Path, store: Store) -> None:
    former = build_image(image, store)
    assert set(lengths(former).values()) == {MIN_PIECE}
    coarse = build_image(image, store, piece_length=4 * MIN_PIECE)
    assert set(lengths(coarse).values()) == {4 * MIN_PIECE}
    assert coarse.manifest.manifest_version == 2
    assert build_image(image, store, piece_length=4 * MIN_PIECE).unchanged
    assert build_image(image, store).unchanged


def test_a_copy_and_another_pair_are_cut_as_the_content_was(image: Path, store: Store) -> None:
    """Also where nothing but a manifest that is kept, of whoever signed it, knows how."""
    (image / "vmlinuz").write_bytes(bytes(3 * MIN_PIECE))
    kernel = build_image(image, store, piece_length=2 * MIN_PIECE).manifest.artifacts["kernel"]
    (image / "copy").write_bytes(bytes(3 * MIN_PIECE))
    (image / "copy").rename(image / "vmlinuz")
    (tree,) = scan(image, "testing", "arm64")
    elsewhere = build(tree, OPTIONS, keys=[OTHER], store=store, now=NOW).manifest
    assert elsewhere.artifacts["kernel"].table_digest == kernel.table_digest
    store.manifests.put(elsewhere, None)
    with store._database.transaction() as sql:
        sql.execute("DELETE FROM hashes")
        sql.execute("DELETE FROM publications")
    again = build_image(image, store, name="anybody").manifest.artifacts["kernel"]
    assert (again.piece_length, again.table_digest) == (2 * MIN_PIECE, kernel.table_digest)


def test_what_was_published_last_counts_before_what_others_say_of_the_same(image: Path, store: Store) -> None:
    (image / "vmlinuz").write_bytes(bytes(3 * MIN_PIECE))
    mine = build_image(image, store)
    (tree,) = scan(image, "testing", "arm64")
    coarse = dataclasses.replace(OPTIONS, piece_length=2 * MIN_PIECE)
    store.manifests.put(build(tree, coarse, keys=[OTHER], store=store, now=NOW + 1).manifest, None)
    assert build_image(image, store).raw == mine.raw
    (image / "copy").write_bytes(bytes(3 * MIN_PIECE))
    (image / "copy").rename(image / "vmlinuz")
    assert build_image(image, store).raw == mine.raw
