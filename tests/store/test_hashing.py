import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from p2pboot.core.pieces import MIN_PIECE
from p2pboot.errors import ArtifactError, MachineError
from p2pboot.store.hashes import FileIdentity, HashedFile
from p2pboot.store.hashing import READ_BYTES, ChangedWhileHashing, hash_file

PIECE = MIN_PIECE


class MemoryCache:
    def __init__(self) -> None:
        self.known: dict[FileIdentity, HashedFile] = {}
        self.distrusted: set[FileIdentity] = set()

    def get(self, identity: FileIdentity, piece_length: int | None = None) -> HashedFile | None:
        known = self.known.get(identity)
        return None if known is None or piece_length not in (None, known.table.piece_length) else known

    def put(self, identity: FileIdentity, hashed: HashedFile) -> None:
        self.known[identity] = hashed

    def is_distrusted(self, identity: FileIdentity) -> bool:
        return identity in self.distrusted


def write(path: Path, size: int) -> bytes:
    data = (b"p2pboot" * (size // 7 + 1))[:size]
    path.write_bytes(data)
    return data


@pytest.mark.parametrize(
    ("size", "piece_length"),
    [
        *((size, PIECE) for size in (1, PIECE - 1, PIECE, PIECE + 1)),
        # around one read, and pieces longer than a read
        *((READ_BYTES + extra, PIECE) for extra in (-1, 0, 1, PIECE)),
        *((2 * READ_BYTES + extra, 2 * READ_BYTES) for extra in (-1, 0, 1)),
    ],
)
def test_one_pass_gives_both_digests(tmp_path: Path, size: int, piece_length: int) -> None:
    data = write(tmp_path / "file", size)
    seen = list[tuple[int, int]]()
    hashed = hash_file(
        tmp_path / "file",
        cache=MemoryCache(),
        piece_length=piece_length,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert hashed.digest == hashlib.sha256(data).hexdigest()
    cuts = [data[at : at + piece_length] for at in range(0, size, piece_length)]
    assert hashed.table.raw == b"".join(blake3(cut).digest() for cut in cuts)
    assert (hashed.table.size, hashed.table.piece_length) == (size, piece_length)
    assert hashed.identity == FileIdentity.of((tmp_path / "file").stat())
    assert seen == sorted(seen)
    assert seen[-1] == (size, size)


def test_the_piece_length_follows_from_the_size(tmp_path: Path) -> None:
    write(tmp_path / "file", 10)
    assert hash_file(tmp_path / "file", cache=MemoryCache()).table.piece_length == MIN_PIECE


def test_a_known_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "file", 100)
    cache = MemoryCache()
    first = hash_file(tmp_path / "file", cache=cache)
    opened = counting_opens(monkeypatch)
    assert hash_file(tmp_path / "file", cache=cache) == first
    assert opened == []
    hash_file(tmp_path / "file", cache=cache, piece_length=2 * PIECE)
    assert len(opened) == 1, "the cache has another piece length"
    assert hash_file(tmp_path / "file", cache=cache).table.piece_length == 2 * PIECE
    assert len(opened) == 1, "and nobody asks for this one"


def test_content_keeps_the_cut_by_which_it_is_known_whatever_file_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "file", 5 * PIECE)
    opened = counting_opens(monkeypatch)
    cuts = {hashlib.sha256(data).hexdigest(): 4 * PIECE, "of another file": 2 * PIECE}
    cache = MemoryCache()
    hashed = hash_file(tmp_path / "file", cache=cache, cuts=lambda size: cuts if size == len(data) else {})
    assert hashed.table.raw == b"".join(
        blake3(part).digest() for part in (data[: 4 * PIECE], data[4 * PIECE :])
    )
    assert hash_file(tmp_path / "file", cache=cache) == hashed
    assert len(opened) == 1
    (tmp_path / "new").write_bytes(bytes(5 * PIECE))
    new = hash_file(tmp_path / "new", cache=cache, cuts=lambda _size: cuts)
    assert new.table.piece_length == PIECE
    assert new.table.raw == 5 * blake3(bytes(PIECE)).digest()


def test_a_file_that_is_known_and_cut_otherwise_by_now_is_read_for_it(tmp_path: Path) -> None:
    write(tmp_path / "file", 5 * PIECE)
    cache = MemoryCache()
    first = hash_file(tmp_path / "file", cache=cache)
    again = hash_file(tmp_path / "file", cache=cache, cuts=lambda _size: {first.digest: 2 * PIECE})
    assert (again.digest, again.table.piece_length) == (first.digest, 2 * PIECE)


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    write(tmp_path / "file", 100)
    cache = MemoryCache()
    first = hash_file(tmp_path / "file", cache=cache)
    write(tmp_path / "new", 101)
    (tmp_path / "new").rename(tmp_path / "file")
    assert hash_file(tmp_path / "file", cache=cache).digest != first.digest


def counting_opens(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    opened = list[object]()
    original = os.open

    def recording(path: object, flags: int, *rest: object) -> int:
        opened.append(path)
        return original(path, flags, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", recording)
    return opened


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def truncate(path: Path) -> None:
    os.truncate(path, 10)


def overwrite_and_restore_the_date(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    # The clock behind ctime ticks every few milliseconds: wait for the tick that makes the change visible.
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    new.rename(path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [append, truncate, overwrite_and_restore_the_date, replace, remove])
def test_a_file_that_changes_meanwhile_is_not_taken(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "file"
    write(path, 3 * READ_BYTES)
    cache = MemoryCache()

    def during(done: int, _total: int) -> None:
        if done == READ_BYTES:
            change(path)

    with pytest.raises(ChangedWhileHashing, match="changed while it was being hashed") as caught:
        hash_file(path, cache=cache, progress=during)
    assert caught.value.path == path
    assert cache.known == {}


def test_a_file_that_grows_without_end_is_left_at_its_former_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, READ_BYTES)
    calls = list[int]()

    def grow(done: int, _total: int) -> None:
        calls.append(done)
        if len(calls) < 50:
            write(path.with_name("more"), READ_BYTES)
            with path.open("ab") as file:
                file.write(path.with_name("more").read_bytes())

    with pytest.raises(ChangedWhileHashing):
        hash_file(path, cache=MemoryCache(), progress=grow)
    assert calls == [READ_BYTES]


def test_a_file_that_was_exchanged_before_it_was_opened_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, 5)

    class SwappingCache(MemoryCache):
        def get(self, identity: FileIdentity, piece_length: int | None = None) -> None:
            replace(path)

    seen = list[int]()
    with pytest.raises(ChangedWhileHashing):
        hash_file(path, cache=SwappingCache(), progress=lambda done, _total: seen.append(done))
    assert seen == []


def test_a_file_that_is_gone_has_changed(tmp_path: Path) -> None:
    with pytest.raises(ChangedWhileHashing):
        hash_file(tmp_path / "file", cache=MemoryCache())


def test_a_file_that_becomes_a_fifo_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, 5)

    class SwappingCache(MemoryCache):
        def get(self, identity: FileIdentity, piece_length: int | None = None) -> None:
            path.unlink()
            os.mkfifo(path)

    with pytest.raises(ChangedWhileHashing):
        hash_file(path, cache=SwappingCache())
    with pytest.raises(ArtifactError, match="is a FIFO"):
        hash_file(path, cache=MemoryCache())


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="is empty"):
        hash_file(tmp_path / "file", cache=MemoryCache())


def test_what_can_not_be_read_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "file", 5)

    def failing(path: Path, *_: object) -> int:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(MachineError, match=f"cannot read {tmp_path}/file: Permission denied"):
        hash_file(tmp_path / "file", cache=MemoryCache())


def test_what_progress_raises_ends_the_work_and_closes_the_file(tmp_path: Path) -> None:
    write(tmp_path / "file", 3 * READ_BYTES)
    calls = list[int]()

    def stop(done: int, _total: int) -> None:
        calls.append(done)
        raise KeyboardInterrupt

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(KeyboardInterrupt):
        hash_file(tmp_path / "file", cache=MemoryCache(), progress=stop)
    assert calls == [READ_BYTES]
    assert len(os.listdir("/proc/self/fd")) == before
