"""A machine whose links meet the traces of a split, so that what learned on some meets others."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

from penstock.hardware.link import Link
from penstock.hardware.machine import Machine
from penstock.hardware.traces import Bandwidth, Part


def at_part(machine: Machine, part: Part) -> Machine:
    """The same machine, the links anywhere in it with the traces of a part.

    Args:
        machine: the very same comes back if there is nothing to change.
        part: "train", "validation" or "test".
    """
    found: Machine = _at(machine, part)
    return found


def _at(thing: Any, part: Part) -> Any:
    if isinstance(thing, Bandwidth):
        return thing.at(part)
    if not isinstance(thing, Machine | Link) or not is_dataclass(thing):
        return thing
    old = {field.name: getattr(thing, field.name) for field in fields(thing) if field.init}
    new = {name: _at(value, part) for name, value in old.items()}
    changed = {name: value for name, value in new.items() if value is not old[name]}
    return replace(thing, **changed) if changed else thing
