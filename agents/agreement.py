"""Whether a recording says what the network itself says: the same decisions taken on both.

Letters: `N` lanes, `n` answers, `T` choices of all knobs, `S` stages, `R` resources.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor

from penstock.agents.recordings import errs
from penstock.envs import Lanes
from penstock.hardware import RESOURCES, Measured
from penstock.hardware.bound import machines

Told = tuple[Tensor, Tensor]
"""Inputs that were answered [n], and what the answers were worth and cost [n, 1 + R]."""

MOST_POINTS: Final = 0.5
"""By which utility may differ."""

MOST_SHARE: Final = 0.01
"""By which a cost may differ."""

MOST_MEASURED: Final = 0.2
"""By which latency may differ where it was measured with a clock."""


@final
@dataclass(frozen=True, slots=True)
class Pair:
    """The mean of one quantity over answers, live and recorded."""

    live: float
    recorded: float
    half: float
    """Half of the 95 % interval of the difference; answers about one input count as one."""

    @property
    def difference(self) -> float:
        """Recorded minus live."""
        return self.recorded - self.live

    @property
    def surely(self) -> float:
        """By how much they differ at least, chance apart."""
        return max(0.0, abs(self.difference) - self.half)

    def share(self, amount: float) -> float:
        """An amount as a share of the live mean."""
        return amount / self.live if self.live else float(amount != 0)


@final
@dataclass(frozen=True, slots=True)
class Agreement:
    """What came of the same decisions, live and recorded."""

    decisions: int
    answers: int
    equal_right: float
    """Share of answers that both give to the same input, both right or both wrong."""
    equal_masks: float
    """Share of decisions before which the same was allowed."""
    seen: float
    """Largest difference of an observation."""
    column: str
    """Where in the observation."""
    utility: Pair
    """What an answer was worth."""
    cost: Mapping[str, Pair]
    """Of an answer, by resource."""
    errs: bool
    """Whether the machine errs: live and recorded are different draws then, of equal means."""
    measured: bool
    """Whether its seconds were measured with a clock."""

    def objection(self) -> str:
        """Why the two do not agree, or nothing."""
        points = 100 * self._apart(self.utility)
        if points > MOST_POINTS:
            return f"utility differs by {points:.2f} points, where {MOST_POINTS:g} are allowed"
        for resource, pair in self.cost.items():
            timed = self.measured and resource == "latency_s"
            most = MOST_MEASURED if timed else MOST_SHARE
            share = pair.share(self._apart(pair))
            if share > most:
                return (
                    f"{resource} differs by {100 * share:.2f} %, where {100 * most:g} are allowed"
                )
        return ""

    def table(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "agrees": not self.objection(),
            "decisions": self.decisions,
            "answers": self.answers,
            "errs": self.errs,
            "equal_right": self.equal_right,
            "equal_masks": self.equal_masks,
            "largest_observation_difference": self.seen,
            "observation_column": self.column,
            "utility": {
                "live": self.utility.live,
                "recorded": self.utility.recorded,
                "points": 100 * self.utility.difference,
                "half_interval_points": 100 * self.utility.half,
            },
            "cost": {
                resource: {
                    "live": pair.live,
                    "recorded": pair.recorded,
                    "relative": pair.share(pair.difference),
                    "half_interval": pair.share(pair.half),
                }
                for resource, pair in self.cost.items()
            },
        }

    def _apart(self, pair: Pair) -> float:
        return pair.surely if self.errs else abs(pair.difference)


def compare(
    live: Lanes,
    recorded: Lanes,
    kept: Tensor,
    *,
    decisions: int,
    seed: int = 0,
    progress: Callable[[int], object] = lambda count: None,
) -> Agreement:
    """Take the same decisions on a network and on its recording.

    Decisions are drawn among those allowed, and so that answers come about equally often behind
    each stage.

    Args:
        live: over the inputs that were recorded, in their order.
        recorded: over the recording, with the same rules, number of lanes and seed.
        kept: choices that were not dropped from the recording, [S, T - 2] bool.
        decisions: at least so many.
        seed: of inputs and decisions.
        progress: called with the number of decisions taken, now and then.
    """
    rng = torch.Generator().manual_seed(seed)
    both = live, recorded
    heard: tuple[list[Told], list[Told]] = ([], [])
    kept = torch.cat([torch.ones(len(kept), 2, dtype=torch.bool), kept], dim=1)
    seen = torch.zeros(len(live.layout.columns))
    taken = same_masks = told = same_right = 0
    length = live.stream.inputs_per_episode
    while taken < decisions or not all(heard):
        rows = (~live.active & ~recorded.active).nonzero().squeeze(1)
        inputs = torch.randint(recorded.source.inputs, (len(rows), length), generator=rng)
        for lanes in both:
            lanes.start(rows, inputs)
        active = live.active & recorded.active
        stage = recorded.observation[:, recorded.layout.block].argmax(dim=1)
        allowed = kept[stage]
        differ = ((live.allowed ^ recorded.allowed) & allowed).any(dim=1)
        same_masks += int((active & ~differ).sum())
        gap = (live.observation - recorded.observation)[active].abs()
        seen = torch.maximum(seen, gap.amax(dim=0)) if len(gap) else seen
        taken += int(active.sum())
        progress(int(active.sum()))
        actions = _drawn(recorded, live.allowed & recorded.allowed & allowed, stage, rng)
        mine, theirs = (lanes.step(actions).answers for lanes in both)
        for each, answers in zip(heard, (mine, theirs), strict=True):
            if answers.mask.any():
                amounts = torch.cat([answers.worth.unsqueeze(0), answers.cost]).T
                each.append((answers.inputs[answers.mask], amounts[answers.mask]))
        together = mine.mask & theirs.mask & (mine.inputs == theirs.inputs)
        same_right += int((together & (mine.right == theirs.right)).sum())
        told += int((mine.mask | theirs.mask).sum())
    worst, machine = int(seen.argmax()), recorded.machine
    utility, *costs = _pairs(_joined(heard[0]), _joined(heard[1]), recorded.source.inputs)
    return Agreement(
        decisions=taken,
        answers=told,
        equal_right=same_right / told,
        equal_masks=same_masks / taken,
        seen=float(seen[worst]),
        column=live.layout.columns[worst].name,
        utility=utility,
        cost=dict(zip(RESOURCES, costs, strict=True)),
        errs=errs(machine),
        measured=any(isinstance(each, Measured) for each in machines(machine)),
    )


def _drawn(lanes: Lanes, allowed: Tensor, stage: Tensor, rng: torch.Generator) -> Tensor:
    """A decision of each lane, an index per knob [N, K], each choice as likely as the others.

    Args:
        lanes: says what the knobs are.
        allowed: [N, T].
        stage: that comes next, [N]; those who answer now are as many as later behind each.
        rng: what is drawn does not hang on what is allowed.
    """
    score = torch.rand(allowed.shape, generator=rng)
    leaves = torch.rand(len(allowed), generator=rng) * (lanes.prices.stages - stage + 1) < 1
    score[:, 0] = torch.where(leaves, 1.0, 0.0)
    score[:, 1] = 0.5
    sizes = [len(knob.choices) for knob in lanes.knobs]
    parts = torch.split(score.masked_fill(~allowed, -1.0), sizes, dim=1)
    return torch.stack([part.argmax(dim=1) for part in parts], dim=1)


def _joined(told: list[Told]) -> Told:
    inputs, amounts = zip(*told, strict=True)
    return torch.cat(inputs), torch.cat(amounts)


def _pairs(live: Told, recorded: Told, count: int) -> list[Pair]:
    """The means of all amounts, and how sure their difference is.

    The variance is that of a difference of two ratios, inputs being drawn: an error that the
    recording holds comes again with each answer about that input.

    Args:
        live: what was told by the network.
        recorded: what was told by the recording.
        count: of inputs.
    """
    means = [amounts.mean(dim=0) for _, amounts in (live, recorded)]
    pull = torch.zeros(count, live[1].shape[1], dtype=torch.float64)
    for sign, mean, (inputs, amounts) in zip((-1, 1), means, (live, recorded), strict=True):
        pull.index_add_(0, inputs, sign * (amounts - mean) / len(inputs))
    asked = len(torch.unique(torch.cat([live[0], recorded[0]])))
    half = 1.96 * (pull.square().sum(dim=0) * asked / max(asked - 1, 1)).sqrt()
    rows = torch.stack([*means, half], dim=1).tolist()
    return [Pair(*row) for row in rows]
