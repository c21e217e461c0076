import errno
import fcntl
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pboot.core.identity import SecretKey
from p2pboot.errors import KeyFileError, MachineError
from p2pboot.store import keyfiles, ownership

KEY = SecretKey(bytes(range(32)))
VECTORS = Path(__file__).parent.parent / "vectors" / "identity"


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def without_hard_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.fixture(params=["hard links", "no hard links"])
def either_file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no hard links":
        monkeypatch.setattr(os, "link", without_hard_links)


@pytest.mark.usefixtures("either_file_system")
def test_a_key_is_generated_once_and_loaded_after(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys" / "node.toml"
    key = keyfiles.load_or_generate(path)
    assert keyfiles.load_or_generate(path) == keyfiles.load_key(path) == key
    assert mode_of(path) == 0o600
    assert mode_of(path.parent) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["node.toml"]


@pytest.mark.usefixtures("either_file_system")
def test_a_swarm_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "swarm.key"
    key = keyfiles.generate_swarm_key(path)
    assert keyfiles.load_swarm_key(path, warn=pytest.fail) == key
    assert mode_of(path) == 0o600
    with pytest.raises(KeyFileError, match="already exists"):
        keyfiles.generate_swarm_key(path)
    assert keyfiles.load_swarm_key(path) == key


def test_a_swarm_key_that_others_may_read_is_said_and_one_they_may_write_is_refused(tmp_path: Path) -> None:
    path, warned = tmp_path / "swarm.key", list[str]()
    key = keyfiles.generate_swarm_key(path)
    path.chmod(0o644)
    assert keyfiles.load_swarm_key(path, warn=warned.append) == key
    assert warned == [f"others may read the swarm key {path}: run chmod 600 {path}"]
    path.chmod(0o620)
    with pytest.raises(KeyFileError, match="others may write the swarm key"):
        keyfiles.load_swarm_key(path, warn=warned.append)


@pytest.mark.parametrize("is_credential", [True, False])
def test_what_the_service_manager_put_there_for_us_alone_is_not_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_credential: bool
) -> None:
    path, warned = tmp_path / "node-key", list[str]()
    keyfiles.write_key(path, KEY)
    path.chmod(0o440)  # root's, with an access control list that lets us read
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path if is_credential else tmp_path / "other"))
    assert keyfiles.load_or_generate(path, warn=warned.append) == KEY
    assert bool(warned) != is_credential
    path.chmod(0o460)
    with pytest.raises(KeyFileError, match="others may write"):
        keyfiles.load_key(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "there is no swarm key"),
        (lambda path: path.mkdir(), "is not a regular file"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.write_bytes(b"x" * 100_000), "is too large"),
        (lambda path: keyfiles.write_key(path, KEY), "is not a swarm key"),
    ],
    ids=["none", "a directory", "a pipe", "too large", "an identity"],
)
def test_what_is_no_swarm_key_is_refused_in_a_line(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "swarm.key"
    make(path)
    with pytest.raises(KeyFileError, match=words) as caught:
        keyfiles.load_swarm_key(path, warn=lambda _line: None)
    assert str(path) in caught.value.message
    assert caught.value.remedy
    assert KEY.seed.hex() not in caught.value.message


@pytest.mark.usefixtures("either_file_system")
def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text("precious")
    for attempt in (lambda: keyfiles.generate_key(path), lambda: keyfiles.write_key(path, KEY)):
        with pytest.raises(KeyFileError, match="already exists") as caught:
            attempt()
        assert str(path) in caught.value.message
    with pytest.raises(KeyFileError, match="not a TOML key file"):
        keyfiles.load_or_generate(path)
    assert path.read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.usefixtures("either_file_system")
def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match="already exists"):
        keyfiles.generate_key(path)
    with pytest.raises(KeyFileError, match="there is no key file"):
        keyfiles.load_or_generate(path)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.usefixtures("either_file_system")
