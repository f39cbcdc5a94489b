"""The batched engine: many inputs in flight at once, each at its own depth of the network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from penstock.backbones import EXIT, Backbone, Images, InputError
from penstock.envs.budget import SLACK, Prices, activation_shapes, offered_knobs
from penstock.envs.controller import Controller
from penstock.envs.observation import Observation, confidence, pooled
from penstock.envs.stream import Stream
from penstock.hardware import RESOURCES, Cost, Job, Machine

Rows = Tensor | slice
"""Which lanes: indices, or a slice of everything, for which nothing needs to be copied."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of the inputs answered in one step; `k` of them, `R` resources, `D` blocks."""

    lanes: Tensor  # [k] which lanes
    inputs: Tensor  # [k] which images
    right: Tensor  # [k] bool
    cost: Tensor  # [k, R] float64, stem, exits on the way and the policy included
    exit: Tensor  # [k] the block after which the answer was given
    over: Tensor  # [k] bool, whether a hard budget was exceeded
    overruled: Tensor  # [k] decisions that were not allowed and were replaced
    choices: Tensor  # [k, D, K] index chosen per block and knob, -1 where the block was not reached


@dataclass(frozen=True, slots=True)
class Step:
    """What a step brought; `N` lanes."""

    reward: Tensor  # [N] float32
    done: Tensor  # [N] bool, the stream is over and the lane rests until it is started again
    outcomes: Outcomes


