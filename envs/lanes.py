"""The batched engine: many inputs in flight at once, each at its own depth of the network."""

from collections.abc import Callable, Sequence
from math import log, prod
from typing import final

import torch
from torch import Tensor

from penstock.backbones import EXIT, Backbone, Images, InputError
from penstock.envs.actions import legal, strides
from penstock.envs.controller import decision_cost
from penstock.envs.ledger import Ledger
from penstock.envs.live import Live
from penstock.envs.observation import Observation
from penstock.envs.outcomes import Ended, Outcomes, Step
from penstock.envs.prices import Prices
from penstock.envs.source import Source
from penstock.envs.stream import Stream
from penstock.envs.switching import Switches
from penstock.envs.timeline import Next, Timeline
from penstock.hardware import RESOURCES, Cost, Machine

Pricing = Callable[[Tensor, Tensor], Tensor]
"""Limits [k] of the average budgets of streams, for one input, and what is left of them for each
input to come [k] -> prices [k]; all in the unit of the resource."""


@final
class Lanes:
    """N inputs in flight.

    Letters: `N` lanes, `n` lanes of one group, `K` knobs, `T` their choices, `F` columns, `R`
    resources, `S` stages, `B` budgets.

    An action is an index per knob, [N, K]: first `exit` (0 answers with the head that was just run,
    1 goes on), then the offered knobs of blocks and machine. A choice that is not allowed is
    replaced by the nearest before it that is, or else behind it, and counted.

    Args:
        source: what is run: `Live`, or a `Recording`.
        stream: what an episode is.
        lanes: N.
        controller: hidden layers of the policy's network, whose work every decision costs; None for
            a policy that costs nothing.
        joint: whether that network has an output for every combination of choices, as DQN's has,
            and not one for every choice.
        seed: of inputs, prices, conditions and the machine.

    Raises:
        InputError: if a knob is unknown, a budget is below the cheapest way to an answer, or the
            price is on what costs nothing.
    """

    def __init__(
        self,
        source: Source,
        stream: Stream,
        *,
        lanes: int,
        controller: Sequence[int] | None = (64, 64),
        joint: bool = False,
        seed: int = 0,
    ) -> None:
        if lanes < 1:
            raise InputError(f"an engine has one lane or more, got {lanes}; raise it")
        self.source, self.stream, self.n = source, stream, lanes
        self.seed(seed)
        outline = source.outline(stream)
        self.offered = outline.knobs
        self.knobs = (EXIT, *self.offered)
        self._sizes = [len(knob.choices) for knob in self.knobs]
        table, choices = outline.table, sum(self._sizes)
        full = table.stem + table.cost[:, -1].sum(dim=0)
        switches = Switches(stream.switching, self.offered, table.own, full, lanes)
        free = Prices(table, self.offered, outline.fixed, 0 * table.stem)
        known = Ledger(stream.budgets, stream.inputs_per_episode, free, 1)
        idle = _timeline(stream, 1, free)
        rules = (*known.columns, *idle.columns, *switches.columns)
        self.layout = Observation(outline.first, rules, known.hard_columns, outline.states)
        columns = len(self.layout.columns)
        decision = Cost()
        if controller is not None:
            outputs = prod(self._sizes) if joint else choices
            decision = decision_cost(
                source.machine, free.settings[-1], columns, controller, outputs
            )
        self.prices = Prices(table, self.offered, outline.fixed, decision.rows(), switches.most)
        self._switches = switches
        self._stride = strides(self._sizes[1:])
        self._starts = torch.tensor([0, *self._sizes[:-1]]).cumsum(dim=0)
        self._last_choice = torch.tensor(self._sizes) - 1
        self._priced = RESOURCES.index(stream.resource)
        self._full = float(self.full.each()[stream.resource])
        if self._full == 0:
            raise InputError(
                f"the price is on {stream.resource}, of which the full network costs nothing; "
                "put it on another resource"
            )

        self.observation = torch.zeros(lanes, columns)
        """[N, F]; changed in place by every step."""
        self.allowed = torch.ones(lanes, choices, dtype=torch.bool)
        """[N, T]: what may be chosen now; see `Prices.allowed`."""
        self.active = torch.zeros(lanes, dtype=torch.bool)
        """[N]: whether a lane carries an input; the others rest."""
        self.price = torch.ones(lanes, dtype=torch.float64)
        """[N]: of the stream."""
        self._fixed = torch.zeros(lanes, dtype=torch.bool)  # whether that price was given
        self.pricing: Pricing | None = None
        """Who sets prices, at every input of a stream with an average budget; None draws them."""
        self.ledger = Ledger(stream.budgets, stream.inputs_per_episode, self.prices, lanes)
        """What was spent and what is left."""
        self.timeline = _timeline(stream, lanes, self.prices)
        """What time it is."""
        self._need = self.prices.need(self._limits())
        self._runner = source.runner(outline, stream, self.observation, self.layout)
        self._queue = torch.zeros(lanes, stream.inputs_per_episode, dtype=torch.int64)
        self._depth = torch.zeros(lanes, dtype=torch.int64)
        self._overruled = torch.zeros(lanes, dtype=torch.int64)
        self._lost = torch.zeros(lanes, dtype=torch.int64)  # before the input that is on its way
        self._worth = torch.zeros(lanes, dtype=torch.float64)  # of the stream so far
        shape = (lanes, self.prices.stages, len(self.knobs))
        self._choices = torch.full(shape, -1, dtype=torch.int64)

    @property
    def full(self) -> Cost:
        """What the full network costs at the dearest choices offered, no policy included."""
        return self.prices.full

    @property
    def live(self) -> Live:
        """The network itself.

        Raises:
            InputError: if this engine replays a recording.
        """
        if not isinstance(self.source, Live):
            raise InputError(
                "this needs the network itself, got a recording of it; give the experiment or run"
            )
        return self.source

    @property
    def backbone(self) -> Backbone:
        """The network, where it is run."""
        return self.live.backbone

    @property
    def device(self) -> torch.device:
        """Where the network is run."""
        return next(self.backbone.parameters()).device

    @property
    def images(self) -> Images:
        """What is run."""
        return self.live.images

    @property
    def machine(self) -> Machine:
        """What runs it, or did."""
        return self.source.machine

    @property
    def logits(self) -> Tensor:
        """[N, classes]: what the head that a lane passed last said, where the network is run."""
        return self._runner.logits  # type: ignore[attr-defined,no-any-return]

    def seed(self, seed: int) -> None:
        """Start all randomness anew."""
        self._rng = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def start(
        self,
        rows: Tensor,
        inputs: Tensor | None = None,
        *,
        price: float | None = None,
        limit: Tensor | None = None,
    ) -> None:
        """Begin a stream on some lanes: price, budgets, machine conditions and first input.

        Args:
            rows: different lanes, [k].
            inputs: of the streams, [k, inputs_per_episode]; None draws them.
            price: None draws it, or asks `pricing`.
            limit: of the average budget, for one input of each stream, [k]; None draws it.
        """
        k = len(rows)
        if k == 0:
            return
        length = self.stream.inputs_per_episode
        if inputs is None:
            inputs = torch.randint(self.source.inputs, (k, length), generator=self._rng)
        low, high = self.stream.price
        share = torch.rand(k, generator=self._rng, dtype=torch.float64)
        drawn = low * (high / low) ** share
        self.price[rows] = drawn if price is None else torch.full_like(drawn, price)
        self._fixed[rows] = price is not None
        self._runner.begin(rows, self._rng)
        self._queue[rows] = inputs
        self.ledger.open_stream(rows, self._rng, limit)
        self._switches.open(rows)
        self._worth[rows] = 0.0
        self.active[rows] = True
        first = self.timeline.open(rows, self._rng)
        self._present(first)
        self._observe()

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
        chosen, replaced = self._legal(actions.long())
        leaving = self.active & (chosen[:, 0] == 0)
        running = self.active & ~leaving
        if replaced is not None:
            # Whoever leaves does not set the other knobs.
            self._overruled += self.active & (replaced[:, 0] | (running & replaced.any(dim=1)))

        stage = self._depth.clamp(max=self.prices.stages - 1)
        combination = (chosen[:, 1:] * self._stride).sum(dim=1)
        cost = self._runner.run(running, stage, combination, self._rng)
        cost += self.active.unsqueeze(1) * self.prices.decision
        if self.stream.switching:
            turned = self._switches.turn(running, stage, chosen[:, 1:])
            self._runner.wait(torch.arange(self.n), turned[:, RESOURCES.index("latency_s")])
            cost += turned
        place = torch.arange(self.n) * self.prices.stages + stage
        made = torch.where(running.unsqueeze(1), chosen, -1)
        made[:, 0] = chosen[:, 0]
        self._choices.view(-1, len(self.knobs))[place[self.active]] = made[self.active]
        self._depth += running
        answered = leaving | (running & (self._depth == self.prices.stages))
        self.ledger.pay(slice(None), cost)
        latency_s = cost[:, RESOURCES.index("latency_s")]
        self.timeline.pass_(slice(None), latency_s, cost[:, RESOURCES.index("energy_j")])

        gone = answered.nonzero().squeeze(1)
        outcomes = self._outcomes(gone)
        reward = -self.price * cost[:, self._priced] / self._full
        reward[gone] += outcomes.worth
        self._worth[gone] += outcomes.worth
        after = self.timeline.advance(gone)
        done = torch.zeros_like(self.active)
        done[after.ended] = True
        self.active &= ~done
        ended = Ended(
            after.ended,
            self.ledger.total[after.ended],
            self.ledger.limits[after.ended],
            self.ledger.left[after.ended],
            self._worth[after.ended],
        )
        dropped = self._present(after)
        self._observe()
        return Step(reward.float(), done, _joined(outcomes, dropped), ended)

    def _legal(self, actions: Tensor) -> tuple[Tensor, Tensor | None]:
        """Actions that are allowed, and where they are others than those given; None: nowhere."""
        inside = (actions >= 0) & (actions <= self._last_choice)
        if inside.all() and self.allowed.gather(1, actions + self._starts).all():
            return actions, None
        chosen = legal(actions, self.allowed, self._sizes)
        return chosen, chosen != actions

    def _limits(self) -> Tensor:
        """What each hard limit counts, [R, H]: a resource, or what a battery gives."""
        limits = torch.zeros(len(RESOURCES), len(self.ledger.resources), dtype=torch.float64)
        for column, resource in enumerate(self.ledger.resources):
            limits[resource, column] = 1.0
        if self.stream.battery is not None:
            drain = torch.zeros(len(RESOURCES), 1, dtype=torch.float64)
            drain[RESOURCES.index("energy_j")] = 1.0
            drain[RESOURCES.index("latency_s")] = self.timeline.idle_w
            limits = torch.cat([limits, drain], dim=1)
        return limits

    def _present(self, after: Next) -> Outcomes | None:
        """Put the next input of their streams on lanes and run the stem; tell what was dropped."""
        dropped = self._dropped(after) if len(after.dropped_rows) else None
        rows = after.rows
        if len(rows) == 0:
            return dropped
        if self.stream.arrivals is not None:
            self._runner.wait(rows, after.waited_s)
        position = self.timeline.position[rows]
        self._depth[rows] = 0
        self._overruled[rows] = 0
        self._lost[rows] = self._runner.lost(rows)
        self._choices[rows] = -1
        self.ledger.open_input(rows)
        cost = self._runner.present(rows, self._queue[rows, position], self._rng)
        self.ledger.pay(rows, cost)
        latency_s = cost[:, RESOURCES.index("latency_s")]
        self.timeline.pass_(rows, latency_s, cost[:, RESOURCES.index("energy_j")])
        if self.pricing is not None:
            left = self.stream.inputs_per_episode - position
            prices = self.pricing(*self.ledger.rates(rows, left))
            prices = prices.double().clamp(*self.stream.price)
            self.price[rows] = torch.where(self._fixed[rows], self.price[rows], prices)
        return dropped

    def _dropped(self, after: Next) -> Outcomes:
        """Inputs that nobody looked at."""
        rows = after.dropped_rows
        none, zero = torch.zeros(len(rows), dtype=torch.bool), torch.zeros_like(rows)
        return Outcomes(
            lanes=rows,
            inputs=self._queue[rows, after.dropped_places],
            right=none,
            worth=zero.double(),
            missed=~none,
            cost=torch.zeros(len(rows), len(RESOURCES), dtype=torch.float64),
            exit=zero - 1,
            over=none,
            overruled=zero,
            lost=zero,
            choices=self._choices.new_full((len(rows), *self._choices.shape[1:]), -1),
        )

    def _observe(self) -> None:
        """Fill the columns that are not filled where a stage runs, and the masks."""
        layout, observation = self.layout, self.observation
        low, high = self.stream.price
        length = self.stream.inputs_per_episode
        left = length - self.timeline.position.clamp(max=length - 1)
        account = [
            (self.ledger.spent[:, self._priced] / self._full).clamp(0, 2),
            ((self.price / low).log() / max(log(high / low), 1e-9)).clamp(0, 1),
            (left - 1) / length,
            *self.ledger.shares(),
            *self.ledger.observe(left),
            *self.timeline.observe(),
            *self._switches.observe(),
        ]
        for column, values in enumerate(account, start=layout.account.start):
            observation[:, column] = values
        self._runner.observe(observation)
        places = torch.eye(layout.depth + 1)[:, :-1]
        observation[:, layout.block] = places[self._depth]
        stage = self._depth.clamp(max=self.prices.stages - 1)
        afford = self.ledger.affordable(slice(None), left - 1)
        if self.stream.battery is not None:
            afford = torch.cat([afford, self.timeline.charge_j.unsqueeze(1)], dim=1)
        self.allowed = self.prices.allowed(stage, afford, self._need)

    def _outcomes(self, rows: Tensor) -> Outcomes:
        inputs = self._queue[rows, self.timeline.position[rows]]
        right, worth = self._runner.answers(rows, inputs)
        late = self.timeline.late(rows)
        return Outcomes(
            lanes=rows,
            inputs=inputs,
            right=right & ~late,
            worth=torch.where(late, 0.0, worth),
            missed=late,
            cost=self.ledger.spent[rows],
            exit=self.prices.last[self._depth[rows] - 1],
            over=self.ledger.over(rows),
            overruled=self._overruled[rows],
            lost=self._runner.lost(rows) - self._lost[rows],
            choices=self._choices[rows],
        )


def _timeline(stream: Stream, lanes: int, prices: Prices) -> Timeline:
    full = prices.full.rows()
    energy, latency = RESOURCES.index("energy_j"), RESOURCES.index("latency_s")
    battery = stream.battery
    joule = float(full[energy]) if battery is not None and battery.relative else 1.0
    idle_w = battery.idle_w * joule if battery is not None else 0.0
    need_j = float(prices.cheapest[energy] + idle_w * prices.cheapest[latency])
    return Timeline(stream.inputs_per_episode, lanes, stream.arrivals, battery, joule, need_j)


def _joined(outcomes: Outcomes, dropped: Outcomes | None) -> Outcomes:
    if dropped is None:
        return outcomes
    parts = {
        name: torch.cat([getattr(outcomes, name), getattr(dropped, name)])
        for name in Outcomes.__slots__
    }
    return Outcomes(**parts)
