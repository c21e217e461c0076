"""Fixtures of the acceptance tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.program import Program, program_in, write_image
from tests.forking import Zygote


@pytest.fixture(scope="session")
def _program(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> Iterator[Program]:
    with program_in(tmp_path_factory.mktemp("program"), zygote) as program:
        yield program


@pytest.fixture
def program(_program: Program) -> Iterator[Program]:
    yield _program
    _program.end_all()


@dataclass(frozen=True)
class Key:
    """A key file and what the program says of it."""

    path: Path
    keyid: str
    peer_id: str


def make_key(program: Program, path: Path) -> Key:
    said = program.ok("key", "generate", "--key", path, "--json").document
    return Key(path, said["keyid"], said["peer_id"])


@pytest.fixture(scope="session")
def alice(_program: Program, tmp_path_factory: pytest.TempPathFactory) -> Key:
    return make_key(_program, tmp_path_factory.mktemp("alice") / "alice.toml")


@pytest.fixture(scope="session")
def bob(_program: Program, tmp_path_factory: pytest.TempPathFactory) -> Key:
    return make_key(_program, tmp_path_factory.mktemp("bob") / "bob.toml")


@dataclass(frozen=True)
class Images:
    """Artifacts directories that are made once, so that a `serve` needs not wait until they have settled."""

    plain: Path
    one: Path
    two: Path
    large: Path


@pytest.fixture(scope="session", autouse=True)
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    directory = tmp_path_factory.mktemp("images")
    return Images(
        plain=write_image(directory / "plain", seed="plain"),
        one=write_image(directory / "one", seed="one", rootfs=0),
        two=write_image(directory / "two", seed="two", rootfs=0),
        large=write_image(directory / "large", seed="large", rootfs=8 << 20),
    )
