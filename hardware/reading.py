"""Reading the numbers of a product from a memory that errs, in the format in which they lie there.

Letters: `n` lanes, `K` weak cells, `M` cells that may fail at a read.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from penstock.backbones import InputError, Operand, Product
from penstock.backbones.layout import decoded, encoded, used_bits
from penstock.hardware.cells import address, cells_of_chip, failing_cells, stream
from penstock.hardware.error_models import ErrorModel
from penstock.hardware.layers import INPUT, WEIGHT
from penstock.hardware.straight_through import standing_for

Range = Sequence[float]
"""Lowest and highest."""

_Entry = TypeVar("_Entry")


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with a memory, and what is done about it."""

    model: ErrorModel
    chip: int | None = None
    """Of which the weak cells are; None: of a new one at every read, each lane's inputs apart."""
    plausible: Mapping[str, Range] = field(default_factory=dict)
    """Data type or role -> range; what is read from outside of it, or is no number, becomes 0."""
    sram_bytes: float = 0.0
    """An input map of up to so many bytes, of one lane, is not kept in the memory."""


def check_ranges(plausible: Mapping[str, Range]) -> None:
    """Refuse ranges that are none.

    Raises:
        InputError: at the first that is not lowest and highest.
    """
    for name, limits in plausible.items():
        if len(limits) != 2 or not limits[0] <= limits[1]:
            raise InputError(
                f"a plausible range is [lowest, highest], got {list(limits)} for {name!r}; "
                "correct it"
            )


def entry(table: Mapping[str, _Entry], layer: str, role: str) -> _Entry | None:
    """What a table says of a data type, or else of its role.

    >>> entry({"weight": 1.0, "stem.convolution.weight": 2.0}, "stem.convolution", "weight")
    2.0
    """
    return table.get(f"{layer}.{role}", table.get(role))


def read(
    product: Product, faults: Faults, weight_rate: float, input_rate: float, rng: torch.Generator
) -> Product:
    """The product as it comes out of the memory.

    Every weight lies in it once, every input once for each lane, at the same place for all. Weights
    are stored whole: a weight has its cells whatever part of the layer is used. The gradient goes
    straight through to the stored numbers. At a rate of 0 nothing is touched, nor compared.

    Args:
        product: to be performed next.
        faults: of the memory.
        weight_rate: bit error rate of the weights.
        input_rate: bit error rate of the inputs.
        rng: two draws are taken whatever the rates, so that layers meet the same faults whatever
            the rates of others are; of a chip, a higher rate meets the same faults and more.
    """
    seeds = torch.randint(2**62, (2,), generator=rng).tolist()
    weight = x = None
    if weight_rate:
        stored, used = tuple(product.stored.shape), tuple(product.weight.values.shape)
        name = f"{product.name}.{WEIGHT}"
        where = _Where(name, 1, stored, used, weight_rate, seeds[0])
        weight = _read(product.weight, where, faults, entry(faults.plausible, product.name, WEIGHT))
    lanes, *each = product.x.values.shape
    if input_rate and math.prod(each) * product.x.bits / 8 > faults.sram_bytes:
        name = f"{product.name}.{INPUT}"
        where = _Where(name, lanes, tuple(each), tuple(each), input_rate, seeds[1])
        x = _read(product.x, where, faults, entry(faults.plausible, product.name, INPUT))
    return _with_stored(product.with_values(x=x, weight=weight), product)


def _with_stored(changed: Product, product: Product) -> Product:
    """What was read wrongly stands in the layer's whole weight too, where cells are written."""
    seen, true = changed.weight.values, product.weight.values
    if seen is true:
        return changed
    whole = product.stored.detach().clone()
    whole[tuple(slice(0, size) for size in seen.shape)] += (seen - true).detach()
    return replace(changed, stored=whole)


@dataclass(frozen=True, slots=True)
class _Where:
    """What is read: `lanes` tensors, of each the leading part `used` of what is `stored`."""

    name: str
    lanes: int
    stored: tuple[int, ...]
    used: tuple[int, ...]
    rate: float
    seed: int


