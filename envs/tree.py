"""Every way that decisions can go, stage by stage, as a tree.

Letters: `S` stages, `M` combinations of choices, `V` nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penstock.backbones import Knob
from penstock.envs.price_table import PriceTable


@dataclass(frozen=True, slots=True)
class Tree:
    """Where inputs stand between decisions: node 0 is behind the stem.

    Decisions that do the same work lead to the same node.
    """

    stage: Tensor  # [V] the stage that comes next, S behind the last
    parent: Tensor  # [V] -1 of node 0
    combination: Tensor  # [V] that led here, the first of those that do the same; -1 of node 0
    away: Tensor  # [V] bool, whether features have left for another machine
    children: Tensor  # [V, M] the node to which a combination leads; 0 behind the last stage

    def __len__(self) -> int:
        return len(self.stage)

    def under(self, node: int) -> list[int]:
        """The different nodes to which decisions at one lead."""
        if int(self.stage[node]) == int(self.stage[-1]):
            return []
        return sorted(set(self.children[node].tolist()))


def grow(table: PriceTable, staying: Tensor) -> Tree:
    """The tree of all decisions.

    Args:
        table: says which combinations do the same work.
        staying: the combination with which features stay where each lets them leave, [M]; where
            nothing can leave, each combination itself.
    """
    stages, m = table.same.shape
    leaves = staying != torch.arange(m)
    nodes: list[tuple[int, int, int, bool]] = [(0, -1, -1, False)]
    children: list[list[int]] = []
    node = 0
    while node < len(nodes):
        stage, _, _, away = nodes[node]
        found: dict[int, int] = {}
        row = [0] * m
        if stage < stages:
            for each in range(m):
                first = int(table.same[stage, staying[each] if away else each])
                if first not in found:
                    found[first] = len(nodes)
                    nodes.append((stage + 1, node, first, away or bool(leaves[first])))
                row[each] = found[first]
        children.append(row)
        node += 1
    columns = torch.tensor(nodes, dtype=torch.int64).unbind(dim=1)
    return Tree(columns[0], columns[1], columns[2], columns[3].bool(), torch.tensor(children))


def count_nodes(table: PriceTable, staying: Tensor) -> int:
    """How many nodes the tree has, without growing it."""
    stages, m = table.same.shape
    leaves = staying != torch.arange(m)
    home, away, total = 1, 0, 1
    for stage in range(stages):
        kinds = set(table.same[stage].tolist())
        leave = sum(bool(leaves[kind]) for kind in kinds)
        far = len({int(table.same[stage, each]) for each in staying.tolist()})
        home, away = home * (len(kinds) - leave), home * leave + away * far
        total += home + away
    return total


def staying(knobs: Sequence[Knob], name: str) -> Tensor:
    """For each combination the one in which a knob stands at full, all others as they are, [M].

    >>> from penstock.backbones import Knob
    >>> staying((Knob("bits", (8, 32)), Knob("offload", (8, 0))), "offload")
    tensor([1, 1, 3, 3])
    """
    sizes = [len(knob.choices) for knob in knobs]
    grid = torch.arange(int(torch.tensor(sizes).prod())).view(sizes or [1])
    for axis, knob in enumerate(knobs):
        if knob.name == name:
            last = grid.narrow(axis, sizes[axis] - 1, 1)
            grid = last.expand_as(grid)
    return grid.reshape(-1)
