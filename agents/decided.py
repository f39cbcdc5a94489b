"""What a policy decided for each input, and how hard the input was.

Letters: `A` answers, `D` inputs dropped unanswered, `I` inputs, `S` stages, `K` knobs, exit first.
"""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from penstock.agents.decider import Decider
from penstock.envs import Lanes, Live, Outcomes, Recording, Step
from penstock.envs.actions import strides
from penstock.envs.observation import FEATURES, confidence
from penstock.hardware import RESOURCES

GROUPS: Final = 5
"""Into which inputs are sorted, from the easiest to the hardest."""

BATCH: Final = 500
"""Images that run at once."""

ENTROPY, ANSWERED = FEATURES + 3, FEATURES + 4
"""Columns of what was recorded, see `penstock.envs.recording.SEEN`."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of inputs, in the order in which they were answered or dropped."""

    inputs: Tensor  # [A + D] which of the source's inputs
    right: Tensor  # [A + D] bool, right and in time
    cost: Tensor  # [A + D] float64, in the unit of the resource that the price is on
    exit: Tensor  # [A + D] the block after which the answer was given, -1 where it was dropped
    choices: Tensor  # [A + D, S, K] index of each choice, -1 where none was made
    said: Tensor | None  # [A + D] the class that was answered; None where only right was recorded

    def __len__(self) -> int:
        return len(self.inputs)


@final
class Noting:
    """Lets another decider decide, and keeps what it decided."""

    def __init__(self, inner: Decider) -> None:
        self.inner = inner
        self._found: list[Outcomes] = []
        self._said: list[Tensor] = []

    def begin(self, lanes: Lanes) -> None:
        """Nothing was decided yet."""
        self._found, self._said = [], []
        self._live = isinstance(lanes.source, Live)
        self._resource = RESOURCES.index(lanes.stream.resource)
        self.inner.begin(lanes)

    def start(self, lanes: Lanes, rows: Tensor) -> None:
        """As the other."""
        self.inner.start(lanes, rows)

    def act(self, lanes: Lanes) -> Tensor:
        """What the other does, [N, K]."""
        return self.inner.act(lanes)

    def learn(self, lanes: Lanes, step: Step) -> None:
        """Keep what came of it."""
        outcomes = step.outcomes
        if len(outcomes.lanes):
            self._found.append(outcomes)
            if self._live:
                self._said.append(lanes.logits[outcomes.lanes].argmax(dim=1))
        self.inner.learn(lanes, step)

    def decided(self) -> Decided:
        """Everything since it began; at least one input."""
        found = self._found
        return Decided(
            inputs=torch.cat([o.inputs for o in found]),
            right=torch.cat([o.right for o in found]),
            cost=torch.cat([o.cost[:, self._resource] for o in found]),
            exit=torch.cat([o.exit for o in found]),
            choices=torch.cat([o.choices for o in found]),
            said=torch.cat(self._said) if self._live else None,
        )


@torch.inference_mode()
def difficulty(lanes: Lanes) -> Tensor:
    """How unsure the first exit is of each input, where everything before it runs at full, [I].

    The entropy of its answer, 0 sure and 1 a guess among all classes. Of a network that is run, as
    it computes without any machine.
    """
    source = lanes.source
    if isinstance(source, Recording):
        node = 0
        while not bool(source.seen[0, node, ANSWERED]):
            node = int(source.tree.children[node, -1])
        every = source.seen[:, node, ENTROPY].double()
        return every.view(len(source.conditions), -1).mean(dim=0)
    block = int(lanes.prices.last[lanes.prices.exits][0])
    each = []
    for start in range(0, len(lanes.images), BATCH):
        pixels = lanes.images.pixels[start : start + BATCH]
        logits = lanes.backbone.answers(pixels.to(lanes.device).float() / 255)[block]
        each.append(confidence(logits.cpu())[:, ENTROPY - FEATURES].double())
    return torch.cat(each)


def groups(decided: Decided, hard: Tensor) -> Tensor:
    """The group of each answer, [A + D]: 0 the easiest inputs, `GROUPS` - 1 the hardest.

    Groups hold equally many of the inputs that were met.

    Args:
        decided: what was met.
        hard: the difficulty of all inputs, [I].
    """
    met, place = np.unique(decided.inputs.numpy(), return_inverse=True)
    rank = hard.numpy()[met].argsort(kind="stable").argsort()
    return torch.from_numpy((rank * GROUPS // len(met))[place])


def matters(lanes: Lanes, choices: Tensor) -> Tensor:
    """Whether each choice changed what was run: [n, S, K - 1] bool, knobs without exit.

    Under the other choices beside it: the width of a block that is skipped does not.

    Args:
        lanes: the engine.
        choices: index of each, [n, S, K], -1 where none was made.
    """
    sizes = [len(knob.choices) for knob in lanes.offered]
    same = lanes.source.outline(lanes.stream).table.same  # [S, M]
    grid = same.view(-1, *sizes)
    taken = choices[:, :, 1:].clamp(min=0)
    combination = (taken * strides(sizes)).sum(dim=2)  # [n, S]
    stage = torch.arange(len(same))
    shown = torch.zeros(taken.shape, dtype=torch.bool)
    for k in range(len(sizes)):
        turned = (grid != grid.narrow(k + 1, 0, 1)).any(dim=k + 1, keepdim=True)
        turned = turned.expand_as(grid).reshape(same.shape)
        shown[:, :, k] = turned[stage, combination] & (choices[:, :, k + 1] >= 0)
    return shown
