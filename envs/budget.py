"""What an input or a stream may spend at most, and the masks that keep it by construction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import isfinite, prod
from typing import Final, Literal, final

import torch
from torch import Tensor

from penstock.backbones import RUN, Backbone, Block, InputError, Knob, every_setting, in_order
from penstock.hardware import RESOURCES, Cost, Machine

SLACK: Final = 1e-9
"""Relative room for rounding when a budget is compared."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on one resource."""

    resource: str
    """One of "energy_j", "latency_s", "macs", "sent_bytes"."""
    limit: float
    """In the unit of the resource; if `relative`, a share of what one input costs at full."""
    relative: bool = False
    """Whether the limit is a share."""
    kind: Literal["hard", "average"] = "average"
    """Hard: no input (or stream) ever exceeds it. Average: the mean over inputs meets it."""
    per: Literal["input", "stream"] = "input"
    """What a hard limit is for."""
    observed: bool = True
    """Whether a policy sees what is left of a hard limit; one that learned without it must not."""

    def __post_init__(self) -> None:
        if self.resource not in RESOURCES:
            raise InputError(
                f"a budget is on one of {', '.join(RESOURCES)}, got {self.resource!r}; "
                "name one of them"
            )
        if not (self.limit > 0 and isfinite(self.limit)):
            raise InputError(
                f"a budget is a positive, finite number, got {self.limit}; "
                "leave the budget out for no limit"
            )
        if self.kind not in ("hard", "average") or self.per not in ("input", "stream"):
            raise InputError(
                'a budget\'s kind is "hard" or "average" and it is per "input" or "stream", '
                f"got {self.kind!r} per {self.per!r}; use one of these"
            )
        if self.kind == "average" and self.per == "stream":
            raise InputError(
                "an average budget is on the mean over inputs, got one per stream; "
                'make it per = "input", or kind = "hard"'
            )

    def absolute(self, full: Cost) -> float:
        """The limit in the unit of the resource, given what the full network costs an input.

        Raises:
            InputError: if it is a share of nothing.
        """
        if not self.relative:
            return self.limit
        whole = float(full.each()[self.resource])
        if whole == 0:
            raise InputError(
                f"the full network costs no {self.resource}, so a budget cannot be a share of it; "
                "give the limit in its unit"
            )
        return self.limit * whole


