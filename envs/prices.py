"""What decisions could cost, known before they are taken, and the masks that keep hard budgets."""

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from typing import final

import torch
from torch import Tensor

from penstock.backbones import InputError, Knob, every_setting
from penstock.envs.budget import SLACK, Budget
from penstock.envs.price_table import PriceTable
from penstock.hardware import RESOURCES, Cost


@final
class Prices:
    """What every decision could cost; the ground of hard budgets.

    Letters: `S` stages, `M` combinations of choices, `R` resources, `T` choices of all knobs, exit
    included.

    Args:
        table: what the machine asks.
        knobs: the action's knobs after `exit`, with the choices offered.
        fixed: settings that are not the policy's to choose.
        decision: what one decision of the policy costs, [R].
        switching: what turning knobs may cost on top, [S, R]; None for nothing.
    """

    def __init__(
        self,
        table: PriceTable,
        knobs: Sequence[Knob],
        fixed: Mapping[str, float],
        decision: Tensor,
        switching: Tensor | None = None,
    ) -> None:
        self.decision = decision
        self.settings: list[dict[str, float]] = [
            {**fixed, **setting} for setting in every_setting(knobs)
        ]  # M of them
        sizes = tuple(len(knob.choices) for knob in knobs)
        self.stem = table.stem  # [R]
        cost, stages = table.cost, len(table.cost)
        offered = torch.split(table.offered, list(sizes), dim=1)  # [S, choices] of each knob
        grid = cost.view(stages, *sizes, len(RESOURCES))
        orders = [_by_price(grid, axis) for axis in range(1, len(sizes) + 1)]
        self.orders = [order.tolist() for order in orders]
        """Of each knob the choices, from the lowest price to the highest."""
        ranks = [order.argsort() for order in orders]
        masks = torch.zeros(stages, len(self.settings), sum(sizes), dtype=torch.bool)
        volumes = torch.zeros(stages, len(self.settings), dtype=torch.int64)
        corners = list(product(*(range(s) for s in sizes)))
        stays = torch.ones(stages, len(corners), dtype=torch.bool)  # offered in all of its choices
        for s, m in product(range(stages), range(len(corners))):
            allowed = [
                (rank <= rank[top]) & some[s] if own else rank == rank[-1]
                for own, rank, top, some in zip(
                    table.own[s].tolist(), ranks, corners[m], offered, strict=True
                )
            ]
            stays[s, m] = all(
                bool(some[s, top]) for some, top in zip(offered, corners[m], strict=True)
            )
            masks[s, m] = torch.cat(allowed) if allowed else masks[s, m]
            volumes[s, m] = prod(int(a.sum()) for a in allowed)
        first = [
            tuple(
                next(c for c in order.tolist() if some[s, c])
                for order, some in zip(orders, offered, strict=True)
            )
            for s in range(stages)
        ]
        self._fallback = torch.tensor([corners.index(each) for each in first])  # [S]
        self.cost = cost
        """[S, M, R]: what combination m costs in stage s, the head behind it included."""
        self.same = table.same
        """[S, M]: the first combination that does the same work in a stage."""
        grid = (cost * stays.unsqueeze(2)).view(grid.shape)
        for axis, (order, rank) in enumerate(zip(orders, ranks, strict=True), start=1):
            grid = grid.index_select(axis, order).cummax(dim=axis).values.index_select(axis, rank)
        steady = grid.reshape(cost.shape) + self.decision
        self.corner = steady if switching is None else steady + switching.unsqueeze(1)
        """[S, M, R]: the most that any choice at or below combination m costs in stage s."""
        self.masks = masks
        """[S, M, T - 2]: the choices at or below combination m; a knob without effect: full."""
        self.volumes = volumes
        """[S, M]: how many settings those are."""
        self.exits = table.exits
        """[S]: whether there is a head behind stage s."""
        self.last = table.last
        """[S]: the last block of stage s."""
        self.rest = self._cheapest_rest(table, self.corner)
        """[S + 1, R]: enough to reach an answer from before stage s, always taking the cheapest."""
        self.steady = table.stem + self._cheapest_rest(table, steady)[0]
        """[R]: enough for one input from stem to answer, if no knob has to be turned for it."""
        behind = torch.cat([torch.zeros(1, dtype=torch.bool), self.exits[:-1]]).unsqueeze(1)
        self.answered = behind.squeeze(1)
        """[S]: whether a head was just run before stage s."""
        self.free = torch.cat([behind, torch.ones_like(behind), masks.any(dim=1)], dim=1)
        """[S, T]: what is allowed in each stage when there is no hard budget."""
        full = self.stem + cost[:, -1].sum(dim=0)
        self.full = Cost(*full.tolist())
        """The full network at the dearest choices offered, the policy's own cost not included."""

    def _cheapest_rest(self, table: PriceTable, cost: Tensor) -> Tensor:
        """What the cheapest ways take if combinations cost so much in each stage, [S, M, R]."""
        stages = len(cost)
        rest = torch.zeros(stages + 1, len(RESOURCES), dtype=torch.float64)
        for s in reversed(range(stages)):
            can_exit = s > 0 and bool(table.exits[s - 1])
            rest[s] = self.decision if can_exit else cost[s, self._fallback[s]] + rest[s + 1]
        return rest

    @property
    def stages(self) -> int:
        """How many decisions an input takes at most, exits apart."""
        return len(self.cost)

    @property
    def cheapest(self) -> Tensor:
        """[R]: enough for one input from stem to answer."""
        return self.stem + self.rest[0]

    def limit(self, budget: Budget, inputs: int) -> float:
        """A budget in the unit of its resource.

        One on the mean of a stream need not pay for turning a knob with each input.

        Args:
            budget: of any kind.
            inputs: in a stream.

        Raises:
            InputError: if it is below the cheapest way to an answer.
        """
        limit = budget.absolute(self.full)
        answers = inputs if budget.per == "stream" else 1
        least = self.steady if budget.kind == "average" else self.cheapest
        cheapest = answers * float(least[RESOURCES.index(budget.resource)])
        if limit * (1 + SLACK) < cheapest:
            raise InputError(
                f"the budget of {limit:.6g} {budget.resource} per {budget.per} is below the "
                f"cheapest path, which takes {cheapest:.6g}; raise it to at least that"
            )
        return limit

    def need(self, limits: Tensor) -> Tensor:
        """What each combination takes of hard limits, an answer behind it included, [S, M, H].

        Args:
            limits: what a unit of each resource takes of each limit, [R, H].
        """
        return (self.corner + self.rest[1:].unsqueeze(1)) @ limits

    def allowed(self, stage: Tensor, left: Tensor | None, need: Tensor) -> Tensor:
        """Which choices keep every budget keepable: [N, T] bool, exit's two first.

        Any combination of the choices allowed is affordable, and leaves enough to reach an answer.

        Args:
            stage: that each lane is about to run, [N].
            left: what each lane may still take of each hard limit for this input, [N, H]; None
                if there are no limits.
            need: what combinations take of them, [S, M, H].
        """
        if left is None:
            # Short rows are faster to copy by numpy.
            return torch.from_numpy(self.free.numpy().take(stage.numpy(), axis=0))
        fits = (need[stage] <= left.unsqueeze(1) * (1 + SLACK)).all(dim=2)  # [N, M]
        size = torch.where(fits, self.volumes[stage], 0)
        some = (size > 0).any(dim=1)  # what is not offered fills no corner
        best = torch.where(some, size.argmax(dim=1), self._fallback[stage])
        answered = self.answered[stage]
        go_on = some | ~answered
        return torch.cat(
            [answered.unsqueeze(1), go_on.unsqueeze(1), self.masks[stage, best]], dim=1
        )


def _by_price(grid: Tensor, axis: int) -> Tensor:
    """The choices of a knob from the lowest price to the highest, the others at their first.

    That is the order in which they stand, except where the full choice is not the dearest: features
    that stay cost less, at worst, than features that leave.

    Args:
        grid: prices, [S, choices of each knob.., R].
        axis: of the knob.
    """
    stages, choices, resources = len(grid), grid.shape[axis], grid.shape[-1]
    own = grid.movedim(axis, 1).reshape(stages, choices, -1, resources)[:, :, 0]
    share = own / own.sum(dim=(0, 1)).clamp(min=torch.finfo(own.dtype).tiny)
    return share.sum(dim=(0, 2)).argsort(stable=True)
