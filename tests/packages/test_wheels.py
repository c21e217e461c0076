"""Wheels are looked through before they are packed: for which machine they are, and what they want of it."""

from __future__ import annotations

import hashlib
import itertools
import re
from pathlib import Path

import pytest

from p2pboot import RELEASE_DATE
from scripts.packages import wheels
from scripts.packages.wheels import ROOT, Target, WheelError, look_through
from tests.packages.elves import AARCH64, X86_64, elf, wheel

ARM64 = Target("aarch64", (3, 11))
BOX = "box-1.0-cp311-cp311-manylinux_2_17_aarch64"


def test_a_library_for_another_processor_is_found(tmp_path: Path) -> None:
    good = wheel(tmp_path, BOX, {"box/fast.so": elf(AARCH64, "libc.so.6")})
    assert look_through(ARM64, [good]).packages == ("libc6",)
    bad = wheel(tmp_path, BOX, {"box/fast.so": elf(AARCH64), "box/deep/odd.data": elf(X86_64)})
    with pytest.raises(WheelError, match=r"box/deep/odd\.data is for x86_64, not for aarch64"):
        look_through(ARM64, [bad])


def test_a_damaged_library_is_found(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match=r"box/fast\.so: an ELF file that is cut off"):
        look_through(ARM64, [wheel(tmp_path, BOX, {"box/fast.so": elf(AARCH64)[:80]})])


def test_what_a_wheel_brings_itself_is_not_asked_of_the_system(tmp_path: Path) -> None:
    needed = ("libc.so.6", "libgcc_s.so.1", "libbox-1.so")
    libraries = {"box/fast.so": elf(AARCH64, *needed), "box.libs/libbox-1.so": elf(AARCH64)}
    assert look_through(ARM64, [wheel(tmp_path, BOX, libraries)]).packages == ("libc6", "libgcc-s1")


def test_a_library_that_nobody_is_known_to_have_fails(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match=r"the wheels want libssl\.so\.3"):
        look_through(ARM64, [wheel(tmp_path, BOX, {"box/fast.so": elf(AARCH64, "libssl.so.3")})])


@pytest.mark.parametrize(
    ("tags", "glibc"),
    [
        ("py3-none-any", 0),
        ("cp311-cp311-manylinux_2_28_aarch64", 28),
        ("cp311-cp311-manylinux2014_aarch64.manylinux_2_28_aarch64", 17),
        ("cp311-abi3-manylinux1_x86_64", 5),
    ],
)
def test_the_oldest_glibc_is_that_of_the_most_demanding_wheel(tmp_path: Path, tags: str, glibc: int) -> None:
    plain = wheel(tmp_path, "plain-1.0-py3-none-any", {})
    assert look_through(ARM64, [plain, wheel(tmp_path, f"box-1.0-{tags}", {})]).glibc == glibc


def test_requirements_name_each_wheel_with_its_hash(tmp_path: Path) -> None:
    one = wheel(tmp_path, "some_box-1.0-py3-none-any", {})
    other = wheel(tmp_path, "a_box-2.0.post1-py3-none-any", {})
    digest = {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in (one, other)}
    assert look_through(ARM64, [one, other]).requirements() == (
        f"a-box==2.0.post1 --hash=sha256:{digest[other]}\nsome-box==1.0 --hash=sha256:{digest[one]}\n"
    )


def test_pip_is_asked_for_the_target_and_not_for_this_machine() -> None:
    options = list(ARM64.pip_options())
    platforms = [value for name, value in itertools.pairwise(options) if name == "--platform"]
    assert platforms[0] == "manylinux_2_36_aarch64"
    assert "manylinux2014_aarch64" in platforms
    assert all(one.endswith("_aarch64") for one in platforms)
    assert options[options.index("--python-version") + 1] == "3.11"
    assert {"cp311", "abi3", "none"} <= set(options)


def test_an_architecture_that_is_not_made_for_is_refused() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        Target("riscv64")


def test_the_same_packages_come_as_source_as_where_the_program_is_developed() -> None:
    bootstrap = (ROOT / "scripts" / "bootstrap").read_text()
    assert f"\npure_python_sources={','.join(wheels.PURE_SOURCES)}\n" in bootstrap


@pytest.mark.parametrize(("said", "date"), [(None, RELEASE_DATE), ("1000000000", 1_000_000_000)])
def test_the_date_is_that_of_the_release_or_the_one_that_is_given(
    monkeypatch: pytest.MonkeyPatch, said: str | None, date: int
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    if said:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", said)
    assert wheels.source_date() == date


def test_what_fails_says_what_was_tried(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WheelError, match=r"-m pip download --quiet … failed with status \d"):
        wheels._pip("download", "--no-index", "no-such-package")
    assert re.search("no-such-package", capfd.readouterr().err)
