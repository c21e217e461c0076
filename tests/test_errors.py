"""What is made of errors that several tasks raised together."""

from __future__ import annotations

from p2pboot.errors import FetchError, MachineError, first_error

ONE, OTHER, BUG = FetchError("one"), MachineError("other"), ZeroDivisionError()


def test_the_first_of_our_own_errors_stands_for_all() -> None:
    assert first_error(BaseExceptionGroup("", [BaseExceptionGroup("", [ONE]), OTHER])) is ONE


def test_a_lone_error_is_unwrapped_whatever_it_is() -> None:
    assert first_error(BaseExceptionGroup("", [BaseExceptionGroup("", [BUG])])) is BUG


def test_what_holds_another_error_too_stays_whole() -> None:
    group = BaseExceptionGroup("", [ONE, BaseExceptionGroup("", [OTHER, BUG])])
    assert first_error(group) is group
    assert first_error(BaseExceptionGroup("", [BUG, BUG]), ZeroDivisionError) is BUG
