"""The batched engine: many inputs in flight at once, each at its own depth of the network."""

from collections.abc import Callable, Sequence
from math import prod
from operator import lt
from typing import final

import torch
from torch import Tensor

from penstock.backbones import EXIT, Backbone, Images, InputError
from penstock.envs.actions import legal, strides
from penstock.envs.activations import Rows
from penstock.envs.choices import Choices
from penstock.envs.controller import decision_cost
from penstock.envs.ledger import Ledger
from penstock.envs.live import Live
from penstock.envs.observation import Observation
from penstock.envs.outcomes import Answers, Outcomes, Step, join
from penstock.envs.prices import Prices
from penstock.envs.source import Source
from penstock.envs.stream import Stream
from penstock.envs.switching import Switches
from penstock.envs.timeline import Next, Timeline
from penstock.hardware import RESOURCES, Cost, Machine

ENERGY, LATENCY = RESOURCES.index("energy_j"), RESOURCES.index("latency_s")

Pricing = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Limits [k] of the average budgets of streams, for one input, what is left of them for each input
to come [k], both in the unit of the resource, and how many those are [k] -> prices [k]."""


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
        memory: units of that network's LSTM, 0 without one.
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
        memory: int = 0,
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
        self.layout = Observation(
            outline.first, rules, known.hard_columns, outline.states, stream.history
        )
        columns = len(self.layout.columns)
        decision = Cost()
        if controller is not None:
            outputs = prod(self._sizes) if joint else choices
            decision = decision_cost(
                source.machine, free.settings[-1], columns, controller, outputs, memory
            )
        self.prices = Prices(table, self.offered, outline.fixed, decision.rows(), switches.most)
        self._switches = switches
        self._stride = strides(self._sizes[1:])
        starts = torch.tensor([0, *self._sizes[:-1]]).cumsum(dim=0)
        self._places = torch.arange(lanes).unsqueeze(1) * choices + starts  # [N, K] in `allowed`
        self._decides = bool(self.prices.decision.any())
        self._priced = RESOURCES.index(stream.resource)
        self._full = float(self.full.each()[stream.resource])
        if self._full == 0:
            raise InputError(
                f"the price is on {stream.resource}, of which the full network costs nothing; "
                "put it on another resource"
            )

        self.observation = torch.zeros(lanes, columns)
        """[N, F]; made anew by every step, and changed in place by `start`."""
        self.allowed = torch.ones(lanes, choices, dtype=torch.bool)
        """[N, T]: what may be chosen now; made anew as `observation` is. See `Prices.allowed`."""
        self.active = torch.zeros(lanes, dtype=torch.bool)
        """[N]: whether a lane carries an input; the others rest."""
        self._finished = torch.zeros(lanes, dtype=torch.bool)  # streams that ended as they started
        self._untold: Outcomes | None = None  # inputs that were dropped as streams started
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
        self._runner = source.runner(outline, stream, lanes, self.layout)
        length = stream.inputs_per_episode + 1  # a place for lanes whose stream is over
        self._queue = torch.zeros(lanes, length, dtype=torch.int64)
        self._input = torch.zeros(lanes, dtype=torch.int64)  # that a lane carries
        self._depth = torch.zeros(lanes, dtype=torch.int64)
        self._overruled = torch.zeros(lanes, dtype=torch.int64)
        self._corrected = False  # whether any decision ever was
        self._exits = torch.cat([self.prices.last[:1] - 1, self.prices.last])  # by depth, -1 first
        self._lost = self._runner.lost()  # before the input that is on its way
        self._stage = torch.zeros(lanes, dtype=torch.int64)  # depth, but never behind the last
        self._charge = torch.zeros(lanes, dtype=torch.float64)  # for a unit of the priced resource
        self._shown_price = torch.zeros(lanes)
        self._first = torch.arange(lanes) * length  # of a stream in the queue
        self._made = Choices(self.prices.stages, self._sizes)
        changing = self.layout.changing
        self._past = torch.zeros(lanes, stream.history * (changing.stop - changing.start))
        left = torch.arange(stream.inputs_per_episode).flip(0) / stream.inputs_per_episode
        self._left = torch.cat([left, left[-1:]])  # share of inputs to come, by position

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

    def rest(self) -> None:
        """Let all lanes rest, whatever they carry."""
        self.active = torch.zeros(self.n, dtype=torch.bool)
        self._finished, self._untold = torch.zeros_like(self.active), None

    @torch.inference_mode()
    def start(
        self,
        rows: Tensor,
        inputs: Tensor | None = None,
        *,
        price: Tensor | float | None = None,
        limit: Tensor | None = None,
    ) -> None:
        """Begin a stream on some lanes: price, budgets, machine conditions and first input.

        Args:
            rows: different lanes, [k].
            inputs: of the streams, [k, inputs_per_episode]; None draws them.
            price: of all, or of each, [k]; None draws it, or asks `pricing`.
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
        given = drawn if price is None else torch.as_tensor(price, dtype=torch.float64)
        self._set_price(rows, given.expand_as(drawn))
        self._fixed[rows] = price is not None
        self._runner.begin(rows, self._rng)
        self._queue[rows, :length] = inputs
        self.ledger.open_stream(rows, self._rng, limit)
        self._switches.open(rows)
        if self._untold is not None:  # of streams that are given up
            self._untold = self._untold.take(~torch.isin(self._untold.lanes, rows))
        first = self.timeline.open(rows, self._rng)
        self.active[rows], self._finished[rows] = True, False
        self.active, self._finished = self.active & ~first.ended, self._finished | first.ended
        self._untold = self._dropped(first)
        self._present(first)
        if self.stream.history:
            self._past[rows] = 0.0
        self._observe(rows)

    @torch.inference_mode()
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
        chosen = self._legal(actions.long())
        running = self.active & (chosen[:, 0] != 0)
        # A copy: it is kept, and the action belongs to someone else.
        combination = chosen[:, 1:] @ self._stride
        cost = self._runner.run(running, self._stage, combination, self._rng)
        aside = self._aside(running, chosen)
        if aside is not None:
            self._runner.wait(aside[LATENCY])
            cost += aside
        self._made.note(running, combination)
        self._depth = self._depth + running
        answered = self.active ^ (running & (self._depth != self.prices.stages))
        self.ledger.pay(cost)
        self.timeline.spend(cost, self.active)

        right, worth = self._runner.answers(self._input)
        late = self.timeline.late()
        if late is not None:
            right, worth = right & ~late, worth.masked_fill(late, 0.0)
        worth = worth * answered
        reward = worth - self._charge * cost[self._priced]
        answers = self._answers(answered, right, worth, late)
        after = self.timeline.advance(answered)
        self.active = self.active & ~after.ended
        dropped, self._untold = self._dropped(after), None
        done, self._finished = after.ended | self._finished, torch.zeros_like(self._finished)
        limits, left = self.ledger.limits, self.ledger.left
        self._present(after)
        self._observe(slice(None))
        return Step(reward.float(), done, answers, dropped, limits, left)

    def _legal(self, actions: Tensor) -> Tensor:
        """Choices that are allowed in place of those that are not, [N, K]."""
        low, high = actions.aminmax(dim=0)
        inside = min(low.tolist()) >= 0 and all(map(lt, high.tolist(), self._sizes))
        # Which place in `allowed` an action is: few large steps, as every input takes this way.
        if (
            inside
            and self.allowed.view(-1).index_select(0, (actions + self._places).view(-1)).all()
        ):
            return actions
        chosen = legal(actions, self.allowed, self._sizes)
        replaced = self.active.unsqueeze(1) & (chosen != actions)
        # Whoever leaves does not set the other knobs.
        replaced[:, 1:] &= chosen[:, :1] != 0
        self._overruled = self._overruled + replaced.any(dim=1)
        self._corrected = True
        return chosen

    def _aside(self, running: Tensor, chosen: Tensor) -> Tensor | None:
        """What the policy's work and turning knobs take, [R, N]; None for nothing."""
        aside = None
        if self._decides:
            aside = self.prices.decision.unsqueeze(1) * self.active
        if self.stream.switching:
            turned = self._switches.turn(running, self._stage, chosen[:, 1:])
            aside = turned if aside is None else aside + turned
        return aside

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

    def _present(self, after: Next) -> None:
        """Put the next input of their streams on lanes and run the stem."""
        mask, length = after.going, self.stream.inputs_per_episode
        others = ~mask
        if self.stream.history:
            now = self.observation[:, self.layout.changing]
            past = torch.cat([now, self._past], dim=1)[:, : self._past.shape[1]]
            self._past = torch.where(mask.unsqueeze(1), past, self._past)
        if after.waited_s is not None:
            self._runner.wait(after.waited_s)
        position = self.timeline.position
        fresh = self._queue.view(-1).index_select(0, self._first + position)
        self._input = torch.where(mask, fresh, self._input)
        self._depth = self._depth * others
        self._stage = self._depth.clamp(max=self.prices.stages - 1)
        if self._corrected:
            self._overruled = self._overruled * others
        lost = self._runner.lost()
        if lost is not None and self._lost is not None:
            self._lost = torch.where(mask, lost, self._lost)
        cost = self._runner.present(mask, self._input, self._rng)
        self.ledger.open_input(mask, cost)
        self.timeline.spend(cost, mask)
        if self.pricing is not None:
            rows = mask.nonzero().squeeze(1)
            to_come = length - position[rows]
            rates = self.ledger.rates(rows, to_come)
            prices = self.pricing(*rates, to_come).double().clamp(*self.stream.price)
            self._set_price(rows, torch.where(self._fixed[rows], self.price[rows], prices))

    def _set_price(self, rows: Tensor, prices: Tensor) -> None:
        self.price[rows] = prices.double()
        self._charge[rows] = prices.double() / self._full
        self._shown_price[rows] = self.stream.shown_price(prices).float()

    def _observe(self, rows: Rows) -> None:
        """Fill observations and masks of some lanes."""
        position = self.timeline.position[rows]
        observation = torch.empty(len(position), len(self.layout.columns))
        states = self._runner.observe(rows, observation[:, self.layout.seen])
        account = [
            (self.ledger.spent[self._priced, rows] * (1 / self._full)).clamp(max=2),
            self._shown_price[rows],
            self._left.index_select(0, position),
            *self.ledger.observe(rows, position),
            *(values[rows] for values in self.timeline.observe()),
            *(values[rows] for values in self._switches.observe()),
            *states,
        ]
        shown = torch.empty(len(account), len(position))
        for row, values in zip(shown, account, strict=True):
            row.copy_(values)
        told = slice(self.layout.account.start, self.layout.changing.stop)
        observation[:, told] = shown.T
        if self.stream.history:
            observation[:, told.stop :] = self._past[rows]
        afford = self.ledger.affordable(rows, position)
        if self.stream.battery is not None:
            charge_j = self.timeline.charge_j[rows].unsqueeze(1)
            afford = charge_j if afford is None else torch.cat([afford, charge_j], dim=1)
        allowed = self.prices.allowed(self._stage[rows], afford, self._need)
        if isinstance(rows, slice):
            self.observation, self.allowed = observation, allowed
        else:
            self.observation[rows], self.allowed[rows] = observation, allowed

    def _answers(self, mask: Tensor, right: Tensor, worth: Tensor, late: Tensor | None) -> Answers:
        """What becomes of the inputs on the lanes of a mask; none of it is changed in place."""
        lost = self._runner.lost()
        if lost is not None and self._lost is not None:
            lost = lost - self._lost
        return Answers(
            mask=mask,
            inputs=self._input,
            right=right,
            worth=worth,
            late=late,
            cost=self.ledger.spent,
            depth=self._depth,
            exits=self._exits,
            over=self.ledger.over(),
            overruled=self._overruled,
            lost=lost,
            choices=self._made.since(self._stage),
        )

    def _dropped(self, after: Next) -> Outcomes | None:
        """Inputs that nobody looked at, those before that are yet to be told of first."""
        rows = after.dropped_rows
        if len(rows) == 0:
            return self._untold
        none, zero = torch.zeros(len(rows), dtype=torch.bool), torch.zeros_like(rows)
        dropped = Outcomes(
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
            choices=rows.new_full((len(rows), self.prices.stages, len(self.knobs)), -1),
        )
        return dropped if self._untold is None else join(self._untold, dropped)


def _timeline(stream: Stream, lanes: int, prices: Prices) -> Timeline:
    full = prices.full.rows()
    energy, latency = RESOURCES.index("energy_j"), RESOURCES.index("latency_s")
    battery = stream.battery
    joule = float(full[energy]) if battery is not None and battery.relative else 1.0
    idle_w = battery.idle_w * joule if battery is not None else 0.0
    need_j = float(prices.cheapest[energy] + idle_w * prices.cheapest[latency])
    return Timeline(stream.inputs_per_episode, lanes, stream.arrivals, battery, joule, need_j)
