"""`penstock check`: hold a machine against the rules that every machine keeps."""

from dataclasses import dataclass

from tyro.conf import Positional

from penstock.backbones import shipped
from penstock.hardware import build_machine, check_machine, constants
from penstock.hardware.check import rules
from penstock.hardware.judging import each_adds
from penstock.scripts.run import open_backbone
from penstock.scripts.table import quantity


@dataclass(frozen=True)
class Arguments:
    """Hold a machine against the rules that every machine keeps."""

    machine: Positional[str]
    """A preset, a .toml file, or "module:Name"."""
    backbone: str | None = None
    """Whose blocks it is tried on: a shipped name or a .safetensors file; a small network's if not
    given. A machine that knows one network only needs that."""
    trust: tuple[str, ...] = ()
    """Modules beside Penstock's own whose functions a file may call to build its network."""


def run(arguments: Arguments) -> None:
    """Check, then print rules kept, constants with their sources, and what each machine takes."""
    machine, named = build_machine(arguments.machine), arguments.backbone
    backbone = None if named is None else open_backbone(named, arguments.trust)
    check_machine(machine, backbone=backbone)
    for rule in rules():
        print(f"ok  {rule}")
    for constant in constants(arguments.machine):
        print(
            f"    {constant.name} = {constant.value:g} {constant.unit} "
            f"({constant.low:g} to {constant.high:g}): {constant.source}"
        )
    joules = each_adds(backbone or shipped("digits"), machine)
    each = ", ".join(f"{name} {quantity(energy_j)}J" for name, energy_j in joules.items())
    print(f"energy of an image through the full network, {named or 'digits'}: {each}")
