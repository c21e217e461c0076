"""What our `dataclass` makes behaves as what the standard library's makes of the same declarations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from p2pboot.core.dataclass import dataclass as ours

T = TypeVar("T")


def declared_with(dataclass: Any) -> SimpleNamespace:
    """The same classes, made by either."""

    @dataclass(frozen=True, slots=True)
    class Frozen(Generic[T]):
        """Said of it."""

        kind: ClassVar[str] = "frozen"
        number: int
        text: str = "x"
        hidden: bytes = dataclasses.field(default=b"", repr=False, compare=False)
        made: list[int] = dataclasses.field(default_factory=list, compare=False)

    @dataclass(slots=True)
    class Changing:
        default: int = 1
        default_words: str = "one"
        words: str = "w"

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Named:
        first: int = 0
        second: int  # type: ignore[misc]  # which does not see `kw_only`

    @dataclass(slots=True, eq=False)
    class Same:
        value: int

    @dataclass(frozen=True, slots=True)
    class Empty:
        pass

    @dataclass(frozen=True, slots=True)
    class Checked:
        value: int

        def __post_init__(self) -> None:
            if self.value < 0:
                raise ValueError("below zero")
            object.__setattr__(self, "value", int(self.value))

    class Derived(Checked):
        """With attributes of its own."""

    @dataclass(frozen=True, slots=True)
    class Longer(Checked):
        more: str = "m"

    @dataclass(frozen=True)
    class Loose:
        value: int = 3

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

        def __repr__(self) -> str:
            return "its own"

    return SimpleNamespace(**{name: one for name, one in locals().items() if isinstance(one, type)})


def outcome(action: Callable[[], Any]) -> object:
    """What comes of it, or how it fails."""
    try:
        return action()
    except Exception as error:
        return type(error), str(error)


def made(of: SimpleNamespace) -> Iterable[Callable[[], Any]]:
    return (
        lambda: of.Frozen(1),
        lambda: of.Frozen(1, "y", b"z", [1]),
        lambda: of.Frozen(number=2, made=[3]),
        of.Frozen,
        lambda: of.Frozen(1, 2, 3, 4, 5),
        lambda: of.Frozen(1, other=2),
        of.Changing,
        lambda: of.Changing(5, words="v"),
        lambda: of.Named(second=2),
        lambda: of.Named(1, 2),
        of.Named,
        of.Empty,
        lambda: of.Empty(1),
        lambda: of.Checked(True),
        lambda: of.Checked(-1),
        lambda: of.Derived(4),
        lambda: of.Longer(4, "n"),
        lambda: of.Longer(-4),
        of.Loose,
    )


def asked(of: SimpleNamespace, one: Any) -> Iterable[Callable[[], Any]]:
    def change(name: str) -> object:
        setattr(one, name, 9)
        return getattr(one, name)

    def remove(name: str) -> None:
        delattr(one, name)

    return (
        lambda: hash(one) == hash(dataclasses.replace(one)),
        lambda: dataclasses.asdict(one),
        lambda: repr(dataclasses.replace(one)),
        lambda: one == dataclasses.replace(one),
        lambda: one == 1,
        lambda: one == of.Frozen(1),
        lambda: one == of.Checked(4),
        lambda: {one: 1}[one],
        lambda: hasattr(one, "__dict__"),
        lambda: type(one).__match_args__,
        lambda: [repr(field.name) for field in dataclasses.fields(one)],
        *(partial(change, field.name) for field in dataclasses.fields(one)),
        *(partial(remove, field.name) for field in dataclasses.fields(one)),
    )


_STOCK, _OURS = declared_with(dataclasses.dataclass), declared_with(ours)


@pytest.mark.parametrize("index", range(len(list(made(_STOCK)))))
def test_behaves_as_the_standard_librarys(index: int) -> None:
    anew = declared_with(ours)
    action = list(made(anew))[index]
    for _ in range(20):  # from some call on by a compiled `__init__`
        stock, own = outcome(list(made(_STOCK))[index]), outcome(action)
        assert repr(own) == repr(stock)
        if isinstance(stock, tuple):
            continue
        for one, other in zip(asked(_STOCK, stock), asked(anew, own), strict=True):
            assert outcome(other) == outcome(one)


def test_equality_needs_one_class_and_looks_at_compared_fields() -> None:
    assert _OURS.Frozen(1, hidden=b"a", made=[1]) == _OURS.Frozen(1, hidden=b"b")
    assert hash(_OURS.Frozen(1, made=[1])) == hash(_OURS.Frozen(1))
    assert _OURS.Frozen(1) != _OURS.Frozen(2)
    assert _OURS.Checked(1) != _OURS.Derived(1)
    assert _OURS.Same(1) != _OURS.Same(1)
    assert hash(_OURS.Loose()) == 7
    with pytest.raises(TypeError, match="unhashable"):
        hash(_OURS.Changing())


def test_what_has_no_docstring_is_told_by_its_name() -> None:
    assert _OURS.Changing.__doc__ == "Changing"
    assert _OURS.Frozen.__doc__ == "Said of it."


def test_frozen_objects_have_no_other_attributes_either() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        _OURS.Frozen(1).other = 2
    derived = _OURS.Derived(1)
    derived.other = 2
    assert derived.other == 2


def test_compiles_nothing_until_many_objects_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    run = exec

    def noted(source: str, names: dict[str, Any]) -> None:
        compiled.append(source)
        run(source, names)

    monkeypatch.setattr("builtins.exec", noted)
    declared = declared_with(ours)
    assert declared.Frozen(1).number == 1
    assert compiled == []
    assert [declared.Frozen(number).number for number in range(100)] == list(range(100))
    assert len(compiled) == 1


def test_a_default_that_all_objects_would_share_is_refused() -> None:
    with pytest.raises(ValueError, match="'shared'"):

        @ours()
        class _Sharing:
            shared: list[int] = []  # noqa: RUF012
