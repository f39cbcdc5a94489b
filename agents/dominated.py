"""Choices that no good configuration needs, and recordings without them.

Letters: `V` nodes, `S` stages, `M` combinations of choices, `K` knobs, `T` choices of all of them
and of `exit`, `A` nodes at which an answer can be given, `F` of them on the front, `R` resources.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Final

import torch
from torch import Tensor

from penstock.backbones import InputError, Knob
from penstock.envs.actions import legal, strides
from penstock.envs.price_table import PriceTable
from penstock.envs.recording import SAID, Recording
from penstock.envs.tree import grow

CHUNK: Final = 512
"""Configurations that are held against the front at once."""


def kept_choices(recording: Recording, tolerance: float) -> Tensor:
    """The choices of each knob in each stage that a configuration near the front needs.

    A configuration is a way through the tree to an answer. It is dropped if another one takes no
    more of anything and is right more often by more than the tolerance, or by just as much while it
    takes less of something. What a link costs is not recorded, so bits that leave, and what near
    and far machine take, count as resources of their own: fewer configurations are dropped than a
    bandwidth that is known would allow. The full choice always stays, and so do all of a knob that
    turns nothing in a stage.

    Args:
        recording: of the images on which it is decided.
        tolerance: points of accuracy.

    Returns:
        [S, T - 2] bool, the knobs' choices side by side.

    Raises:
        InputError: if the tolerance is out of range.
    """
    if not 0 <= tolerance <= 100:
        raise InputError(
            f"choices are dropped within 0 to 100 points of accuracy, got {tolerance}; correct it"
        )
    tree, table = recording.tree, recording.table
    stages, combinations = table.same.shape
    behind = torch.cat([torch.zeros(1, dtype=torch.bool), table.exits])
    answers = behind[tree.stage].nonzero().squeeze(1)
    right = recording.said[:, :, SAID.index("right")].mean(dim=0, dtype=torch.float64)
    beaten = _beaten(right[answers], _spent(recording)[answers], tolerance / 100)
    needed = torch.zeros(len(tree), dtype=torch.bool)
    needed[answers[~beaten]] = True
    sizes = [len(knob.choices) for knob in recording.knobs]
    made = _made(sizes)  # [M, T - 2]
    idle = ~table.own.repeat_interleave(torch.tensor(sizes, dtype=torch.int64), dim=1)
    kept = idle | made[-1]
    for stage in reversed(range(stages)):
        nodes = (needed & (tree.stage == stage + 1)).nonzero().squeeze(1)
        parents = tree.parent[nodes]
        needed[parents] = True
        # Of the combinations that lead there the last, in which idle knobs stand at full.
        leads = tree.children[parents] == nodes.unsqueeze(1)
        last = combinations - 1 - leads.flip(1).to(torch.uint8).argmax(dim=1)
        kept[stage] |= made[last].any(dim=0)
    return kept


def thinned(recording: Recording, kept: Tensor) -> Recording:
    """A recording without the nodes to which only dropped choices lead.

    A dropped choice is no longer offered. It leads where the one leads that an engine takes in
    place of what it does not allow: the nearest kept one before it, or else behind it, and costs
    the same. `about["kept"]` says what is left.

    Args:
        recording: a whole one.
        kept: see `kept_choices`.
    """
    tree = recording.tree
    table = thinned_table(recording.table, recording.knobs, kept)
    thin = grow(table, recording.staying)
    old = torch.zeros_like(thin.stage)
    for stage in range(1, len(table.cost) + 1):
        nodes = (thin.stage == stage).nonzero().squeeze(1)
        old[nodes] = tree.children[old[thin.parent[nodes]], thin.combination[nodes]]
    each = [name for name in ("here", "there") if getattr(recording, name).dim() == 3]
    alike = [name for name in ("here", "there", "sent_bits") if name not in each]
    return replace(
        recording,
        **{name: getattr(recording, name)[:, old] for name in ("seen", "said", *each)},
        **{name: getattr(recording, name)[old] for name in alike if len(getattr(recording, name))},
        tree=thin,
        table=table,
        about={**recording.about, "kept": in_words(recording.knobs, kept)},
    )


def thinned_table(table: PriceTable, knobs: Sequence[Knob], kept: Tensor) -> PriceTable:
    """Prices at which a dropped choice costs what the kept one costs that takes its place.

    `same` then names the kept combination whose work is done.

    Args:
        table: of everything.
        knobs: whose choices it is about.
        kept: see `kept_choices`.
    """
    sizes = [len(knob.choices) for knob in knobs]
    stride, indices, made = strides(sizes), _indices(sizes), _made(sizes)
    same, cost = table.same.clone(), table.cost.clone()
    for stage in range(len(table.cost)):
        instead = legal(indices, kept[stage].expand(len(indices), -1), sizes)
        place = (instead * stride).sum(dim=1)  # [M]
        stays = (made <= kept[stage]).all(dim=1)  # [M] combinations of kept choices alone
        alike = table.same[stage][place].unsqueeze(1) == table.same[stage]  # [M, M]
        same[stage] = (alike & stays).to(torch.uint8).argmax(dim=1)
        cost[stage] = table.cost[stage, place]
    return replace(table, same=same, cost=cost, offered=kept)


def in_words(knobs: Sequence[Knob], kept: Tensor) -> list[dict[str, list[float]]]:
    """Of each stage the choices that stay: knob name -> choices."""
    words = []
    for row in kept.tolist():
        stage, start = {}, 0
        for knob in knobs:
            stays = row[start : start + len(knob.choices)]
            stage[knob.name] = [c for c, stay in zip(knob.choices, stays, strict=True) if stay]
            start += len(knob.choices)
        words.append(stage)
    return words


def _spent(recording: Recording) -> Tensor:
    """What the way to each node takes on average, [V, ..]: near, far, bits that leave."""
    tree, parts = recording.tree, [recording.here, recording.there]
    own = [part.mean(dim=0) if part.dim() == 3 else part for part in parts if part.numel()]
    spent = torch.cat([*own, recording.sent_bits.unsqueeze(1)], dim=1).clone()
    for stage in range(1, len(recording.first) + 1):
        nodes = (tree.stage == stage).nonzero().squeeze(1)
        spent[nodes] += spent[tree.parent[nodes]]
    return spent


def _beaten(right: Tensor, spent: Tensor, tolerance: float) -> Tensor:
    """Which configurations are dropped, [A] bool.

    Args:
        right: share of right answers, [A].
        spent: [A, ..].
        tolerance: as a share.
    """
    # Whoever beats another stands before it.
    order = spent.sum(dim=1).argsort(stable=True)
    order = order[right[order].argsort(descending=True, stable=True)]
    front = order[:0]
    for some in torch.split(order, CHUNK):
        rivals = torch.cat([front, some])
        lost = _beats(right[rivals], spent[rivals], right[some], spent[some], 0.0)
        front = torch.cat([front, some[~lost]])
    # Whom anyone beats by so much, someone on the front beats by so much.
    beaten = [
        _beats(right[front], spent[front], right[some], spent[some], tolerance)
        for some in torch.split(torch.arange(len(right)), CHUNK)
    ]
    return torch.cat(beaten)


def _beats(
    right: Tensor, spent: Tensor, others_right: Tensor, others_spent: Tensor, tolerance: float
) -> Tensor:
    """Whether any of some configurations [F] beats each of others [n] by a tolerance, [n] bool."""
    gain = right.unsqueeze(0) - others_right.unsqueeze(1)  # [n, F]
    no_more = torch.ones_like(gain, dtype=torch.bool)
    less = torch.zeros_like(no_more)
    for mine, theirs in zip(spent.unbind(dim=1), others_spent.unbind(dim=1), strict=True):
        no_more &= mine.unsqueeze(0) <= theirs.unsqueeze(1)
        less |= mine.unsqueeze(0) < theirs.unsqueeze(1)
    return (no_more & ((gain > tolerance) | ((gain == tolerance) & less))).any(dim=1)


def _indices(sizes: Sequence[int]) -> Tensor:
    """Each combination as an index per knob, [M, K]."""
    combinations = torch.arange(prod(sizes)).unsqueeze(1)
    return combinations // strides(sizes) % torch.tensor(sizes, dtype=torch.int64)


def _made(sizes: Sequence[int]) -> Tensor:
    """Which choices each combination is made of, [M, T - 2] bool."""
    columns = _indices(sizes).unbind(dim=1)
    none = torch.zeros(prod(sizes), 0, dtype=torch.bool)
    chosen = [torch.eye(n, dtype=torch.bool)[i] for n, i in zip(sizes, columns, strict=True)]
    return torch.cat([none, *chosen], dim=1)
