"""Looking outcomes up where a network would be run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from penstock.envs.activations import Rows
from penstock.envs.observation import Observation
from penstock.envs.source import Runner
from penstock.envs.stream import Stream
from penstock.envs.tree import Tree
from penstock.hardware import RESOURCES, Cost, Machine, Split

LATENCY: Final = RESOURCES.index("latency_s")


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is looked up: see the fields of `penstock.envs.recording.Recording`."""

    seen: Tensor  # [I, V, ..]
    said: Tensor  # [I, V, 3]
    here: Tensor  # [V, R] or [I, V, R]
    there: Tensor
    sent_bits: Tensor  # [V]
    tree: Tree  # its children are those of the offered combinations, [V, M]
    stay: Tensor  # [V, M] the node at which a lane stands whose transfer was given up
    machine: Machine


@final
class Replay(Runner):
    """Moves lanes through the tree of a recording. No network is run, and no lane looped over.

    Letters: `N` lanes, `k` some of them, `V` nodes, `M` combinations, `R` resources.

    Args:
        outlook: what is looked up.
        stream: says what an answer is worth.
        lanes: N.
        layout: of the observation.
    """

    def __init__(self, outlook: Outlook, stream: Stream, lanes: int, layout: Observation) -> None:
        inputs, self._nodes, columns = outlook.seen.shape
        self._seen = outlook.seen.view(inputs * self._nodes, columns)
        worth = ("right", "likelihood").index(stream.worth)
        self._right = outlook.said[:, :, 0].reshape(-1) > 0
        self._worth = outlook.said[:, :, worth].reshape(-1).double()
        self._offers = outlook.stay.shape[1]
        # Whoever does not go on stays: the first half of the ways out of a node lead to itself.
        here = torch.arange(self._nodes).unsqueeze(1).expand(-1, self._offers)
        self._ways = torch.cat([here, outlook.tree.children], dim=1).reshape(-1)
        self._stay = torch.cat([here, outlook.stay], dim=1).reshape(-1)
        self._each = outlook.here.dim() == 3
        # What inputs take alike need not be looked up.
        self._stem = None if self._each else outlook.here[0].unsqueeze(1).expand(-1, lanes)
        self._here, self._there = _columns(outlook.here), _columns(outlook.there)
        self._sent_bits = outlook.sent_bits
        self._split = outlook.machine if isinstance(outlook.machine, Split) else None
        self._machine, self._layout = outlook.machine, layout
        self._node = torch.zeros(lanes, dtype=torch.int64)
        self._base = torch.zeros(lanes, dtype=torch.int64)  # where the rows of an input begin
        state = outlook.machine.reset(1, torch.Generator())
        self._state = {name: value.repeat_interleave(lanes, 0) for name, value in state.items()}

    def begin(self, rows: Tensor, rng: torch.Generator) -> None:
        """Reset the machine for some lanes."""
        for name, value in self._machine.reset(len(rows), rng).items():
            self._state[name][rows] = value

    def present(self, mask: Tensor, inputs: Tensor, rng: torch.Generator) -> Tensor:
        """Stand behind the stem."""
        self._base = inputs * self._nodes
        self._node = self._node * ~mask
        cost = self._cost(self._here, self._node) if self._stem is None else self._stem
        if self._split is not None:
            fresh = self._split.next_input(self._state, look=False)
            fresh = self._split.link.advance(fresh, cost[LATENCY])
            for name in ("time_s", "began_s", "away"):
                before = self._state[name]
                over = mask.view(-1, *[1] * (before.dim() - 1))
                self._state[name] = torch.where(over, fresh[name], before)
        return cost

    def run(self, mask: Tensor, stage: Tensor, combination: Tensor, rng: torch.Generator) -> Tensor:
        """Go to the node to which a decision leads."""
        way = torch.add(combination, mask, alpha=self._offers)
        place = torch.add(way, self._node, alpha=2 * self._offers)
        node = self._ways.index_select(0, place)
        if self._split is None:
            self._node = node
            return self._cost(self._here, node) * mask
        node, sending = self._send(self._split, mask, node, place)
        self._node = node
        far = Cost(*self._cost(self._there, node))
        spent = self._split.billed(far, self._state["load"]) + sending
        cost = (self._cost(self._here, node) + spent.rows().T) * mask
        self._state = dict(self._split.link.advance(self._state, cost[LATENCY]))
        return cost

    def _send(self, split: Split, mask: Tensor, node: Tensor, place: Tensor) -> tuple[Tensor, Cost]:
        """Features leave; where the link fails they stay: nodes [N] and what it took."""
        bits = self._sent_bits[node]
        leaving = mask & (bits > 0)
        if not leaving.any():
            return node, Cost()
        left, cost, state = split.send(bits, leaving, split.link.look(self._state))
        self._state = dict(state)
        failed = leaving & ~left
        return torch.where(failed, self._stay.index_select(0, place), node), cost

    def answers(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """As recorded."""
        place = self._base + self._node
        return self._right.index_select(0, place), self._worth.index_select(0, place)

    def wait(self, seconds: Tensor) -> None:
        """The machine's state goes on."""
        if self._split is not None:
            self._state = dict(self._split.link.advance(self._state, seconds))
        elif self._state:
            self._state = dict(self._machine.later(self._state, seconds))

    def lost(self) -> Tensor | None:
        """As the link lost them."""
        return None if self._split is None else self._state["lost"][:, 0].long()

    def observe(self, rows: Rows) -> tuple[Tensor, list[Tensor]]:
        """What was seen of the network, looked up, and the numbers of the state."""
        if self._split is not None:
            self._state = dict(self._split.link.look(self._state))
        seen = self._seen.index_select(0, self._base[rows] + self._node[rows])
        return seen, [self._state[name][rows] for name in self._layout.states]

    def _cost(self, table: Sequence[Tensor], node: Tensor) -> Tensor:
        """[R, N]."""
        place = self._base + node if self._each else node
        cost = torch.empty(len(table), len(node), dtype=torch.float64)
        for row, amounts in zip(cost, table, strict=True):
            torch.index_select(amounts, 0, place, out=row)
        return cost


def _columns(cost: Tensor) -> list[Tensor]:
    """Costs of nodes, or of inputs and nodes, one tensor a resource."""
    return [amounts.contiguous() for amounts in cost.reshape(-1, cost.shape[-1]).unbind(dim=1)]
