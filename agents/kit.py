"""All that a deployed network needs to decide and to run, taken out of an engine once.

Letters: `n` images, `D` blocks, `K` knobs, `M` combinations of choices, `T` choices of all knobs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penstock.agents.network import Choose, PolicyNetwork
from penstock.backbones import InputError
from penstock.backbones.prepared import Prepared, Way
from penstock.envs import Lanes
from penstock.envs.actions import strides
from penstock.envs.observation import Observation
from penstock.envs.price_table import activation_shapes
from penstock.hardware import RESOURCES, Cost, through


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of n images."""

    logits: Tensor  # [n, classes]
    exit: Tensor  # [n] the block after which the answer was given
    choices: Tensor  # [n, D, K] index chosen before each block of each knob, -1 where none was


@dataclass(frozen=True, slots=True)
class Kit:
    """A network under all settings, its policy, and what the policy is shown."""

    policy: PolicyNetwork
    choose: Sequence[Choose]  # [D] what it makes of an observation before a block
    stem: Prepared
    blocks: Sequence[dict[int, Prepared]]  # [D] by the first combination that does the same work
    heads: Sequence[Prepared | None]  # [D]
    channels: Sequence[int]  # [D] of what goes into a block
    classes: int
    sizes: Sequence[int]  # choices of each knob, T in all
    allowed: Tensor  # [D, T] bool
    same: Tensor  # [D, M] the first combination that does the same work
    stride: Tensor  # what the index of each knob but exit counts for in a combination
    stem_cost: float  # in the unit of the stream's resource, as the other costs
    cost: Tensor  # [D, M] float64, of deciding, of the block and of the head behind it
    full_cost: float
    price: float  # as the policy sees it, from 0 to 1
    layout: Observation  # of what the policy sees

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return len(self.blocks)


def make_kit(lanes: Lanes, policy: PolicyNetwork, price: float, way: Way) -> Kit:
    """Taken out of an engine; the arguments are those of `Deployed`."""
    if not price > 0:
        raise InputError(f"the price that a policy sees is above 0, got {price}; raise it")
    _check(lanes)
    backbone, prices, stream = lanes.backbone, lanes.prices, lanes.stream
    settings, shapes = prices.settings, activation_shapes(backbone)
    blocks, heads = [], []
    for d in range(backbone.depth):
        block, head = backbone.block(d), backbone.head(d)
        different = set(prices.same[d].tolist())
        blocks.append({m: way(block, settings[m], shapes[d]) for m in different})
        heads.append(None if head is None else way(head, settings[-1], shapes[d + 1]))
    resource = RESOURCES.index(stream.resource)
    sizes = [len(knob.choices) for knob in lanes.knobs]
    return Kit(
        policy=policy,
        choose=[policy.chooser(allowed, sizes) for allowed in prices.free],
        stem=way(backbone.stem, settings[-1], backbone.shape),
        blocks=blocks,
        heads=heads,
        channels=[shape[0] for shape in shapes[:-1]],
        classes=backbone.classes,
        sizes=sizes,
        allowed=prices.free,
        same=prices.same,
        stride=strides(sizes[1:]),
        stem_cost=float(prices.stem[resource]),
        cost=(prices.decision + prices.cost)[:, :, resource],
        full_cost=float(lanes.full.rows()[resource]),
        layout=lanes.layout,
        price=float(stream.shown_price(torch.tensor(price, dtype=torch.float64))),
    )


def _depends_on_data(lanes: Lanes) -> bool:
    """Whether the full network costs an image something else than its price."""
    image = lanes.images.pixels[:1].to(lanes.device).float() / 255
    spent: list[Cost] = []
    run = through(lanes.machine, torch.Generator(), lanes.prices.settings[-1], pay=spent.append)
    with torch.no_grad():
        lanes.backbone.answers(image, run=run)
    found, priced = sum(spent, Cost()).rows().flatten(), lanes.full.rows().flatten()
    return not torch.allclose(found, priced, rtol=1e-9, atol=0.0)


def _check(lanes: Lanes) -> None:
    """Refuse what a bare network cannot know."""
    stream, machine = lanes.stream, lanes.machine
    for found, what in (
        (stream.budgets, "hard budgets"),
        (stream.inputs_per_episode > 1, "streams of several inputs"),
        (machine.knobs, "a machine with knobs of its own"),
        (machine.reset(1, torch.Generator()), "a machine with conditions"),
        (machine.ideal() != machine, "a machine that errs"),
        (_depends_on_data(lanes), "a machine whose costs depend on the image"),
    ):
        if found:
            raise InputError(
                f"a deployed network decides by the image alone, got {what}; "
                "play the policy on the engine"
            )
