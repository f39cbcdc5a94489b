"""The batched engine: many inputs in flight at once, each at its own depth of the network."""

from collections.abc import Sequence
from itertools import groupby
from math import log, prod
from typing import final

import torch
from torch import Tensor

from penstock.backbones import EXIT, Backbone, Images, InputError
from penstock.backbones.compatible import check_images
from penstock.envs.actions import groups, legal, offered_knobs, strides
from penstock.envs.activations import Activations, Rows, rows_or_all, together
from penstock.envs.budget import Prices
from penstock.envs.controller import decision_cost
from penstock.envs.ledger import Ledger
from penstock.envs.observation import UNKNOWN, Observation, confidence, pooled
from penstock.envs.outcomes import Outcomes, Step
from penstock.envs.stream import Stream
from penstock.hardware import RESOURCES, Cost, Job, Machine
from penstock.hardware.bound import check_network


@final
class Lanes:
    """N inputs in flight, grouped by block and setting, each group run as one batch.

    Letters: `N` lanes, `n` lanes of one group, `K` knobs, `T` their choices, `F` columns, `R`
    resources, `D` blocks.

    An action is an index per knob, [N, K]: first `exit` (0 answers with the head that was just run,
    1 goes on), then the offered knobs of blocks and machine. A choice that is not allowed is
    replaced by the nearest before it that is, or else behind it, and counted.

    Args:
        backbone: put into evaluation mode.
        machine: runs and prices every stem, block and head.
        images: inputs and their labels.
        stream: what an episode is.
        lanes: N.
        controller: hidden layers of the policy's network, whose work every decision costs; None for
            a policy that costs nothing.
        joint: whether that network has an output for every combination of choices, as DQN's has,
            and not one for every choice.
        seed: of inputs, prices and the machine.

    Raises:
        InputError: if images or machine do not fit the backbone, a knob is unknown, a hard budget
            is below the cheapest way to an answer, or the price is on what costs nothing.
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
        joint: bool = False,
        seed: int = 0,
    ) -> None:
        check_images(images, backbone)
        check_network(machine, backbone)
        if lanes < 1:
            raise InputError(f"an engine has one lane or more, got {lanes}; raise it")
        self.backbone, self.machine = backbone.eval(), machine
        self.images, self.stream = images, stream
        self.n = lanes
        self.device = next(backbone.parameters()).device
        self.seed(seed)
        self.offered, fixed = offered_knobs(backbone, machine, stream.choices)
        self.knobs = (EXIT, *self.offered)
        self._sizes = [len(knob.choices) for knob in self.knobs]
        state = machine.reset(1, torch.Generator().manual_seed(seed))
        numbers = tuple(name for name, value in state.items() if value.dim() == 1)
        hard = tuple(f"{b.resource}_per_{b.per}" for b in stream.budgets if b.observed)
        self.layout = Observation(backbone.depth, hard, numbers)
        columns, choices = len(self.layout.columns), sum(self._sizes)
        decision = Cost()
        if controller is not None:
            dearest = {**fixed, **{knob.name: knob.full for knob in self.offered}}
            outputs = prod(self._sizes) if joint else choices
            decision = decision_cost(machine, dearest, columns, controller, outputs)
        self.prices = Prices(backbone, machine, self.offered, fixed, decision)
        self._stride = strides(self._sizes[1:])
        self._priced = RESOURCES.index(stream.resource)
        self._full = float(self.full.each()[stream.resource])
        if self._full == 0:
            raise InputError(
                f"the price is on {stream.resource}, of which the full network costs nothing; "
                "put it on another resource"
            )

        n, depth = lanes, backbone.depth
        self.observation = torch.zeros(n, columns)
        """[N, F]; changed in place by every step."""
        self.allowed = torch.ones(n, choices, dtype=torch.bool)
        """[N, T]: what may be chosen now; see `Prices.allowed`."""
        self.active = torch.zeros(n, dtype=torch.bool)
        """[N]: whether a lane carries an input; the others rest."""
        self.price = torch.ones(n, dtype=torch.float64)
        """[N]: of the stream."""
        self._ledger = Ledger(stream, self.prices, n)
        self._activations = Activations(n, self.device)
        self.logits = torch.zeros(n, backbone.classes)
        """[N, classes]: what the head that a lane passed last said."""
        self._queue = torch.zeros(n, stream.inputs_per_episode, dtype=torch.int64)
        self._inputs_left = torch.zeros(n, dtype=torch.int64)
        self._depth = torch.zeros(n, dtype=torch.int64)
        self._overruled = torch.zeros(n, dtype=torch.int64)
        self._lost = torch.zeros(n, dtype=torch.int64)  # before the input that is on its way
        self._choices = torch.full((n, depth, len(self.knobs)), -1, dtype=torch.int64)
        self._state = {name: value.repeat_interleave(n, 0) for name, value in state.items()}

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
            rows: different lanes, [k].
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
        self._ledger.open_stream(rows)
        self.active[rows] = True
        self._present(rows)
        self._observe(rows)

    @torch.no_grad()
    def step(self, actions: Tensor) -> Step:
        """Take one decision on every active lane.

        Args:
            actions: an index per knob, [N, K] integers; rows of resting lanes are ignored.
        """
        if actions.shape != (self.n, len(self.knobs)):
            raise ValueError(
                f"actions are one index per lane and knob, {(self.n, len(self.knobs))}, "
                f"got {tuple(actions.shape)}"
            )
        actions = actions.long()
        chosen = legal(actions, self.allowed, self._sizes)
        leaving = self.active & (chosen[:, 0] == 0)
        running = self.active & ~leaving
        replaced = chosen != actions
        # Whoever leaves does not set the other knobs.
        self._overruled += self.active & (replaced[:, 0] | (running & replaced.any(dim=1)))

        cost = torch.zeros(self.n, len(RESOURCES), dtype=torch.float64)
        cost[self.active] += self.prices.decision
        settings = len(self.prices.settings)
        combination = (chosen[:, 1:] * self._stride).sum(dim=1)
        block = self._depth.clamp(max=self.backbone.depth - 1)
        code = block * settings + self.prices.same[block, combination]
        for depth, at_depth in groupby(groups(running, code), lambda group: group[0] // settings):
            parts = [(number % settings, rows) for number, rows in at_depth]
            self._run(depth, parts, cost)
        ran, left = running.nonzero().squeeze(1), leaving.nonzero().squeeze(1)
        self._choices[ran, self._depth[ran]] = chosen[ran]
        self._choices[left, self._depth[left], 0] = chosen[left, 0]
        self._depth += running
        answered = leaving | (running & (self._depth == self.backbone.depth))
        self._ledger.pay(slice(None), cost)

        gone = answered.nonzero().squeeze(1)
        outcomes = self._outcomes(gone)
        reward = -self.price * cost[:, self._priced] / self._full
        labels = self.images.labels[outcomes.inputs]
        reward[gone] += self.stream.value(self.logits[gone], labels)
        self._inputs_left[gone] -= 1
        done = answered & (self._inputs_left == 0)
        self.active &= ~done
        self._present((answered & ~done).nonzero().squeeze(1))
        self._observe(slice(None))
        return Step(reward.float(), done, outcomes)

    def _run(self, depth: int, parts: Sequence[tuple[int, Rows]], cost: Tensor) -> None:
        """All groups (setting, lanes) at one block through it, then together through its head."""
        block, head = self.backbone.block(depth), self.backbone.head(depth)
        here, there = self.prices.shapes[depth : depth + 2]
        changed: list[Rows] = []
        for setting, rows in parts:
            x = self._activations.take(here, rows)
            y = self._job(Job(block, x, self.prices.settings[setting]), rows, cost)
            if y is not x:
                self._activations.put(there, rows, y)
                changed.append(rows)
        if changed:
            rows = together(changed)
            features = pooled(self._activations.take(there, rows)).cpu()
            self.observation[rows, self.layout.features] = features
        rows = together([rows for _, rows in parts])
        if head is None:
            self.observation[rows, self.layout.answered] = 0.0
        else:
            y = self._activations.take(there, rows)
            logits = self._job(Job(head, y, self.prices.settings[-1]), rows, cost).cpu()
            self.logits[rows] = logits
            self.observation[rows, self.layout.confidence] = confidence(logits)

    def _job(self, job: Job, rows: Rows, cost: Tensor) -> Tensor:
        """Have the machine run a job, and book what it cost and what it left behind."""
        before = {name: value[rows] for name, value in self._state.items()}
        y, spent, after = self.machine.run(job, before, self._rng)
        cost[rows] += spent.rows().cpu()
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
        self._depth[rows] = 0
        self._overruled[rows] = 0
        self._lost[rows] = self._lost_by_now(rows)
        self._choices[rows] = -1
        self._ledger.open_input(rows)
        cost = torch.zeros(self.n, len(RESOURCES), dtype=torch.float64)
        where = rows_or_all(rows, self.n)
        y = self._job(Job(self.backbone.stem, x, self.prices.settings[-1]), where, cost)
        self._activations.put(self.prices.shapes[0], where, y)
        self._ledger.pay(rows, cost[rows])
        self.observation[rows, self.layout.features] = pooled(y).cpu()
        self.observation[rows, self.layout.confidence] = torch.tensor(UNKNOWN)

    def _observe(self, rows: Rows) -> None:
        """Fill the columns that are not filled where a block runs, and the masks."""
        low, high = self.stream.price
        span = max(log(high / low), 1e-9)
        after = (self._inputs_left[rows] - 1).clamp(min=0)
        account = [
            (self._ledger.spent[rows, self._priced] / self._full).clamp(0, 2),
            ((self.price[rows] / low).log() / span).clamp(0, 1),
            after / self.stream.inputs_per_episode,
            *self._ledger.shares(rows).unbind(dim=1),
            *(self._state[name][rows].cpu() for name in self.layout.states),
        ]
        self.observation[rows, self.layout.account] = torch.stack(account, dim=1).float()
        places = torch.eye(self.backbone.depth + 1)[self._depth[rows]]
        self.observation[rows, self.layout.block] = places[:, :-1]
        last = self.backbone.depth - 1
        affordable = self._ledger.affordable(rows, after)
        self.allowed[rows] = self.prices.allowed(self._depth[rows].clamp(max=last), affordable)

    def _lost_by_now(self, rows: Tensor) -> Tensor:
        """Transfers that streams have lost, [k]; 0 of a machine that counts none."""
        count = self._state.get("lost")
        if count is None:
            return self._lost.new_zeros(len(rows))
        own = count[rows]
        return (own if own.dim() == 1 else own[:, 0]).long()

    def _outcomes(self, rows: Tensor) -> Outcomes:
        position = self.stream.inputs_per_episode - self._inputs_left[rows]
        inputs = self._queue[rows, position]
        return Outcomes(
            lanes=rows,
            inputs=inputs,
            right=self.logits[rows].argmax(dim=1) == self.images.labels[inputs],
            cost=self._ledger.spent[rows],
            exit=self._depth[rows] - 1,
            over=self._ledger.over(rows),
            overruled=self._overruled[rows],
            lost=self._lost_by_now(rows) - self._lost[rows],
            choices=self._choices[rows],
        )
