"""`dataclass` as the standard library has it, at a tenth of its cost at import; all modules declare with this one.

The standard library writes and compiles the source of six methods for each class, which takes 0.4 ms: a third of the
start of a client, which declares about a hundred, for methods that are mostly never called. Here those methods are
closures, and only `__init__`, which has to be quick, is compiled: when it is first called.

Fields, slots and the order of arguments are still the standard library's work, so that `fields`, `replace`, `asdict`
and `match` know these classes. Not there, because nobody needs them: `order`, `unsafe_hash`, `InitVar`, the `repr` of
what contains itself, copies and pickles of what is frozen, and deriving from the standard library's frozen ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

__all__ = ["dataclass"]

_TO_BE_MADE: Final = object()  # the default of an argument whose field has a factory


def _dataclass(
    *, frozen: bool = False, slots: bool = False, kw_only: bool = False, eq: bool = True
) -> Callable[[type], type]:
    """Make a dataclass; arguments as those of `dataclasses.dataclass`."""
    with_fields = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)

    def make(declared: type) -> type:
        declared.__doc__ = (
            declared.__doc__ or declared.__name__
        )  # else its signature is looked up to make one
        cls: Any = with_fields(declared)
        compared = _values_of(*(one.name for one in dataclasses.fields(cls) if one.compare))
        methods: list[Callable[..., Any]] = [_init_of(cls, frozen=frozen), _repr_of(cls)]
        if eq:
            methods.append(_eq_of(compared))
        if frozen:
            methods += _refusals_of(cls)
        if eq and frozen:
            methods.append(_hash_of(compared))
        elif eq and "__hash__" not in vars(cls):
            cls.__hash__ = None  # what changes is no key
        for method in methods:
            if method.__name__ not in vars(cls):
                setattr(cls, method.__name__, method)
        return cls  # type: ignore[no-any-return]

    return make


if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    dataclass = _dataclass


def _values_of(*names: str) -> Callable[[Any], Any]:
    return attrgetter(*names) if names else lambda _: ()


def _init_of(cls: Any, *, frozen: bool) -> Callable[..., None]:
    def __init__(self: Any, *args: Any, **named: Any) -> None:  # noqa: N807
        cls.__init__ = _compiled_init(cls, frozen=frozen)  # from now on in place of this one
        cls.__init__(self, *args, **named)

    return __init__


def _compiled_init(cls: Any, *, frozen: bool) -> Callable[..., None]:
    """An `__init__` as one would write it by hand."""
    names: dict[str, Any] = {"__set": object.__setattr__, "__to_be_made": _TO_BE_MADE}
    positional = ["self"]
    keywords: list[str] = []
    body: list[str] = []
    for one in dataclasses.fields(cls):
        argument, value = one.name, one.name
        if one.default_factory is not dataclasses.MISSING:
            names[f"__make_{one.name}"] = one.default_factory
            argument += "=__to_be_made"
            value = f"__make_{one.name}() if {one.name} is __to_be_made else {one.name}"
        elif one.default is not dataclasses.MISSING:
            names[f"__default_{one.name}"] = one.default
            argument += f"=__default_{one.name}"
        (keywords if one.kw_only else positional).append(argument)
        body.append(f"__set(self, {one.name!r}, {value})" if frozen else f"self.{one.name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    arguments = ", ".join([*positional, "*", *keywords] if keywords else positional)
    exec(f"def __init__({arguments}):\n " + "\n ".join(body or ["pass"]), names)  # noqa: S102 - of names in our source
    init: Callable[..., None] = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"  # what is said when an argument is missing
    return init


def _repr_of(cls: Any) -> Callable[[Any], str]:
    shown = [one.name for one in dataclasses.fields(cls) if one.repr]

    def __repr__(self: Any) -> str:  # noqa: N807
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    return __repr__


def _eq_of(values: Callable[[Any], Any]) -> Callable[[Any, object], bool]:
    def __eq__(self: Any, other: object) -> bool:  # noqa: N807
        return values(self) == values(other) if type(other) is type(self) else NotImplemented

    return __eq__


def _hash_of(values: Callable[[Any], Any]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(values(self))

    return __hash__


def _refusals_of(cls: Any) -> tuple[Callable[..., None], Callable[..., None]]:
    """What a frozen object says to a change; a derived class may have attributes of its own."""
    fixed = frozenset(one.name for one in dataclasses.fields(cls))

    def __setattr__(self: Any, name: str, value: object) -> None:  # noqa: N807
        if type(self) is cls or name in fixed:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: N807
        if type(self) is cls or name in fixed:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return __setattr__, __delattr__
