"""Tables of machines that name layers of a network, or data types: a layer's weights or inputs."""

from collections.abc import Iterable, Mapping
from typing import Final

from penstock.backbones import Backbone, InputError, Matrix, in_order, matrices
from penstock.backbones.errors import did_you_mean

WEIGHT: Final = "weight"
INPUT: Final = "input"
"""Roles. With a layer's name they name a data type, as in "blocks.3.first.weight"; alone they
stand for all layers."""


def layers(backbone: Backbone) -> dict[str, Matrix]:
    """The matrices of a network at full, by the names of their layers, in order of execution."""
    each = (matrices(block, {}, shape) for block, shape in in_order(backbone))
    return {matrix.name: matrix for found in each for matrix in found}


def one_network(table: Mapping[str, object]) -> bool:
    """Whether a table by data type or role names a layer, which not every network has."""
    return not table.keys() <= {WEIGHT, INPUT}


def check_types(field: str, table: Mapping[str, object], backbone: Backbone) -> None:
    """Refuse a table by data type or role that names what a network has not.

    Raises:
        InputError: at the first such name.
    """
    if one_network(table):
        types = [f"{name}.{role}" for name in layers(backbone) for role in (WEIGHT, INPUT)]
        check_names(field, table, [WEIGHT, INPUT, *types])


def check_names(field: str, table: Mapping[str, object], known: Iterable[str]) -> None:
    """Refuse a table that has another name than some known ones.

    Raises:
        InputError: at the first such name.
    """
    names = list(known)
    for name in table:
        if name not in names:
            raise InputError(
                f"{field} names parts of the network that is run, got {name!r}."
                + did_you_mean(name, names)
            )
