"""`dataclass` as the standard library has it, at a tenth of its cost at import; all modules declare with this one.

The standard library writes and compiles the source of six methods for each class, which takes 0.4 ms: a third of the
start of a client, which declares over a hundred, for methods that are mostly never called. Here those methods are
closures, and only `__init__`, which has to be quick, is compiled: when it was called a few times.

Fields are the standard library's, so that `fields`, `replace`, `asdict` and `match` know these classes. Not there,
because nobody needs them: `order`, `unsafe_hash`, `InitVar`, `KW_ONLY`, annotations that are not text, fields that are
no arguments, the `repr` of what contains itself, copies and pickles of what is frozen, and deriving from the standard
library's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

__all__ = ["dataclass"]

_FIELDS: Final = "__dataclass_fields__"  # where the standard library's functions look
_IS_FIELD: Final = dataclasses._FIELD  # type: ignore[attr-defined]  # what else would be no argument, or none of the object's attributes
_MISSING: Final = dataclasses.MISSING
_TO_BE_MADE: Final = object()  # the default of an argument whose field has a factory
_FEW: Final = 8  # calls that take less time than to compile

_Field = dataclasses.Field[Any]
_Fields = dict[str, _Field]


def _dataclass(
    *, frozen: bool = False, slots: bool = False, kw_only: bool = False, eq: bool = True
) -> Callable[[type], type]:
    """Make a dataclass; arguments as those of `dataclasses.dataclass`."""

    def make(declared: type) -> type:
        fields = _fields_of(declared, kw_only=kw_only)
        methods = [_init_of(fields, lambda: cls, frozen=frozen), _repr_of(fields)]
        compared = _values_of(*(name for name, one in fields.items() if one.compare))
        if eq:
            methods.append(_eq_of(compared))
        if eq and frozen:
            methods.append(_hash_of(compared))
        if frozen:
            methods += _refusals_of(fields, lambda: cls)
        cls = _remade(
            declared, fields, {one.__name__: one for one in methods}, slots=slots
        )  # which those know
        return cls

    return make


if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    dataclass = _dataclass


def _fields_of(declared: type, *, kw_only: bool) -> _Fields:
    """The fields of a class, those of its bases first."""
    fields: _Fields = {}
    for base in reversed(declared.__mro__):
        if _FIELDS in vars(base):
            fields |= vars(base)[_FIELDS]
    said = vars(declared)
    for name, annotation in said.get("__annotations__", {}).items():
        if annotation.startswith("ClassVar"):
            continue
        default = said.get(name, _MISSING)
        one: Any = default if isinstance(default, dataclasses.Field) else dataclasses.field(default=default)
        if type(one.default).__hash__ is None:
            raise ValueError(f"the default of {name!r} would be shared; give a factory")
        one.name, one.type, one._field_type = name, annotation, _IS_FIELD
        if one.kw_only is _MISSING:
            one.kw_only = kw_only
        fields[name] = one
    return fields


def _remade(declared: type, fields: _Fields, methods: dict[str, Any], *, slots: bool) -> type:
    """The class that was declared, with methods that it has not itself, and with slots: those need a new one."""
    said = {
        name: value
        for name, value in vars(declared).items()
        if name not in fields and name not in {"__dict__", "__weakref__"}
    }
    if slots:
        taken = {name for base in declared.__mro__[1:] for name in vars(base).get("__slots__", ())}
        said["__slots__"] = tuple(name for name in fields if name not in taken)
    else:
        said |= {name: one.default for name, one in fields.items() if one.default is not _MISSING}
    said["__doc__"] = declared.__doc__ or declared.__name__
    said["__match_args__"] = tuple(name for name, one in fields.items() if not one.kw_only)
    said[_FIELDS] = fields
    cls = type(declared)(declared.__name__, declared.__bases__, methods | said)
    cls.__qualname__ = declared.__qualname__
    return cls


def _values_of(*names: str) -> Callable[[Any], Any]:
    return attrgetter(*names) if names else lambda _: ()


def _init_of(fields: _Fields, made: Callable[[], Any], *, frozen: bool) -> Callable[..., None]:
    """An `__init__` that goes by the fields, until it was called often enough, or wrongly: then one is compiled."""
    assign = object.__setattr__ if frozen else setattr
    calls = 0

    def __init__(self: Any, *args: Any, **named: Any) -> None:  # noqa: N807
        nonlocal calls
        calls += 1
        values = _values_from(fields, args, named) if calls <= _FEW else None
        if values is None:
            cls = made()
            cls.__init__ = _compiled_init(cls, fields, frozen=frozen)  # from now on in place of this one
            cls.__init__(self, *args, **named)
            return
        for name, value in values.items():
            assign(self, name, value)
        if hasattr(self, "__post_init__"):
            self.__post_init__()

    return __init__


def _values_from(fields: _Fields, args: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any] | None:
    """What each field gets; None where that are not the arguments for them."""
    positional = [name for name, one in fields.items() if not one.kw_only]
    values = dict(zip(positional, args, strict=False)) | named
    if len(values) < len(args) + len(named) or not values.keys() <= fields.keys():
        return None
    for name, one in fields.items():
        if name in values:
            continue
        if one.default is not _MISSING:
            values[name] = one.default
        elif one.default_factory is not _MISSING:
            values[name] = one.default_factory()
        else:
            return None
    return values


def _compiled_init(cls: Any, fields: _Fields, *, frozen: bool) -> Callable[..., None]:
    """An `__init__` as one would write it by hand."""
    names: dict[str, Any] = {"__set": object.__setattr__, "__to_be_made": _TO_BE_MADE}
    positional = ["self"]
    keywords: list[str] = []
    body: list[str] = []
    for name, one in fields.items():
        argument, value = name, name
        if one.default_factory is not _MISSING:
            names[f"__make_{name}"] = one.default_factory
            argument += "=__to_be_made"
            value = f"__make_{name}() if {name} is __to_be_made else {name}"
        elif one.default is not _MISSING:
            names[f"__default_{name}"] = one.default
            argument += f"=__default_{name}"
        (keywords if one.kw_only else positional).append(argument)
        body.append(f"__set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    arguments = ", ".join([*positional, "*", *keywords] if keywords else positional)
    exec(f"def __init__({arguments}):\n " + "\n ".join(body or ["pass"]), names)  # noqa: S102 - of names in our source
    init: Callable[..., None] = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"  # what is said when an argument is missing
    return init


def _repr_of(fields: _Fields) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:  # noqa: N807
        shown = (f"{name}={getattr(self, name)!r}" for name, one in fields.items() if one.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    return __repr__


def _eq_of(values: Callable[[Any], Any]) -> Callable[[Any, object], bool]:
    def __eq__(self: Any, other: object) -> bool:  # noqa: N807
        return values(self) == values(other) if type(other) is type(self) else NotImplemented

    return __eq__


def _hash_of(values: Callable[[Any], Any]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(values(self))

    return __hash__


def _refusals_of(fields: _Fields, made: Callable[[], Any]) -> tuple[Callable[..., None], Callable[..., None]]:
    """What a frozen object says to a change; a derived class may have attributes of its own."""

    def __setattr__(self: Any, name: str, value: object) -> None:  # noqa: N807
        if type(self) is made() or name in fields:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(made(), self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: N807
        if type(self) is made() or name in fields:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(made(), self).__delattr__(name)

    return __setattr__, __delattr__
