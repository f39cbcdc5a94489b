"""Whether the fields of a machine hold what they are declared to hold."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from math import isnan
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from penstock.backbones.errors import InputError, did_you_mean

_PLAIN: Final[Mapping[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
}

AMOUNTS: Final = ("_j", "_s", "_w", "_bps", "_bytes", "_hz", "_per_byte", "_per_s")
"""Ends of the names of fields that are at least 0."""


def check_fields(machine: Any) -> None:
    """Refuse a field of another type than is declared, a misspelled choice, a negative amount.

    Types of one's own, and what is inside of them, are left alone.

    Args:
        machine: a dataclass.

    Raises:
        InputError: at the first field that is wrong.
    """
    hints = _hints(type(machine))  # type: ignore[arg-type]  # a class is hashable
    for field in fields(machine):
        value = getattr(machine, field.name)
        if field.name in hints and not _is(value, hints[field.name]):
            raise InputError(_sentence(machine, field.name, hints[field.name], value))
        numbers = _numbers(value)
        if any(map(isnan, numbers)):
            raise InputError(
                f"{field.name} of {type(machine).__name__} is a number, got {value!r}; correct it"
            )
        if field.name.endswith(AMOUNTS) and min(numbers, default=0) < 0:
            raise InputError(
                f"{field.name} of {type(machine).__name__} is at least 0, got {value!r}; correct it"
            )


@cache
def _hints(kind: Any) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except NameError:  # imported for a type checker only: nothing is known of its fields
        return {}


def _is(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, as far as types are plain."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_is(value, each) for each in inside)
    if origin is Literal:
        return value in inside
    if hint is type(None):
        return value is None
    if hint in (int, float, bool, str):
        number = hint is float and isinstance(value, int)
        return (number or isinstance(value, hint)) and (hint is bool or not isinstance(value, bool))
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_is(each, inside[1]) for each in value.values())
    if origin is tuple and inside[-1:] != (...,):
        return (
            isinstance(value, tuple | list)
            and len(value) == len(inside)
            and all(map(_is, value, inside))
        )
    if origin is not None and issubclass(origin, Sequence):
        plain = isinstance(value, Sequence) and not isinstance(value, str)
        return plain and all(_is(each, inside[0]) for each in value)
    return isinstance(value, hint) if isinstance(hint, type) else True


def _sentence(machine: Any, name: str, hint: Any, value: Any) -> str:
    told = f"{name} of {type(machine).__name__} is {_words(hint)}, got {value!r}"
    if get_origin(hint) is Literal and isinstance(value, str):
        return told + "." + did_you_mean(value, [str(each) for each in get_args(hint)])
    return told + "; correct it"


def _words(hint: Any) -> str:
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_words(each) for each in inside if each is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(map(str, inside))
    if origin is not None and issubclass(origin, Mapping):
        return f"a table of which each entry is {_words(inside[1])}"
    if origin is tuple and inside[-1:] != (...,):
        return f"a list of {', '.join(map(_words, inside))}"
    if origin is not None and issubclass(origin, Sequence):
        return f"a list of which each entry is {_words(inside[0])}"
    return _PLAIN.get(hint) or f"a {getattr(hint, '__name__', hint)}"


def _numbers(value: Any) -> list[float]:
    if isinstance(value, Mapping):
        return [number for each in value.values() for number in _numbers(each)]
    if isinstance(value, (list, tuple)):
        return [number for each in value for number in _numbers(each)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []
