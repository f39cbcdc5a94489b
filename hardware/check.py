"""The rules that every machine keeps, checked by running it on small blocks.

A machine of your own is right when `check_machine(machine)` returns.
"""

import copy

import torch
from torch import Tensor

from penstock.backbones import Block
from penstock.backbones.backbone import Backbone
from penstock.backbones.errors import InputError
from penstock.backbones.resnet import tiny_resnet
from penstock.hardware.bound import check_network, is_bound, machines
from penstock.hardware.machine import Machine
from penstock.hardware.remote import Remote
from penstock.hardware.rules import LANES, RULES, Bench, sentence
from penstock.hardware.split import Split


def check_machine(machine: Machine, *, backbone: Backbone | None = None, seed: int = 0) -> None:
    """Run a machine on one block of each kind under a handful of settings, and hold it to `rules`.

    Args:
        machine: to be checked.
        backbone: whose blocks are run; a small residual network if there is none.
        seed: of the images and of every draw of the machine.

    Raises:
        InputError: at the first rule that is broken: the rule, what was expected and what came; if
            the machine knows another network only, or a real server is a part of it.
    """
    name = type(machine).__name__
    if not isinstance(machine, Machine):
        raise InputError(f"a Machine can be checked, got {name}; derive it from Machine")
    if any(isinstance(each, Split) and isinstance(each.far, Remote) for each in machines(machine)):
        raise InputError(
            "a real server keeps its own time and can be held to no rule; check the machine with a "
            "modelled far instead of the Remote"
        )
    if backbone is not None:
        check_network(machine, backbone)
    elif is_bound(machine):
        raise InputError(
            f"{name} names layers, times or weights of one network, and can be checked on no other;"
            " give that one with --backbone"
        )
    with torch.no_grad():
        bench = Bench(machine, _blocks(backbone, seed), seed)
        for rule in RULES:
            try:
                breach = next(rule(bench), None)
            except InputError:
                raise
            except Exception as error:  # whatever a machine raises is the answer to the check
                raise InputError(
                    f'{name} breaks the rule "{sentence(rule)}": expected no exception, '
                    f"got {type(error).__name__}: {error}"
                ) from error
            if breach is not None:
                raise InputError(f'{name} breaks the rule "{sentence(rule)}": {breach}')


def rules() -> tuple[str, ...]:
    """What `check_machine` holds a machine to, a sentence a rule, in the order of the checks."""
    return tuple(sentence(rule) for rule in RULES)


def _blocks(backbone: Backbone | None, seed: int) -> tuple[tuple[Block, Tensor], ...]:
    """One block of each kind with an input of it [n, C, H, W], on its way through the network."""
    if backbone is None:
        with torch.random.fork_rng(devices=[]):  # layers are initialised from the global generator
            torch.manual_seed(seed)
            backbone = tiny_resnet(blocks_per_stage=2)
    backbone = copy.deepcopy(backbone).eval()
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(max(LANES), *backbone.shape, generator=rng)
    kinds = {(type(backbone.stem), backbone.stem.knobs): (backbone.stem, x)}
    x = backbone.stem(x, {})
    for index in range(backbone.depth):
        block, head = backbone.block(index), backbone.head(index)
        kinds.setdefault((type(block), block.knobs), (block, x))
        x = block(x, {})
        if head is not None:
            kinds.setdefault((type(head), head.knobs), (head, x))
    return tuple(kinds.values())
