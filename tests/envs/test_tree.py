"""Every way that decisions can go, held against walking all of them one by one."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from penstock.backbones import Backbone, Knob
from penstock.envs.actions import offered_knobs
from penstock.envs.price_table import PriceTable, cut_stages, price_table
from penstock.envs.tree import Tree, count_nodes, grow, staying
from penstock.hardware import Digital, Link, Machine, Split

Way = tuple[int, ...]


def table_of(same: Tensor) -> PriceTable:
    """Only what does the same work matters here."""
    stages, m = same.shape
    none = torch.zeros(stages, dtype=torch.bool)
    cost = torch.zeros(stages, m, 4, dtype=torch.float64)
    offered = torch.ones(stages, 1, dtype=torch.bool)
    last = torch.arange(stages)
    return PriceTable(cost[0, 0], cost, none.unsqueeze(1), same, none, last, offered)


def ways(same: Tensor, stay: Tensor) -> dict[Way, Way]:
    """All sequences of combinations -> the work that each does, stage by stage."""
    stages, m = same.shape
    found: dict[Way, Way] = {}
    for length in range(stages + 1):
        for sequence in product(range(m), repeat=length):
            away, work = False, []
            for s, each in enumerate(sequence):
                first = int(same[s, int(stay[each]) if away else each])
                work.append(first)
                away = away or int(stay[first]) != first
            found[sequence] = tuple(work)
    return found


def walked(tree: Tree, sequence: Way) -> int:
    node = 0
    for each in sequence:
        node = int(tree.children[node, each])
    return node


def check(tree: Tree, same: Tensor, stay: Tensor) -> None:
    """Each different work has one node, and each node one work."""
    found = ways(same, stay)
    nodes = {sequence: walked(tree, sequence) for sequence in found}
    assert len(tree) == len(set(found.values()))
    assert len({(found[way], node) for way, node in nodes.items()}) == len(tree)
    for way, node in nodes.items():
        assert int(tree.stage[node]) == len(way)
        work = found[way]
        if way:
            assert int(tree.combination[node]) == work[-1]
            assert int(tree.parent[node]) == nodes[way[:-1]]
        assert bool(tree.away[node]) == any(int(stay[each]) != each for each in work)
        assert all(int(tree.parent[child]) == node for child in tree.under(node))
    assert tree.under(len(tree) - 1) == []


@given(
    data=st.data(), stages=st.integers(1, 3), others=st.integers(1, 3), leaving=st.integers(0, 2)
)
@settings(max_examples=25, deadline=None)
def test_a_tree_has_a_node_for_all_that_does_the_same(
    data: st.DataObject, stages: int, others: int, leaving: int
) -> None:
    knobs = [Knob("other", tuple(range(others)))]
    if leaving:
        knobs.insert(data.draw(st.integers(0, 1)), Knob("offload", (*range(1, leaving + 1), 0)))
    stay = staying(knobs, "offload")
    m = len(stay)
    # What does the same is told by the first that does; only what leaves alike can be the same.
    place = [(each - int(stay[each]), int(stay[each])) for each in range(m)]
    rows = []
    for _ in range(stages):
        merged = data.draw(st.booleans())
        first = [next(i for i in range(m) if place[i][0] == place[e][0]) for e in range(m)]
        rows.append(first if merged else list(range(m)))
    same = torch.tensor(rows)
    table = table_of(same)
    tree = grow(table, stay)
    assert count_nodes(table, stay) == len(tree)
    check(tree, same, stay)


@pytest.mark.parametrize(
    ("stages", "choices", "linked", "nodes"),
    [
        # Block 0 is skipped or run at one of two widths: 3; blocks 1 and 2 cannot be: 2 each.
        ((), {"bits": (32,), "width": (0.5, 1.0)}, False, 1 + 3 + 6 + 12),
        # One decision for all: the width counts for blocks 1 and 2 even where 0 is skipped.
        ((0,), {"bits": (32,), "width": (0.5, 1.0)}, False, 1 + 4),
        # Blocks 1 and 2 have nothing to decide.
        ((0, 1), {"bits": (32,), "width": (1.0,)}, False, 1 + 2 + 2),
        # Skipped or run, here or there; who is there has 2 ways, then 1: 4 + (2 * 2 + 2 * 1).
        ((), {"bits": (32,), "width": (1.0,), "offload": (8, 0)}, True, 1 + 4 + 6 + 8),
    ],
)
def test_trees_of_a_network_by_hand(
    short: Backbone,
    digital: Digital,
    stages: tuple[int, ...],
    choices: dict[str, tuple[float, ...]],
    linked: bool,
    nodes: int,
) -> None:
    machine: Machine = Split(digital, digital, Link(1e4, 0.1), bits=(8,)) if linked else digital
    knobs, fixed = offered_knobs(short, machine, choices)
    table = price_table(short, machine, knobs, fixed, cut_stages(stages, short.depth))
    stay = staying(knobs, "offload")
    tree = grow(table, stay)
    assert len(tree) == count_nodes(table, stay) == nodes
    check(tree, table.same, stay)


def test_skipping_leads_to_one_node_whatever_else_was_chosen(
    short: Backbone, digital: Digital
) -> None:
    knobs, fixed = offered_knobs(short, digital, {"bits": (8, 32), "width": (0.5, 1.0)})
    table = price_table(short, digital, knobs, fixed, cut_stages((), short.depth))
    tree = grow(table, staying(knobs, "offload"))
    skipped, run = tree.children[0].view(2, 4)  # run turns slowest
    assert skipped.tolist() == [1] * 4 and run.tolist() == [2, 3, 4, 5]
    # Block 1 is never skipped: where `run` stands makes no difference.
    idle, full = tree.children[1].view(2, 4)
    assert idle.tolist() == full.tolist() and len(set(full.tolist())) == 4
