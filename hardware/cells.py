"""Weak cells of a memory chip: which of its bits may be read wrong.

What it takes to find them grows with their number, not with that of the bits.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from penstock.hardware.error_models import CACHE_LINE_BITS, ErrorModel


def weak_cells(
    model: ErrorModel, share: float, first: int, count: int, *, chip: int, seed: int
) -> Tensor:
    """The weak ones among neighbouring cells, counted from the first of them, weakest first: [K].

    They are points of a Poisson process. The same seed with a larger share gives the same cells and
    more: a lower voltage.

    Args:
        model: says where weak cells are.
        share: P, on average over a subarray.
        first: address of the first cell.
        count: of the cells.
        chip: a seed, says which lines are bad.
        seed: says which of their cells are.
    """
    area = _Area.of(model, first, count, chip)
    each = area.weights.cumsum(0)
    mean = _strength(model, share) * float(each[-1]) * area.across
    draws = torch.rand(_enough(mean), 3, generator=stream("weak", seed), dtype=torch.float64)
    draws = draws[_arrivals(draws[:, 0]) < mean]
    line = torch.searchsorted(each, draws[:, 1] * each[-1], right=True).clamp(max=len(each) - 1)
    cells = area.cells(line, (draws[:, 2] * area.across).long())
    ordered, order = cells.sort(stable=True)
    return cells[order[_new(ordered)].sort().values]


def failing_cells(model: ErrorModel, share: float, first: int, count: int, *, seed: int) -> Tensor:
    """Those of the cells of a new chip that are weak and fail at one read, in no order: [K].

    As if all weak cells held the bit that fails more often.
    """
    area = _Area.of(model, first, count, seed)
    weak = -torch.expm1(-_strength(model, share) * area.weights)
    # Points per cell on each line, so that a cell with one point or more is one that fails.
    points = -torch.log1p(-(weak * model.most_failure).clamp(max=1 - 1e-12))
    each = (points * area.across).cumsum(0)
    mean = float(each[-1])
    draws = torch.rand(_enough(mean), generator=stream("fail", seed), dtype=torch.float64)
    arrivals = _arrivals(draws)
    arrivals = arrivals[arrivals < mean]
    line = torch.searchsorted(each, arrivals, right=True).clamp(max=len(each) - 1)
    passed = arrivals - (each - points * area.across)[line]
    along = (passed / points[line]).long().clamp(0, area.across - 1)
    new = _new(line * area.across + along)
    return area.cells(line[new], along[new])


@dataclass(frozen=True, slots=True)
class _Area:
    """Neighbouring cells, and the lines over which P varies, in full."""

    model: ErrorModel
    first: int
    count: int
    begin: int
    """The row of the first cell."""
    weights: Tensor  # [L] relative P of the lines
    across: int
    """Cells of a line."""

    @classmethod
    def of(cls, model: ErrorModel, first: int, count: int, chip: int) -> "_Area":
        if model.pattern == "uniform":
            return cls(model, first, count, 0, _weights(model), count)
        begin, end = first // model.row_bits, (first + count - 1) // model.row_bits + 1
        weights = _weights(model)[_order(model, chip)]
        if model.pattern == "bitline":
            return cls(model, first, count, begin, weights, end - begin)
        rows = torch.arange(begin, end) % model.rows
        return cls(model, first, count, begin, weights[rows], model.row_bits)

    def cells(self, line: Tensor, along: Tensor) -> Tensor:
        """Lines and places on them as cells counted from the first; others are left out."""
        if self.model.pattern == "uniform":
            return along
        row, column = (along, line) if self.model.pattern == "bitline" else (line, along)
        cells = (self.begin + row) * self.model.row_bits + column - self.first
        return cells[(cells >= 0) & (cells < self.count)]


@lru_cache(maxsize=512)
def cells_of_chip(
    model: ErrorModel,
    share: float,
    chip: int,
    name: str,
    bits: int,
    shape: tuple[int, ...],
    part: tuple[int, ...],
) -> Tensor:
    """The weak cells under a tensor in a chip, counted in the part of it that is read: [K].

    Remembered, some dozens of tensors at a few rates each.

    Args:
        model: says where weak cells are.
        share: P, on average.
        chip: a chip always has the same weak cells.
        name: of what is stored; says with `bits` where it lies.
        bits: of each number.
        shape: of the whole tensor, which is stored in this order.
        part: of the leading part of it that is read, in as many dimensions.
    """
    count = math.prod(shape) * bits
    first, seed = address(model, name, bits), seed_of(chip, name, bits, count)
    cells = weak_cells(model, share, first, count, chip=chip, seed=seed)
    if part == shape:
        return cells
    word, stride = cells // bits, 1
    inside, within = torch.ones_like(cells, dtype=torch.bool), torch.zeros_like(cells)
    for size, used in zip(reversed(shape), reversed(part), strict=True):
        index = word % size
        inside &= index < used
        within = within + index * stride
        word, stride = word // size, stride * used
    return (within * bits + cells % bits)[inside]


def address(model: ErrorModel, name: str, bits: int) -> int:
    """Where something is stored in a subarray, in bits: anywhere, but always there."""
    lines = model.rows * model.row_bits // CACHE_LINE_BITS
    return seed_of("address", name, bits) % lines * CACHE_LINE_BITS


def seed_of(*key: int | str) -> int:
    """A seed for a generator, the same in every process."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def stream(*key: int | str) -> torch.Generator:
    """Draws of their own for what the key names."""
    return torch.Generator().manual_seed(seed_of(*key))


def _enough(mean: float) -> int:
    """More points than a Poisson process has, but once in 1e20 times."""
    return math.ceil(mean + 10 * math.sqrt(mean)) + 20


def _arrivals(uniform: Tensor) -> Tensor:
    """Of a Poisson process with one point a unit, rising."""
    return (-torch.log1p(-uniform)).cumsum(0)


def _new(ordered: Tensor) -> Tensor:
    """Where a sorted tensor differs from what stands before."""
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return new


@lru_cache(maxsize=16)
def _weights(model: ErrorModel) -> Tensor:  # [lines]
    """Relative P of the lines, of mean 1: quantiles of a lognormal, so that all chips are alike."""
    if model.pattern == "uniform":
        return torch.ones(1, dtype=torch.float64)
    lines = model.row_bits if model.pattern == "bitline" else model.rows
    middles = (torch.arange(lines, dtype=torch.float64) + 0.5) / lines
    weights = torch.exp(torch.special.ndtri(middles) * math.sqrt(math.log1p(model.spread**2)))
    return weights / weights.mean()


@lru_cache(maxsize=8)
def _order(model: ErrorModel, chip: int) -> Tensor:
    """Which line has which of the weights."""
    return torch.randperm(len(_weights(model)), generator=stream("lines", chip))


@lru_cache(maxsize=1024)
def _strength(model: ErrorModel, share: float) -> float:
    """Points per cell on a line of weight 1 that leave this share of all cells weak.

    Solves mean(1 - exp(-s w)) = share by Newton's method; from below it never overshoots.
    """
    weights, s = _weights(model), share
    for _ in range(100):
        left = torch.exp(-s * weights)
        step = (share + float(torch.expm1(-s * weights).mean())) / float((weights * left).mean())
        s += step
        if step <= 1e-12 * s:
            break
    return s
