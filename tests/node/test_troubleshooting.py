"""The program carries what the document says of problems."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from p2pboot.core.problems import SEVERITIES, Code
from p2pboot.errors import MachineError
from p2pboot.node import troubleshooting
from p2pboot.node.troubleshooting import entries, parse, plain

DOCUMENT = Path(__file__).parents[2] / "docs" / "troubleshooting.md"


def test_every_code_has_a_title_and_paragraphs_of_one_line() -> None:
    found = entries()
    assert list(found) == list(Code)
    for code, entry in found.items():
        assert entry.code is code
        assert entry.severity is SEVERITIES[code]
        assert entry.title[0].islower()
        assert entry.paragraphs
        assert not any("\n" in text or "```" in text for text in entry.paragraphs)


def test_a_wheel_has_the_document_beside_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(troubleshooting, "__file__", str(tmp_path / "a" / "b" / "troubleshooting.py"))
    with pytest.raises(MachineError, match=r"troubleshooting\.md"):
        entries.__wrapped__()
    beside = tmp_path / "a" / "b" / "troubleshooting.md"
    beside.parent.mkdir(parents=True)
    beside.write_bytes(DOCUMENT.read_bytes())
    assert entries.__wrapped__() == entries()


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda text: "",
        lambda text: text.replace("### quota\n", "### quotas\n"),
        lambda text: text.replace("*Warning: nobody is connected.*", "*Error: nobody is connected.*"),
        lambda text: text.replace("*Warning: nobody is connected.*\n", ""),
    ],
)
def test_a_document_without_an_entry_is_told_of(spoilt: object) -> None:
    assert callable(spoilt)
    with pytest.raises(MachineError, match="says nothing of"):
        parse(spoilt(DOCUMENT.read_text(encoding="utf-8")))


def test_marks_for_links_and_strong_words_are_left_out_for_people() -> None:
    assert plain('**"a"** See [below](#nothing), and `b`.') == '"a" See below, and `b`.'


def test_a_wheel_is_built_with_the_document_there() -> None:
    project = tomllib.loads((DOCUMENT.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    beside = Path("p2pboot/node") / troubleshooting.NAME
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included[f"docs/{troubleshooting.NAME}"] == str(beside)
    assert (DOCUMENT.parents[1] / beside).with_suffix(".py").exists()
