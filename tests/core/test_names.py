import pytest

from p2pboot.core import names


@pytest.mark.parametrize("name", ["a", "0", "stable", "6.1.0-13", "a" * 64, "a_b.c-d"])
def test_allowed_names_are_returned_unchanged(name: str) -> None:
    assert names.check_name(name, "channel") == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "-a", "_a", ".hidden", "a/b", "A", "a" * 65, "a\n", "a b", "é", "a\x00", "٣"],
)
def test_other_names_are_refused_with_what_they_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"channel .* is not allowed"):
        names.check_name(name, "channel")


@pytest.mark.parametrize(
    ("spellings", "arch"),
    [
        (("x86_64", "amd64", "AMD64", "x64", "x86-64", "X86_64"), "x86_64"),
        (("arm64", "aarch64", "AArch64", "ARM64", "arm64v8"), "arm64"),
        (("riscv64", "RISCV64", "riscv64gc", "rv64"), "riscv64"),
    ],
)
def test_architectures_are_known_by_their_usual_names(spellings: tuple[str, ...], arch: str) -> None:
    assert {names.normalise_arch(spelling) for spelling in spellings} == {arch}


@pytest.mark.parametrize("other", ["", "mips64", "i386", "armhf", "x86", "x86_64 ", "riscv32", "amd64\n"])
def test_other_architectures_are_refused_with_those_that_there_are(other: str) -> None:
    with pytest.raises(ValueError, match="use x86_64, arm64 or riscv64"):
        names.normalise_arch(other)


def test_no_alias_is_the_name_of_another_architecture() -> None:
    assert set(names.ARCH_ALIASES.values()) <= set(names.ARCHS)
    assert not set(names.ARCH_ALIASES) & set(names.ARCHS)
    assert all(alias == alias.lower() for alias in names.ARCH_ALIASES)


def test_paths_and_output_names_of_device_trees() -> None:
    assert names.artifact_path("stable", "arm64", "kernel") == "/stable/arm64/kernel"
    assert names.artifact_path("stable", "arm64", "dtbs/x") == "/stable/arm64/dtbs/x"
    assert names.output_file_name("dtbs/x") == "dtbs/x.dtb"
    assert names.output_file_name("rootfs") == "rootfs"
    assert names.output_file_name("dtbs.tar") == "dtbs"


@pytest.mark.parametrize("key", ["dtbs/", "dtbs/a/b", "dtbs/..", "../x", "a/b", "dtbs", "manifest.json"])
def test_artifact_keys_never_leave_the_output_directory(key: str) -> None:
    with pytest.raises(ValueError, match=r"is not allowed|is reserved"):
        names.check_artifact_key(key)
