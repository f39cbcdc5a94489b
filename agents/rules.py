"""Deciders that do not look at inputs: one plan, a mix of two, and chance.

Letters: `N` lanes, `k` some of them, `A` answers, `S` stages, `K` knobs, `T` their choices.
"""

from typing import final

import torch
from torch import Tensor

from penstock.agents.foresight import Foresight
from penstock.agents.standing import stages
from penstock.backbones import InputError
from penstock.envs import Lanes, Step


@final
class Static:
    """Goes to one answer by the way to it, whatever it sees.

    Where a transfer is given up or a mask forbids a step, the rest of the way is taken from there.

    Args:
        answer: one of `Foresight.answers`, by its place; or one for each lane, [N].

    Raises:
        InputError: by `begin`, if the engine offers no way to it.
    """

    def __init__(self, answer: int | Tensor) -> None:
        self.answer = answer

    def begin(self, lanes: Lanes) -> None:
        """Find the way."""
        answer = torch.as_tensor(self.answer)
        self._path = known_paths(lanes, *set(answer.view(-1).tolist()))[answer.expand(lanes.n)]
        self._lane = torch.arange(lanes.n)

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        """Nothing is remembered."""

    def act(self, lanes: Lanes) -> Tensor:
        """The step of each lane's stage."""
        return self._path[self._lane, stages(lanes)]

    def learn(self, lanes: Lanes, step: Step) -> None:
        """Nothing is learned."""


@final
class TimeSharing:
    """Goes to one of two answers, to the second with a share of each stream's inputs.

    Shares are kept to within one input at any time: of the first i inputs that are answered,
    floor(share * i) get the second answer.

    Args:
        first: by its place in `Foresight.answers`.
        second: the same, the dearer one if a budget is to be kept.
        share: of the second, from 0 to 1.
    """

    def __init__(self, first: int, second: int, share: float) -> None:
        if not 0 <= share <= 1:
            raise InputError(f"a share lies in 0..1, got {share:g}; correct it")
        self.pair, self.share = (first, second), share

    def begin(self, lanes: Lanes) -> None:
        """Find both ways."""
        self._paths = known_paths(lanes, *self.pair)[list(self.pair)]  # [2, S, K]
        self._answered = torch.zeros(lanes.n, dtype=torch.int64)

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        """Nobody was answered yet."""
        self._answered[rows] = 0

    def act(self, lanes: Lanes) -> Tensor:
        """The step of each lane's stage and answer."""
        due = ((self._answered + 1) * self.share + 1e-9).floor()
        second = due > (self._answered * self.share + 1e-9).floor()
        return self._paths[second.long(), stages(lanes)]

    def learn(self, lanes: Lanes, step: Step) -> None:
        """Count inputs."""
        self._answered += step.answers.mask


@final
class RandomMasked:
    """Draws each knob evenly from the choices that are allowed; it is never overruled.

    Args:
        seed: of the draws.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def begin(self, lanes: Lanes) -> None:
        """Draw anew."""
        self._rng = torch.Generator().manual_seed(self._seed)
        self._sizes = [len(knob.choices) for knob in lanes.knobs]

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        """Nothing is remembered."""

    def act(self, lanes: Lanes) -> Tensor:
        """A draw for every lane and knob."""
        chance = torch.rand(lanes.allowed.shape, generator=self._rng)
        chance = chance.masked_fill(~lanes.allowed, -1.0)
        knobs = torch.split(chance, self._sizes, dim=1)
        return torch.stack([knob.argmax(dim=1) for knob in knobs], dim=1)

    def learn(self, lanes: Lanes, step: Step) -> None:
        """Nothing is learned."""


def known_paths(lanes: Lanes, *wanted: int) -> Tensor:
    """The ways to all answers, [A, S, K], of which some are wanted.

    Raises:
        InputError: if the engine offers no way to one of these.
    """
    ahead = Foresight(lanes)
    reached = ahead.below(torch.zeros(1, dtype=torch.int64))[0]
    for answer in wanted:
        if not (0 <= answer < len(reached) and bool(reached[answer])):
            raise InputError(
                f"answers that can be reached are {reached.nonzero().squeeze(1).tolist()}, got "
                f"{answer}; name one of them, or offer more choices"
            )
    return ahead.paths()
