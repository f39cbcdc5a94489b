"""Seconds of a policy's decisions, beside those of the blocks that it decides about."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from penstock.agents.deploy import Deployed
from penstock.agents.network import PolicyNetwork
from penstock.backbones import BITS, Backbone, Block, Images, Setting
from penstock.backbones.prepared import Prepared, Way
from penstock.envs import Lanes, Live, Stream
from penstock.hardware import RESOURCES, Digital


@dataclass(frozen=True, slots=True)
class Decisions:
    """A deployed network whose policy always goes on at full, so that only deciding is added."""

    deployed: Deployed
    depth: int
    spans: list[tuple[str, float, float]]
    """Name of each stem, block and head in the newest pass, when it began and when it ended."""
    macs: float
    """Multiplications of one decision."""

    def seconds(self, images: Tensor) -> float:
        """Of one decision for a batch [n, C, H, W]: look, choose, group, over all blocks."""
        self.spans.clear()
        start = time.perf_counter()
        self.deployed(images)
        whole_s = time.perf_counter() - start
        return max(0.0, whole_s - self.blocks_s) / self.depth

    @property
    def blocks_s(self) -> float:
        """What stem, blocks and heads took in the newest pass."""
        return sum(end - start for _, start, end in self.spans)

    def before_s(self, block: str) -> float:
        """What the decision before that block took in the newest pass."""
        (place,) = (i for i, (name, _, _) in enumerate(self.spans) if name == block)
        return self.spans[place][1] - self.spans[place - 1][2]


def decisions(
    backbone: Backbone, way: Way, hidden: Sequence[int], rng: torch.Generator
) -> Decisions:
    """Those of a policy with such hidden layers that may turn every knob before every block."""
    spans: list[tuple[str, float, float]] = []

    def clocked(block: Block, setting: Setting, shape: tuple[int, ...]) -> Prepared:
        run = way(block, setting, shape)

        def timed(x: Tensor) -> Tensor:
            start = time.perf_counter()
            y = run(x)
            spans.append((block.name, start, time.perf_counter()))
            return y

        return timed

    lanes = _lanes(backbone, hidden)
    sizes = (lanes.observation.shape[1], *hidden, lanes.allowed.shape[1])
    layers = [(torch.randn(b, a, generator=rng), torch.zeros(b)) for a, b in pairwise(sizes)]
    # Of each knob the last choice scores highest, whatever is seen.
    layers[-1] = (0 * layers[-1][0], torch.arange(sizes[-1]).float())
    policy = PolicyNetwork(tuple(layers), "maskable_ppo")
    deployed = Deployed(lanes, policy, price=lanes.stream.price[0], way=clocked)
    macs = float(lanes.prices.decision[RESOURCES.index("macs")])
    return Decisions(deployed, backbone.depth, spans, macs)


def _lanes(backbone: Backbone, hidden: Sequence[int]) -> Lanes:
    """An engine on which every multiplication costs the same: a policy has to see some cost."""
    precisions = {int(c) for knob in backbone.knobs if knob.name == BITS.name for c in knob.choices}
    one = dict.fromkeys({*precisions, int(BITS.full)}, 1.0)
    machine = Digital(one, 0.0, 0.0, one, 1.0, 0.0)
    pixels = torch.zeros(1, *backbone.shape, dtype=torch.uint8)
    names = tuple(str(label) for label in range(backbone.classes))
    images = Images(pixels, torch.zeros(1, dtype=torch.int64), names)
    return Lanes(Live(backbone, machine, images), Stream(), lanes=1, controller=hidden)
