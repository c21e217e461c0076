"""TOML that anybody wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from p2pboot.config.load import load
from p2pboot.core.keyformats import import_secret, parse_key_toml
from p2pboot.core.tomlform import parse_toml
from p2pboot.errors import P2PBootError

ENDLESS = {
    "digits": "a = " + "9" * 5000,
    "hexadecimal digits": "a = [{b = 0x" + "f" * 5000 + "}]",
    "brackets": "a = " + "[" * 50_000,
    "dots": "a" + ".a" * 5000 + " = 1",
    "no form": "a =",
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=list(ENDLESS))
def test_what_can_not_be_parsed_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words follow
        parse_toml(text)
    assert "sys." not in str(caught.value)
    assert "recursion" not in str(caught.value)


def _config(text: str, folder: Path) -> None:
    (folder / "c.toml").write_text(text)
    load(config_path=folder / "c.toml")


READERS: dict[str, Callable[[str, Path], object]] = {
    "configuration": _config,
    "key file": lambda text, _: parse_key_toml(f'secret_key = "x"\n{text}', source="key"),
    "imported key": lambda text, _: import_secret(text.encode(), source="key"),
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=list(ENDLESS))
@pytest.mark.parametrize("read", READERS.values(), ids=list(READERS))
def test_every_reader_of_toml_says_so(read: Callable[[str, Path], object], text: str, tmp_path: Path) -> None:
    with pytest.raises(P2PBootError):
        read(text, tmp_path)