@final
class Prices:
    """What every decision could cost, known before it is taken; the ground of hard budgets.

    Letters: `D` blocks, `M` combinations of choices, `R` resources, `T` choices of all knobs, exit
    included.

    Args:
        backbone: gives blocks and heads.
        machine: its `price` bounds every cost from above.
        knobs: the action's knobs after `exit`, with the choices offered.
        fixed: settings that are not the policy's to choose. Stem and heads stand at the dearest
            choices offered.
        decision: what one decision of the policy costs.
    """

    def __init__(
        self,
        backbone: Backbone,
        machine: Machine,
        knobs: Sequence[Knob],
        fixed: Mapping[str, float],
        decision: Cost,
    ) -> None:
        self.decision = decision.rows()  # [R]
        self.settings: list[dict[str, float]] = [
            {**fixed, **setting} for setting in every_setting(knobs)
        ]  # M of them
        sizes = tuple(len(knob.choices) for knob in knobs)
        self.shapes = activation_shapes(backbone)  # D + 1 of them
        depth = backbone.depth
        dearest = self.settings[-1]
        self.stem = machine.price(backbone.stem, dearest, backbone.shape).rows()  # [R]
        cost = torch.zeros(depth, len(self.settings), len(RESOURCES), dtype=torch.float64)
        for d in range(depth):
            block, head = backbone.block(d), backbone.head(d)
            names = _names(block, machine)
            lacked = {knob.name: knob.full for knob in knobs if knob.name not in names}
            after = machine.price(head, dearest, self.shapes[d + 1]).rows() if head else 0.0
            for m, setting in enumerate(self.settings):
                taken = {**setting, **lacked}
                cost[d, m] = machine.price(block, taken, self.shapes[d]).rows() + after
        grid = cost.view(depth, *sizes, len(RESOURCES))
        orders = [_by_price(grid, axis) for axis in range(1, len(sizes) + 1)]
        self.orders = [order.tolist() for order in orders]
        """Of each knob the choices, from the lowest price to the highest."""
        ranks = [order.argsort() for order in orders]
        masks = torch.zeros(depth, len(self.settings), sum(sizes), dtype=torch.bool)
        volumes = torch.zeros(depth, len(self.settings), dtype=torch.int64)
        corners = list(product(*(range(s) for s in sizes)))
        for d in range(depth):
            names = _names(backbone.block(d), machine)
            for m, corner in enumerate(corners):
                allowed = [
                    rank <= rank[top] if knob.name in names else rank == rank[-1]
                    for knob, rank, top in zip(knobs, ranks, corner, strict=True)
                ]
                masks[d, m] = torch.cat(allowed) if allowed else masks[d, m]
                volumes[d, m] = prod(int(a.sum()) for a in allowed)
        self._fallback = corners.index(tuple(int(order[0]) for order in orders))
        self.cost = cost
        """[D, M, R]: what combination m costs at block d, the head behind it included."""
        same = [
            _same_work(backbone.block(d), machine, self.settings, cost[d]) for d in range(depth)
        ]
        self.same = torch.stack(same)
        """[D, M]: the first combination that does the same work at a block."""
        for axis, (order, rank) in enumerate(zip(orders, ranks, strict=True), start=1):
            grid = grid.index_select(axis, order).cummax(dim=axis).values.index_select(axis, rank)
        self.corner = grid.reshape(cost.shape) + self.decision
        """[D, M, R]: the most that any choice at or below combination m costs at block d."""
        self.masks = masks
        """[D, M, T - 2]: the choices at or below combination m; a knob that a block lacks: full."""
        self.volumes = volumes
        """[D, M]: how many settings those are."""
        self.rest = torch.zeros(depth + 1, len(RESOURCES), dtype=torch.float64)
        """[D + 1, R]: enough to reach an answer from before block d, always taking the cheapest."""
        for d in reversed(range(depth)):
            can_exit = d > 0 and backbone.head(d - 1) is not None
            cheapest = self.corner[d, self._fallback] + self.rest[d + 1]
            self.rest[d] = self.decision if can_exit else cheapest
        self.exits = torch.tensor([backbone.head(d) is not None for d in range(depth)])
        """[D]: whether there is a head after block d."""
        behind = torch.cat([torch.zeros(1, dtype=torch.bool), self.exits[:-1]]).unsqueeze(1)
        self.free = torch.cat([behind, torch.ones_like(behind), masks.any(dim=1)], dim=1)
        """[D, T]: what is allowed at each block when there is no hard budget."""
        full = self.stem + cost[:, -1].sum(dim=0)
        self.full = Cost(*full.tolist())
        """The full network at the dearest choices offered, the policy's own cost not included."""

    @property
    def cheapest(self) -> Tensor:
        """[R]: enough for one input from stem to answer."""
        return self.stem + self.rest[0]

    def limit(self, budget: Budget, inputs: int) -> float:
        """A budget in the unit of its resource.

        Args:
            budget: of any kind.
            inputs: in a stream.

        Raises:
            InputError: if it is below the cheapest way to an answer.
        """
        limit = budget.absolute(self.full)
        answers = inputs if budget.per == "stream" else 1
        cheapest = answers * float(self.cheapest[RESOURCES.index(budget.resource)])
        if limit * (1 + SLACK) < cheapest:
            raise InputError(
                f"the budget of {limit:.6g} {budget.resource} per {budget.per} is below the "
                f"cheapest path, which takes {cheapest:.6g}; raise it to at least that"
            )
        return limit

    def allowed(self, depth: Tensor, left: Tensor) -> Tensor:
        """Which choices keep every budget keepable: [N, T] bool, exit's two first.

        Any combination of the choices allowed is affordable, and leaves enough to reach an answer.

        Args:
            depth: the block that each lane is about to run, [N].
            left: what each lane may still spend on this input, [N, R]; infinite without a limit.
        """
        if bool(left.isinf().all()):
            return self.free[depth]
        need = self.corner[depth] + self.rest[depth + 1].unsqueeze(1)  # [N, M, R]
        fits = (need <= left.unsqueeze(1) * (1 + SLACK)).all(dim=2)
        size = torch.where(fits, self.volumes[depth], -1)
        best = torch.where(fits.any(dim=1), size.argmax(dim=1), self._fallback)
        answered = (depth > 0) & self.exits[depth - 1]
        go_on = fits.any(dim=1) | ~answered
        return torch.cat(
            [answered.unsqueeze(1), go_on.unsqueeze(1), self.masks[depth, best]], dim=1
        )


def _names(block: Block, machine: Machine) -> set[str]:
    """What can be turned while a block is run."""
    return {knob.name for knob in (*block.knobs, *machine.knobs)}


def _by_price(grid: Tensor, axis: int) -> Tensor:
    """The choices of a knob from the lowest price to the highest, the others at their first.

    That is the order in which they stand, except where the full choice is not the dearest: features
    that stay cost less, at worst, than features that leave.

    Args:
        grid: prices, [D, choices of each knob.., R].
        axis: of the knob.
    """
    depth, choices, resources = len(grid), grid.shape[axis], grid.shape[-1]
    own = grid.movedim(axis, 1).reshape(depth, choices, -1, resources)[:, :, 0]
    share = own / own.sum(dim=(0, 1)).clamp(min=torch.finfo(own.dtype).tiny)
    return share.sum(dim=(0, 2)).argsort(stable=True)


def _same_work(
    block: Block, machine: Machine, settings: Sequence[Mapping[str, float]], cost: Tensor
) -> Tensor:
    """For each setting the first that asks the same of a block.

    What is skipped has no other knob, except the machine's own, and as long as the price agrees.

    Args:
        block: to be run.
        machine: to run it.
        settings: M combinations.
        cost: their prices, [M, R].

    Returns:
        [M] indices.
    """
    names = {knob.name for knob in machine.knobs}
    seen: dict[tuple[float, ...], int] = {}
    first = []
    for number, (setting, price) in enumerate(zip(settings, cost.tolist(), strict=True)):
        same = number
        if RUN in block.knobs and setting.get(RUN.name, RUN.full) == RUN.choices[0]:
            own = [value for name, value in setting.items() if name in names]
            same = seen.setdefault((*price, *own), number)
        first.append(same)
    return torch.tensor(first)


def activation_shapes(backbone: Backbone) -> list[tuple[int, ...]]:
    """The shape (C, H, W) before each block, and after the last, which always has a head."""
    places, heads = in_order(backbone), set(backbone.exits.values())
    return [shape for block, shape in places[1:] if block not in heads] + [places[-1][1]]
