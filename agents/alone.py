"""One image through a deployed network.

A decision is many small operations, and torch and numpy take longer to begin with them than a block
takes. One image has few enough numbers for Python itself: only the blocks, the average over their
output and the policy's matrices are left to torch and numpy.
"""

from collections.abc import Sequence
from itertools import accumulate
from math import exp, log
from typing import final

import numpy as np
import torch
from torch import Tensor

from penstock.agents.kit import Answers, Kit
from penstock.envs.observation import FEATURES, UNKNOWN


@final
class Alone:
    """A network and its policy, for one image at a time."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self._layers = [(w.numpy().T.copy(), b.numpy()) for w, b in kit.policy.layers]
        self._same, self._cost = kit.same.tolist(), kit.cost.tolist()
        self._stride = kit.stride.tolist()
        self._starts = [0, *accumulate(kit.sizes)][:-1]
        self._free = [
            [
                [choice for choice in range(size) if allowed[start + choice]]
                for start, size in zip(self._starts, kit.sizes, strict=True)
            ]
            for allowed in kit.allowed.tolist()
        ]  # [D][K] the choices that are allowed
        self._spans = [spans(channels) for channels in kit.channels]

    def __call__(self, image: Tensor) -> Answers:
        """Answer an image [1, C, H, W]."""
        kit, depth = self.kit, self.kit.depth
        choices = [[-1] * len(kit.sizes) for _ in range(depth)]
        x, said = kit.stem(image), torch.empty(1, kit.classes)
        sure, spent = list(UNKNOWN), kit.stem_cost
        for d in range(depth):
            account = [0.0] * (depth + 3)  # the block, spent, price, inputs_left
            account[d], account[depth] = 1.0, min(spent / kit.full_cost, 2.0)
            account[depth + 1] = kit.price
            means = x.mean(dim=(2, 3)).tolist()[0]
            chosen = self._choose(d, [*glance(means, self._spans[d]), *sure, *account])
            if chosen[0] == 0:
                choices[d][0] = 0
                return Answers(said, torch.tensor([d - 1]), torch.tensor([choices]))
            choices[d] = chosen
            combination = sum(map(int.__mul__, chosen[1:], self._stride))
            spent += self._cost[d][combination]
            x = kit.blocks[d][self._same[d][combination]](x)
            head = kit.heads[d]
            if head is None:
                sure[-1] = 0.0
            else:
                said = head(x)
                sure = certainty(said.tolist()[0])
        return Answers(said, torch.tensor([depth - 1]), torch.tensor([choices]))

    def _choose(self, d: int, observation: Sequence[float]) -> list[int]:
        """An index per knob before block d."""
        kit = self.kit
        if kit.policy.algorithm != "maskable_ppo":
            return [int(choice) for choice in kit.choose[d](torch.tensor([observation]))[0]]
        x = np.array(observation, dtype=np.float32)
        *hidden, (weight, bias) = self._layers
        for w, b in hidden:
            x = np.tanh(x @ w + b)
        scores = (x @ weight + bias).tolist()
        return [
            max(free, key=lambda choice: scores[start + choice])
            for free, start in zip(self._free[d], self._starts, strict=True)
        ]


def spans(channels: int) -> list[tuple[int, int]]:
    """The channels from and to that make up each feature, as in adaptive average pooling."""
    return [(i * channels // FEATURES, -(-(i + 1) * channels // FEATURES)) for i in range(FEATURES)]


def glance(means: Sequence[float], spans: Sequence[tuple[int, int]]) -> list[float]:
    """`penstock.envs.observation.pooled`, of the mean of each channel."""
    groups = [sum(map(abs, means[a:b])) / (b - a) for a, b in spans]
    return [group / (1 + group) for group in groups]


def certainty(logits: Sequence[float]) -> list[float]:
    """`penstock.envs.observation.confidence`, of the logits of one image."""
    top = max(logits)
    likely = [exp(logit - top) for logit in logits]
    whole = sum(likely)
    shares = sorted((each / whole for each in likely), reverse=True)
    nats = -sum(share * log(share) for share in shares if share > 0)
    first, second, third, *_ = [*shares, 0.0, 0.0]
    return [first, second, third, min(nats / log(len(logits)), 1.0), 1.0]
