"""Seconds of every part of a network, each taken on its way through the whole network.

A block that is run again and again finds its weights and its input in the cache; in a network it
does not. So whole passes are made, from stem to last head, with a clock around every part.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penstock.backbones import Backbone, Block, every_setting, in_order
from penstock.backbones.prepared import Prepared, Way
from penstock.hardware.timings import asked


@dataclass(frozen=True, slots=True)
class Part:
    """A stem, block or head under all of its settings."""

    block: Block
    shape: tuple[int, ...]  # of an input, (C, H, W)
    head: bool
    settings: tuple[dict[str, float], ...]  # those that differ in work, the full one last
    ways: tuple[Prepared, ...]  # how it is run under each


def parts(backbone: Backbone, way: Way) -> Iterator[Part]:
    """All that a network consists of, in the order of execution."""
    heads = set(backbone.exits.values())
    for block, shape in in_order(backbone):
        each = [asked(block, setting) for setting in every_setting(block.knobs)]
        settings = tuple(s for i, s in enumerate(each) if s not in each[:i])
        ways = tuple(way(block, setting, shape) for setting in settings)
        yield Part(block, shape, block in heads, settings, ways)


@torch.inference_mode()
def forward(network: Sequence[Part], images: Tensor) -> Tensor:
    """The full network: [n, C, H, W] -> [n, classes]."""
    x = y = images
    for part in network:
        y = part.ways[-1](x)
        x = x if part.head else y
    return y


@dataclass(frozen=True, slots=True)
class Samples:
    """Seconds of one batch, as often as it was computed."""

    parts: list[list[list[float]]]  # [part][setting][times]
    whole: list[float]  # the full network without a clock inside
    decision: list[float]  # what deciding adds before each block


def measure(
    network: Sequence[Part],
    decide: Callable[[Tensor], float],
    images: Tensor,
    *,
    repeats: int,
    rng: torch.Generator,
    progress: Callable[[], object] = lambda: None,
) -> Samples:
    """Time every part under every setting, in turn with the whole network and with decisions.

    Args:
        network: its parts in order.
        decide: takes the decisions for a batch and gives the mean seconds of one.
        images: a batch, [n, C, H, W].
        repeats: how often each setting is run; a first round more does not count.
        rng: of the order of the settings.
        progress: called after each round.
    """
    for count in range(repeats + 1):
        if count <= 1:
            samples = Samples([[[] for _ in part.settings] for part in network], [], [])
        # All parts at like settings in a pass: full with full, narrow with narrow.
        most = max(len(part.settings) for part in network)
        for number in torch.randperm(most, generator=rng).tolist():
            chosen = [-1 - number % len(part.settings) for part in network]
            for seconds, setting, each in zip(
                _pass(network, chosen, images), chosen, samples.parts, strict=True
            ):
                each[setting].append(seconds)
            start = time.perf_counter()
            forward(network, images)
            samples.whole.append(time.perf_counter() - start)
            samples.decision.append(decide(images))
        progress()
    return samples


@torch.inference_mode()
def _pass(network: Sequence[Part], chosen: Sequence[int], images: Tensor) -> list[float]:
    """Seconds of each part under the setting chosen for it; 0 where it gives its input back."""
    x, seconds = images, []
    for part, setting in zip(network, chosen, strict=True):
        start = time.perf_counter()
        y = part.ways[setting](x)
        seconds.append(0.0 if y is x else time.perf_counter() - start)
        x = x if part.head else y
    return seconds
