"""The files in `docs/` that follow from the declarations of the settings and metrics; `make document` writes them."""

from __future__ import annotations

import pytest

from scripts.document import EXAMPLE, METRICS, PAGE, example, with_metrics, with_tables

FORGOTTEN = "write it with `make document`"


def test_the_example_file_is_what_the_declarations_say() -> None:
    assert EXAMPLE.read_text() == example(), FORGOTTEN


def test_the_tables_of_the_configurations_page_are_what_the_declarations_say() -> None:
    page = PAGE.read_text()
    assert with_tables(page) == page, FORGOTTEN


def test_a_section_without_its_table_is_not_passed_over() -> None:
    page = PAGE.read_text()
    with pytest.raises(ValueError, match=r"\[network\]"):
        with_tables(page.replace("### `[network]`", "### Network"))


def test_the_tables_of_the_metrics_page_are_what_the_declarations_say() -> None:
    page = METRICS.read_text()
    assert with_metrics(page) == page, FORGOTTEN
