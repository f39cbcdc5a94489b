"""Machines from names, files and tables, with the sources of their constants."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Final

from penstock.backbones.errors import InputError, did_you_mean
from penstock.hardware.machine import Machine

Table = Mapping[str, Any]
"""A machine in words: what a TOML file holds."""

PRESETS: Final = Path(__file__).parent / "presets"

FIELDS: Final = ("value", "unit", "range", "source")
"""What a constant says of itself."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A physical quantity of a machine, and why it is believed."""

    name: str
    """The argument that it is given as, as in "mac_j.8" or "inner.launch_s"."""
    value: float
    unit: str
    low: float
    high: float
    """The values between `low` and `high` are as plausible: repeat a claim with both."""
    source: str


def build_machine(what: str | Path | Table) -> Machine:
    """The machine that a name, a file or a table describes.

    Args:
        what: a preset ("phone"); a path of a .toml file; "module:Name", a machine or something that
            makes one when called without arguments; or a table as such a file holds it. A table has
            `type = "module:Name"`, perhaps a `title`, and the arguments of that type. An argument
            is a plain value; a constant `{value, unit, range = [low, high], source}`; a machine,
            or a part of one, which is a table with a type again; or any of these by number, as in
            `mac_j.8`. A table `{preset = "phone"}` is that preset; what stands beside it replaces
            the preset's own.

    Raises:
        InputError: if there is no such thing, or its type does not accept the arguments.

    Examples:
        >>> sorted(build_machine("phone").mac_j)
        [4, 8, 32]
    """
    table, where = _read(what)
    machine = _made(table, "", where)
    if not isinstance(machine, Machine):
        raise InputError(
            f"{where}{table['type']} should make a Machine, got {type(machine).__name__}"
        )
    return machine


def preset_names() -> tuple[str, ...]:
    """The machines that come with Penstock, in alphabetical order."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.toml")))


def constants(what: str | Path | Table) -> list[Constant]:
    """Every constant of a description, those of inner machines too; none for "module:Name".

    Raises:
        InputError: if there is no such description, or a constant lacks something.

    Examples:
        >>> next(c.unit for c in constants("phone") if c.name == "launch_s")
        's'
    """
    table, where = _read(what)
    return list(_constants(table, "", where))


def _read(what: str | Path | Table) -> tuple[Table, str]:
    """A table, and what an error about it begins with."""
    if isinstance(what, Mapping):
        return _whole(what), ""
    if isinstance(what, Path) or what.endswith(".toml"):
        return _whole(_load(Path(what))), f"{what}: "
    if ":" in what:
        return {"type": what}, ""
    return _preset(what), f"preset {what}: "


def _preset(name: str) -> Table:
    if name not in preset_names():
        raise InputError(
            f'a machine is a preset, a .toml file or "module:Name", got {name!r}.'
            + did_you_mean(name, preset_names())
        )
    return _whole(_load(PRESETS / f"{name}.toml"))


def _whole(table: Table) -> Table:
    """A table, with what the preset that it names holds beside."""
    if "preset" not in table:
        return table
    own = {key: value for key, value in table.items() if key != "preset"}
    return {**_preset(str(table["preset"])), **own}


def _load(path: Path) -> Table:
    import tomllib  # its regular expressions take 70 ms to compile, which no import should

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} should be a file that describes a machine, and cannot be read "
            f"({error.strerror}); check the path"
        ) from error
    except ValueError as error:
        raise InputError(f"{path} should be TOML, and is not: {error}") from error


def _made(table: Table, name: str, where: str) -> Any:
    """A machine, or a part of one."""
    kind = table.get("type")
    if not isinstance(kind, str) or ":" not in kind:
        at = f" at {name}" if name else ""
        raise InputError(f'{where}a machine needs type = "module:Name", got {kind!r}{at}')
    arguments = {
        key: _argument(value, _join(name, key), where)
        for key, value in table.items()
        if key not in ("type", "title")
    }
    return _call(_find(kind, where), arguments, f"{where}{kind}")


def _argument(value: Any, name: str, where: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    value = _whole(value)
    if "type" in value:
        return _made(value, name, where)
    if "value" in value:
        return _constant(value, name, where).value
    by_number = all(str(key).isdecimal() for key in value)
    return {
        int(key) if by_number else key: _argument(inner, _join(name, key), where)
        for key, inner in value.items()
    }


def _constants(value: Any, name: str, where: str) -> Iterator[Constant]:
    if isinstance(value, Mapping):
        value = _whole(value)
        if "value" in value and "type" not in value:
            yield _constant(value, name, where)
        else:
            for key, inner in value.items():
                yield from _constants(inner, _join(name, key), where)


def _constant(table: Table, name: str, where: str) -> Constant:
    for field in table:
        if field not in FIELDS:
            raise InputError(f"{where}{name} has no {field!r}." + did_you_mean(field, FIELDS))
    for field in FIELDS:
        if table.get(field, "") in ("", []):
            raise InputError(
                f"{where}{name} has no {field}; a constant is "
                "{value, unit, range = [low, high], source}"
            )
    value, limits = table["value"], table["range"]
    if not isinstance(limits, list | tuple) or len(limits) != 2:
        raise InputError(f"{where}{name} needs range = [low, high], got {limits!r}")
    low, high = limits
    for number in (value, low, high):
        if not isinstance(number, int | float) or not isfinite(number):
            raise InputError(f"{where}{name} needs finite numbers, got {number!r}")
    if not low <= value <= high:
        raise InputError(
            f"{where}{name} should lie in its range of {low:g} to {high:g} {table['unit']}, "
            f"got {value:g}; correct one of them"
        )
    return Constant(name, value, str(table["unit"]), low, high, str(table["source"]))


def _find(kind: str, where: str) -> Any:
    try:
        return resolve_name(kind)
    except Exception as error:  # a plug-in's module may raise anything while it is imported
        raise InputError(
            f'{where}"module:Name" should name something that can be imported, got {kind!r} '
            f"({type(error).__name__}: {error}); check the spelling and that the module is on "
            "Python's path"
        ) from error


def _call(target: Any, arguments: Mapping[str, Any], label: str) -> Any:
    if isinstance(target, Machine) and not arguments:
        return target
    if not callable(target):
        raise InputError(
            f"{label} should be a class or function that makes a Machine, "
            f"got {type(target).__name__}"
        )
    _check_arguments(target, arguments, label)
    try:
        return target(**arguments)
    except InputError:
        raise
    except Exception as error:  # a user's own code; what it raises is the answer
        raise InputError(
            f"{label} does not accept its arguments ({type(error).__name__}: {error})"
        ) from error


def _check_arguments(target: Callable[..., Any], arguments: Table, label: str) -> None:
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:  # some classes written in C have no signature; calling them will tell
        return
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in named]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for name in arguments:
            if name not in names:
                raise InputError(f"{label} has no argument {name!r}." + did_you_mean(name, names))
    missing = [p.name for p in named if p.default is p.empty and p.name not in arguments]
    if missing:
        raise InputError(f"{label} needs {', '.join(missing)}; describe the machine in a table")


def _join(name: str, key: str | int) -> str:
    return f"{name}.{key}" if name else str(key)
