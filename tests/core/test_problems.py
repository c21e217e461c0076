"""Every problem has a word that stays, and an entry for who meets it."""

import re
from pathlib import Path

from p2pboot.core.problems import Code

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def test_every_code_has_an_entry_that_says_what_to_do() -> None:
    part = PAGE.split("## Problems of a node\n")[1].split("\n## ")[0]
    entries = dict(re.findall(r"^### ([a-z-]+)\n\n((?:(?!^###).*\n)+)", part, re.MULTILINE))
    assert set(entries) == {code.value for code in Code}
    assert all(len(text) > 100 for text in entries.values())