@final
class Lanes:
    """N inputs in flight, grouped by block and setting, each group run as one batch.

    Letters: `N` lanes, `n` lanes of one group, `K` knobs, `T` their choices, `F` columns, `R`
    resources, `D` blocks.

    An action is an index per knob, [N, K]: first `exit` (0 answers with the head that was just run,
    1 goes on), then the offered knobs of blocks and machine. A choice that is not allowed is
    replaced by the next cheaper one that is, or the cheapest, and counted.

    Args:
        backbone: put into evaluation mode.
        machine: runs and prices every stem, block and head.
        images: inputs and their labels.
        stream: what an episode is.
        lanes: N.
        controller: hidden layers of the policy's network, whose work every decision costs; None for
            a policy that costs nothing.
        seed: of inputs, prices and the machine.

    Raises:
        InputError: if the images do not fit the backbone, a knob is unknown, or a hard budget is
            below the cheapest way to an answer.
    """

    def __init__(
        self,
        backbone: Backbone,
        machine: Machine,
        images: Images,
        stream: Stream,
        *,
        lanes: int,
        controller: Sequence[int] | None = (64, 64),
        seed: int = 0,
    ) -> None:
        if images.shape != backbone.shape:
            raise InputError(
                f"the network takes images {backbone.shape} (C, H, W), the data has "
                f"{images.shape}; give the data's size and channels, or another backbone"
            )
        self.backbone, self.machine = backbone.eval(), machine
        self.images, self.stream = images, stream
        self.n = lanes
        self.device = next(backbone.parameters()).device
        self.seed(seed)
        self.offered, fixed = offered_knobs(backbone, machine, stream.choices)
        self.knobs = (EXIT, *self.offered)
        choices = sum(len(knob.choices) for knob in self.knobs)
        hard = tuple(f"{budget.resource}_per_{budget.per}" for budget in stream.hard)
        self.layout = Observation(backbone.depth, hard, tuple(machine.reset(1, self._rng)))
        columns = len(self.layout.columns)
        decision = Cost()
        if controller is not None:
            decision = machine.price(Controller(columns, controller, choices), {}, (columns,))
        self.prices = Prices(backbone, machine, self.offered, fixed, decision)
        self._shapes = activation_shapes(backbone)
        self._stride = _strides([len(knob.choices) for knob in self.offered])
        self._priced = RESOURCES.index(stream.resource)
        self._full = [float(amount) for amount in self.prices.full.each().values()]
        self._limits = self._check_budgets()

        n, depth = lanes, backbone.depth
        self.observation = torch.zeros(n, columns)
        """[N, F]; changed in place by every step."""
        self.allowed = torch.ones(n, choices, dtype=torch.bool)
        """[N, T]: what may be chosen now; see `Prices.allowed`."""
        self.active = torch.zeros(n, dtype=torch.bool)
        self.price = torch.ones(n, dtype=torch.float64)
        self._buffers: dict[tuple[int, ...], Tensor] = {}
        self._logits = torch.zeros(n, backbone.classes)
        self._queue = torch.zeros(n, stream.inputs_per_episode, dtype=torch.int64)
        self._inputs_left = torch.zeros(n, dtype=torch.int64)
        self._depth = torch.zeros(n, dtype=torch.int64)
        self._spent = torch.zeros(n, len(RESOURCES), dtype=torch.float64)
        self._left = self._limits.repeat(n, 1)
        self._overruled = torch.zeros(n, dtype=torch.int64)
        self._choices = torch.full((n, depth, len(self.knobs)), -1, dtype=torch.int64)
        self._state = {name: v.repeat(n) for name, v in machine.reset(1, self._rng).items()}

    @property
    def full(self) -> Cost:
        """What the full network costs at the dearest choices offered, no policy included."""
        return self.prices.full

    def seed(self, seed: int) -> None:
        """Start all randomness anew."""
        self._rng = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def start(
        self, rows: Tensor, inputs: Tensor | None = None, *, price: float | None = None
    ) -> None:
        """Begin a stream on some lanes: price, machine conditions and first input.

        Args:
            rows: lanes, [k].
            inputs: images of the streams, [k, inputs_per_episode]; None draws them.
            price: None draws it.
        """
        k = len(rows)
        if k == 0:
            return
        length = self.stream.inputs_per_episode
        if inputs is None:
            inputs = torch.randint(len(self.images), (k, length), generator=self._rng)
        low, high = self.stream.price
        share = torch.rand(k, generator=self._rng, dtype=torch.float64)
        drawn = low * (high / low) ** share
        self.price[rows] = drawn if price is None else torch.full_like(drawn, price)
        for name, value in self.machine.reset(k, self._rng).items():
            self._state[name][rows] = value
        self._queue[rows] = inputs
        self._inputs_left[rows] = length
        self._left[rows] = self._limits
        self.active[rows] = True
        self._present(rows)
        self._observe(rows)

    @torch.no_grad()
    def step(self, actions: Tensor) -> Step:
        """Take one decision on every active lane.

        Args:
            actions: an index per knob, [N, K] integers; rows of resting lanes are ignored.
        """
        chosen = self._legal(actions.long())
        cost = torch.zeros(self.n, len(RESOURCES), dtype=torch.float64)
        cost[self.active] += self.prices.decision
        leaving = self.active & (chosen[:, 0] == 0)
        running = self.active & ~leaving
        for depth, setting, rows in self._groups(running, chosen):
            self._run(depth, setting, rows, cost)
        ran = running.nonzero().squeeze(1)
        self._choices[ran, self._depth[ran]] = chosen[ran]
        self._depth += running
        answered = leaving | (running & (self._depth == self.backbone.depth))
        self._pay(slice(None), cost)

        gone = answered.nonzero().squeeze(1)
        outcomes = self._outcomes(gone)
        reward = -self.price * cost[:, self._priced] / self._full[self._priced]
        reward[gone] += self._worth(gone, outcomes)
        self._inputs_left[gone] -= 1
        done = answered & (self._inputs_left == 0)
        self.active &= ~done
        self._present((answered & ~done).nonzero().squeeze(1))
        self._observe(slice(None))
        return Step(reward.float(), done, outcomes)

    def _groups(self, running: Tensor, chosen: Tensor) -> list[tuple[int, int, Rows]]:
        """The running lanes by block and setting."""
        settings = len(self.prices.settings)
        code = self._depth * settings + (chosen[:, 1:] * self._stride).sum(dim=1)
        if bool(running.all()) and bool((code == code[0]).all()):
            return [(*divmod(int(code[0]), settings), slice(None))]
        rows = running.nonzero().squeeze(1)
        order = code[rows].argsort(stable=True)
        codes, counts = code[rows][order].unique_consecutive(return_counts=True)
        parts = rows[order].split(counts.tolist())
        return [
            (*divmod(c, settings), part) for c, part in zip(codes.tolist(), parts, strict=True)
        ]

    def _run(self, depth: int, setting: int, rows: Rows, cost: Tensor) -> None:
        """One group through one block, and through the head behind it."""
        x = self._take(self._shapes[depth], rows)
        y = self._job(Job(self.backbone.block(depth), x, self.prices.settings[setting]), rows, cost)
        if y is not x:
            self._put(self._shapes[depth + 1], rows, y)
            self.observation[rows, self.layout.features] = pooled(y).cpu()
        head = self.backbone.head(depth)
        if head is not None:
            logits = self._job(Job(head, y, self.prices.settings[-1]), rows, cost).cpu()
            self._logits[rows] = logits
            self.observation[rows, self.layout.confidence] = confidence(logits)

    def _job(self, job: Job, rows: Rows, cost: Tensor) -> Tensor:
        """Have the machine run a job, and book what it cost and what it left behind."""
        before = {name: value[rows] for name, value in self._state.items()}
        y, spent, after = self.machine.run(job, before, self._rng)
        cost[rows] += spent.rows()
        for name, value in after.items():
            self._state[name][rows] = value
        return y

    def _present(self, rows: Tensor) -> None:
        """Put the next input of their streams on these lanes and run the stem."""
        if len(rows) == 0:
            return
        position = self.stream.inputs_per_episode - self._inputs_left[rows]
        pixels = self.images.pixels[self._queue[rows, position]].to(self.device)
        x = (pixels.float() / 255).contiguous(memory_format=torch.channels_last)
        for index, budget in enumerate(self.stream.hard):
            if budget.per == "input":
                self._left[rows, index] = self._limits[index]
        self._depth[rows] = 0
        self._overruled[rows] = 0
        self._choices[rows] = -1
        self._spent[rows] = 0.0
        where: Rows = slice(None) if len(rows) == self.n else rows
        cost = torch.zeros(self.n, len(RESOURCES), dtype=torch.float64)
        y = self._job(Job(self.backbone.stem, x, self.prices.settings[-1]), where, cost)
        self._put(self._shapes[0], where, y)
        self._pay(rows, cost[rows])
        self.observation[rows, self.layout.features] = pooled(y).cpu()
        unknown = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0])
        self.observation[rows, self.layout.confidence] = unknown

    def _pay(self, rows: Rows, cost: Tensor) -> None:
        """Book a cost [n, R] against the input and its budgets."""
        self._spent[rows] += cost
        for index, budget in enumerate(self.stream.hard):
            self._left[rows, index] -= cost[:, RESOURCES.index(budget.resource)]

    def _observe(self, rows: Rows) -> None:
        """Fill the columns that are not filled where a block runs, and the masks."""
        length = self.stream.inputs_per_episode
        low, high = self.stream.price
        span = torch.tensor(high / low).log().clamp(min=1e-9)
        after = (self._inputs_left[rows] - 1).clamp(min=0)
        account = [
            self._spent[rows, self._priced] / self._full[self._priced],
            (self.price[rows] / low).log() / span,
            after / length,
            *(self._left[rows] / self._limits).clamp(0, 1).unbind(dim=1),
            *(value[rows] for value in self._state.values()),
        ]
        self.observation[rows, self.layout.account] = torch.stack(account, dim=1).float()
        places = torch.eye(self.backbone.depth + 1)[self._depth[rows]]
        self.observation[rows, self.layout.block] = places[:, :-1]

        left = torch.full((len(after), len(RESOURCES)), float("inf"), dtype=torch.float64)
        for index, budget in enumerate(self.stream.hard):
            resource = RESOURCES.index(budget.resource)
            free = self._left[rows, index].clone()
            if budget.per == "stream":
                free -= after * self.prices.cheapest[resource]
            left[:, resource] = torch.minimum(left[:, resource], free)
        last = self.backbone.depth - 1
        self.allowed[rows] = self.prices.allowed(self._depth[rows].clamp(max=last), left)

    def _legal(self, actions: Tensor) -> Tensor:
        """Actions with what is not allowed replaced, [N, K]."""
        if actions.shape != (self.n, len(self.knobs)):
            raise ValueError(
                f"actions are one index per lane and knob, {(self.n, len(self.knobs))}, "
                f"got {tuple(actions.shape)}"
            )
        legal, start = actions.clone(), 0
        for k, knob in enumerate(self.knobs):
            size = len(knob.choices)
            wanted = actions[:, k].clamp(0, size - 1).unsqueeze(1)
            choice = torch.arange(size)
            # Cheaper ones first, then dearer ones, the nearest of each first.
            distance = torch.where(choice <= wanted, wanted - choice, size + choice)
            far = torch.iinfo(torch.int64).max
            distance = torch.where(self.allowed[:, start : start + size], distance, far)
            legal[:, k] = distance.argmin(dim=1)
            start += size
        self._overruled += ((legal != actions).any(dim=1) & self.active).long()
        return legal

    def _worth(self, rows: Tensor, outcomes: Outcomes) -> Tensor:
        if self.stream.worth == "right":
            return outcomes.right.double()
        labels = self.images.labels[outcomes.inputs]
        return self._logits[rows].softmax(dim=1)[torch.arange(len(rows)), labels].double()

    def _outcomes(self, rows: Tensor) -> Outcomes:
        position = self.stream.inputs_per_episode - self._inputs_left[rows]
        inputs = self._queue[rows, position]
        over = (self._left[rows] < -SLACK * self._limits).any(dim=1)
        return Outcomes(
            lanes=rows,
            inputs=inputs,
            right=self._logits[rows].argmax(dim=1) == self.images.labels[inputs],
            cost=self._spent[rows].clone(),
            exit=self._depth[rows] - 1,
            over=over,
            overruled=self._overruled[rows].clone(),
            choices=self._choices[rows].clone(),
        )

    def _take(self, shape: tuple[int, ...], rows: Rows) -> Tensor:
        return self._buffers[shape][rows]

    def _put(self, shape: tuple[int, ...], rows: Rows, y: Tensor) -> None:
        if isinstance(rows, slice):
            self._buffers[shape] = y
            return
        if shape not in self._buffers:
            empty = torch.empty(self.n, *shape, device=self.device)
            self._buffers[shape] = empty.contiguous(memory_format=torch.channels_last)
        self._buffers[shape][rows] = y

    def _check_budgets(self) -> Tensor:
        """The limits of the hard budgets, [H], each high enough for the cheapest way."""
        limits = []
        for budget in self.stream.hard:
            limit = budget.absolute(self.full)
            inputs = self.stream.inputs_per_episode if budget.per == "stream" else 1
            cheapest = inputs * float(self.prices.cheapest[RESOURCES.index(budget.resource)])
            if limit < cheapest:
                raise InputError(
                    f"the budget of {limit:.3g} {budget.resource} per {budget.per} is below the "
                    f"cheapest path, which takes {cheapest:.3g}; raise it to at least that"
                )
            limits.append(limit)
        return torch.tensor(limits, dtype=torch.float64)


def _strides(sizes: list[int]) -> Tensor:
    """What each knob's index counts for in the number of a combination, last knob 1."""
    strides = [1] * len(sizes)
    for i in range(len(sizes) - 2, -1, -1):
        strides[i] = strides[i + 1] * sizes[i + 1]
    return torch.tensor(strides, dtype=torch.int64)
