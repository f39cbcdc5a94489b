"""Machines that know one network only, by the names of its layers, its times or its weights."""

from collections.abc import Iterator

from penstock.backbones import Backbone
from penstock.hardware.machine import Machine, wrapped


def machines(machine: Machine) -> Iterator[Machine]:
    """A machine and all that it holds, from the outside in."""
    yield machine
    for each in wrapped(machine):
        yield from machines(each)


def is_bound(machine: Machine) -> bool:
    """Whether a machine, or one inside of it, knows one network only."""
    return any(each.bound for each in machines(machine))


def check_network(machine: Machine, backbone: Backbone) -> None:
    """Refuse a network that a machine, or one inside of it, was not made for.

    Raises:
        InputError: as `Machine.fits` of the first that refuses.
    """
    for each in machines(machine):
        each.fits(backbone)
