"""Hostile variants of every document are refused, or say the same; a million of them: `make hostile`."""

import itertools

import pytest

from tests.core.mutations import READERS, Judge, variants

JUDGES = {name: Judge(name) for name in READERS}


@pytest.mark.parametrize("name", READERS)
def test_no_variant_of_a_document_is_taken_for_one_that_was_signed(name: str) -> None:
    judge = JUDGES[name]
    for variant in itertools.islice(variants(judge.raw, [one.raw for one in JUDGES.values()], 7), 1000):
        judge.judge(variant)
    assert judge.refused > 900
