"""The manual pages say what `--help` says, in a form that man-db and mandoc find nothing wrong with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from p2pboot.cli.app import root
from scripts.packages import man

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages by name."""
    return {file.stem: file for file in man.write_pages(tmp_path_factory.mktemp("man"))}


def commands(command: click.Command, words: tuple[str, ...]) -> dict[str, click.Command]:
    """Every command by the name of its page, found without the generator's help."""
    found = {"-".join(words): command}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            one = command.get_command(context, name)
            assert one is not None
            found |= commands(one, (*words, name))
    return found


def shown(file: Path) -> str:
    """A page as a reader sees it, in one long line."""
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed here")
    done = subprocess.run(
        ["mandoc", "-T", "utf8", "-O", "width=300", file], capture_output=True, text=True, check=True
    )
    return " ".join(re.sub(r".\x08", "", done.stdout).split())  # bold and underlined by striking over


def test_every_command_has_a_page(written: dict[str, Path]) -> None:
    assert set(written) == set(commands(root, ("p2pboot",)))
    assert {"p2pboot", "p2pboot-key-generate", "p2pboot-serve"} <= set(written)


def test_mandoc_finds_nothing_wrong(written: dict[str, Path]) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed here")
    directory = written["p2pboot"].parent  # where it looks for pages that others refer to
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "all", *(file.name for file in written.values())],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_option_is_explained_in_the_words_of_the_help(written: dict[str, Path]) -> None:
    for name, command in commands(root, ("p2pboot",)).items():
        text = shown(written[name])
        context = click.Context(command)
        for option in command.get_params(context):
            record = option.get_help_record(context)
            if record is None or isinstance(option, click.Argument):
                continue
            assert all(one in text for one in (*option.opts, *option.secondary_opts)), name
            assert " ".join(record[1].replace("`", "").split()) in text, name


def test_the_description_is_the_whole_help(written: dict[str, Path]) -> None:
    for name, command in commands(root, ("p2pboot",)).items():
        text = shown(written[name])
        assert command.help is not None
        for paragraph in re.split(r"\n\s*\n", command.help.replace("\b\n", "")):
            assert " ".join(paragraph.replace("`", "").split()) in text, name


def test_a_page_has_statuses_files_and_references(written: dict[str, Path]) -> None:
    mirror, build = shown(written["p2pboot-mirror"]), shown(written["p2pboot-manifest-build"])
    assert "EXIT STATUS 0 Done. 1 Refused: signature" in mirror
    assert "FILES /etc/p2pboot/mirror.toml " in mirror
    assert "keys/node.toml" in mirror.partition(" FILES ")[2]
    assert "SEE ALSO p2pboot(1), p2pboot-manifest(1)" in build


def test_summaries_are_short_and_whole(written: dict[str, Path]) -> None:
    for file in written.values():
        (summary,) = re.findall(r"^\.Nd (.+)$", file.read_text(), re.MULTILINE)
        assert summary.count("(") == summary.count(")"), summary
        assert not summary.endswith((".", ":", ",")), summary
        assert len(summary) < 120, summary


def test_what_roff_would_obey_is_text() -> None:
    command = click.Command(
        "odd", help=".TH and 'quotes' \\fB \\n\n\n.so /etc/passwd\n\n\b\n.PP\n  “--x” \\", params=[]
    )
    text = man.Page(("odd",), command, click.Context(command)).text()
    assert r"\&.TH and 'quotes' \efB \en" in text
    assert r"\&.so /etc/passwd" in text
    assert "\\&.PP\n  \\[u201C]\\-\\-x\\[u201D] \\e\n" in text


@pytest.mark.parametrize("home", ["/root", "/home/somebody"])
def test_pages_do_not_depend_on_who_makes_them(tmp_path: Path, written: dict[str, Path], home: str) -> None:
    environment = {**os.environ, "HOME": home, "COLUMNS": "40", "XDG_STATE_HOME": f"{home}/x", "LC_ALL": "C"}
    command = [sys.executable, "-m", "scripts.packages.man", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)}, check=True)
    made = {file.stem: file.read_bytes() for file in (tmp_path / "man1").iterdir()}
    assert made == {name: file.read_bytes() for name, file in written.items()}