def _read(operand: Operand, where: _Where, faults: Faults, limits: Range | None) -> Tensor:
    stored = operand.values
    values = _flipped(operand, *_candidates(operand.bits, where, faults), faults, where.seed)
    if limits is None or not _beyond(operand, limits):
        return standing_for(stored, values)
    outside = ~((values >= limits[0]) & (values <= limits[1]))  # so that nan is outside
    if outside.any():
        values = values.masked_fill(outside, 0)
    return standing_for(stored, values, limits)


def _beyond(operand: Operand, limits: Range) -> bool:
    """Whether the format holds numbers outside of a range, so that what is read must be compared.

    Integers are calibrated to what they hold, and often cannot be implausible.
    """
    if operand.step is None:
        return True
    codes = 1 << used_bits(operand.bits, operand.protected)
    low, high = (-codes // 2, codes // 2 - 1) if operand.signed else (0, codes - 1)
    step = float(operand.step.max())
    return low * step < limits[0] or high * step > limits[1]


def _candidates(bits: int, where: _Where, faults: Faults) -> tuple[Tensor, Tensor]:
    """Bits that fail at this read, as if all held what fails more often: [M] each.

    Returns:
        Places among the numbers, and places within the number.
    """
    model, share = faults.model, faults.model.weak_share(where.rate)
    size = math.prod(where.used)
    if faults.chip is None:
        first, count = address(model, where.name, bits), where.lanes * size * bits
        cells = failing_cells(model, share, first, count, seed=where.seed)
        return cells // bits, cells % bits
    cells = cells_of_chip(model, share, faults.chip, where.name, bits, where.stored, where.used)
    draws = torch.rand(len(cells), where.lanes, generator=stream("fail", where.seed))
    # Lane by lane, so that those next to each other are near each other in memory.
    lane, weak = (draws < model.most_failure).t().contiguous().nonzero(as_tuple=True)
    cells = cells[weak]
    return lane * size + cells // bits, cells % bits


def _flipped(operand: Operand, places: Tensor, bit: Tensor, faults: Faults, seed: int) -> Tensor:
    """The numbers with the bits that fail flipped; the same tensor if none does."""
    values, model = operand.values, faults.model
    places, bit = places.to(values.device), bit.to(values.device)
    power = torch.bitwise_left_shift(torch.ones_like(bit, dtype=torch.int32), bit.int())
    if model.fails_at_0 != model.fails_at_1:
        ones = (_codes(values, operand, places) & power) != 0
        kept = torch.where(ones, model.fails_at_1, model.fails_at_0) / model.most_failure
        draws = torch.rand(len(places), generator=stream("kept", seed)).to(values.device)
        places, power = places[draws < kept], power[draws < kept]
    if len(places) == 0:
        return values
    # No cell comes twice, so that the sum over the bits of a number is their bitwise or.
    masks = torch.zeros(values.numel(), dtype=torch.int32, device=values.device)
    masks.index_add_(0, places, power)
    codes = _codes(values, operand, places) ^ masks[places]
    return values.detach().clone().put_(places, _values(codes, operand, places).to(values.dtype))


def _codes(values: Tensor, operand: Operand, places: Tensor) -> Tensor:
    """The bits of some of the numbers as they are stored, int32: [M]."""
    numbers = values.detach().take(places)
    if operand.step is None:
        return numbers.float().view(torch.int32)
    codes = (numbers / _steps(operand, places)).round().int()
    return encoded(codes, operand.bits, operand.signed, operand.protected)


def _values(codes: Tensor, operand: Operand, places: Tensor) -> Tensor:
    """The numbers of which these are the bits: [M]."""
    if operand.step is None:
        numbers = codes.view(torch.float32)
        # Subnormal numbers become 0, as in most accelerators; here they would take far longer.
        return numbers.masked_fill(numbers.abs() < torch.finfo(torch.float32).tiny, 0)
    numbers = decoded(codes, operand.bits, operand.signed, operand.protected)
    return numbers * _steps(operand, places)


def _steps(operand: Operand, places: Tensor) -> Tensor:
    """The distance of neighbouring levels of some of the numbers: [M], or [1] if all have one."""
    assert operand.step is not None
    step = operand.step.detach()
    return step.view(1) if step.numel() == 1 else step.expand_as(operand.values).take(places)
