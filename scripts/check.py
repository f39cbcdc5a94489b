"""`penstock check`: hold a machine against the rules that every machine keeps."""

from dataclasses import dataclass

from tyro.conf import Positional

from penstock.hardware import build_machine, check_machine, constants
from penstock.hardware.check import rules


@dataclass(frozen=True)
class Arguments:
    """Hold a machine against the rules that every machine keeps."""

    machine: Positional[str]
    """A preset, a .toml file, or "module:Name"."""


def run(arguments: Arguments) -> None:
    """Check, then print the rules kept and the constants with their sources."""
    check_machine(build_machine(arguments.machine))
    for rule in rules():
        print(f"ok  {rule}")
    for constant in constants(arguments.machine):
        print(
            f"    {constant.name} = {constant.value:g} {constant.unit} "
            f"({constant.low:g} to {constant.high:g}): {constant.source}"
        )
