"""What every stage asks under every combination of choices, as the machine prices it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penstock.backbones import RUN, Backbone, Block, InputError, Knob, every_setting, in_order
from penstock.hardware import RESOURCES, Machine


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Bounds from above, known before a choice is made.

    Letters: `S` stages, `M` combinations of choices, `K` knobs but `exit`, `R` resources, `T`
    choices of all knobs, exit included.
    """

    stem: Tensor  # [R]
    cost: Tensor  # [S, M, R] of all blocks of a stage, and of the head behind it
    own: Tensor  # [S, K] bool, whether a knob turns something in a stage
    same: Tensor  # [S, M] the first combination that does the same work
    exits: Tensor  # [S] bool, whether there is a head behind a stage
    last: Tensor  # [S] the last block of a stage
    offered: Tensor  # [S, T - 2] bool, the choices of all knobs that can be taken in a stage


def price_table(
    backbone: Backbone,
    machine: Machine,
    knobs: Sequence[Knob],
    fixed: Mapping[str, float],
    stages: Sequence[range],
) -> PriceTable:
    """Ask a machine for the price of everything that can be chosen.

    Args:
        backbone: gives blocks and heads.
        machine: its `price` bounds every cost from above.
        knobs: the action's knobs after `exit`, with the choices offered.
        fixed: settings that are not the policy's to choose. Stem and heads stand at the dearest
            choices offered.
        stages: the blocks that one decision governs, in order.
    """
    settings = [{**fixed, **setting} for setting in every_setting(knobs)]
    shapes, dearest = activation_shapes(backbone), settings[-1]
    cost = torch.zeros(len(stages), len(settings), len(RESOURCES), dtype=torch.float64)
    own = torch.zeros(len(stages), len(knobs), dtype=torch.bool)
    same = []
    for s, blocks in enumerate(stages):
        works = []
        for d in blocks:
            block = backbone.block(d)
            names = {knob.name for knob in (*block.knobs, *machine.knobs)}
            turned = torch.tensor([knob.name in names for knob in knobs], dtype=torch.bool)
            own[s] |= turned
            lacked = {knob.name: knob.full for knob in knobs if knob.name not in names}
            taken = settings if d == blocks[0] else [machine.held(each) for each in settings]
            prices = [machine.price(block, {**t, **lacked}, shapes[d]).rows() for t in taken]
            works.append(_same_work(block, machine, settings, torch.stack(prices)))
            cost[s] += torch.stack(prices)
        head = backbone.head(blocks[-1])
        if head is not None:
            cost[s] += machine.price(head, dearest, shapes[blocks[-1] + 1]).rows()
        same.append(_first_alike(torch.stack(works, dim=1)))
    return PriceTable(
        stem=machine.price(backbone.stem, dearest, backbone.shape).rows(),
        cost=cost,
        own=own,
        same=torch.stack(same),
        exits=torch.tensor([backbone.head(blocks[-1]) is not None for blocks in stages]),
        last=torch.tensor([blocks[-1] for blocks in stages]),
        offered=torch.ones(len(stages), sum(len(k.choices) for k in knobs), dtype=torch.bool),
    )


def cut_stages(first: Sequence[int], depth: int) -> list[range]:
    """The blocks of each stage.

    Args:
        first: block of each stage; none makes every block a stage.
        depth: blocks in all.

    Raises:
        InputError: if they do not begin with 0, rise and stay below the depth.

    >>> cut_stages((0, 3), 5)
    [range(0, 3), range(3, 5)]
    """
    first = list(first) or list(range(depth))
    if first[0] != 0 or sorted(set(first)) != first or first[-1] >= depth:
        raise InputError(
            f"stages are the first blocks of each, from 0, rising, below {depth}, got {first}; "
            "correct them"
        )
    return [range(a, b) for a, b in zip(first, [*first[1:], depth], strict=True)]


def activation_shapes(backbone: Backbone) -> list[tuple[int, ...]]:
    """The shape (C, H, W) before each block, and after the last, which always has a head."""
    places, heads = in_order(backbone), set(backbone.exits.values())
    return [shape for block, shape in places[1:] if block not in heads] + [places[-1][1]]


def _same_work(
    block: Block, machine: Machine, settings: Sequence[Mapping[str, float]], cost: Tensor
) -> Tensor:
    """For each setting the first that asks the same of a block.

    Knobs that neither the block nor the machine has change nothing. What is skipped has no other
    knob, except the machine's own, and as long as the price agrees.

    Args:
        block: to be run.
        machine: to run it.
        settings: M combinations.
        cost: their prices, [M, R].

    Returns:
        [M] indices.
    """
    outer = {knob.name for knob in machine.knobs}
    names = outer | {knob.name for knob in block.knobs}
    seen: dict[tuple[object, ...], int] = {}
    first = []
    for number, (setting, price) in enumerate(zip(settings, cost.tolist(), strict=True)):
        skipped = RUN in block.knobs and setting.get(RUN.name, RUN.full) == RUN.choices[0]
        turned = outer if skipped else names
        own = [value for name, value in setting.items() if name in turned]
        first.append(seen.setdefault((skipped, *price, *own), number))
    return torch.tensor(first)


def _first_alike(rows: Tensor) -> Tensor:
    """For each row of [M, B] the index of the first row that is equal, [M].

    >>> _first_alike(torch.tensor([[1, 2], [0, 2], [1, 2]]))
    tensor([0, 1, 0])
    """
    alike = (rows.unsqueeze(0) == rows.unsqueeze(1)).all(dim=2)  # [M, M]
    return alike.to(torch.uint8).argmax(dim=1)
