"""How many bit errors a network bears.

After Koppula et al., EDEN (MICRO 2019): characterise once, with one bit error rate for everything
(coarse) or one for each data type, the weights or the inputs of a layer (fine). `Curve.lowest_v`
and `penstock.hardware.partitions` say which voltages follow. Retraining with rising error rates is
`fit` of `penstock.backbones.training` with an `Exposure` of `BitErrors`. Step sizes are not public
[reconstruction].
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from penstock.backbones import (
    FULL,
    Backbone,
    Images,
    Product,
    Setting,
    perform_network,
)
from penstock.hardware.bit_errors import BitErrors
from penstock.hardware.judging import judge
from penstock.hardware.layers import INPUT, WEIGHT

LEAST, MOST = 1e-7, 1e-1
"""Bit error rates between which is searched."""


def coarse(
    backbone: Backbone,
    images: Images,
    memory: BitErrors,
    target: float,
    setting: Setting = FULL,
    *,
    seeds: Sequence[int] = (0,),
    decades: float = 0.1,
    at_rate: Callable[[float], Backbone] | None = None,
    progress: Callable[[], object] = lambda: None,
) -> float:
    """The highest bit error rate of everything at which the network is still right often enough.

    Args:
        backbone: to be characterised.
        images: to do it with, not those that it is judged on.
        memory: its errors; `Dram.at_rate` gives that of a DRAM.
        target: share of right answers.
        setting: of all blocks and the stem.
        seeds: of the errors.
        decades: how closely it is found.
        at_rate: the network as it is used at a rate, from `with_own_norms` for one; None: as given.
        progress: called after each run over the images.

    Returns:
        A rate from `LEAST` to `MOST`; 0 if the network bears not even the least.
    """

    def bears(rate: float) -> bool:
        used = backbone if at_rate is None else at_rate(rate)
        found = judge(used, images, memory, {**setting, "bit_error_rate": rate}, seeds=seeds)
        progress()
        return found.accuracy >= target

    return highest(bears, decades)


def fine(
    backbone: Backbone,
    images: Images,
    memory: BitErrors,
    target: float,
    start: float,
    setting: Setting = FULL,
    *,
    seeds: Sequence[int] = (0,),
    decades: float = 0.5,
    most: float = MOST,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """A bit error rate for each data type, all of them at once being borne.

    Args:
        backbone: to be characterised.
        images: to do it with, not those that it is judged on.
        memory: its errors.
        target: share of right answers.
        start: rate at which all begin, from `coarse`.
        setting: of all blocks and the stem.
        seeds: of the errors.
        decades: by how much a data type's rate is raised at a time.
        most: rate above which none needs to bear more, as no voltage has it.
        progress: called after each run over the images.

    Returns:
        Data type, as in "blocks.3.first.weight", -> rate.
    """

    def bears(rates: Mapping[str, float]) -> bool:
        found = judge(backbone, images, replace(memory, rates=rates), setting, seeds=seeds)
        progress()
        return found.accuracy >= target

    names = data_types(backbone, setting)
    return raised(bears, dict.fromkeys(names, start), decades, most)


def confirmed(
    backbone: Backbone,
    images: Images,
    memory: BitErrors,
    target: float,
    rates: Mapping[str, float],
    least: float,
    setting: Setting = FULL,
    *,
    seeds: Sequence[int] = (0,),
    decades: float = 0.25,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Rates of `fine`, lowered together until they are borne on images they were not found on.

    Searched one after the other, they fit the images of the search better than others.

    Args:
        backbone: that was characterised.
        images: others.
        memory: its errors.
        target: share of right answers among these.
        rates: data type -> rate.
        least: rate below which none is lowered, from `coarse`.
        setting: of all blocks and the stem.
        seeds: of the errors.
        decades: by how much the rates are lowered at a time.
        progress: called after each run over the images.
    """
    known = dict(rates)
    while max(known.values(), default=0.0) > least:
        found = judge(backbone, images, replace(memory, rates=known), setting, seeds=seeds)
        progress()
        if found.accuracy >= target:
            break
        known = {name: max(least, rate / 10**decades) for name, rate in known.items()}
    return known


def highest(bears: Callable[[float], bool], decades: float = 0.1) -> float:
    """The highest rate that is borne, by bisection on a logarithmic scale.

    >>> round(highest(lambda rate: rate < 3e-3), 4)
    0.0025
    """
    low, high = math.log10(LEAST), math.log10(MOST)
    while high - low > decades:
        middle = (low + high) / 2
        low, high = (middle, high) if bears(10**middle) else (low, middle)
    return 10**low if low > math.log10(LEAST) or bears(LEAST) else 0.0


def raised(
    bears: Callable[[Mapping[str, float]], bool],
    rates: Mapping[str, float],
    decades: float,
    most: float = MOST,
) -> dict[str, float]:
    """Rates raised in turn, one step each a round, until a step of each was not borne.

    The last step ends at `most`.

    >>> raised(lambda rates: rates["a"] + rates["b"] < 0.02, {"a": 1e-3, "b": 1e-3}, 1.0)
    {'a': 0.01, 'b': 0.001}
    """
    known, still = dict(rates), list(rates)
    while still:
        for name in tuple(still):
            more = min(known[name] * 10**decades, most)
            if more > known[name] and bears({**known, name: more}):
                known[name] = more
            else:
                still.remove(name)
    return known


@torch.no_grad()
def data_types(backbone: Backbone, setting: Setting = FULL) -> dict[str, float]:
    """Every data type of a network and its bytes, of one input, in the order of execution."""
    sizes: dict[str, float] = {}

    def perform(product: Product) -> Tensor:
        weight, x = product.weight, product.x
        sizes[f"{product.name}.{WEIGHT}"] = weight.values.numel() * weight.bits / 8
        sizes[f"{product.name}.{INPUT}"] = x.values[0].numel() * x.bits / 8
        return product.exact()

    perform_network(backbone, perform, setting=setting)
    return sizes
