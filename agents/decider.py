"""Whatever decides on streams, learned or not, and what comes of letting it.

Letters: `N` lanes, `k` streams, `L` inputs of each, `R` resources, `K` knobs, `F` columns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, final

import torch
from torch import Tensor

from penstock.backbones import InputError
from penstock.envs import Lanes, Step
from penstock.hardware import RESOURCES

Trace = Mapping[str, Callable[[Lanes], Tensor]]
"""Name -> what is to be kept of every lane at the moment before its answer, [N]."""


class Decider(Protocol):
    """Decides for all lanes of an engine, and may learn from what came of it.

    What it learns belongs to a stream and is forgotten with it, so that what becomes of a stream
    depends neither on the number of lanes nor on the other streams.
    """

    def begin(self, lanes: Lanes) -> None:
        """A fresh engine: forget everything."""

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        """Streams were started on these lanes, [k]: forget what belongs to the ones before."""

    def act(self, lanes: Lanes) -> Tensor:
        """An index per knob, [N, K]; rows of lanes that rest mean nothing."""

    def learn(self, lanes: Lanes, step: Step) -> None:
        """What the actions brought; lanes that answered show their next input already."""


@dataclass(frozen=True, slots=True)
class Streams:
    """What became of streams, in the order in which they were given."""

    inputs: Tensor  # [k, L] which inputs
    limit: Tensor  # [k] average budget for an input, in the resource's unit; infinite without one
    cost: Tensor  # [k, R] of all inputs together
    worth: Tensor  # [k] of all inputs together
    right: Tensor  # [k] inputs answered right and in time
    missed: Tensor  # [k] inputs answered late, or dropped
    over: Tensor  # [k] bool, whether a hard budget was exceeded
    worth_each: Tensor  # [k, L]
    cost_each: Tensor  # [k, L] of the resource that the price is on
    exit_each: Tensor  # [k, L] the block after which the answer was given, -1 for a dropped input
    trace: Mapping[str, Tensor] = field(default_factory=dict)  # [k, L], NaN for a dropped input

    def mean_cost(self, resource: str) -> Tensor:
        """Of an input of each stream, [k]."""
        return self.cost[:, RESOURCES.index(resource)] / self.inputs.shape[1]

    @property
    def mean_worth(self) -> Tensor:
        """Of an input of each stream, [k]."""
        return self.worth / self.inputs.shape[1]


@torch.inference_mode()
def run_streams(
    decider: Decider,
    lanes: Lanes,
    streams: Tensor,
    *,
    limits: Tensor | None = None,
    prices: Tensor | float | None = None,
    seed: Tensor | int = 0,
    trace: Trace | None = None,
    progress: Callable[[int], object] = lambda count: None,
) -> Streams:
    """Give every stream once to a decider.

    What a stream meets - link, load, arrivals, battery, limits - is drawn from a seed of its own,
    and so the same for every decider and any number of lanes.

    Args:
        decider: begins anew.
        lanes: the engine.
        streams: numbers of inputs, [k, L].
        limits: the average budget for an input of each, [k]; None draws them.
        prices: that a decider sees, [k] or one for all; None draws them, or asks `lanes.pricing`.
        seed: of all draws, or that of each stream, [k], as `stream_seeds` gives them.
        trace: what to keep beside, `observed` for example.
        progress: called with the number of inputs that are over, now and then.

    Raises:
        InputError: if streams are of another length than the engine's, or limits are given where
            there is no average budget.
    """
    k, length = streams.shape
    if length != lanes.stream.inputs_per_episode:
        raise InputError(
            f"a stream of this engine has {lanes.stream.inputs_per_episode} inputs, got {length}; "
            "cut the inputs into streams of that length"
        )
    given = None if prices is None else torch.as_tensor(prices, dtype=torch.float64).expand(k)
    seeds = (stream_seeds(k, seed) if isinstance(seed, int) else seed).tolist()
    kept = _Kept(lanes, streams, trace or {})
    lanes.rest()
    decider.begin(lanes)
    waiting = 0
    while waiting < k or bool(lanes.active.any()):
        idle = (~lanes.active).nonzero().squeeze(1)[: k - waiting]
        for lane in idle.unsqueeze(1):
            lanes.seed(seeds[waiting])
            lanes.start(
                lane,
                streams[waiting : waiting + 1],
                price=None if given is None else given[waiting : waiting + 1],
                limit=None if limits is None else limits[waiting : waiting + 1],
            )
            kept.begin(lane, waiting)
            waiting += 1
        if len(idle):
            decider.start(lanes, idle)
        actions = decider.act(lanes)
        kept.look()
        step = lanes.step(actions)
        kept.note(step)
        decider.learn(lanes, step)
        progress(int((lanes.timeline.position - kept.position).sum()))
    return kept.streams()


def stream_seeds(k: int, seed: int) -> Tensor:
    """A seed for each of k streams, [k]."""
    return torch.randint(2**62, (k,), generator=torch.Generator().manual_seed(seed))


def observed(lanes: Lanes) -> Trace:
    """What a policy sees of time, budgets, battery and link, and the price as it is."""
    layout = lanes.layout

    def shown(column: int) -> Callable[[Lanes], Tensor]:
        return lambda lanes: lanes.observation[:, column]

    names = [column.name for column in layout.columns]
    columns = range(layout.account.start, len(names))
    return {**{names[i]: shown(i) for i in columns}, "price": lambda lanes: lanes.price}


@final
class _Kept:
    """What is gathered while streams run: a row for each input of each stream."""

    def __init__(self, lanes: Lanes, streams: Tensor, trace: Trace) -> None:
        k, length = streams.shape
        self._lanes, self._streams, self._trace = lanes, streams, trace
        self._stream = torch.zeros(lanes.n, dtype=torch.int64)  # that a lane carries
        self.position = torch.zeros(lanes.n, dtype=torch.int64)
        """Before the step, [N]."""
        self._worth = torch.zeros(k * length, dtype=torch.float64)
        self._cost = torch.zeros(k * length, len(RESOURCES), dtype=torch.float64)
        self._right = torch.zeros(k * length, dtype=torch.bool)
        # Whatever is not answered was dropped.
        self._missed = torch.ones(k * length, dtype=torch.bool)
        self._over = torch.zeros(k * length, dtype=torch.bool)
        self._exit = torch.full((k * length,), -1)
        self._limit = torch.zeros(k, dtype=torch.float64)
        self._before: dict[str, Tensor] = {}
        self._shown = {name: torch.full((k * length,), torch.nan) for name in trace}

    def begin(self, lane: Tensor, stream: int) -> None:
        """A lane carries a stream from now on."""
        self._stream[lane] = stream
        self._limit[stream] = self._lanes.ledger.rates(lane, torch.ones_like(lane))[0]

    def look(self) -> None:
        """Before a step, whose clock and prices change in place."""
        self.position = self._lanes.timeline.position.clone()
        self._before = {name: of(self._lanes).clone() for name, of in self._trace.items()}

    def note(self, step: Step) -> None:
        """After it."""
        answers = step.answers
        rows = answers.mask.nonzero().squeeze(1)
        place = self._stream[rows] * self._streams.shape[1] + self.position[rows]
        self._worth[place] = answers.worth[rows]
        self._cost[place] = answers.cost[:, rows].T
        self._right[place] = answers.right[rows]
        self._missed[place] = False if answers.late is None else answers.late[rows]
        self._over[place] = answers.over[rows]
        self._exit[place] = answers.exits[answers.depth[rows]]
        for name, values in self._before.items():
            self._shown[name][place] = values[rows].float()

    def streams(self) -> Streams:
        """All of them."""
        shape = self._streams.shape
        priced = RESOURCES.index(self._lanes.stream.resource)
        return Streams(
            inputs=self._streams,
            limit=self._limit,
            cost=self._cost.view(*shape, -1).sum(dim=1),
            worth=self._worth.view(shape).sum(dim=1),
            right=self._right.view(shape).sum(dim=1),
            missed=self._missed.view(shape).sum(dim=1),
            over=self._over.view(shape).any(dim=1),
            worth_each=self._worth.view(shape),
            cost_each=self._cost[:, priced].view(shape),
            exit_each=self._exit.view(shape),
            trace={name: values.view(shape) for name, values in self._shown.items()},
        )