def test_all_who_start_at_once_end_with_one_key(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "node.toml"
    start, keys = threading.Barrier(8), list[SecretKey]()

    def run() -> None:
        start.wait()
        keys.append(keyfiles.load_or_generate(path))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert set(keys) == {keyfiles.load_key(path)}


def test_the_loser_of_the_race_takes_the_winners_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "node.toml"
    original = os.link

    def another_was_faster(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", original)
        keyfiles.write_key(path, KEY)
        original(source, target)

    monkeypatch.setattr(os, "link", another_was_faster)
    assert keyfiles.load_or_generate(path) == KEY


def test_without_hard_links_the_name_is_looked_at_under_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node.toml"

    def another_had_the_lock(_fd: int, operation: int) -> None:
        assert operation == fcntl.LOCK_EX
        path.write_text("theirs")

    monkeypatch.setattr(os, "link", without_hard_links)
    monkeypatch.setattr(fcntl, "flock", another_had_the_lock)
    with pytest.raises(KeyFileError, match="already exists"):
        keyfiles.write_key(path, KEY)
    assert path.read_text() == "theirs"


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_the_secret_is_private_from_creation_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    modes = list[int]()
    original = os.open

    def recording(path: Path, flags: int, mode: int = 0o777) -> int:
        fd = original(path, flags, mode)
        if flags & os.O_CREAT:
            modes.append(os.fstat(fd).st_mode & 0o777)
        return fd

    monkeypatch.setattr(os, "open", recording)
    before = os.umask(umask)
    try:
        keyfiles.write_key(tmp_path / "node.toml", KEY)
    finally:
        os.umask(before)
    assert modes == [0o600 & ~umask]
    assert mode_of(tmp_path / "node.toml") == 0o600


@pytest.mark.usefixtures("either_file_system")
def test_the_content_is_on_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node.toml"
    named_at_fsync = list[bool]()
    original = os.fsync

    def recording(fd: int) -> None:
        named_at_fsync.append(path.exists())
        original(fd)

    monkeypatch.setattr(os, "fsync", recording)
    keyfiles.write_key(path, KEY)
    assert named_at_fsync == [False, True]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match=r"write the key file .*No space left"):
        keyfiles.generate_key(tmp_path / "node.toml")
    assert not list(tmp_path.iterdir())


def test_a_secret_that_others_may_read_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "node.toml"
    keyfiles.write_key(path, KEY)
    warnings = list[str]()
    keyfiles.load_key(path, warn=warnings.append)
    assert warnings == []
    for mode in (0o640, 0o604):
        path.chmod(mode)
        keyfiles.load_key(path, warn=warnings.append)
    assert len(warnings) == 2
    assert all(f"chmod 600 {path}" in warning for warning in warnings)
    with caplog.at_level(logging.WARNING):
        keyfiles.load_or_generate(path)
    assert f"chmod 600 {path}" in caplog.text
    assert KEY.seed.hex() not in caplog.text


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o777])
def test_a_secret_that_others_may_write_is_refused(
    tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node.toml"
    keyfiles.write_key(path, KEY)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="others may write") as caught:
        keyfiles.load_or_generate(path)
    assert f"chmod 600 {path}" in (caught.value.remedy or "")
    # A file system that has no modes gives every file this one.
    monkeypatch.setattr(ownership, "_made_in", lambda _directory: path.stat())
    assert keyfiles.load_key(path, warn=lambda _text: None) == KEY


def test_a_secret_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "node.toml"
    keyfiles.write_key(path, KEY)
    if os.geteuid() == 0:
        os.chown(path, 65533, -1)
    else:
        monkeypatch.setattr(ownership, "_made_in", lambda _directory: None)
        me = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    (tmp_path / "link").symlink_to(path)
    for named in (path, tmp_path / "link"):
        with pytest.raises(KeyFileError, match="belongs to user"):
            keyfiles.load_key(named)


def test_a_missing_key_file_says_how_to_make_one(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    with pytest.raises(KeyFileError, match="there is no key file") as caught:
        keyfiles.load_key(path)
    assert caught.value.remedy == f"make one: p2pboot key generate --key {path}"


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        with pytest.raises(KeyFileError, match="not a regular file"):
            keyfiles.load_key(path)
    large = tmp_path / "large"
    large.write_bytes(bytes(100_000))
    with pytest.raises(KeyFileError, match="too large"):
        keyfiles.load_key(large)


def test_another_format_is_named_with_the_command_that_imports_it(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    path.write_bytes(b"\xff" * 32)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="not a p2pboot key file") as caught:
        keyfiles.load_key(path)
    assert f"p2pboot key import {path}" in (caught.value.remedy or "")


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO])
def test_what_can_not_be_read_is_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def failing(path: Path, *_: object) -> int:
        raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(MachineError, match="read the key file") as caught:
        keyfiles.load_key(tmp_path / "node.toml")
    assert caught.value.remedy


def test_a_directory_that_can_not_be_made_is_the_machines_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match=str(tmp_path / "file")):
        keyfiles.generate_key(tmp_path / "file" / "node.toml")


def test_processes_that_start_at_once_end_with_one_key(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from p2pboot.store.keyfiles import load_or_generate;"
        "sys.stdin.read(); print(load_or_generate(Path(sys.argv[1])).public.keyid)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "node.toml")]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    shown = {process.communicate()[0] for process in started}
    assert shown == {keyfiles.load_key(tmp_path / "node.toml").public.keyid + "\n"}


@pytest.mark.parametrize(
    ("encoding", "newline"), [("utf-8-sig", "\n"), ("utf-8-sig", "\r\n"), ("utf-8", "\r\n")]
)
def test_a_key_file_that_an_editor_saved_is_read(tmp_path: Path, encoding: str, newline: str) -> None:
    path = tmp_path / "node.toml"
    key = keyfiles.generate_key(path)
    path.write_bytes(path.read_text().rstrip("\n").replace("\n", newline).encode(encoding))
    assert keyfiles.load_key(path) == key


def test_a_key_file_in_another_encoding_or_form_says_so(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    keyfiles.generate_key(path)
    path.write_bytes(path.read_text().encode("utf-16"))
    with pytest.raises(KeyFileError, match="saved as UTF-16") as caught:
        keyfiles.load_key(path)
    assert caught.value.remedy == "save it as UTF-8"
    path.unlink()
    keyfiles.generate_key(path)
    path.write_bytes("# Schlüssel\n".encode("latin-1") + path.read_bytes())
    with pytest.raises(KeyFileError, match="not UTF-8 text") as caught:
        keyfiles.load_key(path)
    assert caught.value.remedy == "save it as UTF-8"
    path.write_bytes((VECTORS / "pkcs8.pem").read_bytes())
    with pytest.raises(KeyFileError, match="not a p2pboot key file") as caught:
        keyfiles.load_key(path)
    assert "p2pboot key import" in str(caught.value.remedy)
