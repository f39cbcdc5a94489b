"""Whether what a policy saves on a machine that errs hangs on constants that are estimated.

python scripts/reproduce/erring_constants.py runs/digits_erring-0 runs/digits_erring-1 runs/digits_erring-2

The same policies and networks as in erring.py, which learned at the constants as they are, on
machines of which one kind of constant is half or twice as much. Their prices, and all that they are
compared with, are found anew on validation images.
"""  # noqa: E501

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any

import tyro

from penstock.hardware import Machine, constants
from penstock.scripts.guard import guarded
from penstock.scripts.reproduce.erring import (
    BUDGETS,
    CLAIMED,
    COARSE,
    FINE,
    Arguments,
    curves,
    times_the_energy,
)
from penstock.scripts.results import Claim, write_claims

DRAM = ("read_j_per_byte", "write_j_per_byte", "io_j_per_byte", "standby_w")
ANALOG = ("inner.mac_j",)
EXPONENT = "inner.exponent"


def main() -> None:
    """Change, play again, write down."""
    arguments = tyro.cli(Arguments)
    claims = []
    for change, changed in changes().items():
        opened = [curves(run, arguments.data, changed) for run in arguments.runs]
        seeds, found = [seed for seed, _, _ in opened], [each for _, _, each in opened]
        for name in (COARSE, FINE):
            ratio, ends = times_the_energy(found, BUDGETS.index(CLAIMED), name)
            text = f"% of energy saved at equal answers, policy against {name}, {change}"
            low, high = (100 * (1 - 1 / end) for end in ends)
            figure = 100 * (1 - 1 / ratio)
            claims.append(Claim(text, figure, 10, ">=", name, seeds, opened[0][1], (low, high)))
    write_claims("erring_constants", claims)


def changes() -> dict[str, Callable[[Machine], Machine]]:
    """In words, and what is done to the machine."""
    known = {constant.name: constant for constant in constants("analog_dram")}
    found: dict[str, Mapping[str, float]] = {
        f"{what} energy times {times:g}": {name: times * known[name].value for name in names}
        for what, names in (("DRAM", DRAM), ("analog", ANALOG))
        for times in (0.5, 2.0)
    }
    low = known[EXPONENT].low
    found[f"energy of a read as SNR to the power of {low:g}"] = {EXPONENT: low}
    return {text: partial(changed, values=values) for text, values in found.items()}


def changed(machine: Any, values: Mapping[str, float]) -> Any:
    """A machine with other constants, named as `penstock check` does.

    >>> from penstock.hardware import build_machine
    >>> changed(build_machine("analog_dram"), {"inner.mac_j": 1.0}).inner.mac_j
    1.0
    """
    own = {name: value for name, value in values.items() if "." not in name}
    for field in fields(machine):
        inner = {
            name.removeprefix(f"{field.name}."): value
            for name, value in values.items()
            if name.startswith(f"{field.name}.")
        }
        if inner:
            own[field.name] = changed(getattr(machine, field.name), inner)
    return replace(machine, **own)


if __name__ == "__main__":
    sys.exit(guarded(main))
