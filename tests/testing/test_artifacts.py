from __future__ import annotations

from pathlib import Path

from p2pboot.testing.artifacts import write_content


def test_made_up_files_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_content(tmp_path / name, "kernel", (1 << 20) + 5)
    content = (tmp_path / "a").read_bytes()
    assert len(content) == (1 << 20) + 5
    assert content == (tmp_path / "b").read_bytes()
    write_content(tmp_path / "c", "rootfs", (1 << 20) + 5)
    assert (tmp_path / "c").read_bytes() != content
