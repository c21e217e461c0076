"""The output directory: always one whole set or visibly none, whatever was there and wherever it was
killed."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from p2pboot.core.devicetrees import end, header, layout, padding
from p2pboot.core.manifest import Manifest, sign_detached
from p2pboot.errors import MachineError, ManifestError
from p2pboot.fetch.placing.output import Output
from p2pboot.fetch.placing.staging import Staging
from p2pboot.publish.presigned import take_presigned
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, content
from p2pboot.testing.manifests import NOW
from p2pboot.testing.stores import hold_all
from tests.fetch.world import FILES, KEY, manifest_of
from tests.permissions import permissions_applied
from tests.publish.trees import scan

WITH_TREES = {**FILES, "dtbs/board": content("board", 1000)}
NEW_FILES = {
    "kernel": content("new kernel", PIECE),
    "initramfs": FILES["initramfs"],
    "modules": content("m", 9),
}
V1 = manifest_of(WITH_TREES)
V2 = manifest_of(NEW_FILES, 2, cmdline=None)
SIG = sign_detached(V1.raw, KEY)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state") as store:
        hold_all(store, V1, WITH_TREES)
        hold_all(store, V2, NEW_FILES)
        yield store


@pytest.fixture
def output(tmp_path: Path, store: Store) -> Iterator[Output]:
    with Output.open(tmp_path / "out", store.blobs.table) as output:
        yield output


def place(
    output: Output, store: Store, manifest: Manifest, detached: str | None = None, *keys: str
) -> set[str]:
    artifacts = [a for key, a in manifest.artifacts.items() if not keys or key in keys]
    written = output.place(manifest, detached, artifacts, store.blobs.path)
    return {str(path.relative_to(output.directory)) for path in written}


def visible(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and ".p2pboot" not in path.parts
    }


def files_as_placed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{key}.dtb" if key.startswith("dtbs/") else key: data for key, data in files.items()}


WHOLE_V1 = {
    **files_as_placed(WITH_TREES),
    "manifest.json": V1.raw,
    "manifest.json.sig": SIG.encode() + b"\n",
    "cmdline": b"quiet\n",
}
WHOLE_V1_BARE = {name: data for name, data in WHOLE_V1.items() if name != "manifest.json.sig"}
WHOLE_V2 = {**files_as_placed(NEW_FILES), "manifest.json": V2.raw}


def test_everything_gets_its_final_name(output: Output, store: Store) -> None:
    place(output, store, V1, SIG)
    assert visible(output.directory) == WHOLE_V1


def test_what_is_right_already_is_not_written_again(output: Output, store: Store) -> None:
    place(output, store, V1)
    assert output.is_complete(V1, None, V1.artifacts.values())
    assert place(output, store, V2) == {"kernel", "modules"}


def test_a_new_version_replaces_and_removes_what_it_does_not_have(output: Output, store: Store) -> None:
    place(output, store, V1, SIG)
    (output.directory / "notes.txt").write_bytes(b"mine")
    place(output, store, V2)
    assert visible(output.directory) == {**WHOLE_V2, "notes.txt": b"mine"}


def test_a_changed_or_missing_file_is_noticed_and_mended(output: Output, store: Store) -> None:
    place(output, store, V1, SIG)
    everything = V1.artifacts.values()
    (output.directory / "kernel").unlink()
    (output.directory / "kernel").write_bytes(FILES["kernel"][:-1] + b"!")
    assert not output.is_complete(V1, SIG, everything)
    (output.directory / "initramfs").unlink()
    assert place(output, store, V1, SIG) == {"kernel", "initramfs"}
    assert visible(output.directory) == WHOLE_V1


@pytest.mark.parametrize("name", ["manifest.json", "manifest.json.sig", "cmdline"])
def test_a_damaged_small_file_is_noticed_and_mended(output: Output, store: Store, name: str) -> None:
    place(output, store, V1, SIG)
    (output.directory / name).write_bytes(b"x")
    assert not output.is_complete(V1, SIG, V1.artifacts.values())
    place(output, store, V1, SIG)
    assert visible(output.directory) == WHOLE_V1


def test_a_symlink_under_a_final_name_is_replaced_not_followed(
    output: Output, store: Store, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(FILES["kernel"])
    (output.directory / "kernel").symlink_to(victim)
    place(output, store, V1, SIG)
    assert not (output.directory / "kernel").is_symlink()
    assert victim.read_bytes() == FILES["kernel"]


def test_a_directory_under_a_final_name_is_a_clear_error(output: Output, store: Store) -> None:
    (output.directory / "kernel").mkdir()
    with pytest.raises(MachineError, match="kernel"):
        place(output, store, V1)


def test_only_what_was_selected_is_placed_and_no_old_version_stays_beside_it(
    output: Output, store: Store
) -> None:
    place(output, store, V1, SIG)
    place(output, store, V2, None, "kernel")
    assert visible(output.directory) == {
        "kernel": NEW_FILES["kernel"],
        "initramfs": FILES["initramfs"],  # the same in both versions
        "manifest.json": V2.raw,
    }


class Killed(BaseException):
    """As SIGKILL: nothing after it runs, not even handlers of Exception."""


class Steps:
    """Lets so many steps be taken; the next one kills."""

    def __init__(self, before: int) -> None:
        self.left = before

    def counted(self, function: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*args: object, **options: object) -> None:
            if self.left == 0:
                raise Killed
            self.left -= 1
            function(*args, **options)

        return wrapped


def final(directory: Path) -> dict[str, bytes]:
    """What has a final name."""
    there = visible(directory).items()
    return {name: data for name, data in there if not name.rpartition("/")[2].startswith(".")}


def assert_of_one_set(there: Mapping[str, bytes], *sets: Mapping[str, bytes]) -> None:
    """Whatever has a final name is of one of these sets; and all of that set, where its manifest is there."""
    of_one = [whole for whole in sets if there.items() <= whole.items()]
    assert of_one, sorted(there)
    if "manifest.json" in there:
        assert there in of_one


def kill_after(step: int, patch: pytest.MonkeyPatch) -> None:
    """Every change of a name is a step."""
    counted = Steps(step).counted
    for owner, name in ((Path, "replace"), (Path, "unlink"), (os, "link"), (Path, "mkdir"), (Path, "rmdir")):
        patch.setattr(owner, name, counted(getattr(owner, name)))


def kill_everywhere(
    directory: Path,
    store: Store,
    patch: pytest.MonkeyPatch,
    before: Manifest,
    after: Manifest,
    *sets: dict[str, bytes],
) -> None:
    """Kill the change from one set to another at each of its steps, and look at what is left."""
    patch.setattr(os, "fsync", lambda _fd: None)
    for step in itertools.count():
        with Output.open(directory, store.blobs.table) as output:
            place(output, store, before)
            try:
                with patch.context() as inner:
                    kill_after(step, inner)
                    place(output, store, after)
            except Killed:
                assert_of_one_set(final(directory), *sets)
            else:
                break
        with Output.open(directory, store.blobs.table) as output:
            place(output, store, after)
            assert final(directory) == sets[-1]
    assert step > 10
    assert final(directory) == sets[-1]


def test_killed_at_any_step_there_is_nothing_of_two_sets_and_the_next_run_completes(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_everywhere(tmp_path / "out", store, monkeypatch, V1, V2, WHOLE_V1_BARE, WHOLE_V2)


def test_killed_between_three_versions_nothing_of_the_middle_one_stays(
    output: Output, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(output, store, V1, SIG)

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(output, "_tidy_trees", die)  # V2's files are placed, its manifest is not
        with pytest.raises(Killed):
            place(output, store, V2)
    assert (output.directory / "modules").exists()
    v3 = manifest_of(FILES, 3)
    place(output, store, v3)
    assert visible(output.directory) == {**FILES, "cmdline": b"quiet\n", "manifest.json": v3.raw}


def test_a_second_process_is_refused_with_the_first_ones_id(output: Output, store: Store) -> None:
    with pytest.raises(MachineError, match=f"process {os.getpid()}"):
        Output.open(output.directory, store.blobs.table)


def test_a_journal_can_not_make_us_remove_foreign_files(output: Output, store: Store, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (output.directory / ".p2pboot/output/placing.json").write_text('["../victim", 3, "dtbs/../../victim"]')
    place(output, store, V2)
    assert victim.exists()


def test_a_directory_that_is_not_writable_is_a_clear_error(tmp_path: Path, store: Store) -> None:
    (tmp_path / "sealed").mkdir(mode=0o500)
    with permissions_applied(), pytest.raises(MachineError, match="sealed"):
        Output.open(tmp_path / "sealed", store.blobs.table)


def test_a_file_where_the_directory_should_be_is_a_clear_error(tmp_path: Path, store: Store) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MachineError, match="file"):
        Output.open(tmp_path / "file", store.blobs.table)


@pytest.mark.parametrize("link", [".p2pboot", ".p2pboot/output", "dtbs"])
def test_a_directory_that_is_a_link_leads_nothing_elsewhere(tmp_path: Path, store: Store, link: str) -> None:
    """Who had the directory before us, or the disk that it is on, may have left it."""
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.mkdir(mode=0o700)
    (victim / ".board.dtb.p2pboot-0123456789abcdef.tmp").touch()
    (out / link).parent.mkdir(mode=0o700, parents=True)
    (out / link).symlink_to(victim)
    with pytest.raises(MachineError, match=f"{out / link} is a symbolic link"):
        Output.open(out, store.blobs.table)
    assert [path.name for path in victim.iterdir()] == [".board.dtb.p2pboot-0123456789abcdef.tmp"]


@pytest.mark.parametrize("name", ["kernel", "cmdline", "manifest.json", ".p2pboot/output/placing.json"])
def test_a_pipe_where_a_file_should_be_is_replaced_not_waited_for(
    output: Output, store: Store, name: str
) -> None:
    (output.directory / name).unlink(missing_ok=True)
    os.mkfifo(output.directory / name)
    assert not output.is_complete(V1, SIG, list(V1.artifacts.values()))
    place(output, store, V1, SIG)
    assert visible(output.directory) == WHOLE_V1


# Device trees that came in one archive

TREES = {
    "qcom/sm8250-mtp.dtb": content("sm8250", 900),
    "overlays/i2c.dtbo": content("i2c", 512),
    "board.dtb": content("board", 70_000),
}
NEW_TREES = {
    **{name: TREES[name] for name in ("qcom/sm8250-mtp.dtb", "board.dtb")},
    "ti/am62.dtb": content("am62", 10),
    "overlays/i2c.dtbo": content("i2c, mended", 512),
}


def archived(trees: Mapping[str, bytes]) -> bytes:
    members = layout((name, len(data)) for name, data in trees.items())
    return b"".join(header(one) + trees[one.name] + padding(one.size) for one in members) + end()


def as_placed(files: Mapping[str, bytes], trees: Mapping[str, bytes], manifest: Manifest) -> dict[str, bytes]:
    placed = {key: data for key, data in files.items() if key != "dtbs.tar"}
    return {**placed, **{f"dtbs/{name}": data for name, data in trees.items()}, "manifest.json": manifest.raw}


ARCHIVED = {**FILES, "dtbs.tar": archived(TREES)}
ARCHIVED_NEW = {**FILES, "dtbs.tar": archived(NEW_TREES)}
A1 = manifest_of(ARCHIVED, 3, cmdline=None)
A2 = manifest_of(ARCHIVED_NEW, 4, cmdline=None)
NO_TREES = manifest_of(FILES, 5, cmdline=None)
WHOLE_A1 = as_placed(ARCHIVED, TREES, A1)
WHOLE_A2 = as_placed(ARCHIVED_NEW, NEW_TREES, A2)


@pytest.fixture
def trees_store(store: Store) -> Store:
    hold_all(store, A1, ARCHIVED)
    hold_all(store, A2, ARCHIVED_NEW)
    return store


def is_complete(output: Output, manifest: Manifest) -> bool:
    return output.is_complete(manifest, None, manifest.artifacts.values())


def test_an_archive_is_placed_as_its_members_and_is_not_left_there(
    output: Output, trees_store: Store
) -> None:
    assert "dtbs" in place(output, trees_store, A1)
    assert visible(output.directory) == WHOLE_A1
    assert is_complete(output, A1)
    assert place(output, trees_store, A1) == set()


def test_a_complete_directory_is_known_without_any_memory(
    output: Output, trees_store: Store, tmp_path: Path
) -> None:
    """The files alone say so: nothing is downloaded again when the state is lost."""
    place(output, trees_store, A1)
    output.close()
    shutil.copytree(output.directory, tmp_path / "copy", ignore=shutil.ignore_patterns(".p2pboot"))
    with Output.open(tmp_path / "copy", trees_store.blobs.table) as copy:
        assert is_complete(copy, A1)
        assert not is_complete(copy, A2)


def test_a_link_among_the_device_trees_leads_nothing_elsewhere(
    output: Output, trees_store: Store, tmp_path: Path
) -> None:
    place(output, trees_store, A1)
    vendor = next(path for path in (output.directory / "dtbs").iterdir() if path.is_dir())
    vendor.rename(tmp_path / "victim")
    vendor.symlink_to(tmp_path / "victim")
    before = {path.name: path.read_bytes() for path in (tmp_path / "victim").iterdir()}
    for manifest in (A1, A2, NO_TREES):
        with pytest.raises(MachineError, match=f"{vendor} is a symbolic link"):
            place(output, trees_store, manifest)
    assert {path.name: path.read_bytes() for path in (tmp_path / "victim").iterdir()} == before


def test_files_of_others_among_the_device_trees_do_not_matter(output: Output, trees_store: Store) -> None:
    place(output, trees_store, A1)
    (output.directory / "dtbs/qcom/mine.dtb").write_bytes(b"mine")
    assert is_complete(output, A1)
    place(output, trees_store, A2)
    assert visible(output.directory) == {**WHOLE_A2, "dtbs/qcom/mine.dtb": b"mine"}


@pytest.mark.parametrize("name", sorted(TREES))
@pytest.mark.parametrize("damage", ["changed", "longer", "gone", "link", "directory of another"])
def test_a_damaged_device_tree_is_noticed_and_mended(
    output: Output, trees_store: Store, tmp_path: Path, name: str, damage: str
) -> None:
    place(output, trees_store, A1)
    path = output.directory / "dtbs" / name
    match damage:
        case "changed":
            path.write_bytes(bytes([TREES[name][0] ^ 1]) + TREES[name][1:])
        case "longer":
            path.write_bytes(TREES[name] + b"!")
        case "gone":
            path.unlink()
        case "link":
            path.rename(tmp_path / "same")
            path.symlink_to(tmp_path / "same")
        case _:
            shutil.rmtree(output.directory / "dtbs")
    assert not is_complete(output, A1)
    place(output, trees_store, A1)
    assert visible(output.directory) == WHOLE_A1
    assert not path.is_symlink()


def test_a_new_archive_replaces_and_removes_what_it_does_not_have(output: Output, trees_store: Store) -> None:
    place(output, trees_store, A2)
    place(output, trees_store, A1)
    assert visible(output.directory) == WHOLE_A1
    assert not (output.directory / "dtbs/ti").exists()


def test_single_trees_and_archives_follow_each_other(output: Output, trees_store: Store) -> None:
    place(output, trees_store, V1)
    place(output, trees_store, A1)
    assert visible(output.directory) == WHOLE_A1
    place(output, trees_store, V1, SIG)
    assert visible(output.directory) == WHOLE_V1
    place(output, trees_store, A1)
    place(output, trees_store, NO_TREES)
    assert visible(output.directory) == {**FILES, "manifest.json": NO_TREES.raw}
    assert not (output.directory / "dtbs").exists()


def test_an_archive_that_was_not_selected_stays_only_if_it_is_the_same(
    output: Output, trees_store: Store
) -> None:
    place(output, trees_store, A1)
    same = manifest_of(ARCHIVED, 6, cmdline=None)
    place(output, trees_store, same, None, "kernel")
    assert set(visible(output.directory)) == set(WHOLE_A1)
    place(output, trees_store, A2, None, "kernel")
    assert not (output.directory / "dtbs").exists()


def test_killed_among_device_trees_there_is_nothing_of_two_sets_and_the_next_run_completes(
    tmp_path: Path, trees_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_everywhere(tmp_path / "out", trees_store, monkeypatch, A2, A1, WHOLE_A2, WHOLE_A1)


@pytest.mark.parametrize(
    ("full", "manifest"), [("kernel", V2), ("modules", V2), ("dtbs/ti/am62.dtb", A2)], ids=["1", "2", "3"]
)
def test_a_disk_that_is_full_leaves_everything_as_it_was(
    output: Output, trees_store: Store, monkeypatch: pytest.MonkeyPatch, full: str, manifest: Manifest
) -> None:
    place(output, trees_store, V1, SIG)

    add = {name: getattr(Staging, name) for name in ("link", "write")}

    def failing(name: str) -> Callable[..., None]:
        def wrapped(staging: Staging, one: object, other: object) -> None:
            if str(other if name == "link" else one).endswith(full):
                raise MachineError("the disk is full")
            add[name](staging, one, other)

        return wrapped

    with monkeypatch.context() as patch:
        for name in add:
            patch.setattr(Staging, name, failing(name))
        with pytest.raises(MachineError, match="full"):
            place(output, trees_store, manifest)
    assert visible(output.directory) == WHOLE_V1
    place(output, trees_store, manifest)
    assert visible(output.directory)["manifest.json"] == manifest.raw


def test_what_was_signed_as_an_archive_and_is_none_changes_nothing(output: Output, store: Store) -> None:
    place(output, store, V1, SIG)
    for number, raw in enumerate(
        (b"no archive", archived(TREES)[:-1], archived(TREES).replace(b"qcom/", b"../q/")), 7
    ):
        files = {**FILES, "dtbs.tar": raw}
        forged = manifest_of(files, number)
        hold_all(store, forged, files)
        with pytest.raises(
            ManifestError, match=f"dtbs.tar of manifest version {number}: the archive of device trees"
        ):
            place(output, store, forged)
        assert visible(output.directory) == WHOLE_V1


def test_a_note_of_device_trees_can_not_make_us_remove_foreign_files(
    output: Output, trees_store: Store, tmp_path: Path
) -> None:
    victim = tmp_path / "victim.dtb"
    victim.write_bytes(b"mine")
    note = output.directory / ".p2pboot/output/devicetrees.json"
    outside = '{"sha256": "x", "names": ["../../victim.dtb"]}'
    for text in (outside, "[]", "{", '{"sha256": 1, "names": 5}', '{"names": [3]}'):
        note.write_text(text)
        place(output, trees_store, A1)
        place(output, trees_store, NO_TREES)
        assert victim.exists()


def test_what_a_killed_process_was_writing_is_cleared_away(output: Output, trees_store: Store) -> None:
    place(output, trees_store, A1)
    output.close()
    left = output.directory / "dtbs/qcom/.sm8250-mtp.dtb.p2pboot-0123456789abcdef.tmp"
    left.write_bytes(b"half")
    with Output.open(output.directory, trees_store.blobs.table):
        assert visible(output.directory) == WHOLE_A1


def test_a_placed_directory_can_be_published_again(
    output: Output, trees_store: Store, tmp_path: Path
) -> None:
    place(output, trees_store, A1)
    (tree,) = scan(output.directory, "stable", "x86_64")
    with Store.open(tmp_path / "other") as other:
        taken = take_presigned(tree, own_keyid="nobody", store=other, now=NOW)
    assert taken is not None
    assert taken.manifest == A1
