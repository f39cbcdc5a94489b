"""Looking outcomes up where a network would be run."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor

from penstock.envs.activations import Rows
from penstock.envs.observation import Observation
from penstock.envs.source import Runner
from penstock.envs.stream import Stream
from penstock.envs.tree import Tree
from penstock.hardware import Cost, Machine, Split, State


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is looked up: see the fields of `penstock.envs.recording.Recording`."""

    seen: Tensor  # [C * I, V, ..]
    said: Tensor  # [C * I, V, 3]
    here: Tensor  # [V, R] or [C * I, V, R]
    there: Tensor
    sent_bits: Tensor  # [V]
    tree: Tree  # its children are those of the offered combinations, [V, M]
    stay: Tensor  # [V, M] the node at which a lane stands whose transfer was given up
    machine: Machine
    conditions: int  # C


@final
class Replay(Runner):
    """Moves lanes through the tree of a recording. No network is run, and no lane looped over.

    Letters: `N` lanes, `k` some of them, `C` conditions, `I` inputs, `V` nodes, `M` combinations,
    `R` resources.

    Args:
        outlook: what is looked up.
        stream: says what an answer is worth.
        lanes: N.
        layout: of the observation.
    """

    def __init__(self, outlook: Outlook, stream: Stream, lanes: int, layout: Observation) -> None:
        rows, self._nodes, columns = outlook.seen.shape
        assert columns == layout.seen.stop, "recording and engine are of the same stages"
        self._conditions, self._inputs = outlook.conditions, rows // outlook.conditions
        self._seen = outlook.seen.view(rows * self._nodes, columns)
        self._right = outlook.said[:, :, 0].reshape(-1) > 0
        self._worth = None
        if stream.worth == "likelihood":
            self._worth = outlook.said[:, :, 1].reshape(-1).double()
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
        self._machine, self._layout = outlook.machine, layout
        # Looking at a link is dear: it is done once a step, for those who see it.
        split = self._split = outlook.machine if isinstance(outlook.machine, Split) else None
        self._next_input, self._later = outlook.machine.next_input, outlook.machine.later
        if split is not None:
            self._next_input, self._later = partial(split.next_input, look=False), split.advance
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
        if self._state:
            self._settle(mask, self._next_input(self._state))
        row = inputs
        if self._conditions > 1:
            row = torch.add(inputs, self._machine.condition(self._state), alpha=self._inputs)
        self._base = row * self._nodes
        self._node = self._node * ~mask
        cost = self._cost(self._here, self._node) if self._stem is None else self._stem
        return _stacked(self._billed(cost * mask)) if self._state else cost

    def run(self, mask: Tensor, stage: Tensor, combination: Tensor, rng: torch.Generator) -> Tensor:
        """Go to the node to which a decision leads."""
        way = torch.add(combination, mask, alpha=self._offers)
        place = torch.add(way, self._node, alpha=2 * self._offers)
        node = self._ways.index_select(0, place)
        if self._split is None:
            self._node = node
            cost = self._cost(self._here, node) * mask
            return _stacked(self._billed(cost)) if self._state else cost
        self._node, sending = self._send(self._split, mask, node, place)
        near = self._billed(self._cost(self._here, self._node) * mask)
        far = Cost(*(self._cost(self._there, self._node) * mask))
        billed, state = self._split.bill_far(far, self._state)
        self._state = dict(state)
        return _stacked(near + billed + sending)

    def _settle(self, mask: Tensor, fresh: State) -> None:
        """Take another state over on the lanes of a mask."""
        for name, value in fresh.items():
            before = self._state[name]
            if value is not before:
                over = mask.view(-1, *[1] * (before.dim() - 1))
                self._state[name] = torch.where(over, value, before)

    def _billed(self, cost: Tensor) -> Cost:
        """What work costs now that was recorded as so much, [R, N]; its time passes."""
        billed, state = self._machine.bill(Cost(*cost), self._state)
        self._state = dict(state)
        return billed

    def _send(self, split: Split, mask: Tensor, node: Tensor, place: Tensor) -> tuple[Tensor, Cost]:
        """Features leave; where the link fails they stay: nodes [N] and what it took."""
        bits = self._sent_bits[node]
        leaving = mask & (bits > 0)
        if not leaving.any():
            return node, Cost()
        left, cost, state = split.send(bits, leaving, split.link.look(self._state))
        self._state = dict(split.advance(state, cost.latency_s))
        failed = leaving & ~left
        return torch.where(failed, self._stay.index_select(0, place), node), cost

    def answers(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """As recorded."""
        place = self._base + self._node
        right = self._right.index_select(0, place)
        return right, right.double() if self._worth is None else self._worth.index_select(0, place)

    def wait(self, seconds: Tensor) -> None:
        """The machine's state goes on."""
        if self._state:
            self._state = dict(self._later(self._state, seconds))

    def lost(self) -> Tensor | None:
        """As the link lost them."""
        return None if self._split is None else self._state["lost"][:, 0].long()

    def observe(self, rows: Rows, seen: Tensor) -> list[Tensor]:
        """What was seen of the network, looked up, and the numbers of the state."""
        if self._split is not None:
            self._state = dict(self._split.link.look(self._state))
        torch.index_select(self._seen, 0, self._base[rows] + self._node[rows], out=seen)
        return [self._state[name][rows] for name in self._layout.states]

    def _cost(self, table: Sequence[Tensor], node: Tensor) -> Tensor:
        """[R, N]."""
        place = self._base + node if self._each else node
        cost = torch.empty(len(table), len(node), dtype=torch.float64)
        for row, amounts in zip(cost, table, strict=True):
            torch.index_select(amounts, 0, place, out=row)
        return cost


def _stacked(cost: Cost) -> Tensor:
    """Amounts of lanes, [R, N]."""
    return torch.stack([torch.as_tensor(amount) for amount in cost.each().values()])


def _columns(cost: Tensor) -> list[Tensor]:
    """Costs of nodes, or of inputs and nodes, one tensor a resource."""
    return [amounts.contiguous() for amounts in cost.reshape(-1, cost.shape[-1]).unbind(dim=1)]
